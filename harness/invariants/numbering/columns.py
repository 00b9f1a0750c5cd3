"""What the numbering rules start from: documents and acknowledged numbers, as columns that can be compared.

``scope`` and ``period`` are never null (an empty string stands for "none"), and ``number`` is read from the printed text
where a target gives only that. A print of no characters is none: drafts are kept with it.

Answers may name a number that books keep only as print, or the reverse. Then the two are not compared: neither says that
the other is wrong.
"""

from __future__ import annotations

import re

import polars as pl

from harness.config.number_format import read_template
from harness.invariants.resolution import TABLE_OF, keeps_tokens
from harness.model import Books, History, Policy

PLACE = ["scope", "period"]
KEY = ["scope", "period", "number"]

SAYING = ("number", "text")
"""The columns that say which number: either may be missing."""

FEWEST = 10
"""Answered requests that must all be missing before it is thought that their rows are there by other names: a few may be lost."""

NOT_ISSUING = ("void", "void_sale", "cancel", "delete", "renumber", "read", "get", "list", "find", "seed", "cleanup", "release")
"""Operations that may carry a number without issuing one."""


def stored(books: Books, policy: Policy) -> pl.DataFrame:
    """Return the documents, ``row`` being the identity of each."""
    documents = books.table("documents").with_columns(
        pl.col("scope").fill_null(""),
        pl.col("period").fill_null(""),
        pl.col("status").fill_null("issued"),
        text=_print(),
        number=_number(policy),
        row=pl.col("id").fill_null(pl.concat_str(pl.lit("#"), pl.int_range(pl.len()))),
    )
    return documents


def issuing(history: History) -> list[str]:
    """Return the names of the operations that issue numbers in this history."""
    named = (
        history.operations.lazy()
        .filter(pl.col("number").is_not_null() | _print().is_not_null())
        .select(pl.col("f").unique())
        .collect()["f"]
        .to_list()
    )
    return sorted({"create", *named} - set(NOT_ISSUING))


def documenting(history: History) -> list[str]:
    """Return the names of the operations that make documents in this history, also those whose answers name no number."""
    return sorted({*issuing(history), *(f for f, table in TABLE_OF.items() if table == "documents")})


def acknowledged_without_number(history: History) -> pl.DataFrame:
    """Return the operations that made a document and whose answer names no number."""
    return history.operations.filter(
        pl.col("outcome") == "ok",
        pl.col("f").is_in(documenting(history)),
        pl.col("number").is_null() & _print().is_null(),
    ).with_columns(pl.col("scope").fill_null(""), pl.col("period").fill_null(""))


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
        pl.col("number").is_not_null() | _print().is_not_null(),
    )
    if told["scope"].null_count() or told["period"].null_count():
        places = documents.filter(pl.col("token").is_not_null()).unique("token").select("token", _s="scope", _p="period")
        told = (
            told.join(places, on="token", how="left", maintain_order="left")
            .with_columns(scope=pl.coalesce("scope", "_s"), period=pl.coalesce("period", "_p"))
            .drop("_s", "_p")
        )
    told = told.with_columns(text=_print())
    return _as_first_told(told.with_columns(number=_number(policy)))


def _as_first_told(told: pl.DataFrame) -> pl.DataFrame:
    """Fill in what one answer leaves out and another for the same token and number, or print, says.

    A repetition may be answered in fewer words than the first request was: that is no other number.
    """
    for known, other in (("number", "text"), ("text", "number")):
        if 0 < told[other].null_count() < told.height:
            whole = told.filter(pl.col("number").is_not_null(), pl.col("text").is_not_null())
            said = whole.unique(["token", *PLACE, known], keep="first", maintain_order=True)
            said = said.select("token", *PLACE, known, _said=other)
            told = told.join(said, on=["token", *PLACE, known], how="left", nulls_equal=True, maintain_order="left")
            told = told.with_columns(pl.coalesce(other, "_said").alias(other)).drop("_said")
    return told


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
    """Whether some document holds the number that was told, in whatever place, or may hold it: books do not keep it so."""
    by_number = pl.col("number").is_in(documents["number"].drop_nulls().implode())
    by_text = pl.col("text").is_in(documents["text"].drop_nulls().implode())
    numbered, printed = (pl.lit(bool(documents[name].count())) & pl.col(name).is_not_null() for name in SAYING)
    return pl.when(numbered).then(by_number).when(printed).then(by_text).otherwise(pl.lit(value=True))


