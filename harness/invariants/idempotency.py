"""One intent, one effect; one key, one payload.

A client that lost a reply sends the same intent again under the same token. However often it is sent, and however many copies
run at once, it must make one document, and every answer must name that one.
"""

from __future__ import annotations

import polars as pl

from harness.invariants.effects import effects_once
from harness.invariants.numbering.columns import KEY, acknowledged, number_name, stored
from harness.invariants.numbering.scopes import ends
from harness.invariants.registry import invariant
from harness.invariants.telling import listed, rows, shown, times, violation, whom
from harness.model import Books, Finding, History, Policy

ANSWER = ["scope", "number", "text"]
"""What an answer says of its document."""


@invariant("P-ONCE")
def one_effect(history: History, books: Books, policy: Policy) -> list[Finding]:
    """One intent has its effect exactly once, however often and from how many places it is sent."""
    return [*_documents_twice(history, books, policy), *_answered_twice(history, books, policy), *effects_once(history, books)]


def _documents_twice(history: History, books: Books, policy: Policy) -> list[Finding]:
    documents = stored(books, policy).filter(pl.col("token").is_not_null())
    if documents["token"].n_unique() == documents.height:
        return []
    # A token that no client sent is nobody's intent, and one `post` may make a document in each of several scopes.
    sent = history.operations.group_by("token").agg(pl.col("invoked").min(), pl.col("f").eq("post").any().alias("posted"))
    twice = (
        documents.join(sent, on="token")
        .group_by("token", "invoked", within=pl.when("posted").then("scope"))
        .agg(pl.len().alias("made"))
        .filter(pl.col("made") > 1)
        .sort("invoked", "token", "within")
        .unique("token", keep="first", maintain_order=True)
    )
    if twice.is_empty():
        return []
    token, made, within = twice["token"][0], twice["made"][0], twice["within"][0]
    first = documents.filter(pl.col("token") == token, pl.lit(within is None) | (pl.col("scope") == pl.lit(within)))
    first = first.sort(KEY, nulls_last=True)
    asked = history.operations.filter(pl.col("token") == token).sort("invoked")
    names = listed(number_name(o["text"], o["number"]) for o in first.iter_rows(named=True))
    often = times(asked.height) if asked.height > 1 else "once"
    who = whom(history, asked.row(0, named=True))
    examples = ends(twice, worst="made")
    return [
        violation(
            "P-ONCE",
            f"the intent {token}, sent {often}, first by {who}, made {made} documents: {names}",
            total=twice.height,
            operations=shown(history, history.operations.join(examples, on="token", how="semi")),
            books={"documents": rows(documents.join(examples, on="token", how="semi").drop("row"))},
        )
    ]


def _answered_twice(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Find intents that were told two numbers and of which the books show at most one document."""
    documents = stored(books, policy)
    told = acknowledged(history, documents, policy).filter(pl.col("completed").is_not_null())
    if told["token"].n_unique() == told.height:
        return []
    answers = told.join(_differing(told), on="token", how="semi", maintain_order="left")
    if answers.is_empty():
        return []
    answers = _completed_by_others(answers)
    several = (
        answers.group_by("token")
        .agg(pl.struct(ANSWER).n_unique().alias("numbers"), pl.col("completed").min())
        .join(documents.filter(pl.col("token").is_not_null()).group_by("token").len(), on="token", how="left")
        .filter(pl.col("len").fill_null(0) <= 1)
        .sort("completed", "token")
    )
    if several.is_empty():
        return []
    token = several["token"][0]
    answers = answers.filter(pl.col("token") == token).sort("completed").unique(ANSWER, keep="first", maintain_order=True)
    said = listed(f"{number_name(o['text'], o['number'])} to {whom(history, o)}" for o in answers.iter_rows(named=True))
    examples = told.join(ends(several, worst="numbers"), on="token", how="semi")
    return [
        violation(
            "P-ONCE",
            f"the intent {token} was answered with {several['numbers'][0]} numbers: {said}",
            total=several.height,
            operations=shown(history, examples.select(history.operations.columns)),
        )
    ]


def _differing(told: pl.DataFrame) -> pl.DataFrame:
    """Return the tokens of which two answers name different scopes, numbers or texts: one that names less is no other answer."""
    named = [pl.col(name).drop_nulls().n_unique() > 1 for name in ANSWER]
    return told.with_columns(_SCOPE).group_by("token").agg(pl.any_horizontal(named).alias("differ")).filter("differ")


def _completed_by_others(answers: pl.DataFrame) -> pl.DataFrame:
    """Fill in what an answer leaves out and another one to the same token, of the same number, says."""
    return answers.with_columns(_SCOPE).with_columns(
        pl.col("number").fill_null(pl.col("number").drop_nulls().first().over("token", "text")),
        pl.col("text").fill_null(pl.col("text").drop_nulls().first().over("token", "number")),
        pl.col("scope").fill_null(pl.col("scope").drop_nulls().first().over("token", "number")),
    )


_SCOPE = pl.col("scope").replace("", None)
"""An answer that names no scope."""

_MOMENT = r',?"at":"[^"]*"'


@invariant("P-KEYMATCH")
def key_matches_payload(history: History, books: Books, policy: Policy) -> list[Finding]:
    """The same token with another payload is refused, never answered with the first result.

    The moment of the request (the argument ``at``) is no part of what is asked for: a retry comes later.
    """
    done = history.operations.filter(pl.col("outcome") == "ok", pl.col("completed").is_not_null()).with_columns(
        arguments=pl.col("arguments").str.replace(_MOMENT, "", literal=False)
    )
    if done["token"].n_unique() == done.height:
        return []
    mixed = (
        done.group_by("token")
        .agg(pl.struct("f", "arguments").n_unique().alias("payloads"), pl.col("completed").min())
        .filter(pl.col("payloads") > 1)
        .sort("completed", "token")
    )
    if mixed.is_empty():
        return []
    token = mixed["token"][0]
    sent = done.filter(pl.col("token") == token).sort("completed").unique(["f", "arguments"], keep="first", maintain_order=True)
    said = listed(f"{o['arguments']} from {whom(history, o)}" for o in sent.iter_rows(named=True))
    examples = done.join(ends(mixed, worst="payloads"), on="token", how="semi")
    return [
        violation(
            "P-KEYMATCH",
            f"the token {token} was accepted with {mixed['payloads'][0]} payloads: {said}",
            total=mixed.height,
            operations=shown(history, examples),
        )
    ]
