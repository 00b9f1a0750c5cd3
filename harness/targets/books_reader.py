"""Reads the books of a database: one SELECT or one aggregation for each canonical table, all from one snapshot.

Values arrive as text and become typed columns here, so that an amount that is not a whole number of minor units is seen
and kept (table ``inexact``) rather than rounded on the way in.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
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
    for query in queries:
        if query.table not in TABLES:
            raise UsageError(f"the books have no table {query.table!r}{nearest(query.table, TABLES)}")
    read = _read_postgres if database.kind is StoreKind.POSTGRES else _read_mongo
    try:
        texts = read(database, queries)
    except UsageError:
        raise
    except Exception as e:  # noqa: BLE001 - whatever stopped the read, nothing is proved without it
        return Books(complete=False, trouble=f"the books could not be read: {str(e).splitlines()[0]}")
    tables: dict[str, pl.DataFrame] = {}
    inexact: list[pl.DataFrame] = []
    for name, text in texts.items():
        tables[name], strange = typed(name, text)
        inexact.append(strange)
    if inexact:
        tables["inexact"] = pl.concat(inexact)
    return Books(tables=tables)


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
            inner = sql.SQL(cast(Any, query.sql))
            found = connection.execute(sql.SQL("SELECT * FROM ({}) AS books LIMIT 0").format(inner))
            names = [column.name for column in found.description or ()]
            schema = TABLES[query.table]
            columns = [
                sql.SQL("(extract(epoch from {0}) * 1000000)::bigint::text AS {0}").format(sql.Identifier(n))
                if isinstance(schema.get(n), pl.Datetime)
                else sql.SQL("{0}::text AS {0}").format(sql.Identifier(n))
                for n in names
            ]
            statement = sql.SQL("COPY (SELECT {} FROM ({}) AS books) TO STDOUT (FORMAT csv)").format(
                sql.SQL(", ").join(columns), inner
            )
            buffer = io.BytesIO()
            with connection.cursor().copy(statement) as copy:
                for part in copy:
                    buffer.write(part)
            texts[query.table] = _csv(buffer, names)
        connection.execute("ROLLBACK")
    return texts


def _csv(buffer: io.BytesIO, names: list[str]) -> pl.DataFrame:
    schema = dict.fromkeys(names, pl.String())
    if not buffer.tell():
        return pl.DataFrame(schema=schema)
    buffer.seek(0)
    return pl.read_csv(buffer, has_header=False, schema=schema)


def _read_mongo(database: Database, queries: Sequence[BooksQuery]) -> dict[str, pl.DataFrame]:
    import pymongo  # noqa: PLC0415 - only a run on MongoDB pays for it
    from pymongo.read_concern import ReadConcern  # noqa: PLC0415

    texts: dict[str, pl.DataFrame] = {}
    client: Any = pymongo.MongoClient(database.url, appname="racegate books")
    with client, client.start_session(snapshot=True) as session:
        holding = client[database.name].with_options(read_concern=ReadConcern("snapshot"))
        for query in queries:
            rows = holding[query.collection or query.table].aggregate(
                list(query.pipeline), session=session, maxTimeMS=STATEMENT_TIMEOUT * 1000
            )
            texts[query.table] = _frame_of_texts([{k: _text(v) for k, v in row.items() if k != "_id"} for row in rows])
    return texts


def _frame_of_texts(rows: list[dict[str, str | None]]) -> pl.DataFrame:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pl.DataFrame({n: [row.get(n) for row in rows] for n in names}, schema=dict.fromkeys(names, pl.String()))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if hasattr(value, "timestamp"):  # a date, naive and in UTC as MongoDB keeps them
        aware = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return str(int(aware.timestamp() * 1_000_000))
    return str(value)
