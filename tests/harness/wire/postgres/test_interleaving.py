"""Two unmodified clients, one order after another, decided from outside; and who waits for whom, asked of the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from harness.stores import Database
from harness.wire.base import (
    ConnectionClosed,
    ConnectionOpened,
    Fate,
    StepArrived,
    StepDone,
    WireProxy,
)
from harness.wire.postgres.blocking import blocked_pids, strangers, terminate_backend, waits
from tests.harness.wire.watching import PATIENCE, event_of, running


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


class Order:
    """Lets named clients go one step at a time. A client's connection is known by its application name."""

    def __init__(self, proxy: WireProxy) -> None:
        self._proxy = proxy
        self._names: dict[int, str] = {}
        self._held: dict[str, StepArrived] = {}
        self._ended: dict[str, StepDone] = {}
        self.pids: dict[str, int] = {}

    def _take(self) -> None:
        event = self._proxy.next_event(PATIENCE)
        assert event is not None, "nothing happened"
        if isinstance(event, ConnectionOpened):
            self._names[event.connection] = event.application_name
            self.pids[event.application_name] = event.backend
        elif isinstance(event, StepArrived):
            self._held[self._names[event.step.connection]] = event
        elif isinstance(event, StepDone):
            self._ended[self._names[event.step.connection]] = event

    def gather(self, *names: str) -> None:
        """Wait until each of these is held."""
        while not set(names) <= self._held.keys():
            self._take()

    def go(self, name: str) -> None:
        """Release a client's held step without waiting for its end."""
        self.gather(name)
        self._proxy.decide(self._held.pop(name).step)

    def ended(self, name: str) -> StepDone:
        while name not in self._ended:
            self._take()
        return self._ended.pop(name)

    def step(self, name: str) -> StepDone:
        self.go(name)
        return self.ended(name)


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
        assert waits(control, [b]) == {b: "active, waits for Lock transactionid"}
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
