"""Ambiguity is resolved, not guessed: the books say what became of every operation whose outcome nobody knows.

Every operation carries a client token that ends up in the row it makes. After the store came to rest the token is either
there (``ok``, with the number that the row has) or it is not (``fail``). If the books are incomplete nothing is resolved.
This is the final read phase of jepsen.tigerbeetle's checker and of etcd's robustness tests.
"""

from __future__ import annotations

import polars as pl

from harness.model import Books, Finding, FindingClass, History

TABLE_OF = {"create": "documents", "submit": "payments", "refund": "refunds", "pay_installment": "installments"}
"""Where the token of an operation ends up; every other operation leaves it in the audit log."""

ELSEWHERE = "audit"


def resolve(history: History, books: Books) -> History:
    """Return the history with every ``info`` that the books can decide turned into ``ok`` or ``fail``."""
    if not books.complete or not history.operations["outcome"].is_in(["info"]).any():
        return history
    operations = history.operations.with_columns(
        table=pl.col("f").replace_strict(TABLE_OF, default=ELSEWHERE, return_dtype=pl.String())
    )
    parts = []
    for (table,), part in operations.group_by("table", maintain_order=True):
        parts.append(_resolved(part, books, str(table)) if _tells(books, str(table)) else part)
    resolved = pl.concat(parts).select(history.operations.columns).sort("invoked", maintain_order=True)
    return History(resolved, complete=history.complete, trouble=history.trouble, open_at=history.open_at)


def _tells(books: Books, table: str) -> bool:
    """A table without a single token cannot say anything about one."""
    frame = books.table(table)
    return books.has(table) and (frame.is_empty() or frame["token"].is_not_null().any())


def _resolved(part: pl.DataFrame, books: Books, table: str) -> pl.DataFrame:
    frame = books.table(table).filter(pl.col("token").is_not_null()).unique("token", keep="first")
    stored = frame.select(
        "token",
        there=pl.lit(True),
        **{f"its_{name}": pl.col(name) for name in ("scope", "period", "number", "text") if name in frame.columns},
    )
    joined = part.join(stored, on="token", how="left", maintain_order="left")
    unknown = pl.col("outcome") == "info"
    happened = pl.col("there").fill_null(False)
    taken = [
        pl.when(unknown & happened).then(pl.coalesce(name, f"its_{name}")).otherwise(pl.col(name)).alias(name)
        for name in ("scope", "period", "number", "text")
        if f"its_{name}" in joined.columns
    ]
    outcome = pl.when(unknown).then(pl.when(happened).then(pl.lit("ok")).otherwise(pl.lit("fail")))
    return joined.with_columns(outcome.otherwise(pl.col("outcome")).alias("outcome"), *taken).select(part.columns)


def ambiguous(history: History, books: Books) -> list[Finding]:
    """Return an indeterminate finding for evidence that is missing, and one for operations left undecided."""
    findings = []
    for whole, trouble, what in (
        (books.complete, books.trouble, "the books are incomplete"),
        (history.complete, history.trouble, "the history is incomplete"),
    ):
        if not whole:
            findings.append(_unknown(f"{what}: {trouble or 'no reason given'}", {}))
    left = history.operations.filter(pl.col("outcome") == "info")
    if left.height:
        names = ", ".join(sorted(left["f"].unique()))
        findings.append(
            _unknown(
                f"nobody knows whether {left.height} operations happened ({names}): the books do not hold their tokens",
                {"tokens": left["token"].head(10).to_list()},
                total=left.height,
            )
        )
    return findings


def _unknown(message: str, evidence: dict[str, object], *, total: int = 1) -> Finding:
    return Finding(
        finding_class=FindingClass.INDETERMINATE,
        invariant="RESOLVED",
        message=message,
        evidence={"operations": [], "rows": {}, **evidence},
        total=total,
    )
