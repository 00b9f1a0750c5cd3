"""The schedule of an explored finding: who was let through, step by step, a column for each client.

It is a table and not a picture, because its statements are what people read, select and search for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_STEPS = 200
LONGEST = 400


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: its client's column, the statement, what came back, and whether it had to wait for another's lock."""

    client: int
    statement: str
    answer: str
    blocked: bool


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Steps in the order in which they were let through."""

    clients: Sequence[int]
    steps: Sequence[Step]
    left_out: int


def steps_of(evidence: Mapping[str, Any]) -> Steps | None:
    """Return the steps that a finding's evidence holds under ``steps``, or None."""
    found = [s for s in evidence.get("steps") or [] if isinstance(s, Mapping) and isinstance(s.get("client"), int)]
    if not found:
        return None
    return Steps(
        clients=sorted({s["client"] for s in found}),
        steps=[_step(s) for s in found[:MOST_STEPS]],
        left_out=max(0, len(found) - MOST_STEPS),
    )


def _step(step: Mapping[str, Any]) -> Step:
    statement = str(step.get("statement") or step.get("text") or "")
    answer = str(step.get("result") or step.get("answer") or "")
    return Step(client=step["client"], statement=statement[:LONGEST], answer=answer[:LONGEST], blocked=bool(step.get("blocked")))
