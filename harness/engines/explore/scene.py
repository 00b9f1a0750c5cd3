"""The state that every run begins with: remembered once, put back before each run.

Putting back rows is cheaper than TRUNCATE, which makes new files: tables are emptied and filled again from copies in one round
trip, sequences are set back, and what a run created is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import bson
import psycopg
import pymongo
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument
from psycopg import sql
from pymongo import DeleteOne, InsertOne, WriteConcern
from pymongo.errors import PyMongoError

from harness.stores.base import Database
from harness.targets.base import BooksQuery
from harness.targets.books_reader import MongoBooks, PostgresBooks, Rows
from harness.wire.mongo.blocking import waiting_ports

COPIES = "racegate_scene"
"""The schema that holds the copies while a scene is played."""

BEFORE = "racegate_before"
"""The same for what somebody's own database held before a run."""

VACUUM_EVERY = 300
FOUND = "SELECT oid FROM pg_class WHERE relkind IN ('r', 'S') AND relnamespace <> 'pg_catalog'::regnamespace"


_SEQUENCES = """
    SELECT n.nspname, c.relname, s.seqcache > 1, EXISTS (
        SELECT FROM pg_depend d JOIN pg_index i ON i.indrelid = d.refobjid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
          AND i.indisprimary AND d.refobjsubid = ANY (i.indkey))
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
"""
"""Every sequence, whether sessions take values ahead (CACHE), and whether it does no more than name the rows of a table."""


class Scene(Protocol):
    """Remembers and restores a database.

    ``sessions_remember`` tells that something of the past is kept in the clients' own sessions, out of reach: they must begin
    anew for every run.
    """

    sessions_remember: bool

    def remember(self) -> None:
        """Take the present state as the one to come back to."""

    def restore(self, touched: frozenset[str] | None = None) -> None:
        """Bring it back. Nobody may be in a transaction.

        Args:
            touched: tables or collections that were written to since; None when that is not known.
        """

    def read(self) -> Mapping[str, Rows]:
        """Read the books as they are."""

    def backends(self) -> list[int]:
        """Return its own connections, as the database calls them."""

    def waiting(self, backends: Sequence[int]) -> set[int]:
        """Return those that wait for another, where the database has no better way to ask."""

    def close(self) -> None:
        """Let go."""


class PostgresScene:
    """Rows in copies beside their tables, sequences by value."""

    def __init__(self, url: str, queries: Sequence[BooksQuery] = (), *, copies: str = COPIES) -> None:
        self._copies = copies
        self._connection = psycopg.connect(url, autocommit=True, application_name="racegate control")
        try:
            self._books = PostgresBooks(self._connection, queries)
        except BaseException:
            self._connection.close()
            raise
        self._tables: dict[str, str] = {}
        self._sequences = ""
        self.sessions_remember = False
        self._relations: set[int] = set()
        self._runs = 0

    def left_over(self) -> bool:
        """Tell whether the copies of a run that was killed are still there."""
        return bool(self._connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (self._copies,)).fetchone())

    def remember(self) -> None:
        """Copy every table and note every sequence."""
        run = self._connection.execute
        run(f"DROP SCHEMA IF EXISTS {self._copies} CASCADE".encode())
        run(f"CREATE SCHEMA {self._copies}".encode())
        tables = run(
            "SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema', %s, %s) ORDER BY c.oid",
            (COPIES, BEFORE),
        ).fetchall()
        for oid, schema, name in tables:
            table, copy = sql.Identifier(schema, name), sql.Identifier(self._copies, str(oid))
            run(sql.SQL("CREATE TABLE {} AS TABLE ONLY {}").format(copy, table))
            columns = [
                sql.Identifier(column)
                for (column,) in run(
                    "SELECT attname FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
                    " AND attgenerated = '' ORDER BY attnum",
                    (oid,),
                ).fetchall()
            ]
            listed = sql.SQL(", ").join(columns)
            again = sql.SQL("DELETE FROM ONLY {0}; INSERT INTO {0} ({1}) OVERRIDING SYSTEM VALUE SELECT {1} FROM {2};")
            back = again.format(table, listed, copy).as_string(self._connection)
            self._tables[name] = self._tables.get(name, "") + back
        parts: list[sql.Composable] = []
        self.sessions_remember = False
        for schema, name, cached, names_rows in run(_SEQUENCES).fetchall():
            if cached and names_rows:
                continue  # ids mean nothing; put back, two sessions would hand out the same from what they keep
            self.sessions_remember |= cached
            value, called = run(sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, name))).fetchone()  # type: ignore[misc]
            full = sql.Literal(sql.Identifier(schema, name).as_string(self._connection))
            parts.append(sql.SQL("SELECT setval({}, {}, {});").format(full, sql.Literal(value), sql.Literal(called)))
        self._sequences = sql.SQL("").join(parts).as_string(self._connection)
        self._relations = {oid for (oid,) in run(FOUND).fetchall()}

    def read(self) -> Mapping[str, Rows]:
        """Read the books in one round trip."""
        return self._books.read()

    def restore(self, touched: frozenset[str] | None = None) -> None:
        """Put back what was written to, in one round trip, and drop what is new."""
        written = None if touched is None else {name.lower() for name in touched}  # statements are read without regard to case
        names = [name for name in self._tables if written is None or name.lower() in written]
        back = "".join(self._tables[name] for name in sorted(names))
        role = "SET session_replication_role ="
        script = f"{role} replica; {back} {self._sequences} {role} origin; {FOUND}"
        cursor = self._connection.execute(script.encode())
        while cursor.nextset():
            pass
        for oid in {oid for (oid,) in cursor.fetchall()} - self._relations:
            row = self._connection.execute("SELECT relkind, oid::regclass::text FROM pg_class WHERE oid = %s", (oid,)).fetchone()
            if row is not None:
                what = "SEQUENCE" if row[0] == "S" else "TABLE"
                self._connection.execute(f"DROP {what} IF EXISTS {row[1]} CASCADE".encode())
        self._runs += 1
        if self._runs % VACUUM_EVERY == 0:
            self._connection.execute("VACUUM")

    def backends(self) -> list[int]:
        """Return the one connection."""
        return [self._connection.info.backend_pid]

    def waiting(self, backends: Sequence[int]) -> set[int]:
        """PostgreSQL has a better way."""
        return set()

    def close(self) -> None:
        """Leave the database as it was remembered."""
        with suppress(psycopg.Error):  # the server may be gone; then there is nothing to tidy
            if self._relations:
                self.restore()
                self._connection.execute(f"DROP SCHEMA IF EXISTS {self._copies} CASCADE".encode())
        self._connection.close()


