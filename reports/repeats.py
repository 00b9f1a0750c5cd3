"""What several findings of one run share is shown once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def drawn_before(findings: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Return, for each finding, the invariant of the first one before it whose schedule is the same step for step, or None.

    One interleaving often breaks several invariants at once.
    """
    schedules = [finding.get("evidence", {}).get("steps") for finding in findings]
    firsts = [schedules.index(steps) for steps in schedules]
    return [findings[first]["invariant"] if schedules[place] and first < place else None for place, first in enumerate(firsts)]
