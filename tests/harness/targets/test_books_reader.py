"""Reading the books of a target."""

from __future__ import annotations

import psycopg
import pytest

from harness.model import UsageError
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
