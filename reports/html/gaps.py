"""What is missing in each scope, held against the policy.

The counts are those of the numbering invariants (`harness.invariants.numbering.gaps`); what a row says of the policy is for the
reader. The verdict is in the findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from harness.invariants.numbering.columns import PLACE, stored
from harness.invariants.numbering.gaps import attempts, extents, missing, names
from harness.model import Books, Continuity, History, Policy
from reports.html.scales import count, share

MOST_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class GapRow:
    """One scope and period: numbers in ``range``, ``present``, ``void``, ``missing``, attempts that may explain, verdict."""

    scope: str
    period: str
    range: int
    present: int
    void: int
    missing: int
    burnt: int
    named: str
    state: str
    """``good``, ``cost`` or ``bad``: which colour the row has."""
    judged: str


@dataclass(frozen=True, kw_only=True)
class GapTable:
    """Rows, those with gaps first; ``left_out`` rows are not shown, and what the policy demands in words."""

    rows: Sequence[GapRow]
    left_out: int
    demand: str


def gap_table(history: History, books: Books, policy: Policy) -> GapTable | None:
    """Return the table, or None where the target keeps no documents or has none."""
    documents = stored(books, policy)
    spans = extents(documents, policy)
    if spans.is_empty():
        return None
    holes = missing(documents, policy)
    gone = holes.group_by(PLACE).agg(pl.col("size").sum().alias("missing"))
    void = documents.filter(pl.col("status") == "void").group_by(PLACE).agg(pl.len().alias("void"))
    tried = attempts(history, documents, policy).group_by("scope").agg(pl.col("burnt").sum())
    burnt = tried.filter(pl.col("scope").is_not_null())
    anywhere = int(tried.filter(pl.col("scope").is_null())["burnt"].sum())
    table = (
        spans.join(gone, on=PLACE, how="left")
        .join(void, on=PLACE, how="left")
        .join(burnt, on="scope", how="left")
        .with_columns(pl.col("missing", "void", "burnt").fill_null(0))
        .sort(["missing", *PLACE], descending=[True, False, False])
    )
    rows = []
    for row in table.head(MOST_ROWS).iter_rows(named=True):
        here = holes.filter(pl.col("scope") == row["scope"], pl.col("period") == row["period"])
        state, judged = _judged(row["missing"], row["present"], row["range"], row["burnt"], anywhere, policy)
        named = names(here, policy) if here.height else ""
        rows.append(GapRow(**row, named=named, state=state, judged=judged))
    return GapTable(rows=rows, left_out=max(0, table.height - MOST_ROWS), demand=demand(policy))


def demand(policy: Policy) -> str:
    """Say what the policy demands of a run of numbers."""
    budget = policy.budget
    base = "of the numbers in range" if budget.denominator == "range" else "of the issued numbers"
    return {
        Continuity.NONE: "gaps do not matter",
        Continuity.EXPLAINED: "each gap must be matched by an attempt that failed",
        Continuity.BUDGET: f"up to {budget.normal:.0%} {base} may be missing, above {budget.investigate:.0%} is a violation",
        Continuity.GAPLESS: "no number may be missing",
    }[policy.continuity]


def _judged(gone: int, present: int, span: int, burnt: int, anywhere: int, policy: Policy) -> tuple[str, str]:
    if not gone:
        return "good", "complete"
    if policy.continuity is Continuity.GAPLESS:
        return "bad", "not allowed"
    if policy.continuity is Continuity.NONE:
        return "cost", "allowed"
    if gone > burnt + anywhere:
        return "bad", f"{count(gone - burnt)} without an attempt that failed"
    return _against_budget(gone / (span if policy.budget.denominator == "range" else present), policy)


def _against_budget(rate: float, policy: Policy) -> tuple[str, str]:
    if policy.continuity is not Continuity.BUDGET:
        return "cost", "explained"
    if rate > policy.budget.investigate:
        return "bad", f"above {policy.budget.investigate:.0%}"
    return ("cost", f"above {policy.budget.normal:.0%}") if rate > policy.budget.normal else ("good", "within budget")


HEADINGS = ("scope", "range", "in the books", "void", "missing", "share", "attempts that failed", "against the policy", "which")


def cells(row: GapRow) -> list[str]:
    """Return a row as texts in the order of `HEADINGS`."""
    return [
        row.scope + (f" {row.period}" if row.period else "") or "(all)",
        count(row.range),
        count(row.present),
        count(row.void),
        count(row.missing),
        share(row.missing, row.range),
        count(row.burnt),
        row.judged,
        row.named or "-",
    ]
