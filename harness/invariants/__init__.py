"""Invariants: pure functions of history, books and policy to findings, one file a family."""

from harness.invariants import (
    audit,
    gaps,
    idempotency,
    liveness,
    numbering,
    order,
    orders,
    payments,
    print,
    sales,
)
from harness.invariants.judge import Judgement, judge
from harness.invariants.registry import REGISTRY, Invariant, invariant, named

__all__ = [
    "REGISTRY",
    "Invariant",
    "Judgement",
    "audit",
    "gaps",
    "idempotency",
    "invariant",
    "judge",
    "liveness",
    "named",
    "numbering",
    "order",
    "orders",
    "payments",
    "print",
    "sales",
]
