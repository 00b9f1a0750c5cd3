"""Faults on a real PostgreSQL with an unmodified driver: what the store keeps, and what the client is told."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from harness.stores import Database
from harness.wire.base import ConnectionClosed, Decision, Fate, Status, StepDone, WireProxy
from harness.wire.opening import open_proxy
from tests.harness.wire.watching import Watch, event_of, running


@pytest.fixture
def control(postgres_database: Database) -> Iterator[psycopg.Connection[tuple[int]]]:
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE payments (id text PRIMARY KEY, amount int)")
        connection.execute("SET lock_timeout = '5s'")
        yield connection


def pay(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO payments VALUES ('p', 100)")


def paid(control: psycopg.Connection[tuple[int]]) -> int:
    row = control.execute("SELECT count(*) FROM payments").fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    ("decision", "kept", "fate", "told"),
    [
        (Decision.RELEASE, 1, Fate.ANSWERED, None),
        (Decision.LOSE_REQUEST, 0, Fate.REQUEST_LOST, "server closed the connection unexpectedly"),
        (Decision.LOSE_REPLY, 1, Fate.REPLY_LOST, "server closed the connection unexpectedly"),
        (Decision.KILL_CLIENT, 0, Fate.CLIENT_KILLED, "server closed the connection unexpectedly"),
        (Decision.KILL_BACKEND_FIRST, 0, Fate.BACKEND_KILLED, "terminating connection due to administrator command"),
    ],
)
def test_a_fault_at_commit_is_kept_or_lost_as_it_says(
    postgres_proxy: WireProxy,
    control: psycopg.Connection[tuple[int]],
    decision: Decision,
    kept: int,
    fate: Fate,
    told: str | None,
) -> None:
    watch = Watch(postgres_proxy, {"COMMIT": decision})
    if told is None:
        pay(postgres_proxy.url)
    else:
        with pytest.raises(psycopg.OperationalError, match=told):
            pay(postgres_proxy.url)
    watch.wait_for(ConnectionClosed)
    assert paid(control) == kept
    assert watch.ends()[-1].fate is fate


def test_a_backend_killed_under_way_tells_the_client_nothing_certain(
    postgres_proxy: WireProxy, control: psycopg.Connection[tuple[int]]
) -> None:
    watch = Watch(postgres_proxy, {"COMMIT": Decision.KILL_BACKEND})
    with pytest.raises(psycopg.OperationalError, match="server closed the connection unexpectedly"):
        pay(postgres_proxy.url)
    watch.wait_for(ConnectionClosed)
    ended = watch.ends()[-1]
    assert ended.fate is Fate.BACKEND_KILLED
    assert paid(control) == (1 if ended.result.tag == "COMMIT" else paid(control))


def test_a_naive_retry_after_a_lost_reply_pays_twice_and_a_keyed_one_does_not(
    postgres_proxy: WireProxy, control: psycopg.Connection[tuple[int]]
) -> None:
    control.execute("CREATE TABLE ledger (token text, amount int)")

    def pay_with_retry(statement: str) -> None:
        for _ in range(2):
            try:
                with psycopg.connect(postgres_proxy.url) as connection:
                    connection.execute(statement)
                return
            except psycopg.OperationalError:
                continue

    Watch(postgres_proxy, {"COMMIT": Decision.LOSE_REPLY})
    pay_with_retry("INSERT INTO ledger VALUES ('t1', 100)")
    assert control.execute("SELECT count(*) FROM ledger").fetchone() == (2,)
    Watch(postgres_proxy, {"COMMIT": Decision.LOSE_REPLY})
    pay_with_retry("INSERT INTO payments VALUES ('p', 100) ON CONFLICT (id) DO NOTHING")
    assert paid(control) == 1


def test_a_lost_request_releases_its_locks_by_the_time_it_is_closed(
    postgres_proxy: WireProxy, control: psycopg.Connection[tuple[int]]
) -> None:
    control.execute("INSERT INTO payments VALUES ('p', 1)")
    watch = Watch(postgres_proxy, {"COMMIT": Decision.LOSE_REQUEST})

    def change() -> None:
        with psycopg.connect(postgres_proxy.url) as connection:
            connection.execute("UPDATE payments SET amount = 2")

    with pytest.raises(psycopg.OperationalError):
        change()
    watch.wait_for(ConnectionClosed)
    control.execute("SELECT amount FROM payments FOR UPDATE NOWAIT")


def test_a_copy_whose_reply_is_lost_is_kept(postgres_proxy: WireProxy, control: psycopg.Connection[tuple[int]]) -> None:
    watch = Watch(postgres_proxy, {"COPY": Decision.LOSE_REPLY})

    def copy() -> None:
        with (
            psycopg.connect(postgres_proxy.url, autocommit=True) as connection,
            connection.cursor().copy("COPY payments FROM STDIN") as stream,
        ):
            stream.write_row(("p", 5))

    with pytest.raises(psycopg.OperationalError):
        copy()
    watch.wait_for(ConnectionClosed)
    assert (paid(control), watch.ends()[-1].fate) == (1, Fate.REPLY_LOST)


def test_a_held_step_that_nobody_decides_on_is_given_up(
    postgres_database: Database, control: psycopg.Connection[tuple[int]]
) -> None:
    proxy = open_proxy("postgres", postgres_database.url, hold_limit=0.2)
    try:
        proxy.control()
        with running(lambda: pay(proxy.url)) as raised:
            ended = event_of(proxy, StepDone)
        assert isinstance(raised[0], psycopg.OperationalError)
        assert (ended.fate, ended.status, ended.step.text) == (Fate.HOLD_EXPIRED, Status.IDLE, "BEGIN")
        assert paid(control) == 0
    finally:
        proxy.close()
