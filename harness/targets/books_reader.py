"""Reads the books of a database: one SELECT or one aggregation for each canonical table, all from one snapshot.

Values arrive as text and become typed columns here, so that an amount that is not a whole number of minor units is seen
and kept (table ``inexact``) rather than rounded on the way in.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import polars as pl

from harness.model.books import TABLES, Books
from harness.model.errors import UsageError, nearest
from harness.stores.base import Database, StoreKind
from harness.targets.base import BooksQuery

STATEMENT_TIMEOUT = 300
"""Seconds that one query may take."""


def read_books(database: Database, queries: Sequence[BooksQuery]) -> Books:
    """Read every table that the queries describe.

    A read that fails gives books with ``complete`` false and the reason in ``trouble``: then nothing can pass.

    Raises:
        UsageError: a query names a table or column that is not canonical.
    """
    _check(queries)
    read = _read_postgres if database.kind is StoreKind.POSTGRES else _read_mongo
    try:
        texts = read(database, queries)
    except UsageError:
        raise
    except Exception as e:  # noqa: BLE001 - whatever stopped the read, nothing is proved without it
        return Books(complete=False, trouble=f"the books could not be read: {str(e).splitlines()[0]}")
    return _books(texts)


def _check(queries: Sequence[BooksQuery]) -> None:
    for query in queries:
        if query.table not in TABLES:
            raise UsageError(f"the books have no table {query.table!r}{nearest(query.table, TABLES)}")


def _books(texts: Mapping[str, pl.DataFrame]) -> Books:
    tables: dict[str, pl.DataFrame] = {}
    inexact: list[pl.DataFrame] = []
    for name, text in texts.items():
        tables[name], strange = typed(name, text)
        inexact.append(strange)
    if inexact:
        tables["inexact"] = pl.concat(inexact)
    return Books(tables=tables, given={name: frozenset(text.columns) for name, text in texts.items() if text.width})


@dataclass(frozen=True)
class Rows:
    """One table of the books as it was read: the columns' names, and text or None for each value."""

    names: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]


def books_of(tables: Mapping[str, Rows]) -> Books:
    """Turn rows of text into books. Raises UsageError if a column is not canonical."""
    return _books(
        {
            table: pl.DataFrame(
                {name: [row[at] for row in read.rows] for at, name in enumerate(read.names)},
                schema=dict.fromkeys(read.names, pl.String()),
            )
            for table, read in tables.items()
        }
    )


