"""What numbering invariants look at: the documents in the books, and the creates in the history."""

from __future__ import annotations

import polars as pl

from harness.model import Books, History, Policy

PLACE = ["scope", "period"]
"""What a number must be unique under."""


def documents(books: Books) -> pl.DataFrame:
    """Return every document that has a number, void ones included, without nulls in its place."""
    return (
        books.table("documents").filter(pl.col("number").is_not_null()).with_columns(pl.col(PLACE).fill_null(""))
    )


def creates(history: History) -> pl.DataFrame:
    """Return the operations that ask for a numbered document."""
    return history.operations.filter(pl.col("f") == "create").with_columns(pl.col("period").fill_null(""))


def acknowledged(history: History) -> pl.DataFrame:
    """Return one row for each number that a client was told: an intent that was sent again counts once.

    ``invoked`` is when the intent was first sent, ``completed`` when it was first answered: the interval in which its
    document came to be. Operations that the books turned from unknown to ok are included; they may have no completion.
    """
    return (
        creates(history)
        .filter(pl.col("outcome") == "ok", pl.col("number").is_not_null())
        .sort("invoked")
        .group_by("token", "number", *PLACE, maintain_order=True)
        .agg(
            pl.col("invoked").min(),
            pl.col("completed").min(),
            pl.col("client").first(),
            pl.col("text").first(),
            pl.col("result").first(),
        )
    )


def scope_of_arguments(policy: Policy) -> pl.Expr:
    """Return the scope that an operation was about, from its arguments: failed operations have no answer to read it from.

    Null where an argument is missing.
    """
    parts = [pl.col("arguments").str.json_path_match(f"$.{key}") for key in policy.scope_keys]
    return pl.concat_str(parts, separator="/", ignore_nulls=False)


def printed(place: dict[str, object]) -> str:
    """Return a scope and period as people read them: ``acme/payment 2026``."""
    return " ".join(str(place[name]) for name in PLACE if place.get(name)) or "the only scope"