def _only_numbers_match(documents: pl.DataFrame) -> bool:
    return not keeps_tokens(documents)


def comparable(told: pl.DataFrame, documents: pl.DataFrame) -> bool:
    """Tell whether answers and documents name numbers in the same way at all: both by number, or both by print."""
    return any(told[name].count() and documents[name].count() for name in SAYING)


def unstored(told: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Return the operations for whose token the books hold no document with the number that the client was told.

    Where the documents keep no tokens, any document with the number will do. Where a document has only a print and the client
    was told only a number, or the reverse, there is nothing to compare, and it is not returned.
    """
    numbered = told.filter(pl.col("number").is_not_null())
    printed = told.filter(pl.col("number").is_null())
    if not keeps_tokens(documents):
        by_print = documents.filter(pl.col("number").is_null(), pl.col("text").is_not_null())
        lost = numbered.join(documents, on=KEY, how="anti").join(by_print, on=["scope", "text"], how="anti")
        lost = pl.concat([lost, printed.join(documents, on=["scope", "text"], how="anti")])
        return lost.filter(pl.any_horizontal(_both(name, documents) for name in SAYING))
    lost = pl.concat(
        [
            numbered.join(documents, on=["token", "number"], how="anti"),
            printed.join(documents, on=["token", "text"], how="anti"),
        ]
    )
    if lost.is_empty() or not documents["number"].null_count() + documents["text"].null_count():
        return lost
    return _not_told_otherwise(lost, documents)


def _both(name: str, documents: pl.DataFrame) -> pl.Expr:
    """Whether the client was told this, where documents have it as well."""
    return pl.col(name).is_not_null() & pl.lit(bool(documents[name].count()))


def _not_told_otherwise(lost: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Leave out those whose document says the same in print, or has nothing that the answer could be compared with.

    A row with neither number nor print has lost both, if other rows have one.
    """
    rows = documents.select("token", _number="number", _text="text").filter(pl.col("token").is_not_null())
    held = lost.with_row_index("_at").join(rows, on="token", how="inner")
    names_any = any(documents[name].count() for name in SAYING)
    two_numbers = pl.col("number").is_not_null() & pl.col("_number").is_not_null()
    two_prints = pl.col("text").is_not_null() & pl.col("_text").is_not_null()
    named = pl.col("_number").is_not_null() | pl.col("_text").is_not_null() | pl.lit(not names_any)
    agrees = pl.when(two_numbers).then(pl.lit(value=False)).when(two_prints).then(pl.col("text") == pl.col("_text"))
    kept = held.filter(agrees.otherwise(named)).select("_at")
    return lost.with_row_index("_at").join(kept, on="_at", how="anti", maintain_order="left").drop("_at")


def not_ended(told: pl.DataFrame, history: History, documents: pl.DataFrame, endings: tuple[str, ...]) -> pl.DataFrame:
    """Leave out documents that an operation of these names may have ended: ok or unknown, by number, text or subject.

    An unanswered deletion is of a scope that nobody says. An ending that names none is of the document whose scope is not known
    either, or else of that with its number in whatever scope; and a document whose scope is not known may be ended by any.
    """
    ended = history.operations.filter(pl.col("f").is_in(endings), pl.col("outcome") != "fail")
    if ended.is_empty() or told.is_empty():
        return told
    rows_of = documents.filter(pl.col("token").is_not_null()).select("token", subject="row")
    by_row = rows_of.join(ended, on="subject", how="semi").select("token")
    named = _named_in_arguments(ended)
    subjects = named.filter(pl.col("subject").is_not_null()).select("subject")
    known = _as_stored(told.with_row_index("_at"), documents)
    left = known
    for column, mine, theirs in _ways_of_naming():
        by = named.select("scope", theirs.alias(column)).filter(pl.col(column).is_not_null())
        if by.is_empty():
            continue
        one = known.select("_at", "scope", mine.alias(column)).filter(pl.col(column).is_not_null())
        placeless = one.filter(pl.col("scope") == "")
        anywhere = by.filter(pl.col("scope").is_null()).join(placeless, on=column, how="anti")
        hit = pl.concat(
            [
                one.join(by, on=["scope", column], how="semi"),
                one.join(anywhere, on=column, how="semi"),
                placeless.join(by, on=column, how="semi"),
            ]
        )
        left = left.join(hit, on="_at", how="anti")
    left = (
        left.join(subjects.select(token="subject"), on="token", how="anti")
        .join(subjects.select(text="subject"), on="text", how="anti")
        .join(by_row, on="token", how="anti")
    )
    return told.with_row_index("_at").join(left, on="_at", how="semi", maintain_order="left").drop("_at")


def _ways_of_naming() -> list[tuple[str, pl.Expr, pl.Expr]]:
    """Return how a document and its ending can name the same number: column, what the document says, what the ending says.

    Where one has only a number and the other only a print, the last digits of the print are the number.
    """
    digits = pl.col("text").str.extract(r"([0-9]+)[^0-9]*$").cast(pl.Int64(), strict=False)
    in_print = pl.when(pl.col("number").is_null()).then(digits)
    alone = pl.when(pl.col("text").is_null()).then("number")
    return [
        ("number", pl.col("number"), pl.col("number")),
        ("text", pl.col("text"), pl.col("text")),
        ("number", alone, in_print),
        ("number", in_print, alone),
    ]


def _as_stored(told: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Fill in the print of those that were told a number only: from the row with their token, or with the number in the place."""
    if not told["text"].null_count() or not documents["text"].count():
        return told
    printed = documents.filter(pl.col("text").is_not_null())
    by_token = printed.filter(pl.col("token").is_not_null()).unique("token", keep="none").select("token", _own="text")
    by_number = printed.filter(pl.col("number").is_not_null()).unique(KEY, keep="none").select(*KEY, _there="text")
    filled = told.join(by_token, on="token", how="left", maintain_order="left")
    filled = filled.join(by_number, on=KEY, how="left", maintain_order="left")
    return filled.with_columns(text=pl.coalesce("text", "_own", "_there")).drop("_own", "_there")


def _named_in_arguments(ended: pl.DataFrame) -> pl.DataFrame:
    """Take the printed number that was asked for, if one was: the answer may name another, of a credit note for example."""
    asked = pl.col("arguments").str.json_path_match("$.text")
    return ended.with_columns(text=pl.coalesce(asked, _print()))


def unreadable(numbers: pl.DataFrame) -> str | None:
    """Say why no number could be read from any of these rows, or return None if one could or there are none."""
    if numbers.is_empty() or numbers["number"].count():
        return None
    if numbers["text"].count():
        return "no number could be read from the printed texts: give number, or format in the policy"
    return "no row has a number: give number, or text and a format in the policy"


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


def _print() -> pl.Expr:
    """The printed number, null where nothing is printed."""
    return pl.when(pl.col("text") != "").then("text")


def _number(policy: Policy) -> pl.Expr:
    if policy.format is None:
        return pl.col("number")
    pattern = read_template(policy.format).pattern
    group = re.compile(pattern).groupindex["number"]
    return pl.coalesce("number", pl.col("text").str.extract(f"^(?:{pattern})$", group).cast(pl.Int64(), strict=False))
