"""Makes a variant's tables where there are none, and refuses a database with tables that lacks those of the variant's books.

It asks whether they are there, and not whose they are. Tables of another variant with the same names are taken, as they are
and with the indexes that they have: use a fresh database for each variant, and for each of its settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
import pymongo
import pymongo.errors

from reference_impl.variants import Variant


def prepare(variant: Variant, settings: Mapping[str, Any], url: str) -> str:
    """Make the variant's tables in an empty database, and leave a database that has tables of their names alone.

    Returns a sentence on what was done.

    Raises:
        ValueError: the database has tables, but not those of the variant's books.
        ConnectionError: it cannot be reached, or refuses us.
    """
    try:
        if _is_empty(variant, url):
            variant.implementation.install(url, settings)
            return "its tables were made"
        _check(variant, settings, url)
    except (psycopg.Error, pymongo.errors.PyMongoError) as e:
        raise ConnectionError(str(e).strip().partition("\n")[0].partition(" (configured timeouts")[0]) from e
    return "its tables were there"


def _is_empty(variant: Variant, url: str) -> bool:
    if variant.store == "postgres":
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = ANY(current_schemas(false)) LIMIT 1")
            return found.fetchone() is None
    with pymongo.MongoClient[Any](url, serverSelectionTimeoutMS=5000) as client:
        return not client.get_default_database().list_collection_names()


def _check(variant: Variant, settings: Mapping[str, Any], url: str) -> None:
    books = variant.implementation.books(settings)
    if variant.store == "postgres":
        with psycopg.connect(url) as connection:
            for table, query in books.items():
                try:
                    connection.execute(f"SELECT FROM ({query}) AS book LIMIT 0".encode())
                except psycopg.errors.UndefinedTable as e:
                    raise ValueError(
                        f"the database has tables, but not those of {variant.name} ({table}: {e.diag.message_primary})"
                    ) from e
        return
    with pymongo.MongoClient[Any](url, serverSelectionTimeoutMS=5000) as client:
        there = set(client.get_default_database().list_collection_names())
    if missing := {collection for collection, _ in books.values()} - there:
        raise ValueError(f"the database has collections, but not those of {variant.name} ({sorted(missing)[0]} is missing)")
