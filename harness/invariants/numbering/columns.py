"""What the numbering rules start from: documents and acknowledged numbers, as columns that can be compared.

``scope`` and ``period`` are never null (an empty string stands for "none"), and ``number`` is read from the printed text
where a target gives only that.
"""

from __future__ import annotations

import re

import polars as pl

from harness.config.number_format import read_template
from harness.invariants.resolution import keeps_tokens
from harness.model import Books, History, Policy

PLACE = ["scope", "period"]
KEY = ["scope", "period", "number"]

FEWEST = 10
"""Answered requests that must all be missing before it is thought that their rows are there by other names: a few may be lost."""

NOT_ISSUING = ("void", "cancel", "delete", "renumber", "read", "get", "list", "find", "seed", "cleanup", "release")
"""Operations that may carry a number without issuing one."""


def stored(books: Books, policy: Policy) -> pl.DataFrame:
    """Return the documents, ``row`` being the identity of each."""
    documents = books.table("documents").with_columns(
        pl.col("scope").fill_null(""),
        pl.col("period").fill_null(""),
        pl.col("status").fill_null("issued"),
        number=_number(policy),
        row=pl.col("id").fill_null(pl.concat_str(pl.lit("#"), pl.int_range(pl.len()))),
    )
    return documents


def issuing(history: History) -> list[str]:
    """Return the names of the operations that issue numbers in this history."""
    named = (
        history.operations.lazy()
        .filter(pl.col("number").is_not_null() | pl.col("text").is_not_null())
        .select(pl.col("f").unique())
        .collect()["f"]
        .to_list()
    )
    return sorted({"create", *named} - set(NOT_ISSUING))


