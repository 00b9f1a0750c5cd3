"""Whether the rows of the books can be matched with the requests of the history at all.

A row is its request's by the client's token, or, where rows have none, by the number in its scope and period. A description of a
service may read another column as token, or leave a scope unsaid: then every answer would seem to be lost, and every
unanswered request never to have happened. A sound service must not be accused of that: it is said, and the verdict is unknown.
So it is where tokens match, and every answer names another scope than its document has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from harness.invariants.numbering.columns import FEWEST, PLACE, acknowledgements, documenting, named_nowhere, stored, unnamed
from harness.invariants.resolution import ELSEWHERE, READS, TABLE_OF, added, keeps_tokens, undecided
from harness.invariants.telling import listed
from harness.model import Books, Finding, History, Policy
from harness.model.books import STATUSES

FIRST = 10_000
"""Requests of which nearly always one is found among the first rows, so that no more have to be looked at."""

LONGEST = 60
"""Characters of a value that are shown."""


@dataclass(frozen=True, kw_only=True)
class Strange:
    """A table whose column of tokens holds something else: ``held`` stands in a row, ``sent`` is a token that should."""

    table: str
    held: str
    sent: str


def strange_tokens(history: History, books: Books) -> list[Strange]:
    """Return the tables that hold not one token of those requests that were answered, though as many rows came with others.

    Where nobody knows which rows came, it takes several requests to believe that.
    """
    if not books.complete:
        return []
    found = []
    for name, answered in _answered(history, books):
        if answered["token"].n_unique() < (1 if name in books.earlier else FEWEST):
            continue
        table = books.table(name).select("token")
        if _any_in(table.head(10 * FIRST), answered.head(FIRST)) or _any_in(table, answered):
            continue
        others = added(name, books).filter(pl.col("token").is_not_null()).join(history.operations, on="token", how="anti")
        if others.height >= answered["token"].n_unique():
            found.append(Strange(table=name, held=others["token"][0], sent=answered["token"][0]))
    return found


def tokens_given_up(books: Books) -> list[str]:
    """Return the tables of which only rows from before the race have tokens: the service does not store those of the race."""
    return [
        name
        for name in books.earlier
        if books.gives(name, "token") and not keeps_tokens(added(name, books)) and keeps_tokens(books.table(name))
    ]


def without_tokens(books: Books, names: Iterable[str]) -> Books:
    """Return the books with nothing in these tables' columns of tokens."""
    blank = pl.lit(None, pl.String()).alias("token")
    return replace(books, tables={**books.tables, **{name: books.table(name).with_columns(blank) for name in names}})


def foreign_words(books: Books) -> list[Finding]:
    """Return an indeterminate finding for each table with a status that is none of ours: no rule knows what it means."""
    found = []
    for name, words in STATUSES.items():
        if not books.gives(name, "status"):
            continue
        odd = books.table(name).filter(pl.col("status").is_not_null(), ~pl.col("status").is_in(words))
        if odd.height:
            some = listed(_brief(word) for word in odd["status"].unique().sort().head(3))
            where = f"{odd.height} {'row' if odd.height == 1 else 'rows'} of {name}"
            found.append(
                undecided(
                    f"the status {some} stands in {where}, and no rule knows what it means; let the query say "
                    f"{', '.join(words[:-1])} or {words[-1]} instead",
                    total=odd.height,
                )
            )
    return found


def unmatched(history: History, books: Books, policy: Policy, strange: Sequence[Strange]) -> list[Finding]:
    """Return indeterminate findings: one for each table with strange tokens, and one for each part of a place that is in doubt.

    Args:
        history: what clients did.
        books: without the strange tokens.
        policy: says where the number is in a printed text.
        strange: the tables whose tokens were something else.
    """
    said = [
        f"no row of {s.table} holds a token that a client sent: a row holds {_brief(s.held)} where a client sent "
        f"{_brief(s.sent)}, so rows and requests are not matched; read the client's token as token, or leave it out"
        for s in strange
    ]
    return [undecided(message) for message in (*said, *_doubtful_places(history, books, policy))]


