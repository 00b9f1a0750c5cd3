"""Turns rows into the words and the evidence of a finding: the same everywhere, and capped."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import polars as pl

from harness.model import Finding, FindingClass, History

CAP = 3
"""Examples kept in the evidence; ``total`` keeps the exact count."""

SHOWN = (
    "process",
    "client",
    "f",
    "token",
    "scope",
    "period",
    "number",
    "text",
    "subject",
    "amount",
    "attempts",
    "outcome",
    "code",
    "message",
    "result",
)


def money(amount: int | None) -> str:
    """Return minor units as people read them: ``1,000.00``."""
    if amount is None:
        return "nothing"
    sign = "-" if amount < 0 else ""
    return f"{sign}{abs(amount) // 100:,}.{abs(amount) % 100:02d}"


def moment(history: History, at: int | None) -> str:
    """Return a time as an offset from the start of the recording: ``+0.020 s``."""
    return "never" if at is None else f"+{(at - history.open_at) / 1e9:.3f} s"


def whom(history: History, operation: dict[str, Any]) -> str:
    """Say who completed an operation and when: ``client 4 at +0.021 s``."""
    who = "the opening" if operation["client"] < 0 else f"client {operation['client']}"
    return f"{who} at {moment(history, operation['completed'] or operation['invoked'])}"


def listed(parts: Iterable[str]) -> str:
    """Join with commas and a last "and"; of many only the first three and how many more there are; "none" of nothing."""
    items = list(parts)
    if len(items) > CAP:
        items = [*items[:CAP], f"{len(items) - CAP} more"]
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else "".join(items) or "none"


def times(count: int) -> str:
    """Return ``twice``, or ``3 times``."""
    return "twice" if count == 2 else f"{count} times"


def shown(history: History, operations: pl.DataFrame) -> list[dict[str, Any]]:
    """Return operations as plain values for the evidence, in the order of their invocation, capped."""
    rows = operations.sort("invoked").head(3 * CAP).iter_rows(named=True)
    return [
        {
            **{name: row[name] for name in SHOWN if row[name] is not None},
            "invoked": moment(history, row["invoked"]),
            "completed": moment(history, row["completed"]),
        }
        for row in rows
    ]


def rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return rows of the books as plain values for the evidence, nulls left out, capped."""
    return [
        {name: _plain(value) for name, value in row.items() if value is not None}
        for row in frame.head(3 * CAP).iter_rows(named=True)
    ]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def violation(
    invariant: str,
    message: str,
    *,
    total: int,
    operations: list[dict[str, Any]] | None = None,
    books: dict[str, list[dict[str, Any]]] | None = None,
    finding_class: FindingClass = FindingClass.VIOLATION,
) -> Finding:
    """Return a finding about the first example of ``total``; ``books`` holds rows by table."""
    more = f" ({total - 1} more like it)" if total > 1 else ""
    return Finding(
        finding_class=finding_class,
        invariant=invariant,
        message=message + more,
        evidence={"operations": operations or [], "rows": books or {}},
        total=total,
    )


def argument(name: str) -> pl.Expr:
    """Return an argument of each operation, as text."""
    return pl.col("arguments").str.json_path_match(f"$.{name}")


def answer(name: str) -> pl.Expr:
    """Return a part of each operation's answer, as text."""
    return pl.col("result").str.json_path_match(f"$.{name}")
