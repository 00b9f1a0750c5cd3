"""No number twice, and one number for one document.

A number is claimed by each document that holds it and by each request that was told it, whether or not its document is
still there: a number that was given to a customer stays given. One request counts once, however often it was sent, and a
request that failed or was rolled back claims nothing, so a counter may hand its number to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from harness.invariants.numbering.columns import (
    KEY,
    acknowledged,
    acknowledged_without_number,
    number_name,
    place_name,
    stored,
    unstored,
)
from harness.invariants.numbering.scopes import each_place, ends
from harness.invariants.registry import NotChecked, invariant
from harness.invariants.resolution import keeps_tokens
from harness.invariants.telling import answer, listed, rows, shown, times, violation, whom
from harness.model import Books, Finding, FindingClass, History, Policy
from harness.model.policy import Continuity


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    """What the rule looks at: documents, the requests that were told a number, and the claims that follow from both.

    ``earlier`` are the rows that are known to have been there before the race.
    """

    history: History
    documents: pl.DataFrame
    told: pl.DataFrame
    claims: pl.DataFrame
    earlier: frozenset[str]


_CLAIM = ["scope", "period", "number", "text", "token", "row", "stands"]
"""``stands``: a document without a token is counted for a request that was told its number, which claims nothing besides."""


@invariant("N-UNIQ")
def unique_numbers(history: History, books: Books, policy: Policy) -> list[Finding]:
    """No number is issued twice in its scope, over all time, issued and void numbers together."""
    documents = stored(books, policy)
    told = acknowledged(history, documents, policy)
    print_key = ["scope", "text"] if policy.unique_per == "ever" else ["scope", "period", "text"]
    claims = _claims(documents, told, print_key, books.earlier.get("documents"))
    if not claims["number"].count() + claims["text"].count() and acknowledged_without_number(history).height:
        raise NotChecked("neither books nor answers hold a number")
    by_number = _claimed_twice(claims.filter(pl.col("number").is_not_null()), KEY)
    printed = claims.filter(pl.col("text").is_not_null())
    by_text = printed.select(print_key).clear()
    if printed["text"].n_unique() < printed.height:
        known = printed.join(by_number, on=KEY, how="semi").select(print_key).unique()
        by_text = _claimed_twice(printed.join(known, on=print_key, how="anti"), print_key)
    earlier = books.earlier.get("documents", frozenset())
    evidence = _Evidence(history=history, documents=documents, told=told, claims=claims, earlier=earlier)
    return [*_tell(evidence, by_number, KEY), *_tell(evidence, by_text, print_key)]


def _claims(documents: pl.DataFrame, told: pl.DataFrame, print_key: list[str], earlier: frozenset[str] | None) -> pl.DataFrame:
    """Return one row for each document, and one for each request that was told a number which no document of its own holds.

    A document without a token stands for at most one of the requests that were told its number, or its print where one of the
    two has nothing else. Where other documents have tokens, only one that came with the race does (``earlier``, where known,
    are the rows that did not).
    """
    documents = documents.with_row_index("_nth").with_columns(stands=pl.lit(value=False))
    before = pl.col("row").is_in(earlier or frozenset())
    if keeps_tokens(documents):
        requests = _requests(unstored(told, documents))
        came = documents.filter(pl.col("token").is_null(), pl.lit(earlier is not None) & ~before)
        documents = _as_told(documents, told)
        if came.is_empty() or requests.is_empty():
            return pl.concat([documents.select(_CLAIM), requests.select(_CLAIM)])
    else:
        requests = _requests(told)
        # Those that were there before are the last to stand for a request of the race.
        came = documents.sort(before, maintain_order=True) if earlier else documents
    printed = requests.filter(pl.col("number").is_null())
    numbered, free = _left_over(requests.filter(pl.col("number").is_not_null()), came, KEY)
    numbered, rest = _left_over(numbered, free.filter(pl.col("number").is_null()), print_key)
    printed, free = _left_over(printed, pl.concat([free.filter(pl.col("number").is_not_null()), rest]), print_key)
    standing = came.join(free, on="_nth", how="anti").select("_nth", _stands=pl.lit(value=True))
    documents = documents.join(standing, on="_nth", how="left", maintain_order="left")
    documents = documents.with_columns(stands=pl.col("_stands").fill_null(value=False))
    return pl.concat([frame.select(_CLAIM) for frame in (documents, numbered, printed)])


def _left_over(requests: pl.DataFrame, documents: pl.DataFrame, key: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the requests for which there is no document of the same key, each standing for one, and the documents left."""
    asked = requests.drop_nulls(key).group_by(key).agg(_asked=pl.len())
    held = documents.drop_nulls(key).group_by(key).agg(_held=pl.len())
    nth = pl.int_range(pl.len()).over(key)
    loose = requests.join(held, on=key, how="left", maintain_order="left").filter(nth >= pl.col("_held").fill_null(0))
    free = documents.join(asked, on=key, how="left", maintain_order="left").filter(nth >= pl.col("_asked").fill_null(0))
    return loose.drop("_held"), free.drop("_asked")


