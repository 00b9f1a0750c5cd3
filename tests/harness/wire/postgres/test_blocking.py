"""Who waits for whom, and who goes past the proxy, asked of a real PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from harness.stores import Database
from harness.wire.base import WireProxy
from harness.wire.postgres.blocking import blocked_pids, strangers, waits
from tests.harness.wire.watching import PATIENCE, Order, running


@pytest.fixture
def control(postgres_database: Database) -> Iterator[psycopg.Connection[tuple[int]]]:
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE counters (id text PRIMARY KEY, n int)")
        connection.execute("INSERT INTO counters VALUES ('a', 0)")
        yield connection


def take_number(url: str, name: str) -> Callable[[], None]:
    def work() -> None:
        with psycopg.connect(url, application_name=name) as connection:
            connection.execute("SELECT n FROM counters WHERE id = 'a' FOR UPDATE")
            connection.execute("UPDATE counters SET n = n + 1 WHERE id = 'a'")

    return work


def test_a_client_in_flight_that_waits_for_a_lock_is_told_from_one_at_the_gate(
    postgres_proxy: WireProxy, control: psycopg.Connection[tuple[int]]
) -> None:
    postgres_proxy.control()
    played = Order(postgres_proxy)
    with running(take_number(postgres_proxy.url, "a"), take_number(postgres_proxy.url, "b")):
        played.gather("a", "b")
        for name in ("a", "a", "b"):
            played.step(name)
        a, b = played.pids["a"], played.pids["b"]
        assert blocked_pids(control, [a, b]) == {}
        played.go("b")
        limit = time.monotonic() + PATIENCE
        while not (blocked := blocked_pids(control, [a, b])) and time.monotonic() < limit:
            pass  # the question is the wait
        assert blocked == {b: [a]}
        while (said := waits(control, [b])) != {b: "active, waits for Lock transactionid"} and time.monotonic() < limit:
            pass  # whoever queues for a lock is blocked already, and says so only when it goes to sleep
        assert said == {b: "active, waits for Lock transactionid"}
        played.step("a")
        played.step("a")
        assert played.ended("b").result.first_rows == (("1",),)
        assert blocked_pids(control, [a, b]) == {}
        played.step("b")
        played.step("b")
    assert control.execute("SELECT n FROM counters").fetchone() == (2,)


def test_only_our_own_count_as_blockers(control: psycopg.Connection[tuple[int]]) -> None:
    assert blocked_pids(control, []) == {}
    assert blocked_pids(control, [1, 2]) == {}


def test_traffic_past_the_proxy_is_seen(
    postgres_proxy: WireProxy, postgres_database: Database, control: psycopg.Connection[tuple[int]]
) -> None:
    with psycopg.connect(postgres_proxy.url) as ours:
        pids = [ours.info.backend_pid]
        assert strangers(control, pids) == []
        with psycopg.connect(postgres_database.url, application_name="past") as other:
            assert strangers(control, pids) == [f"backend {other.info.backend_pid} of past (127.0.0.1)"]


def test_a_deferrable_transaction_that_waits_for_a_safe_snapshot_counts_as_waiting(
    postgres_proxy: WireProxy, control: psycopg.Connection[tuple[int]]
) -> None:
    def write() -> None:
        with psycopg.connect(postgres_proxy.url, application_name="w") as connection:
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            connection.execute("SELECT n FROM counters")
            connection.execute("UPDATE counters SET n = n + 1")

    def report() -> None:
        with psycopg.connect(postgres_proxy.url, application_name="r") as connection:
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            connection.read_only = True
            connection.deferrable = True
            connection.execute("SELECT n FROM counters")

    postgres_proxy.control()
    played = Order(postgres_proxy)
    with running(write, report):
        played.gather("w", "r")
        for name in "wwwr":
            played.step(name)
        played.go("r")
        w, r = played.pids["w"], played.pids["r"]
        limit = time.monotonic() + PATIENCE
        while not (blocked := blocked_pids(control, [w, r])) and time.monotonic() < limit:
            pass  # the question is the wait
        assert blocked == {r: [w]}
        played.step("w")
        played.ended("r")
        played.step("r")
