"""Counters: one for each scope, and never behind the numbers that it gave."""

from __future__ import annotations

import polars as pl

from harness.invariants.numbering.columns import (
    PLACE,
    acknowledged,
    number_name,
    place_name,
    stored,
)
from harness.invariants.numbering.scopes import each_place
from harness.invariants.registry import NotChecked, invariant
from harness.invariants.telling import listed, rows, shown, violation
from harness.model import Books, Finding, History, Policy


def _counters(books: Books) -> pl.DataFrame:
    return books.table("counters").with_columns(pl.col("scope").fill_null(""), pl.col("period").fill_null(""))


@invariant("N-COUNTER1", tables=["counters"], columns=["counters.scope"])
def one_counter(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A scope has one counter in each period."""
    counters = _counters(books)
    several = counters.group_by(PLACE).agg(pl.len().alias("counters")).filter(pl.col("counters") > 1).sort(PLACE)

    def one(scope: str, period: str, bad: pl.DataFrame) -> Finding:
        here = counters.filter(pl.col("scope") == scope, pl.col("period") == period).sort("value", nulls_last=True)
        values = listed(str(v) for v in here["value"])
        return violation(
            "N-COUNTER1",
            f"{place_name(scope, period)} has {here.height} counters, standing at {values}: each hands out the same numbers",
            total=bad.height,
            books={"counters": rows(here)},
        )

    return each_place("N-COUNTER1", several, one, many="more scopes have several counters")


@invariant("N-COUNTER>=MAX", tables=["counters"], columns=["counters.value"])
def counter_not_behind(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A counter is never below the highest number issued in its scope."""
    if not books.complete:
        return []
    documents = stored(books, policy)
    told = acknowledged(history, documents, policy)
    columns = [*PLACE, "number", "text", "token"]
    issued = pl.concat([documents.filter(pl.col("status") != "reserved").select(columns), told.select(columns)])
    highest = issued.filter(pl.col("number").is_not_null()).sort("number").unique(PLACE, keep="last")
    counters = _counters(books).group_by(PLACE).agg(pl.col("value").max())
    if counters.height and highest.height and counters.join(highest, on=PLACE, how="semi").is_empty():
        kept, issued_in = (place_name(*frame.select(PLACE).sort(PLACE).row(0)) for frame in (counters, highest))
        raise NotChecked(
            f"no counter is of a scope and period with numbers: counters are of {kept}, numbers of {issued_in}; "
            "let both name the same"
        )
    behind = (
        counters.join(highest, on=PLACE)
        .filter(pl.col("value") < pl.col("number"))
        .with_columns(by=pl.col("number") - pl.col("value"))
        .sort("by", *PLACE, descending=[True, False, False])
    )

    def one(scope: str, period: str, bad: pl.DataFrame) -> Finding:
        first = bad.row(0, named=True)
        asked = history.operations.join(bad, on="token", how="semi")
        return violation(
            "N-COUNTER>=MAX",
            f"the counter of {place_name(scope, period)} stands at {first['value']}, below "
            f"{number_name(first['text'], first['number'])} that was issued already: its next numbers exist",
            total=bad.height,
            operations=shown(history, asked),
            books={"counters": rows(bad.select(*PLACE, "value")), "documents": rows(_holder(documents, first))},
        )

    return each_place("N-COUNTER>=MAX", behind, one, many="more counters are behind")


def _holder(documents: pl.DataFrame, highest: dict[str, object]) -> pl.DataFrame:
    return documents.filter(
        pl.col("scope") == highest["scope"], pl.col("period") == highest["period"], pl.col("number") == highest["number"]
    ).drop("row")
