"""Reading the books of a target."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pymongo
import pytest

from harness.model import UsageError
from harness.run.folder import RunFolder
from harness.stores.base import Database
from harness.targets.base import BooksQuery
from harness.targets.books_reader import PostgresBooks, read_books


def test_a_query_that_the_database_does_not_understand_is_told_in_one_line(postgres_database: Database) -> None:
    wrong = BooksQuery(table="documents", sql="SELECT relname AS text, nonsense FROM pg_class")

    with psycopg.connect(postgres_database.url, autocommit=True) as connection, pytest.raises(UsageError) as told:
        PostgresBooks(connection, [wrong])
    with pytest.raises(UsageError) as told_once:
        read_books(postgres_database, [wrong])

    assert (
        str(told.value)
        == str(told_once.value)
        == 'books.documents cannot be read: column "nonsense" does not exist; correct its query'
    )


def test_a_column_that_is_not_given_is_told_from_one_that_is_empty(postgres_database: Database, tmp_path: Path) -> None:
    books = read_books(postgres_database, [BooksQuery(table="orders", sql="SELECT 'o1' AS id, NULL::text AS status")])

    folder = RunFolder.make(tmp_path)
    folder.write_books(books)
    for found in (books, folder.read_books()):
        assert [name for name in ("id", "status", "total") if found.gives("orders", name)] == ["id", "status"]
        assert found.table("orders").select("id", "status", "total").rows() == [("o1", None, None)]
        assert not found.gives("payments", "status")


@pytest.mark.parametrize("documents", [[], [{"name": "o1"}]])
def test_what_a_pipeline_projects_is_given_even_if_no_document_has_it(
    mongo_database: Database, documents: list[dict[str, str]]
) -> None:
    with pymongo.MongoClient[dict[str, str]](mongo_database.url) as client:
        database = client[mongo_database.name]
        database.create_collection("shop")
        if documents:
            database.shop.insert_many(documents)
    pipeline = [{"$project": {"_id": 0, "id": "$name", "status": 1}}]

    books = read_books(mongo_database, [BooksQuery(table="orders", collection="shop", pipeline=pipeline)])

    assert [name for name in ("id", "status", "total") if books.gives("orders", name)] == ["id", "status"]
    assert books.table("orders").height == len(documents)
