"""Order: whoever was answered before another began has the lower number; dates do not run backwards."""

from __future__ import annotations

import polars as pl

from harness.invariants.issued import PLACE, acknowledged, creates, documents
from harness.invariants.registry import invariant
from harness.invariants.telling import moment, rows, shown, violation
from harness.model import Books, Finding, History, Policy


@invariant("N-MONO", tables=["documents"])
def numbers_follow_time(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A number acknowledged before another request began is the lower one; document dates ascend with the numbers."""
    findings = []
    if policy.real_time_order:
        findings += _real_time(history)
    if policy.dates_ascend:
        findings += _dates(books)
    return findings


def out_of_order(told: pl.DataFrame) -> pl.DataFrame:
    """Return the numbers that were requested after a higher number had been answered.

    Sorted by number, an operation is out of order when the earliest completion among the higher numbers lies before its
    own invocation: one pass over suffix minima, O(n log n) with the sort. Operations without completion count as answered
    never, so an unknown outcome accuses nobody.
    """
    ordered = told.sort(*PLACE, "number")
    earliest_above = pl.col("completed").shift(-1).reverse().cum_min().forward_fill().reverse().over(PLACE)
    return ordered.with_columns(above=earliest_above).filter(pl.col("above") < pl.col("invoked"))


def _real_time(history: History) -> list[Finding]:
    told = acknowledged(history)
    wrong = out_of_order(told).sort("invoked")
    if wrong.is_empty():
        return []
    late = wrong.row(0, named=True)
    same = [pl.col(name) == late[name] for name in PLACE]
    early = told.filter(*same, pl.col("number") > late["number"], pl.col("completed") == late["above"]).row(0, named=True)
    operations = creates(history).filter(pl.col("token").is_in([late["token"], early["token"]]))
    return [
        violation(
            "N-MONO",
            f"client {early['client']} was told {early['text'] or early['number']} at {moment(history, early['completed'])}, and "
            f"client {late['client']}, who asked after that, at {moment(history, late['invoked'])}, got the lower "
            f"{late['text'] or late['number']}",
            total=wrong.height,
            operations=shown(history, operations),
        )
    ]


def _dates(books: Books) -> list[Finding]:
    ordered = documents(books).filter(pl.col("dated").is_not_null()).sort(*PLACE, "number")
    wrong = ordered.with_columns(
        latest=pl.col("dated").cum_max().shift(1).over(PLACE), previous=pl.col("text").shift(1).over(PLACE)
    ).filter(pl.col("dated") < pl.col("latest"))
    if wrong.is_empty():
        return []
    first = wrong.row(0, named=True)
    return [
        violation(
            "N-MONO",
            f"{first['text']} is dated {first['dated']:%Y-%m-%d %H:%M}, and a lower number {first['latest']:%Y-%m-%d %H:%M}",
            total=wrong.height,
            books={"documents": rows(wrong)},
        )
    ]
