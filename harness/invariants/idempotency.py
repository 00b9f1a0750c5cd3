"""One intent, one effect; one key, one request."""

from __future__ import annotations

import polars as pl

from harness.invariants.effects import effects_once
from harness.invariants.issued import creates, documents
from harness.invariants.registry import invariant
from harness.invariants.telling import listed, rows, shown, violation, whom
from harness.model import Books, Finding, History, Policy


@invariant("P-ONCE")
def one_intent_one_effect(history: History, books: Books, policy: Policy) -> list[Finding]:
    """An intent has its effect exactly once, however often it was sent."""
    return [*_documents_twice(history, books), *effects_once(history, books)]


def _documents_twice(history: History, books: Books) -> list[Finding]:
    stored = documents(books).filter(pl.col("token").is_not_null())
    in_books = stored.group_by("token").agg(pl.len().alias("documents")).filter(pl.col("documents") > 1)
    told = (
        creates(history)
        .filter(pl.col("outcome") == "ok", pl.col("number").is_not_null())
        .group_by("token")
        .agg(pl.struct("scope", "period", "number").n_unique().cast(pl.UInt32()).alias("documents"))
        .filter(pl.col("documents") > 1)
    )
    twice = pl.concat([in_books.cast({"documents": pl.UInt32()}), told]).unique("token")
    if twice.is_empty():
        return []
    involved = creates(history).join(twice, on="token", how="semi").sort("invoked")
    token = involved["token"][0] if involved.height else twice["token"].sort()[0]
    operations = involved.filter(pl.col("token") == token)
    made = stored.filter(pl.col("token") == token)
    texts = made["text"] if made.height > 1 else operations["text"].drop_nulls()
    sent = listed(whom(history, o) for o in operations.iter_rows(named=True)) if operations.height else "nobody that we know"
    return [
        violation(
            "P-ONCE",
            f"the intent {token}, sent by {sent}, made {twice.filter(pl.col('token') == token)['documents'][0]} documents: "
            f"{listed(str(t) for t in texts)}",
            total=twice.height,
            operations=shown(history, operations),
            books={"documents": rows(made)},
        )
    ]


@invariant("P-KEYMATCH")
def one_key_one_request(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A used token with another request is refused, never answered with the first one's result."""
    answered = history.operations.filter(pl.col("outcome") == "ok", pl.col("result").is_not_null()).with_columns(
        request=pl.concat_str(pl.col("f"), pl.col("arguments").str.replace_all(r'"at":"[^"]*",?', ""), separator=" ")
    )
    mixed = answered.group_by("token").agg(pl.col("request").n_unique().alias("requests")).filter(pl.col("requests") > 1)
    if mixed.is_empty():
        return []
    involved = answered.join(mixed, on="token", how="semi").sort("invoked")
    token = involved["token"][0]
    operations = involved.filter(pl.col("token") == token)
    first, *_, last = operations.unique("request", keep="first", maintain_order=True).iter_rows(named=True)
    return [
        violation(
            "P-KEYMATCH",
            f"the token {token} was used for {first['amount']} by {whom(history, first)} and for {last['amount']} by "
            f"{whom(history, last)}, and both were told ok",
            total=mixed.height,
            operations=shown(history, operations),
        )
    ]
