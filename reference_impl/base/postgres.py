"""One client's session on PostgreSQL: transactions, the whole-transaction retry, and cutting the line.

``isolation`` and ``transaction`` are settings and not code, because the verdict depends on them: the same statements
are right in one transaction and wrong without, right at READ COMMITTED and wrong at REPEATABLE READ.
"""

from __future__ import annotations

import os
import random
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from reference_impl.base.libpq import Prepared, Wire

Answer = TypeVar("Answer")
Checkpoint = Callable[[str], None]
Where = str | sa.Engine

RETRYABLE = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock: the transaction is gone and may be run again from its beginning."""

TRIES = 200
"""On a machine that is busy with other things a client may lose sixty times in a row against fifteen others."""
LONGEST_PAUSE = 0.05
"""Seconds. Pauses are random, so that losers do not meet again."""

ISOLATIONS = {
    "read_committed": "READ COMMITTED",
    "repeatable_read": "REPEATABLE READ",
    "serializable": "SERIALIZABLE",
}


@dataclass(frozen=True, kw_only=True)
class Boundaries:
    """Where transactions begin and end.

    With ``transaction`` false every statement commits by itself. ``tries`` is how often a transaction is run at most:
    1 leaves the retry to the caller.
    """

    isolation: str = "read_committed"
    transaction: bool = True
    tries: int = TRIES


class Transaction:
    """The statements of one operation."""

    def __init__(self, wire: Wire, at: Checkpoint) -> None:
        self._wire = wire
        self.at = at
        """Named points of the operation, where a test may step in or a fault strike."""

    def row(self, sql: str, **values: Any) -> Any:
        """Return the first row, or None."""
        found, _ = self._wire.run(sql, values)
        return found[0] if found else None

    def rows(self, sql: str, **values: Any) -> list[Any]:
        """Return all rows."""
        return list(self._wire.run(sql, values)[0])

    def value(self, sql: str, **values: Any) -> Any:
        """Return the first column of the first row, or None."""
        found, _ = self._wire.run(sql, values)
        return found[0][0] if found else None

    def change(self, sql: str, **values: Any) -> int:
        """Run a statement and return how many rows it changed. One that found nothing is an answer: look."""
        return self._wire.run(sql, values)[1]


class PostgresSession:
    """A client's connection. Used by one thread at a time.

    Args:
        where: ``postgresql://...``, as any driver takes it; or an engine whose pool lends the connections.
        boundaries: isolation level, transaction or not, and how often a transaction is tried.
    """

    def __init__(self, where: Where, boundaries: Boundaries) -> None:
        self._boundaries = boundaries
        begin = f"BEGIN ISOLATION LEVEL {ISOLATIONS[boundaries.isolation]}".encode()
        self._begin = begin if boundaries.transaction else None
        self._pooled = isinstance(where, sa.Engine)
        if isinstance(where, sa.Engine):
            self._engine: sa.Engine = where.execution_options(isolation_level="AUTOCOMMIT")
        else:
            # Nothing is given back to a pool, so nothing need be rolled back first: the line may be dead by then.
            self._engine = sa.create_engine(
                dialect_url(where), poolclass=NullPool, pool_reset_on_return=None, isolation_level="AUTOCOMMIT"
            )
        self._connection, self._wire = self._open()
        self._whole = self._wire if boundaries.transaction else self._speak(self._connection, begin)
        self.kept: dict[Any, Any] = self._connection.info
        """What stays with the connection when a pool lends it to the next session, and goes with it when it is lost."""
        self._second: sa.Connection | None = None
        self._second_wire: Wire | None = None
        self._cut = False

    def run(self, work: Callable[[Transaction], Answer], at: Checkpoint) -> tuple[Answer, int]:
        """Run the work in one transaction, from its beginning again where the server asks for that.

        Returns the answer and how many tries it took.

        Raises:
            DBAPIError: the last try failed; its ``attempts`` tells how many there were.
        """
        return self._tries(self._wire, work, at)

    def in_transaction(self, work: Callable[[Transaction], Answer], at: Checkpoint) -> tuple[Answer, int]:
        """Run the work in one transaction, as `run` does, also where each statement commits by itself otherwise."""
        return self._tries(self._whole, work, at)

    def aside(self, work: Callable[[Transaction], Answer], at: Checkpoint = lambda point: None) -> Answer:
        """Run the work on a second connection, in a transaction that knows nothing of the first.

        A pool must have two for each client: those who hold one and wait for another would wait for each other.
        """
        if self._second_wire is None:
            self._second, self._second_wire = self._open()
        return self._tries(self._second_wire, work, at)[0]

    def _open(self) -> tuple[sa.Connection, Wire]:
        connection = self._engine.connect()
        return connection, self._speak(connection, self._begin)

    def _speak(self, connection: sa.Connection, begin: bytes | None) -> Wire:
        driver: Any = connection.connection.driver_connection
        return Wire(driver, begin, connection.info.setdefault("prepared", Prepared()))

    def _tries(self, wire: Wire, work: Callable[[Transaction], Answer], at: Checkpoint) -> tuple[Answer, int]:
        for attempt in range(1, self._boundaries.tries + 1):
            try:
                return self._once(wire, work, at), attempt
            except DBAPIError as e:
                final = self._cut or not wire.transactional or attempt == self._boundaries.tries
                if final or sqlstate(e) not in RETRYABLE:
                    e.attempts = attempt  # type: ignore[attr-defined]  # read by whoever records the operation
                    raise
                pause(attempt)
        raise AssertionError("at least one try is made")

    def _once(self, wire: Wire, work: Callable[[Transaction], Answer], at: Checkpoint) -> Answer:
        try:
            answer = work(Transaction(wire, at))
            at("before_commit")
            wire.commit()
            return answer
        except BaseException:
            with suppress(DBAPIError):  # what went wrong matters, not that there is nobody left to say goodbye to
                wire.rollback()
            raise

    @property
    def is_cut(self) -> bool:
        """Whether the line was cut on purpose."""
        return self._cut

    def pids(self) -> list[int]:
        """Return the server's process numbers of the connections: who to ask about when this session seems to wait."""
        return [driver.info.backend_pid for driver in self._drivers()]

    def vanish(self) -> None:
        """Cut the line without a goodbye; the server finds out by itself and rolls back."""
        self._cut = True
        for driver in self._drivers():
            with suppress(OSError), socket.socket(fileno=os.dup(driver.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)

    def _drivers(self) -> list[Any]:
        # A connection that the server broke is no more; asking SQLAlchemy for it would make another.
        open_ones = [c for c in (self._connection, self._second) if c is not None and not c.closed and not c.invalidated]
        drivers = [c.connection.driver_connection for c in open_ones]
        return [driver for driver in drivers if driver is not None and not driver.closed]

    def close(self) -> None:
        """Close in good order; what a pool lent goes back to it, and the connection that is always needed as the last."""
        for connection in (self._second, self._connection):
            if connection is not None:
                with suppress(DBAPIError):
                    connection.close()
        if not self._pooled:
            self._engine.dispose()


def dialect_url(url: str) -> str:
    """Return the URL as SQLAlchemy takes it, with the driver in its scheme."""
    return re.sub("^postgres(ql)?://", "postgresql+psycopg://", url)


def pause(attempt: int) -> None:
    """Wait a random moment before another try, longer the more there were."""
    time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.001 * 2**attempt)))


def sqlstate(error: DBAPIError) -> str | None:
    """Return the server's error code."""
    code: str | None = getattr(error.orig, "sqlstate", None)
    return code


def violated(error: DBAPIError) -> str | None:
    """Return the name of the unique index that an insert ran into, or None if that is not what happened."""
    if sqlstate(error) != "23505":
        return None
    name: str | None = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    return name


def run_script(url: str, script: str) -> None:
    """Run DDL, statements separated by semicolons, in one transaction."""
    import psycopg  # noqa: PLC0415 - the schema is made once; clients never need this

    with psycopg.connect(url) as connection:
        connection.execute(script.encode())
