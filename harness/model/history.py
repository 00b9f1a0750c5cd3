"""A history as columns: one row an operation.

Large runs have millions of operations, so nothing here keeps a Python object per operation. Small histories, in tests
and reports, go in and out as `Operation` values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl

from harness.model.operation import Failure, Operation, Outcome

COLUMNS: Mapping[str, pl.DataType] = {
    "process": pl.Int64(),
    "client": pl.Int64(),
    "f": pl.String(),
    "token": pl.String(),
    "invoked": pl.Int64(),  # ns, monotonic
    "completed": pl.Int64(),  # ns, null while open
    "outcome": pl.String(),  # ok | fail | info
    "attempts": pl.Int64(),
    # taken out of the arguments and the result, because invariants work on them
    "scope": pl.String(),
    "period": pl.String(),
    "number": pl.Int64(),
    "text": pl.String(),
    "subject": pl.String(),  # payment, term or order that the operation is about
    "amount": pl.Int64(),
    # taken out of the failure
    "code": pl.String(),
    "message": pl.String(),
    "retryable": pl.Boolean(),
    "refusal": pl.Boolean(),
    "constraint": pl.String(),
    # everything else, as JSON text
    "arguments": pl.String(),
    "result": pl.String(),
}


@dataclass(frozen=True)
class History:
    """Operations as a data frame with the columns of `COLUMNS`.

    ``complete`` is false when some process's file is missing or damaged: then nothing can pass. ``trouble`` says why.
    ``open_at`` is the machine-wide monotonic time in ns at which recording began, the zero of every printed offset.
    """

    operations: pl.DataFrame
    complete: bool = True
    trouble: str | None = None
    open_at: int = 0

    def __len__(self) -> int:
        return self.operations.height

    @classmethod
    def of(cls, operations: Iterable[Operation], **facts: Any) -> History:
        """Build a history from operation values."""
        rows = [row_of(o) for o in operations]
        frame = pl.DataFrame({c: [r[c] for r in rows] for c in COLUMNS}, schema=dict(COLUMNS))
        facts.setdefault("open_at", min((r["invoked"] for r in rows), default=0))
        return cls(frame, **facts)

    def __iter__(self) -> Iterator[Operation]:
        return (operation_of(row) for row in self.operations.iter_rows(named=True))

    def count(self) -> dict[str, int]:
        """Return how many operations are ok, fail and info."""
        found = dict(self.operations.group_by("outcome").len().iter_rows())
        return {o.value: found.get(o.value, 0) for o in Outcome}


def row_of(operation: Operation) -> dict[str, Any]:
    """Return the operation as one row of `COLUMNS`."""
    o, why = operation, operation.failure
    answer = o.result or {}
    return {
        "process": o.process,
        "client": o.client,
        "f": o.f,
        "token": o.token,
        "invoked": o.invoked,
        "completed": o.completed,
        "outcome": o.outcome.value,
        "attempts": o.attempts,
        "scope": answer.get("scope", o.arguments.get("scope")),
        "period": answer.get("period", o.arguments.get("period")),
        "number": answer.get("number"),
        "text": answer.get("text"),
        "subject": answer.get("subject", o.arguments.get("subject")),
        "amount": answer.get("amount", o.arguments.get("amount")),
        "code": why and why.code,
        "message": why and why.message,
        "retryable": why and why.retryable,
        "refusal": why and why.refusal,
        "constraint": why and why.constraint,
        "arguments": orjson.dumps(o.arguments).decode(),
        "result": None if o.result is None else orjson.dumps(o.result).decode(),
    }


def operation_of(row: Mapping[str, Any]) -> Operation:
    """Return one row of `COLUMNS` as an operation value."""
    why = None
    if row["code"] is not None:
        why = Failure(
            code=row["code"],
            message=row["message"] or "",
            retryable=bool(row["retryable"]),
            refusal=bool(row["refusal"]),
            constraint=row["constraint"],
        )
    return Operation(
        process=row["process"],
        client=row["client"],
        f=row["f"],
        token=row["token"],
        arguments=orjson.loads(row["arguments"]) if row["arguments"] else {},
        invoked=row["invoked"],
        completed=row["completed"],
        outcome=Outcome(row["outcome"]),
        result=orjson.loads(row["result"]) if row["result"] else None,
        failure=why,
        attempts=row["attempts"],
    )
