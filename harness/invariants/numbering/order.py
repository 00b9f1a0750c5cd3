"""Numbers follow time: whoever was answered before another asked has the lower number, and dates ascend with numbers."""

from __future__ import annotations

import polars as pl

from harness.invariants.numbering.columns import (
    KEY,
    PLACE,
    acknowledged,
    acknowledged_without_number,
    number_name,
    place_name,
    stored,
    unreadable,
)
from harness.invariants.numbering.scopes import each_place, ends
from harness.invariants.registry import NotChecked, invariant
from harness.invariants.telling import moment, rows, shown, violation, whom
from harness.model import Books, Finding, History, Policy


def _order_demanded(policy: Policy) -> str | None:
    if policy.real_time_order or policy.dates_ascend:
        return None
    return f"policy {policy.name} demands no order"


@invariant("N-MONO", unless=_order_demanded)
def numbers_follow_time(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A number acknowledged before another was asked for is the lower one; document dates do not decrease with the number."""
    documents = stored(books, policy)
    told = _numbered(acknowledged(history, documents, policy), documents)
    in_order = _nothing_told(history, told) if policy.real_time_order else None
    dated = _nothing_dated(documents) if policy.dates_ascend else None
    demanded = [why for why, asked in ((in_order, policy.real_time_order), (dated, policy.dates_ascend)) if asked]
    if all(demanded):
        raise NotChecked("; ".join(dict.fromkeys(why for why in demanded if why)))
    findings = []
    if policy.real_time_order:
        findings += _against_real_time(history, told)
    if policy.dates_ascend:
        findings += _against_dates(documents)
    return findings


def _numbered(told: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Fill in the numbers of those that were told a print only, from the one document with their token."""
    if not told["number"].null_count():
        return told
    rows = documents.filter(pl.col("token").is_not_null()).unique("token", keep="none").select("token", _own="number")
    filled = told.join(rows, on="token", how="left", maintain_order="left")
    return filled.with_columns(number=pl.coalesce("number", "_own")).drop("_own")


def _nothing_told(history: History, told: pl.DataFrame) -> str | None:
    """Say why no answer says a place in the order, or return None where one does, or nothing was acknowledged."""
    if told.is_empty():
        return "answers name no number" if acknowledged_without_number(history).height else None
    return unreadable(told)


def _nothing_dated(documents: pl.DataFrame) -> str | None:
    """Say why no document's date can be compared, or return None where one can, or there are none."""
    if why := unreadable(documents):
        return why
    return "documents have no date: give dated" if documents.height and not documents["dated"].count() else None


def _against_real_time(history: History, told: pl.DataFrame) -> list[Finding]:
    """Find numbers asked for after a higher one was acknowledged.

    A request may be sent several times: it takes effect between its first invocation and its first answer. Going down
    from the highest number, the earliest answer above each number is a running minimum, so one sort decides everything.
    """
    maybe = history.operations.filter(pl.col("outcome") == "info").group_by("token").agg(maybe=pl.col("invoked").min())
    intents = (
        told.filter(pl.col("number").is_not_null())
        .group_by([*KEY, "token"])
        .agg(pl.col("invoked").min(), pl.col("completed").min())
        .join(maybe, on="token", how="left")
        .with_columns(invoked=pl.min_horizontal("invoked", "maybe"))
    )
    by_number = (
        intents.group_by(KEY)
        .agg(pl.col("invoked").max(), pl.col("completed").min())
        .sort("number", descending=True)
        .with_columns(
            above=pl.col("completed").fill_null(_NEVER).cum_min().shift(1, fill_value=_NEVER).over(PLACE),
        )
    )
    late = by_number.filter(pl.col("above") < pl.col("invoked")).with_columns(by=pl.col("invoked") - pl.col("above"))

    def one(scope: str, period: str, wrong: pl.DataFrame) -> Finding:
        first = wrong.row(0, named=True)
        here = told.filter(pl.col("scope") == scope, pl.col("period") == period)
        low = here.filter(pl.col("number") == first["number"]).sort("invoked", descending=True).row(0, named=True)
        high = here.filter(pl.col("completed") == first["above"], pl.col("number") > first["number"]).row(0, named=True)
        examples = here.join(ends(wrong, worst="by"), on=KEY, how="semi")
        involved = pl.concat([here.filter(pl.col("token") == high["token"]), examples]).unique(maintain_order=True)
        return violation(
            "N-MONO",
            f"{number_name(low['text'], low['number'])} was asked for by client {low['client']} at "
            f"{moment(history, low['invoked'])}, when {number_name(high['text'], high['number'])} had already been "
            f"issued to {whom(history, high)}",
            total=wrong.height,
            operations=shown(history, involved.select(history.operations.columns)),
        )

    return each_place("N-MONO", late.sort("invoked", *KEY), one, many="more numbers are out of order")


_NEVER = 2**63 - 1


def _against_dates(documents: pl.DataFrame) -> list[Finding]:
    dated = documents.filter(pl.col("number").is_not_null(), pl.col("dated").is_not_null()).sort(*KEY, "dated")
    back = (
        dated.with_columns(before=pl.col("dated").cum_max().over(PLACE))
        .filter(pl.col("dated") < pl.col("before"))
        .with_columns(by=pl.col("before") - pl.col("dated"))
    )

    def one(scope: str, period: str, wrong: pl.DataFrame) -> Finding:
        low = wrong.row(0, named=True)
        here = dated.filter(pl.col("scope") == scope, pl.col("period") == period)
        # Up to the first that is dated back, dates ascend: the one just below has the highest.
        high = here.filter(pl.col("number") < low["number"]).row(-1, named=True)
        examples = ends(wrong, worst="by").select(documents.columns)
        return violation(
            "N-MONO",
            f"{number_name(low['text'], low['number'])} of {place_name(scope, period)} is dated "
            f"{low['dated']:%Y-%m-%d %H:%M:%S}, earlier than the lower {number_name(high['text'], high['number'])} "
            f"({high['dated']:%Y-%m-%d %H:%M:%S})",
            total=wrong.height,
            books={"documents": rows(pl.concat([here.filter(pl.col("row") == high["row"]), examples]).drop("row"))},
        )

    return each_place("N-MONO", back, one, many="more documents are dated back")