def _as_told(documents: pl.DataFrame, told: pl.DataFrame) -> pl.DataFrame:
    """Fill in what a document leaves out of its number, or its print, and the one answer for its token says."""
    if not documents["number"].null_count() + documents["text"].null_count():
        return documents
    said = _requests(told).unique("token", keep="none").select("token", _number="number", _text="text")
    alone = documents.filter(pl.col("token").is_not_null()).unique("token", keep="none").select("token")
    # Where other rows are numbered, one without a number has lost it: what was told is then a claim beside it.
    numberless = pl.lit(not documents["number"].count() + documents["text"].count())
    named = pl.col("number").is_not_null() | pl.col("text").is_not_null() | numberless
    filled = documents.join(said.join(alone, on="token", how="semi"), on="token", how="left", maintain_order="left")
    agrees = (pl.col("number") == pl.col("_number")).fill_null(value=True) & (pl.col("text") == pl.col("_text")).fill_null(
        value=True
    )
    return filled.with_columns(
        pl.when(named & agrees).then(pl.coalesce(name, f"_{name}")).otherwise(name).alias(name) for name in ("number", "text")
    ).drop("_number", "_text")


def _requests(told: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each request and number that it was told."""
    return (
        told.sort("completed", "invoked", nulls_last=True)
        .unique([*KEY, "text", "token"], keep="first", maintain_order=True)
        .with_columns(row=pl.lit(None, pl.String()), stands=pl.lit(value=False))
    )


def _claimed_twice(claims: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    return claims.group_by(key).agg(pl.len().alias("claims")).filter(pl.col("claims") > 1)


def _tell(evidence: _Evidence, twice: pl.DataFrame, key: list[str]) -> list[Finding]:
    history, documents, told, claims = evidence.history, evidence.documents, evidence.told, evidence.claims
    if twice.is_empty():
        return []
    when = told.join(twice, on=key, how="semi").group_by(key).agg(pl.col("completed").min().alias("when"))
    place = claims.join(twice, on=key, how="semi").group_by(key).agg(pl.col(c).first() for c in KEY if c not in key)
    ordered = (
        twice.join(when, on=key, how="left")
        .join(place, on=key)
        .sort("when", "number", *dict.fromkeys(["scope", "period", *key]), nulls_last=True)
    )

    def one(scope: str, period: str, wrong: pl.DataFrame) -> Finding:
        first = wrong.head(1)
        claimed = claims.join(first, on=key, how="semi")
        asked = told.join(first, on=key, how="semi").sort("completed", "invoked", nulls_last=True)
        asked = asked.unique("token", keep="first", maintain_order=True)
        examples = ends(wrong, worst="claims")
        held = claims.join(examples, on=key, how="semi")
        shown_rows = documents.join(held, on=["scope", "period", "row"], how="semi").drop("row")
        named = told.join(examples, on=key, how="semi").select(history.operations.columns)
        others = history.operations.join(held, on="token", how="semi").join(named, on="token", how="anti")
        name = number_name(next((t for t in claimed["text"] if t), None), first["number"][0])
        where = f" in {place_name(scope, period)}" if wrong.height > 1 else ""
        return violation(
            "N-UNIQ",
            f"{name} was issued {times(first['claims'][0])}{where}{_by_whom(evidence, claimed, asked)}",
            total=wrong.height,
            operations=shown(history, pl.concat([named, others])),
            books={"documents": rows(shown_rows)},
        )

    return each_place("N-UNIQ", ordered, one, many="more numbers were issued twice")


def _by_whom(evidence: _Evidence, claimed: pl.DataFrame, asked: pl.DataFrame) -> str:
    """Name who was told the number, and the documents that nobody asked for; add what all of them had read, if they said."""
    parts = [whom(evidence.history, o) for o in asked.iter_rows(named=True)]
    known = set(asked["token"].to_list())
    stands = claimed["stands"].any()
    for claim in claimed.iter_rows(named=True):
        if claim["token"] is None and claim["row"] in evidence.earlier:
            parts += [] if claim["stands"] else [f"a document that was there before (row {claim['row']})"]
        elif claim["token"] is None and stands:
            # Which of these rows is the request's that it is counted for, nobody knows.
            parts += [] if claim["stands"] else ["one more document without a token"]
        elif claim["token"] is None:
            parts.append(f"a document without a token (row {claim['row']})")
        elif claim["token"] not in known:
            parts.append(f"{_whose(evidence.history, claim['token'])} (row {claim['row']})")
    bases = asked.select(basis=answer("basis"))["basis"]
    both = "both" if asked.height == 2 else "all"
    same = asked.height > 1 and bases.null_count() == 0 and bases.n_unique() == 1
    return (f": by {listed(parts)}" if parts else "") + (f"; {both} read {bases.unique().item()}" if same else "")


def _whose(history: History, token: str) -> str:
    """Name the request of a document whose number its answer, if it had one, does not name."""
    answered = history.operations.filter(pl.col("token") == token, pl.col("outcome") != "info", pl.col("completed").is_not_null())
    if answered.is_empty():
        return "a request that was never answered"
    first = answered.sort(pl.col("outcome") != "ok", "completed").row(0, named=True)
    return whom(history, first) if first["outcome"] == "ok" else f"the failed request of {whom(history, first)}"


@invariant("N-DOC1", tables=["documents"])
def one_number_each(history: History, books: Books, policy: Policy) -> list[Finding]:
    """One number for one document, one document for one number."""
    documents = stored(books, policy)
    return [
        *_several_numbers(documents),
        *_several_documents(documents),
        *_without_document(history, documents, policy),
    ]


def _several_numbers(documents: pl.DataFrame) -> list[Finding]:
    live = documents.filter(pl.col("document").is_not_null(), pl.col("status") == "issued")
    several = (
        live.unique(["document", *KEY])
        .group_by("document")
        .agg(pl.len().alias("numbers"))
        .filter(pl.col("numbers") > 1)
        .sort("document")
    )
    if several.is_empty():
        return []
    first = live.filter(pl.col("document") == several["document"][0]).sort("number")
    names = listed(number_name(o["text"], o["number"]) for o in first.iter_rows(named=True))
    examples = documents.join(ends(several, worst="numbers"), on="document", how="semi").drop("row")
    return [
        violation(
            "N-DOC1",
            f"document {several['document'][0]} holds {several['numbers'][0]} numbers: {names}",
            total=several.height,
            books={"documents": rows(examples)},
        )
    ]


def _several_documents(documents: pl.DataFrame) -> list[Finding]:
    held = documents.filter(pl.col("document").is_not_null(), pl.col("number").is_not_null())
    shared = (
        held.unique([*KEY, "document"]).group_by(KEY).agg(pl.len().alias("documents")).filter(pl.col("documents") > 1).sort(KEY)
    )
    if shared.is_empty():
        return []
    first = held.join(shared.head(1), on=KEY, how="semi").sort("document")
    name = number_name(first["text"][0], first["number"][0])
    return [
        violation(
            "N-DOC1",
            f"{name} stands on {shared['documents'][0]} documents: {listed(first['document'].unique().sort().to_list())}",
            total=shared.height,
            books={"documents": rows(held.join(ends(shared, worst="documents"), on=KEY, how="semi").drop("row"))},
        )
    ]


def _without_document(history: History, documents: pl.DataFrame, policy: Policy) -> list[Finding]:
    """Find numbers that were reserved and never confirmed or voided. Only a gapless policy forbids to leave them."""
    left = documents.filter(pl.col("status") == "reserved").sort(KEY, nulls_last=True)
    if left.is_empty():
        return []
    strict = policy.continuity is Continuity.GAPLESS
    asked = history.operations.join(left, on="token", how="semi")
    return [
        violation(
            "N-DOC1",
            f"{number_name(left['text'][0], left['number'][0])} was reserved and never became a document, nor was it voided",
            total=left.height,
            operations=shown(history, asked),
            books={"documents": rows(ends(left).drop("row"))},
            finding_class=FindingClass.VIOLATION if strict else FindingClass.COST,
        )
    ]