class PostgresBooks:
    """Reads small books again and again on one connection, all tables in one round trip.

    Args:
        connection: a psycopg connection in autocommit.
        queries: one for each table.

    Raises:
        UsageError: a query names a table that is not canonical, or the database does not understand it.
    """

    def __init__(self, connection: Any, queries: Sequence[BooksQuery]) -> None:
        from psycopg import sql  # noqa: PLC0415 - only a run on PostgreSQL pays for it

        _check(queries)
        self._connection = connection
        self._names = {query.table: tuple(_names(connection, query)) for query in queries}
        selects = [_select(query, self._names[query.table]) for query in queries]
        script = [sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"), *selects, sql.SQL("COMMIT")]
        self._script = sql.SQL("; ").join(script).as_string(connection).encode()

    def read(self) -> dict[str, Rows]:
        """Read every table from one snapshot."""
        cursor = self._connection.execute(self._script)
        tables: dict[str, Rows] = {}
        for table, names in self._names.items():
            cursor.nextset()
            tables[table] = Rows(names, tuple(cursor.fetchall()))
        return tables


class MongoBooks:
    """Reads small books again and again on one client, from one snapshot each time."""

    def __init__(self, client: Any, database: str, queries: Sequence[BooksQuery]) -> None:
        _check(queries)
        self._client = client
        self._database = database
        self._queries = queries
        self._projected = {query.table: _projected(query) for query in queries}

    def read(self) -> dict[str, Rows]:
        """Read every table."""
        found: dict[str, Rows] = {}
        for table, documents in _aggregates(self._client, self._database, self._queries):
            names = tuple(dict.fromkeys([*(name for row in documents for name in row), *self._projected[table]]))
            found[table] = Rows(names, tuple(tuple(row.get(name) for name in names) for row in documents))
        return found


def typed(name: str, text: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Turn a table of text columns into its canonical types; return it with its rows for the table ``inexact``.

    Times are expected as microseconds since 1970 (UTC). A value that is no number at all becomes null.

    Raises:
        UsageError: a column is not canonical.
    """
    schema = TABLES[name]
    for column in text.columns:
        if column not in schema:
            raise UsageError(f"the books' table {name} has no column {column!r}{nearest(column, schema)}")
    columns: list[pl.Expr] = []
    strange: list[pl.DataFrame] = [pl.DataFrame(schema=dict(TABLES["inexact"]))]
    for column, dtype in schema.items():
        if column not in text.columns:
            columns.append(pl.lit(None, dtype).alias(column))
            continue
        value = pl.col(column)
        if dtype == pl.Int64():
            whole = value.cast(pl.Int64(), strict=False)
            if text.select(whole.is_null() & value.is_not_null()).to_series().any():  # 12.00 is whole too; few columns have it
                whole = value.str.replace(r"\.0+$", "").cast(pl.Int64(), strict=False)
            columns.append(pl.coalesce(whole, value.cast(pl.Float64(), strict=False).round().cast(pl.Int64())).alias(column))
            strange.append(
                text.filter(value.is_not_null() & whole.is_null()).select(
                    table=pl.lit(name),
                    column=pl.lit(column),
                    id=pl.col("id") if "id" in text.columns else pl.lit(None, pl.String()),
                    value=value,
                )
            )
        elif dtype == pl.Boolean():
            columns.append(value.is_in(["t", "true", "True", "1"]).alias(column))
        elif isinstance(dtype, pl.Datetime):
            columns.append(
                pl.from_epoch(value.cast(pl.Float64(), strict=False).cast(pl.Int64()), "us")
                .dt.replace_time_zone("UTC")
                .alias(column)
            )
        else:
            columns.append(value.alias(column))
    frame = text.select(columns) if text.width else pl.DataFrame(schema=dict(schema))
    return frame.cast(pl.Schema(schema)), pl.concat(strange)


def _read_postgres(database: Database, queries: Sequence[BooksQuery]) -> dict[str, pl.DataFrame]:
    import psycopg  # noqa: PLC0415 - only a run on PostgreSQL pays for it
    from psycopg import sql  # noqa: PLC0415

    texts: dict[str, pl.DataFrame] = {}
    with psycopg.connect(database.url, autocommit=True, application_name="racegate books") as connection:
        connection.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT}s'".encode())
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for query in queries:
            names = _names(connection, query)
            statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(_select(query, names))
            buffer = io.BytesIO()
            with connection.cursor().copy(statement) as copy:
                for part in copy:
                    buffer.write(part)
            texts[query.table] = _csv(buffer, names)
        connection.execute("ROLLBACK")
    return texts


def _names(connection: Any, query: BooksQuery) -> list[str]:
    import psycopg  # noqa: PLC0415
    from psycopg import sql  # noqa: PLC0415

    try:
        found = connection.execute(sql.SQL("SELECT * FROM ({}) AS books LIMIT 0").format(sql.SQL(cast(Any, query.sql))))
    except psycopg.ProgrammingError as e:
        raise UsageError(f"books.{query.table} cannot be read: {str(e).splitlines()[0]}; correct its query") from e
    return [column.name for column in found.description or ()]


def _select(query: BooksQuery, names: Sequence[str]) -> Any:
    """Return the SELECT that gives every column as text, times as microseconds since 1970."""
    from psycopg import sql  # noqa: PLC0415

    schema = TABLES[query.table]
    columns = [
        sql.SQL("(extract(epoch from {0}) * 1000000)::bigint::text AS {0}").format(sql.Identifier(n))
        if isinstance(schema.get(n), pl.Datetime)
        else sql.SQL("{0}::text AS {0}").format(sql.Identifier(n))
        for n in names
    ]
    return sql.SQL("SELECT {} FROM ({}) AS books").format(sql.SQL(", ").join(columns), sql.SQL(cast(Any, query.sql)))


def _csv(buffer: io.BytesIO, names: list[str]) -> pl.DataFrame:
    schema = dict.fromkeys(names, pl.String())
    if not buffer.tell():
        return pl.DataFrame(schema=schema)
    buffer.seek(0)
    return pl.read_csv(buffer, has_header=False, schema=schema)


def _read_mongo(database: Database, queries: Sequence[BooksQuery]) -> dict[str, pl.DataFrame]:
    import pymongo  # noqa: PLC0415 - only a run on MongoDB pays for it

    client: Any = pymongo.MongoClient(database.url, appname="racegate books")
    with client:
        projected = {query.table: _projected(query) for query in queries}
        read = _aggregates(client, database.name, queries)
        return {table: _frame_of_texts(rows, projected[table]) for table, rows in read}


def _aggregates(client: Any, database: str, queries: Sequence[BooksQuery]) -> list[tuple[str, list[dict[str, str | None]]]]:
    from pymongo.read_concern import ReadConcern  # noqa: PLC0415

    found = []
    with client.start_session(snapshot=True) as session:
        holding = client[database].with_options(read_concern=ReadConcern("snapshot"))
        for query in queries:
            rows = holding[query.collection or query.table].aggregate(
                list(query.pipeline), session=session, maxTimeMS=STATEMENT_TIMEOUT * 1000
            )
            found.append((query.table, [{k: as_text(v) for k, v in row.items() if k != "_id"} for row in rows]))
    return found


def _projected(query: BooksQuery) -> list[str]:
    """Return the columns that a pipeline's projection gives, also where no document has them: MongoDB leaves those out."""
    stages = [stage["$project"] for stage in query.pipeline if "$project" in stage]
    return [name for name, how in stages[-1].items() if how and name in TABLES[query.table]] if stages else []


def _frame_of_texts(rows: list[dict[str, str | None]], projected: Sequence[str]) -> pl.DataFrame:
    names = list(dict.fromkeys([*(name for row in rows for name in row), *projected]))
    return pl.DataFrame({n: [row.get(n) for row in rows] for n in names}, schema=dict.fromkeys(names, pl.String()))


def as_text(value: Any) -> str | None:
    """Return a value of MongoDB as text: a date as microseconds since 1970."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():  # JavaScript keeps whole numbers so
        return str(int(value))
    if hasattr(value, "timestamp"):  # a date, naive and in UTC as MongoDB keeps them
        aware = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return str(int(aware.timestamp() * 1_000_000))
    return str(value)
