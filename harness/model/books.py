"""The books: what a store holds after a run, as a few canonical tables of columns.

Every target fills the tables it has; a table it does not have is absent (``None``), which is not the same as empty.
Money is in minor units (cents). A scope is the text under which a number must be unique, for example ``acme/invoice``;
a period is the part of time in which a counter runs (``""``, ``2026``, ``2026-11-20``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

TABLES: Mapping[str, Mapping[str, pl.DataType]] = {
    "documents": {
        "id": pl.String(),  # the row's own identity in the store
        "scope": pl.String(),
        "period": pl.String(),
        "number": pl.Int64(),
        "text": pl.String(),  # the number as printed: INV-00004
        "token": pl.String(),  # of the operation that made it; null for documents that were there before
        "status": pl.String(),  # issued | void | reserved
        "dated": pl.Datetime("us", "UTC"),  # the document's own date
        "amount": pl.Int64(),
        "reason": pl.String(),  # why it is void
        "document": pl.String(),  # identity of the business document, where one may hold several numbers
    },
    "counters": {
        "scope": pl.String(),
        "period": pl.String(),
        "value": pl.Int64(),
    },
    "payments": {
        "id": pl.String(),
        "term": pl.String(),  # the term, order or account that the payment reduces
        "account": pl.String(),
        "amount": pl.Int64(),
        "refunded": pl.Int64(),
        "status": pl.String(),  # awaiting_approval | paid | rejected | cancelled
        "token": pl.String(),
    },
    "terms": {
        "id": pl.String(),
        "account": pl.String(),
        "opening": pl.Int64(),
        "balance": pl.Int64(),
        "assessment": pl.Int64(),  # the whole that the account's terms were split from
    },
    "orders": {
        "id": pl.String(),
        "total": pl.Int64(),
        "advance": pl.Int64(),
        "discount": pl.Int64(),
        "balance": pl.Int64(),  # as stored or shown
        "status": pl.String(),  # open | paid | cancelled
        "refunded": pl.Int64(),
    },
    "installments": {
        "id": pl.String(),
        "order": pl.String(),
        "number": pl.Int64(),
        "amount": pl.Int64(),
        "token": pl.String(),
    },
    "stock": {
        "item": pl.String(),
        "opening": pl.Int64(),
        "quantity": pl.Int64(),
        "sold": pl.Int64(),
    },
    "customers": {
        "id": pl.String(),
        "limit": pl.Int64(),
        "open_amount": pl.Int64(),
        "sold": pl.Int64(),  # what its sales on credit make, as far as they are not paid
    },
    "refunds": {
        "id": pl.String(),
        "payment": pl.String(),
        "amount": pl.Int64(),
        "token": pl.String(),
    },
    "audit": {
        "id": pl.String(),
        "subject": pl.String(),
        "action": pl.String(),
        "token": pl.String(),
        "delivered": pl.Boolean(),  # whether its outbox event was published; null where it has none
    },
    "deliveries": {  # what reached the outbox's consumer: one row an effect there
        "id": pl.String(),
        "event": pl.String(),  # the audit row's id
    },
    "inexact": {  # amounts that were not whole minor units where they were read
        "table": pl.String(),
        "column": pl.String(),
        "id": pl.String(),
        "value": pl.String(),
    },
    "indexes": {
        "table": pl.String(),
        "columns": pl.String(),  # unique index over these columns, comma separated
    },
}

STATUSES: Mapping[str, tuple[str, ...]] = {
    "documents": ("issued", "void", "reserved"),
    "payments": ("awaiting_approval", "paid", "rejected", "cancelled"),
    "orders": ("open", "paid", "cancelled"),
}
"""The words of each column ``status``. A document's may be left out: it is issued then."""


@dataclass(frozen=True, kw_only=True)
class Books:
    """Canonical tables, read once after the clients were done and nothing of theirs was in flight.

    ``complete`` is false when the read did not finish or the store did not come to rest; then nothing can pass.
    ``trouble`` says why. ``earlier`` are the ids of the rows that were there before the race, by table, where somebody looked.
    Each table is a data frame with the columns of `TABLES`. ``given`` are the columns that the target gives, by table, where
    that is known; the others are filled with nulls, which say nothing.
    """

    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    complete: bool = True
    trouble: str | None = None
    earlier: Mapping[str, frozenset[str]] = field(default_factory=dict)
    given: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def table(self, name: str) -> pl.DataFrame:
        """Return a canonical table, empty if the target has none. Raises KeyError for an unknown name."""
        frame = self.tables.get(name)
        return frame if frame is not None else pl.DataFrame(schema=dict(TABLES[name]))

    def has(self, name: str) -> bool:
        """Tell whether the target keeps this table at all."""
        return name in self.tables

    def gives(self, name: str, column: str) -> bool:
        """Tell whether the target keeps this table and gives this column of it, whatever is in it."""
        return self.has(name) and (name not in self.given or column in self.given[name])

    @classmethod
    def of(cls, *, complete: bool = True, trouble: str | None = None, **rows: Iterable[Mapping[str, Any]]) -> Books:
        """Build books from plain rows, for tests and small targets: ``Books.of(documents=[{...}])``."""
        return cls(
            tables={name: table_of(name, list(items)) for name, items in rows.items()},
            complete=complete,
            trouble=trouble,
        )


def table_of(name: str, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Return canonical table ``name`` of plain rows; missing columns become null.

    Raises:
        KeyError: the table or one of the columns is not canonical.
    """
    schema = dict(TABLES[name])
    items = list(rows)
    for item in items:
        if unknown := item.keys() - schema.keys():
            raise KeyError(f"{name} has no column {sorted(unknown)[0]!r}")
    return pl.DataFrame({c: [item.get(c) for item in items] for c in schema}, schema=schema)


def filled(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Return a canonical table with all its columns, those that are missing filled with nulls."""
    schema = TABLES[name]
    return frame.select(pl.col(c) if c in frame.columns else pl.lit(None, kind).alias(c) for c, kind in schema.items())
