"""Linearizability: whether an order exists in which operations can have taken effect one at a time.

`models` says what an object promises, `search` looks for the order of one object's operations, `partitions` does so for many
objects in turn and under limits.
"""

from harness.invariants.linearizability.models import (
    IMPOSSIBLE,
    MODELS,
    REFUSED,
    UNKNOWN,
    Model,
    model_named,
)
from harness.invariants.linearizability.partitions import (
    Limits,
    Linearizability,
    Stuck,
    calls_of,
    check_linearizable,
    describe,
    explained,
    search_all,
)
from harness.invariants.linearizability.search import Call, Search

__all__ = [
    "IMPOSSIBLE",
    "MODELS",
    "REFUSED",
    "UNKNOWN",
    "Call",
    "Limits",
    "Linearizability",
    "Model",
    "Search",
    "Stuck",
    "calls_of",
    "check_linearizable",
    "describe",
    "explained",
    "model_named",
    "search_all",
]
