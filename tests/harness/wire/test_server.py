"""The proxy as a running thing: modes, threads, its end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import psycopg
import pytest

from harness.model.errors import UsageError
from harness.stores import Database
from harness.wire.base import ConnectionClosed, ConnectionOpened, Event, Fate, StepArrived, StepDone, WireProxy
from harness.wire.opening import open_proxy
from tests.harness.wire.watching import PATIENCE, Watch, event_of, running


def asking(url: str) -> Callable[[], None]:
    def ask() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT count(*) FROM pg_class, pg_locks")

    return ask


def test_a_fresh_proxy_forwards_everything_and_reports_nothing(postgres_proxy: WireProxy) -> None:
    asking(postgres_proxy.url)()
    assert postgres_proxy.next_event(timeout=0) is None
    assert postgres_proxy.tunnelled() == []


def test_the_url_shown_has_no_password(postgres_proxy: WireProxy, postgres_database: Database) -> None:
    password = postgres_database.url.split(":")[2].split("@")[0]
    assert password in postgres_proxy.url
    assert password not in postgres_proxy.shown
    assert postgres_proxy.shown.startswith("postgresql://racegate@127.0.0.1:")


def test_it_listens_on_loopback_alone(postgres_proxy: WireProxy) -> None:
    port = int(postgres_proxy.shown.rpartition(":")[2].partition("/")[0])
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this machine's name has no address but loopback")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((own, port), timeout=5)


def test_the_queue_gives_events_in_order_and_takes_decisions_from_another_thread(postgres_proxy: WireProxy) -> None:
    postgres_proxy.control()
    with running(asking(postgres_proxy.url)):
        opened = event_of(postgres_proxy, ConnectionOpened)
        assert postgres_proxy.open_connections() == {opened.connection: opened}
        step = event_of(postgres_proxy, StepArrived).step
        postgres_proxy.decide(step)
        assert event_of(postgres_proxy, StepDone).fate is Fate.ANSWERED
        event_of(postgres_proxy, ConnectionClosed)
    postgres_proxy.decide(step)  # too late, and from outside: nothing to do
    assert postgres_proxy.open_connections() == {}


def test_in_the_loop_a_step_is_decided_once(postgres_proxy: WireProxy) -> None:
    refused: list[str] = []

    def decide_twice(event: Event) -> None:
        if isinstance(event, StepArrived):
            postgres_proxy.decide(event.step)
            try:
                postgres_proxy.decide(event.step)
            except UsageError as e:
                refused.append(str(e))

    postgres_proxy.control(decide_twice)
    asking(postgres_proxy.url)()
    assert refused == ["step 0 of connection 1 is not held; decide once on each StepArrived"]


def test_events_are_never_handed_out_within_one_another(postgres_proxy: WireProxy) -> None:
    inside = threading.Lock()
    overlapping: list[Event] = []

    def take(event: Event) -> None:
        if not inside.acquire(blocking=False):
            overlapping.append(event)
            return
        if isinstance(event, StepArrived):
            postgres_proxy.decide(event.step)
            postgres_proxy.drop_connection(event.step.connection + 1000)
        inside.release()

    postgres_proxy.control(take)
    asking(postgres_proxy.url)()
    assert overlapping == []


def test_an_error_of_whoever_decides_lets_everything_go_and_is_raised_outside(postgres_proxy: WireProxy) -> None:
    def fail(event: Event) -> None:
        if isinstance(event, StepArrived):
            raise ZeroDivisionError("a bug in the scheduler")

    postgres_proxy.control(fail)
    asking(postgres_proxy.url)()
    with pytest.raises(ZeroDivisionError, match="a bug in the scheduler"):
        postgres_proxy.open_connections()
    asking(postgres_proxy.url)()


def test_going_back_to_passthrough_lets_go_what_is_held(postgres_proxy: WireProxy) -> None:
    postgres_proxy.control()
    with running(asking(postgres_proxy.url)) as raised:
        event_of(postgres_proxy, StepArrived)
        postgres_proxy.passthrough()
    assert raised == [None]


def test_a_dropped_connection_is_closed_on_both_sides(postgres_proxy: WireProxy) -> None:
    postgres_proxy.control()
    with running(asking(postgres_proxy.url)) as raised:
        step = event_of(postgres_proxy, StepArrived).step
        postgres_proxy.drop_connection(step.connection)
        assert event_of(postgres_proxy, StepDone).fate is Fate.ABANDONED
        event_of(postgres_proxy, ConnectionClosed)
    assert isinstance(raised[0], psycopg.OperationalError)


def test_a_timer_in_the_loop_runs_and_can_be_called_off(postgres_proxy: WireProxy) -> None:
    rang = threading.Event()
    wrong = threading.Event()

    def wind_up() -> None:
        postgres_proxy.call_later(0.01, rang.set)
        postgres_proxy.call_later(0.0, wrong.set)()

    postgres_proxy.call_in_loop(wind_up)
    assert rang.wait(PATIENCE)
    assert not wrong.is_set()


def test_what_is_called_in_the_loop_returns_or_raises_to_the_caller(postgres_proxy: WireProxy) -> None:
    name = postgres_proxy.call_in_loop(lambda: threading.current_thread().name)
    assert name == "racegate proxy"
    with pytest.raises(ZeroDivisionError):
        postgres_proxy.call_in_loop(lambda: 1 // 0)


def test_a_store_that_is_not_there_closes_the_client() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        proxy = open_proxy("postgres", f"postgresql://u@127.0.0.1:{taken.getsockname()[1]}/x")
        with pytest.raises(psycopg.OperationalError, match="server closed the connection unexpectedly"):
            psycopg.connect(proxy.url, connect_timeout=10)
        proxy.close()


def test_closing_ends_its_thread_and_its_connections_and_may_be_done_twice(postgres_database: Database) -> None:
    proxy = open_proxy("postgres", postgres_database.url)
    before = {t.name for t in threading.enumerate()}
    connection = psycopg.connect(proxy.url, autocommit=True)
    proxy.close()
    proxy.close()
    assert "racegate proxy" in before
    assert "racegate proxy" not in {t.name for t in threading.enumerate()}
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    with pytest.raises(UsageError, match="the proxy is closed; open another"):
        proxy.next_event(0)


def test_bytes_that_are_no_protocol_are_passed_on_and_said_so(postgres_proxy: WireProxy) -> None:
    watch = Watch(postgres_proxy)
    port = int(postgres_proxy.shown.rpartition(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while client.recv(4096):
            pass
    assert [t.reason for t in postgres_proxy.tunnelled()] == ["no start-up message of 1195725856 bytes"]
    assert len(watch.events) == 1
