"""Statements straight through libpq, PostgreSQL's own client library, as the driver hands it out.

A statement of this reference takes the server some fifty microseconds. What SQLAlchemy and the driver's cursor put around it
takes three times as long, all of which a create spends with its counter locked: so values are bound, and rows read, by the
driver's converters, and nothing else is between. Connections still come from SQLAlchemy, and errors look like its own.

Like the driver, this prepares a statement when it is used for the fifth time.
"""

from __future__ import annotations

import re
from collections import Counter, namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import psycopg
from psycopg import generators, waiting
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus
from sqlalchemy.exc import DBAPIError

PREPARE_AT = 5

NAME = re.compile(r"(?<!:):([a-z]\w*)")
"""A value's name in a statement; two colons are a cast."""

_DONE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


Use = tuple[str, tuple[int, ...]]
"""A statement with the types of its values."""


@dataclass
class Prepared:
    """What a connection knows of its statements: how often each was used, and the names of those that are prepared."""

    used: Counter[Use] = field(default_factory=Counter)
    names: dict[Use, bytes] = field(default_factory=dict)


class Wire:
    """The statements of one session on a connection.

    Args:
        connection: the driver's connection, in autocommit: it must not begin transactions by itself.
        begin: the command that begins a transaction before the first statement; None leaves each statement to itself.
        prepared: what earlier sessions on this connection have left there.
    """

    def __init__(self, connection: psycopg.Connection[Any], begin: bytes | None, prepared: Prepared) -> None:
        self._libpq = connection.pgconn
        self._connection = connection
        self._alone = waiting.wait is getattr(waiting, "wait_c", None)
        self._begin = begin
        self._converters = Transformer(connection)
        self._prepared = prepared

    @property
    def transactional(self) -> bool:
        """Whether a transaction is begun before the first statement."""
        return self._begin is not None

    def run(self, sql: str, values: Mapping[str, Any]) -> tuple[Sequence[Any], int]:
        """Run a statement with ``:named`` values; return its rows, by column name, and how many it found or changed.

        Raises:
            DBAPIError: the server refused it, or is gone.
        """
        if self._begin is not None and self._libpq.transaction_status == TransactionStatus.IDLE:
            self.command(self._begin)
        text, names = _numbered(sql)
        bound = [values[name] for name in names]
        try:
            given: Any = self._converters.dump_sequence(bound, [PyFormat.AUTO] * len(bound))
            types, formats = self._converters.types or (), self._converters.formats
            name = self._name((sql, tuple(types)), text) if names else None
            if name is None:
                result = self._ask(self._libpq.exec_params, self._libpq.send_query_params, text, given, types, formats)
            else:
                result = self._ask(self._libpq.exec_prepared, self._libpq.send_query_prepared, name, given, formats)
        except psycopg.Error as e:
            raise self._wrapped(sql, e) from e
        self._check(result, sql)
        changed = result.command_tuples or 0
        if result.status == ExecStatus.COMMAND_OK:
            return (), changed
        self._converters.set_pgresult(result)
        row = _row(tuple((result.fname(n) or b"").decode() for n in range(result.nfields)))
        return self._converters.load_rows(0, result.ntuples, row._make), changed

    def _ask(self, call: Any, send: Any, *arguments: Any) -> Any:
        """Return the answer to a command: by the call that waits in C, or by the one that lets greenlets work meanwhile.

        The driver has found out, when it was imported, whether this is a process of greenlets. There a call that waits in C
        would stop every other client of the process, and they would take turns instead of racing.
        """
        if self._alone:
            return call(*arguments)
        send(*arguments)
        return self._connection.wait(generators.execute(self._libpq))[-1]

    def _name(self, use: Use, text: bytes) -> bytes | None:
        """Return the name under which the statement is prepared, None while it is used too rarely."""
        known = self._prepared
        known.used[use] += 1
        if use not in known.names and known.used[use] >= PREPARE_AT:
            name = f"s{len(known.names)}".encode()
            self._check(self._ask(self._libpq.prepare, self._libpq.send_prepare, name, text, use[1]), use[0])
            known.names[use] = name
        return known.names.get(use)

    def commit(self) -> None:
        """End the transaction, if one was begun. Where a statement of it failed, the server rolls back and says nothing."""
        self._end(b"COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if one was begun."""
        self._end(b"ROLLBACK")

    def command(self, sql: bytes) -> None:
        """Run a command that has no values and no rows. Raises DBAPIError."""
        try:
            result = self._ask(self._libpq.exec_, self._libpq.send_query, sql)
        except psycopg.Error as e:
            raise self._wrapped(sql.decode(), e) from e
        self._check(result, sql.decode())

    def _end(self, sql: bytes) -> None:
        if self._begin is not None and self._libpq.transaction_status != TransactionStatus.IDLE:
            self.command(sql)

    def _check(self, result: Any, sql: str) -> None:
        if result.status in _DONE:
            return
        if result.error_field(DiagnosticField.SQLSTATE) is None:
            raise self._wrapped(sql, psycopg.OperationalError(result.error_message.decode(errors="replace").strip()))
        raise self._wrapped(sql, psycopg.errors.error_from_result(result, encoding="utf-8"))

    def _wrapped(self, sql: str, error: psycopg.Error) -> BaseException:
        lost = self._libpq.status == ConnStatus.BAD
        return DBAPIError.instance(sql, None, error, psycopg.Error, connection_invalidated=lost)


@cache
def _numbered(sql: str) -> tuple[bytes, list[str]]:
    """Return the statement with ``$1, $2`` for its names, and the names in that order."""
    names: list[str] = list(dict.fromkeys(NAME.findall(sql)))
    return NAME.sub(lambda found: f"${names.index(found[1]) + 1}", sql).encode(), names


@cache
def _row(columns: Any) -> Any:
    """Return the type of a row with these columns."""
    plain = namedtuple("Row", columns, rename=True)  # type: ignore[misc]
    return type("Row", (plain,), {"__slots__": (), "_mapping": property(lambda row: row._asdict())})
