"""One finding for each scope that is wrong, for as many scopes as somebody will read, and one for all the others."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from harness.invariants.numbering.columns import PLACE
from harness.model import Finding, FindingClass

SCOPES_TOLD = 10
"""Scopes that get a finding of their own."""


def each_place(
    invariant: str,
    wrong: pl.DataFrame,
    tell: Callable[[str, str, pl.DataFrame], Finding],
    *,
    finding_class: FindingClass = FindingClass.VIOLATION,
    many: str = "more like it",
) -> list[Finding]:
    """Return a finding for each of the first scopes in ``wrong`` and one that counts what the other scopes hold.

    ``wrong`` has the columns scope and period and is in the order in which it should be told.
    """
    if wrong.is_empty():
        return []
    places = wrong.group_by(PLACE, maintain_order=True).len()
    findings = [
        tell(scope, period, wrong.filter(pl.col("scope") == scope, pl.col("period") == period))
        for scope, period, _ in places.head(SCOPES_TOLD).iter_rows()
    ]
    others = places.slice(SCOPES_TOLD)
    if others.height:
        total = int(others["len"].sum())
        findings.append(
            Finding(
                finding_class=finding_class,
                invariant=invariant,
                message=f"{total} {many}, in {others.height} other {'scope' if others.height == 1 else 'scopes'}",
                evidence={"operations": [], "rows": {}, "scopes": others["scope"].head(SCOPES_TOLD).to_list()},
                total=total,
            )
        )
    return findings


def ends(frame: pl.DataFrame, *, worst: str | None = None) -> pl.DataFrame:
    """Return the first row, the one with the highest ``worst``, and the last, each once."""
    if frame.is_empty():
        return frame
    picked = {0, frame.height - 1}
    if worst is not None:
        highest = frame[worst].arg_max()
        picked.add(highest if highest is not None else 0)
    return frame[sorted(picked)]
