"""Reads the books of a live database piece by piece, from one snapshot that cannot write.

PostgreSQL: one transaction ``REPEATABLE READ READ ONLY`` with a statement time-out, rows streamed by COPY. MongoDB: one session
with snapshot read concern, rows streamed by cursor. Either way a table comes as frames of text columns, which
`harness.targets.books_reader.typed` turns into canonical types, so memory holds one piece at a time.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, Self, cast
from urllib.parse import unquote, urlsplit

import polars as pl

from harness.model.books import TABLES
from harness.model.errors import EnvironmentProblem, UsageError, nearest
from harness.stores.base import StoreKind
from harness.stores.redaction import redact
from harness.targets.base import BooksQuery
from harness.targets.books_reader import as_text

PIECE_BYTES = 8_000_000
"""Bytes of text that are turned into a frame at a time."""

PIECE_ROWS = 100_000
"""Documents of MongoDB that are turned into a frame at a time."""

CONNECT_TIMEOUT = 10
"""Seconds that a server may take to answer the first connection."""


class Snapshot(Protocol):
    """One state of a database, however long it is looked at."""

    kind: StoreKind
    description: str
    """For people: ``PostgreSQL 18.1, database shop``. Never a password."""

    def columns(self, query: BooksQuery) -> list[str]:
        """Return the canonical columns that a query gives. Raises as `pieces` does."""

    def pieces(
        self,
        query: BooksQuery,
        *,
        columns: Sequence[str] | None = None,
        numbers: Sequence[int] | None = None,
        since: datetime.datetime | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield a table's rows as frames of text columns.

        Args:
            query: names the table and how it is read.
            columns: only these.
            numbers: at least the rows that hold one of these numbers.
            since: only rows dated then or later.

        Raises:
            UsageError: the query is wrong, or gives a column that is not canonical.
            EnvironmentProblem: the database refuses it, or takes longer than the time-out.
        """

    def still_open(self) -> int:
        """Return how many transactions that were open when the snapshot was taken have not ended yet."""

    def later(self) -> Snapshot:
        """Return a new snapshot of the same database, as it is now."""

    def close(self) -> None:
        """Let the snapshot go."""


