"""What was promised to a client stays true: its document is stored, keeps its number, and is voided only in the open."""

from __future__ import annotations

import polars as pl

from harness.invariants.numbering.columns import (
    KEY,
    acknowledged,
    acknowledged_without_number,
    acknowledgements,
    comparable,
    not_ended,
    number_name,
    place_name,
    stored,
    unstored,
)
from harness.invariants.numbering.scopes import each_place, ends
from harness.invariants.registry import NotChecked, invariant
from harness.invariants.resolution import keeps_tokens
from harness.invariants.telling import rows, shown, violation, whom
from harness.model import Books, Finding, History, Policy

ENDINGS = ("void", "void_sale", "cancel", "delete", "cleanup", "release")
"""Operations after which a document may be void or gone."""


@invariant("N-DURABLE", tables=["documents"])
def acknowledged_is_stored(history: History, books: Books, policy: Policy) -> list[Finding]:
    """What was acknowledged is stored, with the same number."""
    if not books.complete:
        return []
    documents = stored(books, policy)
    told = acknowledged(history, documents, policy)
    if why := _nothing_to_match(history, documents, policy):
        raise NotChecked(why)
    lost = pl.concat([unstored(told, documents), _silent(history, documents, told)])
    lost = lost.filter(pl.col("completed").is_not_null())
    lost = not_ended(lost, history, documents, ("delete",)).sort("completed")
    lost = lost.unique(["token", *KEY], keep="first", maintain_order=True)

    def one(scope: str, period: str, bad: pl.DataFrame) -> Finding:
        first = bad.row(0, named=True)
        held = documents.filter(pl.col("token") == first["token"])
        if held.height:
            text, number = held["text"][0], held["number"][0]
            stands = "stored without a number" if text is None and number is None else f"stored as {number_name(text, number)}"
        else:
            stands = "not stored"
        name = "a document" if first["number"] is None and first["text"] is None else number_name(first["text"], first["number"])
        return violation(
            "N-DURABLE",
            f"{name} of {place_name(scope, period)} was acknowledged to {whom(history, first)} and is {stands}",
            total=bad.height,
            operations=shown(history, ends(bad).select(history.operations.columns)),
            books={"documents": rows(held.drop("row"))},
        )

    return each_place("N-DURABLE", lost, one, many="more acknowledged documents are not stored")


def _silent(history: History, documents: pl.DataFrame, told: pl.DataFrame) -> pl.DataFrame:
    """Return what was acknowledged without a number, of every operation that makes a document, and whose token none has."""
    if not keeps_tokens(documents):
        return told.clear()
    return acknowledged_without_number(history).join(documents, on="token", how="anti").select(told.columns)


def _nothing_to_match(history: History, documents: pl.DataFrame, policy: Policy) -> str | None:
    """Say why no answer can be matched with any document, or return None where one can, or nothing was acknowledged."""
    if keeps_tokens(documents):
        return None
    told = acknowledgements(history, documents, policy)
    if told.is_empty():
        quiet = acknowledged_without_number(history)
        return "answers name no number and documents keep no token" if quiet.height else None
    return None if comparable(told, documents) else f"{_in_different_words(told)}, and documents keep no token"


def _in_different_words(told: pl.DataFrame) -> str:
    """Say that answers and documents do not name numbers in the same way."""
    one, other = ("numbers", "prints") if told["number"].count() else ("prints", "numbers")
    return f"answers name only {one} and documents only {other}"