def acknowledged(history: History, documents: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Return the operations whose client was told a number, or would have been (``completed`` is null then).

    Where the answer names no scope or period, those of the document with the operation's token are taken. Where documents
    keep no tokens, the place of all documents is taken if they share it; an answer that may mean several documents is left out.
    """
    told = acknowledgements(history, documents, policy)
    for name in PLACE:
        if named_nowhere(told, documents, name):
            told = told.with_columns(pl.lit(None, pl.String()).alias(name))
        if unnamed(told, documents, name):
            told = told.filter(pl.col(name).is_not_null() | ~_held(documents))
        elif _only_numbers_match(documents):
            told = told.with_columns(pl.col(name).fill_null(documents[name][0]))
    return told.with_columns(pl.col("scope").fill_null(""), pl.col("period").fill_null(""))


def acknowledgements(history: History, documents: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Return the same, also those whose place is in doubt; null where neither the answer nor a token says it."""
    told = history.operations.filter(
        pl.col("outcome") == "ok",
        pl.col("f").is_in(issuing(history)),
        pl.col("number").is_not_null() | pl.col("text").is_not_null(),
    )
    if told["scope"].null_count() or told["period"].null_count():
        places = documents.filter(pl.col("token").is_not_null()).unique("token").select("token", _s="scope", _p="period")
        told = (
            told.join(places, on="token", how="left", maintain_order="left")
            .with_columns(scope=pl.coalesce("scope", "_s"), period=pl.coalesce("period", "_p"))
            .drop("_s", "_p")
        )
    return told.with_columns(number=_number(policy))


def named_nowhere(told: pl.DataFrame, documents: pl.DataFrame, name: str) -> bool:
    """Tell whether only numbers match answers with documents, and no document is of a scope (or period) that an answer names."""
    if not _only_numbers_match(documents) or told[name].null_count() == told.height:
        return False
    known = told.filter(pl.col(name).is_in(documents[name].unique().implode()))
    return known.is_empty() and FEWEST <= told["token"].n_unique() <= documents.height


def unnamed(told: pl.DataFrame, documents: pl.DataFrame, name: str) -> int:
    """Return how many answers may mean documents of several scopes (or periods): they name none, and only numbers match."""
    if not _only_numbers_match(documents) or documents[name].n_unique() == 1:
        return 0
    return told.filter(pl.col(name).is_null(), _held(documents)).height


def _held(documents: pl.DataFrame) -> pl.Expr:
    """Whether some document holds the number that was told, in whatever place."""
    by_number = pl.col("number").is_in(documents["number"].drop_nulls().implode())
    by_text = pl.col("text").is_in(documents["text"].drop_nulls().implode())
    return pl.when(pl.col("number").is_not_null()).then(by_number).otherwise(by_text)


def _only_numbers_match(documents: pl.DataFrame) -> bool:
    return not keeps_tokens(documents)


def unstored(told: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Return the operations for whose token the books hold no document with the number that the client was told.

    Where the documents keep no tokens, any document with the number will do.
    """
    numbered = told.filter(pl.col("number").is_not_null())
    printed = told.filter(pl.col("number").is_null())
    if keeps_tokens(documents):
        return pl.concat(
            [
                numbered.join(documents, on=["token", "number"], how="anti"),
                printed.join(documents, on=["token", "text"], how="anti"),
            ]
        )
    return pl.concat(
        [
            numbered.join(documents, on=KEY, how="anti"),
            printed.join(documents, on=["scope", "text"], how="anti"),
        ]
    )


def not_ended(told: pl.DataFrame, history: History, documents: pl.DataFrame, endings: tuple[str, ...]) -> pl.DataFrame:
    """Leave out documents that an operation of these names may have ended: ok or unknown, by number, text or subject."""
    ended = history.operations.filter(pl.col("f").is_in(endings), pl.col("outcome") != "fail")
    if ended.is_empty():
        return told
    scoped = ended.with_columns(pl.col("scope").fill_null(""))
    rows_of = documents.filter(pl.col("token").is_not_null()).select("token", subject="row")
    by_row = rows_of.join(ended, on="subject", how="semi").select("token")
    named = _named_in_arguments(scoped)
    return (
        told.join(scoped.filter(pl.col("number").is_not_null()), on=["scope", "number"], how="anti")
        .join(named.filter(pl.col("text").is_not_null()), on=["scope", "text"], how="anti")
        .join(named.filter(pl.col("subject").is_not_null()).select(token="subject"), on="token", how="anti")
        .join(named.filter(pl.col("subject").is_not_null()).select(text="subject"), on="text", how="anti")
        .join(by_row, on="token", how="anti")
    )


def _named_in_arguments(ended: pl.DataFrame) -> pl.DataFrame:
    """Fill in the printed number that was asked for where the answer, if one came, does not repeat it."""
    asked = pl.col("arguments").str.json_path_match("$.text")
    return ended.with_columns(text=pl.coalesce("text", asked))


def place_name(scope: str, period: str) -> str:
    """Return a place as people read it: ``acme/invoice``, ``acme/payment in 2026``, ``the only scope``."""
    return (scope or "the only scope") + (f" in {period}" if period else "")


def number_name(text: str | None, number: int | None) -> str:
    """Return a number as printed, or as a bare number where nothing was printed."""
    return text if text is not None else f"number {number}"


def printed_like(policy: Policy, text: str | None, number: int, other: int) -> str:
    """Return ``other`` printed in the way in which ``number`` is printed as ``text``: for numbers that no document holds."""
    for start, end in _digits(policy, text):
        if text is not None and int(text[start:end]) == number:
            return f"{text[:start]}{other:0{end - start}d}{text[end:]}"
    return f"number {other}"


def _digits(policy: Policy, text: str | None) -> list[tuple[int, int]]:
    """Return where the number may stand in a printed text, likeliest first."""
    if text is None:
        return []
    if policy.format is not None and (found := re.fullmatch(read_template(policy.format).pattern, text)):
        return [found.span("number")]
    return [found.span() for found in reversed(list(re.finditer(r"[0-9]+", text)))]


def _number(policy: Policy) -> pl.Expr:
    if policy.format is None:
        return pl.col("number")
    pattern = read_template(policy.format).pattern
    group = re.compile(pattern).groupindex["number"]
    return pl.coalesce("number", pl.col("text").str.extract(f"^(?:{pattern})$", group).cast(pl.Int64(), strict=False))