class PostgresSnapshot:
    """A read-only transaction on PostgreSQL.

    Args:
        url: a connection URL; any role that may read will do.
        timeout: seconds that one statement may take.

    Raises:
        EnvironmentProblem: the server cannot be reached, or refuses us.
        UsageError: the URL is none.
    """

    kind = StoreKind.POSTGRES

    def __init__(self, url: str, *, timeout: float) -> None:
        import psycopg  # noqa: PLC0415 - only an audit of PostgreSQL pays for it

        self._url, self._timeout = url, timeout
        try:
            self._connection: Any = psycopg.connect(
                url, autocommit=True, application_name="racegate audit", connect_timeout=CONNECT_TIMEOUT
            )
        except psycopg.OperationalError as e:
            raise EnvironmentProblem(f"cannot connect to {redact(url)}: {_first_line(e)}") from e
        except psycopg.ProgrammingError as e:
            raise UsageError(f"{redact(url)} is not a connection URL: {_first_line(e)}") from e
        info = self._connection.info
        self.description = f"PostgreSQL {info.parameter_status('server_version')}, database {info.dbname}"
        self._connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        self._connection.execute(f"SET statement_timeout = {int(timeout * 1000)}")
        self._connection.execute("SET lock_timeout = '10s'")
        self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self._open_then = self._open_transactions()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def relations(self) -> dict[str, dict[str, str]]:
        """Return the columns of every table and view on the search path with their types, by name."""
        found: dict[str, dict[str, str]] = {}
        for table, column, kind in self._connection.execute(_RELATIONS):
            found.setdefault(table, {})[column] = kind
        return found

    def some(self, table: str, column: str) -> list[str]:
        """Return some values of a column, as text."""
        from psycopg import sql  # noqa: PLC0415

        query = sql.SQL("SELECT {0}::text FROM {1} WHERE {0} IS NOT NULL LIMIT 200").format(
            sql.Identifier(column), sql.Identifier(table)
        )
        return [str(row[0]) for row in self._connection.execute(query)]

    def columns(self, query: BooksQuery) -> list[str]:
        """Return the query's columns. See `Snapshot`."""
        import psycopg  # noqa: PLC0415

        try:
            return self._names(query)
        except psycopg.Error as e:
            raise _postgres_problem(e, query.table, self._timeout) from e

    def pieces(
        self,
        query: BooksQuery,
        *,
        columns: Sequence[str] | None = None,
        numbers: Sequence[int] | None = None,
        since: datetime.datetime | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield a table's rows. See `Snapshot`."""
        import psycopg  # noqa: PLC0415
        from psycopg import sql  # noqa: PLC0415

        known = self.columns(query)
        names = [name for name in known if columns is None or name in columns]
        try:
            inner = sql.SQL("SELECT {} FROM ({}) AS books").format(
                sql.SQL(", ").join(_as_text(query.table, name) for name in names), sql.SQL(cast(Any, query.sql))
            )
            where = []
            if numbers is not None and "number" in known:
                listed = sql.SQL(",").join(sql.Literal(n) for n in numbers)
                where.append(sql.SQL("books.number = ANY(ARRAY[{}]::bigint[])").format(listed))
            if since is not None and "dated" in known:
                where.append(sql.SQL("books.dated >= {}").format(sql.Literal(since)))
            if where:
                inner += sql.SQL(" WHERE ") + sql.SQL(" AND ").join(where)
            fields = [*names] if len(names) > 1 else [*names, ""]  # a line of one empty value would be no line at all
            statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(inner).as_string(self._connection)
            ending = b"" if len(names) > 1 else b","
            for part in _copied(self._connection, statement):
                content = part if not ending else part.replace(b"\n", b",\n")
                yield _frame(io.BytesIO(content), fields)
        except psycopg.Error as e:
            raise _postgres_problem(e, query.table, self._timeout) from e

    def still_open(self) -> int:
        """Count those of the transactions that were open. Asked of a connection of its own, as the snapshot stands still."""
        import psycopg  # noqa: PLC0415

        try:
            with psycopg.connect(
                self._url, autocommit=True, application_name="racegate audit", connect_timeout=CONNECT_TIMEOUT
            ) as connection:
                connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
                return len(self._open_then & _open_in(connection))
        except psycopg.Error as e:
            raise EnvironmentProblem(f"cannot ask {redact(self._url)} for its transactions: {_first_line(e)}") from e

    def _open_transactions(self) -> frozenset[str]:
        import psycopg  # noqa: PLC0415

        try:
            return _open_in(self._connection)
        except psycopg.Error as e:
            raise EnvironmentProblem(f"cannot ask {redact(self._url)} for its transactions: {_first_line(e)}") from e

    def later(self) -> PostgresSnapshot:
        """Return a new snapshot."""
        return PostgresSnapshot(self._url, timeout=self._timeout)

    def close(self) -> None:
        """End the transaction and the connection."""
        self._connection.close()

    def _names(self, query: BooksQuery) -> list[str]:
        from psycopg import sql  # noqa: PLC0415

        found = self._connection.execute(sql.SQL("SELECT * FROM ({}) AS books LIMIT 0").format(sql.SQL(cast(Any, query.sql))))
        names = [column.name for column in found.description or ()]
        for name in names:
            if name not in TABLES[query.table]:
                known = TABLES[query.table]
                raise UsageError(
                    f"books.{query.table} has no column {name!r}{nearest(name, known)}; there are: {', '.join(known)}"
                )
        return names


_RELATIONS = """
    SELECT c.relname, a.attname, format_type(a.atttypid, NULL) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped AND pg_table_is_visible(c.oid)
      AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    ORDER BY c.relname, a.attnum
"""

_OPEN = """
    SELECT l.virtualxid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND l.granted AND l.pid <> pg_backend_pid()
      AND a.datname = current_database() AND a.usename IS NOT NULL AND a.application_name <> 'racegate audit'
    UNION ALL
    SELECT x::text FROM pg_snapshot_xip(pg_current_snapshot()) AS x
"""
"""Open transactions. Every one holds a lock on its own virtual id, which a role without rights sees too; on a standby the
snapshot's list of transactions that write is all that is known of the primary."""


def _open_in(connection: Any) -> frozenset[str]:
    return frozenset(row[0] for row in connection.execute(_OPEN))


def _copied(connection: Any, statement: str) -> Iterator[bytes]:
    """Yield what COPY sends, whole lines in parts of `PIECE_BYTES` or a little more.

    Asked of libpq itself: a driver's iterator costs more for each line than the line does.
    """
    import psycopg  # noqa: PLC0415
    from psycopg import pq  # noqa: PLC0415

    link = connection.pgconn
    begun = link.exec_(statement.encode())
    if begun.status != pq.ExecStatus.COPY_OUT:
        raise _error_of(begun, connection)
    lines: list[bytes] = []
    held = 0
    get = link.get_copy_data
    try:
        while True:
            length, line = get(0)
            if length <= 0:
                break
            lines.append(bytes(line))
            held += length
            if held >= PIECE_BYTES:
                yield b"".join(lines)
                lines, held = [], 0
    except GeneratorExit:
        connection.close()  # in the middle of a COPY there is no other way to stop
        raise
    if length == -2:
        raise psycopg.OperationalError(link.get_error_message())
    while (ended := link.get_result()) is not None:
        if ended.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.COPY_OUT):
            raise _error_of(ended, connection)
    if lines:
        yield b"".join(lines)


