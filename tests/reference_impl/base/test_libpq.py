"""Statements straight through libpq: values and rows as the driver converts them, errors as SQLAlchemy raises them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from harness.stores import Database
from reference_impl.base.postgres import Boundaries, PostgresSession, Transaction, sqlstate, violated


def nothing(point: str) -> None:
    """Pass a named point."""


@pytest.fixture
def session(postgres_database: Database) -> Iterator[PostgresSession]:
    opened = PostgresSession(postgres_database.url, Boundaries(tries=1))
    opened.run(lambda tx: tx.change("CREATE TABLE things (id int CONSTRAINT one UNIQUE, name text)"), nothing)
    yield opened
    opened.close()


def test_values_go_in_by_name_and_come_out_by_column(session: PostgresSession) -> None:
    moment = datetime(2026, 12, 31, 12, tzinfo=UTC)

    def work(tx: Transaction) -> Any:
        return tx.row(
            "SELECT :b::text AS text, :a::bigint + :a::bigint AS twice, :at::timestamptz AS moment, 1.50::numeric AS money,"
            " '{\"x\": [1]}'::jsonb AS json, ARRAY['p', 'q'] AS several, NULL AS nothing",
            a=21,
            b="it's",
            at=moment,
        )

    row, _ = session.run(work, nothing)
    assert row._mapping == {
        "text": "it's",
        "twice": 42,
        "moment": moment,
        "money": Decimal("1.50"),
        "json": {"x": [1]},
        "several": ["p", "q"],
        "nothing": None,
    }


def test_a_statement_means_the_same_before_and_after_it_is_prepared(session: PostgresSession) -> None:
    def one(n: int) -> int:
        return session.run(lambda tx: tx.change("INSERT INTO things VALUES (:id, :name)", id=n, name=f"thing {n}"), nothing)[0]

    assert [one(n) for n in (1, 2, 3, 4, 5, 6, 70_000, 7)] == [1] * 8  # 70,000 is of another type than 7
    kept = session.run(lambda tx: tx.rows("SELECT id FROM things ORDER BY id"), nothing)[0]
    assert [row.id for row in kept] == [1, 2, 3, 4, 5, 6, 7, 70_000]
    prepared = session.run(
        lambda tx: tx.value("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'INSERT%'"), nothing
    )
    assert prepared[0] == 1


def test_a_refused_statement_says_which_index_and_undoes_its_transaction(session: PostgresSession) -> None:
    def twice(tx: Transaction) -> None:
        for _ in range(2):
            tx.change("INSERT INTO things VALUES (1, 'a')")

    with pytest.raises(IntegrityError) as raised:
        session.run(twice, nothing)
    assert (sqlstate(raised.value), violated(raised.value)) == ("23505", "one")
    assert session.run(lambda tx: tx.value("SELECT count(*) FROM things"), nothing)[0] == 0


def test_what_is_asked_of_a_cut_line_fails_without_a_state(session: PostgresSession) -> None:
    session.vanish()
    with pytest.raises(DBAPIError) as raised:
        session.run(lambda tx: tx.value("SELECT 1"), nothing)
    assert sqlstate(raised.value) is None
    assert raised.value.connection_invalidated


def test_without_a_transaction_every_statement_stands_alone(postgres_database: Database) -> None:
    session = PostgresSession(postgres_database.url, Boundaries(transaction=False))

    def broken(tx: Transaction) -> None:
        tx.change("CREATE TABLE kept (id int)")
        tx.change("INSERT INTO missing VALUES (1)")

    with pytest.raises(DBAPIError):
        session.run(broken, nothing)
    assert session.run(lambda tx: tx.value("SELECT count(*) FROM kept"), nothing)[0] == 0
    with pytest.raises(DBAPIError):
        session.in_transaction(lambda tx: (tx.change("INSERT INTO kept VALUES (1)"), broken(tx)), nothing)
    assert session.run(lambda tx: tx.value("SELECT count(*) FROM kept"), nothing)[0] == 0
    session.in_transaction(lambda tx: tx.change("INSERT INTO kept VALUES (2)"), nothing)
    assert session.run(lambda tx: tx.value("SELECT count(*) FROM kept"), nothing)[0] == 1
    session.close()
