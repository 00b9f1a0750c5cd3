"""Invariants: pure functions of history, books and policy to findings, one file or package a family, and their judge."""

from harness.invariants import (
    audit,
    idempotency,
    liveness,
    numbering,
    orders,
    payments,
    sales,
)
from harness.invariants.judge import Judgement, judge
from harness.invariants.registry import REGISTRY, Invariant, invariant, named
from harness.invariants.resolution import ambiguous, resolve

__all__ = [
    "REGISTRY",
    "Invariant",
    "Judgement",
    "ambiguous",
    "audit",
    "idempotency",
    "invariant",
    "judge",
    "liveness",
    "named",
    "numbering",
    "orders",
    "payments",
    "resolve",
    "sales",
]