def _error_of(result: Any, connection: Any) -> Exception:
    from psycopg import errors  # noqa: PLC0415

    return errors.error_from_result(result, encoding=connection.info.encoding)


def _as_text(table: str, name: str) -> Any:
    from psycopg import sql  # noqa: PLC0415

    if isinstance(TABLES[table].get(name), pl.Datetime):
        return sql.SQL("(extract(epoch from books.{0}) * 1000000)::bigint AS {0}").format(sql.Identifier(name))
    return sql.SQL("books.{0}").format(sql.Identifier(name))


def _frame(buffer: io.BytesIO, columns: Sequence[str]) -> pl.DataFrame:
    buffer.seek(0)
    frame = pl.read_csv(buffer, has_header=False, schema=dict.fromkeys(columns, pl.String()))
    return frame.select(c for c in columns if c)


def _postgres_problem(error: Any, table: str, timeout: float) -> EnvironmentProblem | UsageError:
    state = error.sqlstate or ""
    why = _first_line(error)
    if state == "57014":
        return EnvironmentProblem(f"reading books.{table} took longer than {timeout:g} s; allow more with --timeout")
    if state == "42501":
        return EnvironmentProblem(f"the role may not read what books.{table} needs: {why}; grant it SELECT")
    if state == "25006":
        return UsageError(f"books.{table} writes, which an audit never does: {why}")
    if state[:2] in ("42", "22", "26") or state in ("0A000", "3F000"):
        return UsageError(f"books.{table} is not a SELECT that this database understands: {why}")
    return EnvironmentProblem(f"reading books.{table} failed: {why}")