class MongoScene:
    """Documents of every collection, as bytes, kept in memory: a scene is small."""

    sessions_remember = False

    def __init__(self, database: Database, queries: Sequence[BooksQuery] = ()) -> None:
        self.client: pymongo.MongoClient[Any] = pymongo.MongoClient(database.url, appname="racegate control")
        self._books = MongoBooks(self.client, database.name, queries)
        self._raw = self.client.get_database(database.name, codec_options=DEFAULT_RAW_BSON_OPTIONS)
        self._documents: dict[str, dict[bytes, bytes]] = {}

    def remember(self) -> None:
        """Read every collection."""
        self._documents = {name: self._found(name) for name in self._raw.list_collection_names()}

    def _found(self, name: str) -> dict[bytes, bytes]:
        """Return a collection's documents by their ids, both as they are stored."""
        return {bson.encode({"": document["_id"]}): document.raw for document in self._raw[name].find()}

    def read(self) -> Mapping[str, Rows]:
        """Read the books."""
        return self._books.read()

    def restore(self, touched: frozenset[str] | None = None) -> None:
        """Undo the differences in every collection that was written to.

        What was written counts for whoever reads what the majority has only when the last write says so; one such write is
        enough for all before it.
        """
        left: list[tuple[str, list[Any]]] = []
        for name in self._raw.list_collection_names():
            if name not in self._documents:
                self._raw.drop_collection(name)
            elif touched is None or name in touched:
                before, now = self._documents[name], self._found(name)
                if undoing := _undoing(before, now):
                    left.append((name, undoing))
        for at, (name, undoing) in enumerate(left, start=1):
            concern = WriteConcern("majority") if at == len(left) else WriteConcern(1, j=False)
            self._raw[name].with_options(write_concern=concern).bulk_write(undoing)

    def backends(self) -> list[int]:
        """None that a proxy would see."""
        return []

    def waiting(self, backends: Sequence[int]) -> set[int]:
        """Ask ``$currentOp``."""
        return set(waiting_ports(self.client, backends))

    def close(self) -> None:
        """Leave the database as it was remembered."""
        with suppress(PyMongoError):
            self.restore()
        self.client.close()


def _undoing(before: Mapping[bytes, bytes], now: Mapping[bytes, bytes]) -> list[Any]:
    """Return the writes that turn a collection into what it was: what is new goes first, for it may hold a unique key."""
    made = [DeleteOne(_id(key)) for key in now.keys() - before.keys()]
    gone = [InsertOne(RawBSONDocument(before[key])) for key in before.keys() - now.keys()]
    # an update could meet a unique key that another document holds until its turn comes
    changed = [key for key in before.keys() & now.keys() if before[key] != now[key]]
    out = [DeleteOne(_id(key)) for key in changed]
    back = [InsertOne(RawBSONDocument(before[key])) for key in changed]
    return [*made, *out, *back, *gone]


def _id(key: bytes) -> dict[str, Any]:
    return {"_id": RawBSONDocument(key)[""]}
