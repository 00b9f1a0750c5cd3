"""Rows of which there should be one, and there are several."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from harness.model import Books


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """The rows that agree most often in what should be unique; ``total`` counts all that occurs more than once."""

    rows: pl.DataFrame
    total: int


def most_repeated(frame: pl.DataFrame, *columns: str) -> Repeat | None:
    """Return the rows that agree most often in these columns, the lowest of them on a tie; None where no two agree."""
    often = frame.group_by(columns).len().filter(pl.col("len") > 1)
    if often.is_empty():
        return None
    worst = often.sort("len", *columns, descending=[True, *(False for _ in columns)]).head(1)
    return Repeat(rows=frame.join(worst, on=columns, how="semi", nulls_equal=True, maintain_order="left"), total=often.height)


def told_again(told: pl.DataFrame, books: Books) -> Repeat | None:
    """Return the rows of the audit log that tell of one action for one intent most often.

    One intent may have several actions: where the books do not give them, nobody knows which is told twice.
    """
    return most_repeated(told, "token", "action") if books.gives("audit", "action") else None