def as_stored(history: History, books: Books) -> tuple[History, list[Finding]]:
    """Return the history in the scopes and periods of the books, and an indeterminate finding if answers name others.

    Only where every answer names another than the document with its token has: that is how the service is described, and no
    race. Where some agree, the others are the service's own doing, and the history stays as it is.
    """
    findings = []
    for name in PLACE if books.complete and books.has("documents") else ():
        held = books.table("documents").select("token", _held=name).drop_nulls().filter(pl.col("_held") != "")
        told = history.operations.filter(
            pl.col("outcome") == "ok", pl.col("completed").is_not_null(), pl.col("f").is_in(documenting(history))
        )
        told = told.select("token", "invoked", _told=name).drop_nulls().filter(pl.col("_told") != "")
        if _agrees(told.head(FIRST), held) or _agrees(told, held):
            continue
        both = told.join(held.unique(), on="token", how="inner").sort("invoked", "_held")
        if both.is_empty():
            continue
        findings.append(
            undecided(
                f"every answer names another {name} than its document has: {_brief(both['_told'][0])} where the document with "
                f"its token is of {_brief(both['_held'][0])}; so the {name} that answers name is not gone by: let both name the "
                f"same {name}, or leave it out of the answer",
                total=both["token"].n_unique(),
            )
        )
        history = replace(history, operations=_moved(history.operations, name, held, both))
    return history, findings


def _agrees(told: pl.DataFrame, held: pl.DataFrame) -> bool:
    """Tell whether some answer names the place of its document."""
    return not told.join(held, left_on=["token", "_told"], right_on=["token", "_held"], how="semi").is_empty()


def _moved(operations: pl.DataFrame, name: str, held: pl.DataFrame, both: pl.DataFrame) -> pl.DataFrame:
    """Put operations where their documents are; others where the documents of their place are, if that is one; or nowhere."""
    own = both.select("token", _own="_held").unique("token", keep="first", maintain_order=True)
    pairs = both.select(_told="_told", _there="_held").unique()
    pairs = pairs.unique("_told", keep="none").unique("_there", keep="none")
    moved = operations.join(own, on="token", how="left", maintain_order="left")
    moved = moved.join(pairs, left_on=name, right_on="_told", how="left", maintain_order="left")
    known = pl.col(name).is_in(held["_held"].unique().implode()) & ~pl.col(name).is_in(both["_told"].unique().implode())
    place = pl.when(pl.col(name).is_not_null()).then(pl.coalesce("_own", "_there", pl.when(known).then(name)))
    return moved.with_columns(place.alias(name)).select(operations.columns)


def _doubtful_places(history: History, books: Books, policy: Policy) -> Iterator[str]:
    if not books.has("documents") or keeps_tokens(books.table("documents")):
        return
    documents = stored(books, policy)
    told = acknowledgements(history, documents, policy)
    for name in PLACE:
        known = documents[name].unique().sort()
        some = listed(_brief(value) for value in known.head(3))
        if named_nowhere(told, documents, name):
            named = _brief(told[name].drop_nulls()[0])
            yield (
                f"answers name the {name} {named}, and no document is of it: documents are of {some}; "
                f"so an answer may mean any document with its number: let both name the same {name}, or keep the client's token"
            )
        elif missing := unnamed(told, documents, name):
            yield (
                f"{missing} answers name no {name}, and documents are of several ({some}): which of them an answer means is not "
                f"known; say it in the answer's constants, or keep the client's token with the document"
            )


def _answered(history: History, books: Books) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each table of the books that should hold tokens, with those of the answered requests that leave theirs there."""
    ok = history.operations.lazy().filter(pl.col("outcome") == "ok")
    leaving: dict[str, list[str]] = {}
    for f in sorted(ok.select(pl.col("f").unique()).collect()["f"]):
        if f not in READS:
            leaving.setdefault(TABLE_OF.get(f, ELSEWHERE), []).append(f)
    for name, operations in sorted(leaving.items()):
        if books.has(name):
            yield name, ok.filter(pl.col("f").is_in(operations)).select("token").collect()


def _any_in(table: pl.DataFrame, tokens: pl.DataFrame) -> bool:
    return bool(table.join(tokens, on="token", how="semi").height)


def _brief(value: str) -> str:
    return repr(value if len(value) <= LONGEST else f"{value[:LONGEST]}...")
