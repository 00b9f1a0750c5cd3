"""Two unmodified clients, one order after another, decided from outside; and who waits for whom, asked of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from harness.stores import Database
from harness.wire.base import (
    ConnectionClosed,
    Fate,
    WireProxy,
)
from harness.wire.postgres.blocking import terminate_backend
from tests.harness.wire.watching import Order, event_of, running


@pytest.fixture
def control(postgres_database: Database) -> Iterator[psycopg.Connection[tuple[int]]]:
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE invoices (number int)")
        connection.execute("CREATE TABLE counters (id text PRIMARY KEY, n int)")
        connection.execute("INSERT INTO counters VALUES ('a', 0)")
        yield connection


def count_plus_one(url: str, name: str) -> Callable[[], None]:
    def work() -> None:
        with psycopg.connect(url, application_name=name) as connection:
            row = connection.execute("SELECT count(*) FROM invoices").fetchone()
            assert row is not None
            connection.execute("INSERT INTO invoices VALUES (%s)", (row[0] + 1,))

    return work


def take_number(url: str, name: str) -> Callable[[], None]:
    def work() -> None:
        with psycopg.connect(url, application_name=name) as connection:
            connection.execute("SELECT n FROM counters WHERE id = 'a' FOR UPDATE")
            connection.execute("UPDATE counters SET n = n + 1 WHERE id = 'a'")

    return work


@pytest.mark.parametrize(
    ("order", "numbers"),
    [
        ("aaaabbbb", [1, 2]),
        ("aabbaabb", [1, 1]),
        ("abababab", [1, 1]),
        ("baaaabbb", [1, 2]),
        ("bbaaaabb", [1, 1]),
    ],
)
def test_the_order_that_is_chosen_decides_whether_a_number_is_given_twice(
    postgres_proxy: WireProxy, control: psycopg.Connection[tuple[int]], order: str, numbers: list[int]
) -> None:
    postgres_proxy.control()
    played = Order(postgres_proxy)
    with running(count_plus_one(postgres_proxy.url, "a"), count_plus_one(postgres_proxy.url, "b")) as raised:
        played.gather("a", "b")
        for name in order:
            assert played.step(name).fate is Fate.ANSWERED
    assert raised == [None, None]
    assert [n for (n,) in control.execute("SELECT number FROM invoices ORDER BY number")] == numbers


def test_a_backend_that_dies_by_itself_breaks_its_held_step(
    postgres_proxy: WireProxy, control: psycopg.Connection[tuple[int]]
) -> None:
    postgres_proxy.control()
    played = Order(postgres_proxy)
    with running(take_number(postgres_proxy.url, "a")) as raised:
        played.gather("a")
        terminate_backend(control, played.pids["a"])
        ended = played.ended("a")
        event_of(postgres_proxy, ConnectionClosed)
    assert (ended.fate, ended.step.text) == (Fate.BROKEN, "BEGIN")
    assert isinstance(raised[0], psycopg.OperationalError)
