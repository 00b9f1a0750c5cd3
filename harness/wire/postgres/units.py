"""What a client's messages make together: units, with the statements and portals that they name looked up. No I/O.

Names are looked up when a unit is said, not when it is let through: a pipelining client uses the unnamed statement again
before the first is done. Messages come again word for word, so what they hold is read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from harness.wire.conversation import Unit
from harness.wire.postgres.frames import FrameError, Message, cstring
from harness.wire.postgres.values import bound, columns_of, decoded

Columns = Sequence[tuple[str, int, bool]]
Bound = tuple[bytes, bytes, Sequence[tuple[bytes | None, bool]], Sequence[bool]]

_Q, _P, _B, _D, _E, _C = b"QPBDEC"

CACHED_LENGTH = 2048
"""Longer messages carry bulk data: they do not come again, and would fill the memory."""


class Statement:
    """A prepared statement: its text, and what the server said of its parameters and columns."""

    __slots__ = ("columns", "oids", "sql")

    def __init__(self, sql: bytes, oids: Sequence[int]) -> None:
        self.sql = sql
        self.oids = oids
        self.columns: Columns = ()


class Portal:
    """A statement bound to parameters."""

    __slots__ = ("formats", "parameters", "statement")

    def __init__(self, statement: Statement, parameters: Sequence[tuple[bytes | None, bool]], formats: Sequence[bool]) -> None:
        self.statement = statement
        self.parameters = parameters
        self.formats = formats

    def values(self) -> tuple[Any, ...]:
        """Return the parameters, decoded as far as their types are known."""
        oids = self.statement.oids
        return tuple(
            decoded(data, binary=binary, oid=oids[i] if i < len(oids) else 0) for i, (data, binary) in enumerate(self.parameters)
        )


_NOWHERE = Statement(b"(unknown statement)", ())
"""What a name stands for that was not made by this protocol: by SQL's PREPARE or DECLARE, or not at all."""


class PostgresUnit(Unit):
    """A unit, what it executes, and what has been answered so far."""

    __slots__ = (
        "answered",
        "awaits",
        "begun",
        "columns",
        "commits",
        "copied",
        "copying",
        "described",
        "error",
        "message",
        "more_syncs",
        "over",
        "portals",
        "row_count",
        "rows",
        "simple",
        "tag",
        "typed",
    )

    def __init__(self, data: bytes, *, closing: bool = False, replies: bool = True) -> None:
        super().__init__(data, closing=closing, replies=replies)
        self.simple: bytes | None = None
        self.portals: list[Portal] = []
        self.described: list[Statement] = []
        self.awaits = -1
        """Answers still to come to a unit that ended with Flush; -1: done at ReadyForQuery."""
        self.commits = False
        self.begun = False
        self.over = False
        self.copying = False
        """The server asked for data."""
        self.copied = False
        """The client sent data, asked or not."""
        self.more_syncs = 0
        """Syncs after data that was not asked for: if the server never asks, it answers each of them."""
        self.tag = ""
        self.error: str | None = None
        self.message: str | None = None
        self.columns: Columns = ()
        self.rows: list[bytes] = []
        self.row_count = 0
        self.answered = 0
        """How many of the described statements the server has answered."""
        self.typed = False

    def known_columns(self) -> Columns:
        """Return the columns of the rows, from this round trip or from when the statement was prepared."""
        if self.columns or not self.portals:
            return self.columns
        portal = self.portals[-1]
        formats = portal.formats
        if not formats:
            return ()  # all of them are text
        return [
            (name, oid, formats[i] if 1 < len(formats) > i else formats[0])
            for i, (name, oid, _) in enumerate(portal.statement.columns)
        ]


class Names:
    """A connection's prepared statements and portals."""

    def __init__(self) -> None:
        self._statements: dict[bytes, Statement] = {}
        self._portals: dict[bytes, Portal] = {}

    def end_transaction(self) -> None:
        """Forget the portals: they do not outlive their transaction."""
        if self._portals:
            self._portals.clear()

    def unit_of(self, parts: list[Message]) -> PostgresUnit:
        """Return the unit that these messages make.

        What cannot be read or looked up is shown as unknown: the server will say what is wrong with it.
        """
        unit = PostgresUnit(parts[0][1] if len(parts) == 1 else b"".join([data for _, data in parts]))
        for kind, data in parts:
            if kind == _Q:
                unit.simple = data[5:-1]
            elif kind == _E:
                name = _name_in(data, 5)
                unit.portals.append(self._portals.get(name) or Portal(_NOWHERE, (), ()))
            elif kind == _P:
                self._parse(data)
            elif kind == _B:
                self._bind(data)
            elif kind == _D and data[5:6] == b"S":
                unit.described.append(self._statements.get(_name_in(data, 6), _NOWHERE))
            elif kind == _C and data[5:6] == b"S":
                self._statements.pop(_name_in(data, 6), None)
        return unit

    def _parse(self, data: bytes) -> None:
        found = _parsed(data) if len(data) <= CACHED_LENGTH else _parsed.__wrapped__(data)
        if found is not None:
            name, sql, oids = found
            self._statements[name] = Statement(sql, oids)

    def _bind(self, data: bytes) -> None:
        found = _bound(data) if len(data) <= CACHED_LENGTH else _bound.__wrapped__(data)
        if found is not None:
            portal, name, parameters, formats = found
            self._portals[portal] = Portal(self._statements.get(name, _NOWHERE), parameters, formats)


def _name_in(data: bytes, at: int) -> bytes:
    end = data.find(b"\0", at)
    return data[at:end] if end >= 0 else b""


@lru_cache(maxsize=2048)
def _parsed(data: bytes) -> tuple[bytes, bytes, Sequence[int]] | None:
    try:
        name, at = cstring(data, 5)
        sql, at = cstring(data, at)
    except FrameError:
        return None
    count = int.from_bytes(data[at : at + 2], "big")
    at += 2
    return name, sql, [int.from_bytes(data[i : i + 4], "big") for i in range(at, min(at + 4 * count, len(data)), 4)]


@lru_cache(maxsize=2048)
def _bound(data: bytes) -> Bound | None:
    try:
        return bound(data[5:])
    except FrameError:
        return None


@lru_cache(maxsize=512)
def described_columns(body: bytes) -> Columns:
    """Return the columns of a RowDescription's body; none if it cannot be read."""
    try:
        return columns_of(body)
    except FrameError:
        return ()