@invariant("N-IMMUT", tables=["documents"])
def numbers_never_change(history: History, books: Books, policy: Policy) -> list[Finding]:
    """An issued number never changes and is never used again."""
    documents = stored(books, policy)
    told = acknowledged(history, documents, policy).filter(pl.col("completed").is_not_null())
    if not keeps_tokens(documents):
        return []
    if told.height and (documents["number"].count() or documents["text"].count()) and not comparable(told, documents):
        raise NotChecked(_in_different_words(told))
    gone = unstored(told, documents).sort("completed")
    holders = documents.filter(pl.col("token").is_not_null())
    changed = gone.join(holders.select("token", now="number", now_text="text", now_row="row"), on="token", how="inner")
    # A column that either side leaves empty says nothing of a change.
    differs = [pl.col(now).is_not_null() & pl.col(was).is_not_null() for now, was in (("now", "number"), ("now_text", "text"))]
    changed = changed.filter(pl.any_horizontal(differs))
    changed = changed.unique(["token", "number"], keep="first", maintain_order=True).with_columns(other=pl.lit(None, pl.String()))
    reused = (
        gone.filter(pl.col("number").is_not_null())
        .join(documents.select(*KEY, other="token", now="number", now_text="text", now_row="row"), on=KEY, how="inner")
        .filter(pl.col("other").is_null() | (pl.col("other") != pl.col("token")))
        .with_columns(pl.col("other").fill_null(""))
        .unique(["token", "number"], keep="first", maintain_order=True)
    )
    wrong = pl.concat([changed, reused.select(changed.columns)])

    def one(scope: str, period: str, bad: pl.DataFrame) -> Finding:
        first = bad.row(0, named=True)
        name = number_name(first["text"], first["number"])
        if first["other"] is None:
            said = f"and is now {number_name(first['now_text'], first['now'])}"
        else:
            later = history.operations.filter(pl.col("token") == first["other"]).sort("invoked")
            whose = whom(history, later.row(0, named=True)) if later.height else f"another document (row {first['now_row']})"
            said = f"and was used again for {whose}"
        examples = documents.filter(pl.col("row").is_in(ends(bad)["now_row"].implode())).drop("row")
        return violation(
            "N-IMMUT",
            f"{name} of {place_name(scope, period)} was issued to {whom(history, first)} {said}",
            total=bad.height,
            operations=shown(history, ends(bad).select(history.operations.columns)),
            books={"documents": rows(examples)},
        )

    return each_place("N-IMMUT", wrong, one, many="more issued numbers have changed")


@invariant("N-VOID", tables=["documents"])
def voids_are_final(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A void number is never issued, an issued one is never silently void, and a void says why."""
    documents = stored(books, policy)
    void = documents.filter(pl.col("status") == "void").sort(KEY, nulls_last=True)
    if void.is_empty():
        return []
    again = void.join(documents.filter(pl.col("status") == "issued"), on=KEY, how="semi")
    unexplained = void.filter(pl.col("reason").fill_null("").str.strip_chars() == "")
    told = acknowledged(history, documents, policy).filter(pl.col("completed").is_not_null())
    promised = told.join(void.select("token"), on="token", how="semi").sort("completed")
    silent = not_ended(promised, history, documents, ENDINGS).unique("token", keep="first", maintain_order=True)

    def issued_again(scope: str, period: str, bad: pl.DataFrame) -> Finding:
        both = documents.join(ends(bad), on=KEY, how="semi").drop("row")
        return _void_finding(history, bad, f"{_first(bad)} of {place_name(scope, period)} is void and issued as well", both)

    def without_reason(scope: str, period: str, bad: pl.DataFrame) -> Finding:
        return _void_finding(
            history, bad, f"{_first(bad)} of {place_name(scope, period)} is void and says no reason", ends(bad).drop("row")
        )

    def not_allowed(scope: str, period: str, bad: pl.DataFrame) -> Finding:
        text = f"{_first(bad)} of {place_name(scope, period)} is void, which policy {policy.name} does not allow"
        return _void_finding(history, bad, text, ends(bad).drop("row"))

    def silently(scope: str, period: str, bad: pl.DataFrame) -> Finding:
        first = bad.row(0, named=True)
        held = documents.join(ends(bad), on="token", how="semi").drop("row")
        text = (
            f"{number_name(first['text'], first['number'])} of {place_name(scope, period)} was issued to "
            f"{whom(history, first)} and is void, though nobody voided it"
        )
        return _void_finding(history, bad, text, held)

    findings = each_place("N-VOID", again, issued_again, many="more void numbers are issued as well")
    if policy.void_reason_required and books.gives("documents", "reason"):
        findings += each_place("N-VOID", unexplained, without_reason, many="more voids say no reason")
    if not policy.voids_allowed:
        findings += each_place("N-VOID", void, not_allowed, many="more numbers are void")
    return findings + each_place("N-VOID", silent, silently, many="more issued numbers are silently void")


def _first(bad: pl.DataFrame) -> str:
    return number_name(bad["text"][0], bad["number"][0])


def _void_finding(history: History, bad: pl.DataFrame, message: str, books: pl.DataFrame) -> Finding:
    asked = history.operations.join(ends(bad), on="token", how="semi")
    return violation("N-VOID", message, total=bad.height, operations=shown(history, asked), books={"documents": rows(books)})
