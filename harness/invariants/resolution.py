"""Ambiguity is resolved, not guessed: the books say what became of every operation whose outcome nobody knows.

Every operation carries a client token that ends up in the row it makes. After the store came to rest the token is either
there (``ok``, with the number that the row has) or it is not (``fail``). If the books are incomplete nothing is resolved.
This is the final read phase of jepsen.tigerbeetle's checker and of etcd's robustness tests.

A table decides only if it keeps tokens at all: a table to which the race added rows and not one token says nothing about a
token's absence. Nor does one whose tokens are not the clients': see `harness.invariants.matching`. The audit log may tell of
some operations and not of others: that an operation is absent there says something only if another one of its name is not.
What cannot be decided stays ``info`` and keeps the run from passing.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from harness.invariants.telling import shown
from harness.model import Books, Finding, FindingClass, History

TABLE_OF: Mapping[str, str] = {
    "create": "documents",
    "post": "documents",
    "confirm": "documents",
    "import_document": "documents",
    "submit": "payments",
    "refund": "refunds",
    "pay_installment": "installments",
}
"""Where the token of an operation ends up; every other operation leaves it in the audit log."""

ELSEWHERE = "audit"

UNTOLD = ("deliver", "migrate", "repair", "verify")
"""Operations that only go on with what others left, under no token: no rule goes by one of which nobody heard the end."""

READS = ("read", "get", "list", "find", "account", "balance", "history")
"""Operations without an effect: whether an unanswered one happened is of no consequence."""

TAKEN = ("scope", "period", "number", "text", "amount")
"""What an operation that happened after all takes from its row."""


def resolve(history: History, books: Books) -> History:
    """Return the history with every ``info`` that the books can decide turned into ``ok`` or ``fail``.

    ``completed`` becomes null: the answer never came, and the time at which its client gave up says nothing about when the
    operation took effect.
    """
    operations = history.operations
    unknown = operations.filter(pl.col("outcome") == "info")
    if unknown.is_empty() or not books.complete:
        return history
    decided = [_decided(group, history, books) for _, group in unknown.group_by("f", maintain_order=True)]
    known = operations.filter(pl.col("outcome") != "info")
    merged = pl.concat([known, *decided]).sort("invoked", maintain_order=True)
    return History(merged, complete=history.complete, trouble=history.trouble, open_at=history.open_at)


def ambiguous(history: History, books: Books) -> list[Finding]:
    """Return an indeterminate finding for evidence that is missing, and one for operations left undecided."""
    findings = []
    for whole, trouble, what in (
        (books.complete, books.trouble, "the books are incomplete"),
        (history.complete, history.trouble, "the history is incomplete"),
    ):
        if not whole:
            findings.append(undecided(f"{what}: {trouble or 'no reason given'}"))
    left = history.operations.filter(pl.col("outcome") == "info")
    if left.height:
        names = ", ".join(sorted(left["f"].unique()))
        what = f"{left.height} operations" if left.height > 1 else "one operation"
        findings.append(
            undecided(
                f"nobody knows whether {what} happened ({names}): the books do not tell",
                operations=shown(history, left),
                total=left.height,
            )
        )
    return findings


def keeps_tokens(table: pl.DataFrame) -> bool:
    """Tell whether a table says anything about tokens: it is empty, or at least one of its rows has one."""
    return table.is_empty() or table["token"].null_count() < table.height


def tells_absence(name: str, books: Books) -> bool:
    """Tell whether a token that this table of the books does not hold is gone: what the race added there holds tokens."""
    return keeps_tokens(added(name, books))


def added(name: str, books: Books) -> pl.DataFrame:
    """Return a table's rows without those that are known to have been there before the race."""
    table = books.table(name)
    earlier = books.earlier.get(name)
    return table.filter(~pl.col("id").is_in(earlier)) if earlier else table


def _decided(group: pl.DataFrame, history: History, books: Books) -> pl.DataFrame:
    """Return operations of one name, decided if their table can."""
    f = group["f"][0]
    if f in READS:
        return _closed(group, "fail")
    name = TABLE_OF.get(f, ELSEWHERE)
    if not books.has(name) or not tells_absence(name, books):
        return group
    table = books.table(name).filter(pl.col("token").is_not_null())
    taken = [c for c in TAKEN if c in table.columns]
    rows = (
        table.join(group, on="token", how="semi")
        .unique("token", keep="first", maintain_order=True)
        .select("token", *(pl.col(c).alias(f"its_{c}") for c in taken))
    )
    happened = group.join(rows, on="token", how="inner", maintain_order="left")
    happened = happened.with_columns(pl.coalesce(f"its_{c}", c).alias(c) for c in taken)
    never = group.join(rows, on="token", how="anti", maintain_order="left")
    if name != ELSEWHERE or f in UNTOLD or _tells_of(f, table, history):
        never = _closed(never, "fail")
    return pl.concat([_closed(happened.select(group.columns), "ok"), never])


def _tells_of(f: str, audit: pl.DataFrame, history: History) -> bool:
    """Tell whether the audit log holds any operation of this name: it need not tell of all that a service does."""
    named = history.operations.filter(pl.col("f") == f, pl.col("outcome") != "fail")
    return not audit.join(named, on="token", how="semi").is_empty()


def _closed(group: pl.DataFrame, outcome: str) -> pl.DataFrame:
    return group.with_columns(outcome=pl.lit(outcome), completed=pl.lit(None, pl.Int64()))


def undecided(message: str, *, operations: list[dict[str, object]] | None = None, total: int = 1) -> Finding:
    """Return the finding that nobody can say."""
    return Finding(
        finding_class=FindingClass.INDETERMINATE,
        invariant="RESOLVED",
        message=message,
        evidence={"operations": operations or [], "rows": {}},
        total=total,
    )
