"""Liveness: what clients had to put up with although the data is right, and whether anything got done at all."""

from __future__ import annotations

import polars as pl

from harness.invariants.registry import invariant
from harness.invariants.telling import shown, violation
from harness.model import Books, Finding, FindingClass, History, Policy

ON_PURPOSE = ["vanished", "reply_lost", "injected_refusal"]
"""Outcomes that a fault asked for: they say nothing about the target."""


@invariant("L-RETRY")
def retries_absorb_contention(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Clients see no errors under contention: retryable ones are absorbed by the documented retry, others do not occur."""
    errors = history.operations.filter(
        pl.col("code").is_not_null(), ~pl.col("refusal").fill_null(False), ~pl.col("code").is_in(ON_PURPOSE)
    )
    kinds = errors.group_by("code", "constraint").agg(
        pl.len().alias("count"), pl.col("message").first(), pl.col("retryable").first(), pl.col("f").first()
    )
    findings = []
    for kind in kinds.sort("count", "code", descending=[True, False]).iter_rows(named=True):
        of = f" on {kind['constraint']}" if kind["constraint"] else ""
        what = "a retry would have absorbed it" if kind["retryable"] else "no retry is documented for it"
        same = errors.filter(pl.col("code") == kind["code"])
        findings.append(
            violation(
                "L-RETRY",
                f"{kind['f']} failed with {kind['code']}{of} in front of its client: {kind['message']} ({what})",
                total=kind["count"],
                operations=shown(history, same),
                finding_class=FindingClass.LIVENESS,
            )
        )
    return findings


@invariant("L-PROGRESS")
def something_got_done(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Each kind of operation succeeded at least once: a run in which nothing did proves nothing."""
    race = history.operations.filter(pl.col("client") >= 0)
    if race.is_empty():
        return [_nothing("no operation was made", 1, [])]
    done = race.group_by("f").agg(pl.len().alias("count"), (pl.col("outcome") == "ok").sum().alias("ok"))
    return [
        _nothing(
            f"none of {row['count']} {row['f']} operations succeeded: that proves nothing",
            row["count"],
            shown(history, race.filter(pl.col("f") == row["f"])),
        )
        for row in done.filter(pl.col("ok") == 0).sort("f").iter_rows(named=True)
    ]


def _nothing(message: str, total: int, operations: list[dict[str, object]]) -> Finding:
    return Finding(
        finding_class=FindingClass.INDETERMINATE,
        invariant="L-PROGRESS",
        message=message,
        evidence={"operations": operations, "rows": {}},
        total=total,
    )