class MongoSnapshot:
    """A session on MongoDB in which every read sees the same state.

    Args:
        url: a connection URL with the database's name.
        timeout: seconds that one aggregation may take on the server.

    Raises:
        EnvironmentProblem: the server cannot be reached, refuses us, or is no replica set.
        UsageError: the URL is none, or names no database.
    """

    kind = StoreKind.MONGO

    def __init__(self, url: str, *, timeout: float) -> None:
        import pymongo  # noqa: PLC0415 - only an audit of MongoDB pays for it
        import pymongo.errors  # noqa: PLC0415

        self._url, self._timeout = url, timeout
        self._name = unquote(urlsplit(url).path.lstrip("/"))
        if not self._name:
            raise UsageError(f"{redact(url)} names no database; add one: mongodb://.../NAME")
        try:
            self._client: Any = pymongo.MongoClient(
                url, appname="racegate audit", serverSelectionTimeoutMS=CONNECT_TIMEOUT * 1000
            )
            version = self._client.server_info()["version"]
        except (pymongo.errors.ConfigurationError, pymongo.errors.InvalidURI) as e:
            raise UsageError(f"{redact(url)} is not a connection URL: {_first_line(e)}") from e
        except pymongo.errors.PyMongoError as e:
            raise EnvironmentProblem(f"cannot connect to {redact(url)}: {_first_line(e)}") from e
        self.description = f"MongoDB {version}, database {self._name}"
        self._session: Any = self._client.start_session(snapshot=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def collections(self) -> list[str]:
        """Return the names of the database's collections."""
        return sorted(self._client[self._name].list_collection_names())

    def sample(self, collection: str, count: int) -> list[Mapping[str, Any]]:
        """Return some documents of a collection."""
        return list(self._client[self._name][collection].find(limit=count))

    def columns(self, query: BooksQuery) -> list[str]:
        """Return the columns of the first documents: MongoDB knows no others. See `Snapshot`."""
        names: dict[str, None] = {}
        for piece in self.pieces(replace(query, pipeline=[*query.pipeline, {"$limit": 1000}])):
            names |= dict.fromkeys(piece.columns)
        return list(names)

    def pieces(
        self,
        query: BooksQuery,
        *,
        columns: Sequence[str] | None = None,
        numbers: Sequence[int] | None = None,
        since: datetime.datetime | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield a table's rows. See `Snapshot`."""
        import pymongo.errors  # noqa: PLC0415

        pipeline = list(query.pipeline)
        for stage in pipeline:
            if writes := {"$out", "$merge"} & stage.keys():
                raise UsageError(f"books.{query.table} writes, which an audit never does: {min(writes)}")
        if numbers is not None:
            pipeline.append({"$match": {"number": {"$in": list(numbers)}}})
        if since is not None and "dated" in TABLES[query.table]:
            pipeline.append({"$match": {"dated": {"$gte": since}}})
        if columns:
            pipeline.append({"$project": dict.fromkeys(columns, 1)})
        known = TABLES[query.table]
        try:
            rows = self._client[self._name][query.collection or query.table].aggregate(
                pipeline, session=self._session, maxTimeMS=int(self._timeout * 1000), batchSize=10_000
            )
            names: dict[str, None] = {}
            piece: list[Mapping[str, Any]] = []
            for row in rows:
                piece.append(row)
                if len(piece) == PIECE_ROWS:
                    yield _mongo_frame(query.table, piece, names, known)
                    piece = []
            if piece:
                yield _mongo_frame(query.table, piece, names, known)
        except pymongo.errors.PyMongoError as e:
            raise _mongo_problem(e, query.table, self._timeout) from e

    def still_open(self) -> int:
        """Count the open transactions of others, where we may see them; 0 where we may not."""
        import pymongo.errors  # noqa: PLC0415

        stages: list[dict[str, Any]] = [
            {"$currentOp": {"allUsers": True, "idleSessions": True}},
            {"$match": {"transaction": {"$exists": True}, "appName": {"$ne": "racegate audit"}}},
        ]
        try:
            return len(list(self._client.admin.aggregate(stages)))
        except pymongo.errors.PyMongoError:
            return 0

    def later(self) -> MongoSnapshot:
        """Return a new snapshot."""
        return MongoSnapshot(self._url, timeout=self._timeout)

    def close(self) -> None:
        """End session and connection."""
        self._session.end_session()
        self._client.close()


def _mongo_frame(
    table: str, piece: Sequence[Mapping[str, Any]], names: dict[str, None], known: Mapping[str, Any]
) -> pl.DataFrame:
    for row in piece:
        for name in row:
            if name not in names and name != "_id":
                if name not in known:
                    raise UsageError(f"books.{table} has no column {name!r}{nearest(name, known)}; there are: {', '.join(known)}")
                names[name] = None
    columns = {name: [as_text(row.get(name)) for row in piece] for name in names}
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String()))


def _mongo_problem(error: Any, table: str, timeout: float) -> EnvironmentProblem | UsageError:
    code = getattr(error, "code", None)
    why = _first_line(error)
    if code == 50:
        return EnvironmentProblem(f"reading books.{table} took longer than {timeout:g} s; allow more with --timeout")
    if code == 13:
        return EnvironmentProblem(f"the user may not read what books.{table} needs: {why}; give it the role read")
    if code == 239:
        return EnvironmentProblem(
            f"reading books.{table} took longer than MongoDB keeps a snapshot: {why}; raise minSnapshotHistoryWindowInSeconds"
        )
    if code in (2, 9, 14, 15, 16, 168, 16410, 40324, 40353, 15998, 17276):
        return UsageError(f"books.{table} is not an aggregation that this database understands: {why}")
    return EnvironmentProblem(f"reading books.{table} failed: {why}")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in redact(str(error)).splitlines() if line.strip()]
    return lines[0].split(", Timeout:")[0][:300] if lines else type(error).__name__


OPENERS: Mapping[StoreKind, Callable[..., Snapshot]] = {StoreKind.POSTGRES: PostgresSnapshot, StoreKind.MONGO: MongoSnapshot}


def open_snapshot(kind: StoreKind, url: str, *, timeout: float) -> Snapshot:
    """Open a snapshot of the database at a URL. Raises as `PostgresSnapshot` and `MongoSnapshot` do."""
    return OPENERS[kind](url, timeout=timeout)
