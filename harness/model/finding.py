"""Findings and the verdict that follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class FindingClass(StrEnum):
    """What kind of wrong a finding is."""

    VIOLATION = "violation"
    """The books or the answers are wrong."""
    LIVENESS = "liveness"
    """Clients saw errors that a correct system absorbs, or nothing got done. The data is right."""
    INDETERMINATE = "indeterminate"
    """Nobody can say: ambiguity was not resolved, or evidence is missing."""
    COST = "cost"
    """Allowed, but worth knowing: gaps within budget, a number held for long."""


class Verdict(StrEnum):
    """What a run proved. Ordered from best to worst by `worst`."""

    PASS = "pass"
    UNKNOWN = "unknown"
    FAIL = "fail"


_VERDICT_OF = {
    FindingClass.VIOLATION: Verdict.FAIL,
    FindingClass.LIVENESS: Verdict.FAIL,
    FindingClass.INDETERMINATE: Verdict.UNKNOWN,
    FindingClass.COST: Verdict.PASS,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong.

    ``evidence`` holds ``operations`` and ``rows`` (lists of plain JSON values) and anything else worth showing.
    ``total`` is how often it happened; evidence shows the first, the worst and the last of many. ``schedule`` is the
    token that replays it, if an engine knows one.
    """

    finding_class: FindingClass
    invariant: str
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    total: int = 1
    schedule: str | None = None


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of the verdicts; of none at all, ``unknown``: nothing checked is nothing known."""
    order = [Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL]
    return max(verdicts, key=order.index, default=Verdict.UNKNOWN)


def verdict_of(findings: Iterable[Finding], *, checked: int) -> Verdict:
    """Return the verdict over findings of ``checked`` invariants; with none checked it is ``unknown``."""
    if not checked:
        return Verdict.UNKNOWN
    return worst([Verdict.PASS, *(_VERDICT_OF[f.finding_class] for f in findings)])
