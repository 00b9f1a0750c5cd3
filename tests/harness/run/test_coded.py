"""Interleavings of code that a test brings along, in any driver, against real stores."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import asyncpg
import psycopg
import pymongo
import pytest
import sqlalchemy

from harness.model import EnvironmentProblem, UsageError, Verdict
from harness.run.coded import Client, Request, Seen, explore, replay
from harness.stores.base import Database
from harness.wire.base import Event, StepArrived, WireProxy
from harness.wire.opening import open_proxy

INVOICES = ["CREATE TABLE invoices (number int)", "INSERT INTO invoices VALUES (1), (2)"]
COUNT = "SELECT count(*) + 1 FROM invoices"
STORE = "INSERT INTO invoices VALUES ({})"


def numbers_are_unique(seen: Seen) -> None:
    twice = seen.rows("SELECT number FROM invoices GROUP BY number HAVING count(*) > 1")
    assert not twice, f"number {twice[0][0]} was issued twice"


def with_psycopg(url: str, count: str = COUNT, store: str = STORE) -> int:
    with psycopg.connect(url) as connection:
        number: int = connection.execute(count).fetchone()[0]  # type: ignore[index]
        connection.execute(store.format(number))
    return number


def with_sqlalchemy(url: str) -> int:
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        number: int = connection.execute(sqlalchemy.text(COUNT)).scalar_one()
        connection.execute(sqlalchemy.text(STORE.format(number)))
    engine.dispose()
    return number


def with_asyncpg(url: str) -> int:
    async def create() -> int:
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction():
                number: int = await connection.fetchval(COUNT)
                await connection.execute(STORE.format(number))
        finally:
            await connection.close()
        return number

    return asyncio.run(create())


def with_two_round_trips(url: str) -> int:
    """The way of drivers that send a BEGIN along with the first statement, and a COMMIT with the last."""
    with psycopg.connect(url, autocommit=True) as connection, connection.pipeline() as pipeline:
        connection.execute("BEGIN")
        found = connection.execute(COUNT)
        pipeline.sync()
        number: int = found.fetchone()[0]  # type: ignore[index]
        connection.execute(STORE.format(number))
        connection.execute("COMMIT")
    return number


def with_a_commit_along(url: str) -> int:
    with psycopg.connect(url) as connection:
        number: int = connection.execute(COUNT).fetchone()[0]  # type: ignore[index]
        connection.execute(STORE.format(number) + "; COMMIT")
    return number


DRIVERS = [with_psycopg, with_sqlalchemy, with_asyncpg, with_two_round_trips, with_a_commit_along]


@pytest.mark.parametrize("create", DRIVERS)
def test_a_race_in_a_callable_is_found_in_any_driver_and_replayed(postgres_database: Database, create: Any) -> None:
    given: Any = {"database": postgres_database, "clients": [create, create], "invariants": [numbers_are_unique]}

    found = explore(**given, setup=INVOICES)

    assert (found.verdict, found.message, found.diverged) == (Verdict.FAIL, "number 3 was issued twice", 0)
    again = replay(found.token, **given, times=3)
    assert (again.again, again.times, again.diverged) == (3, 3, None)


def test_a_callable_that_locks_is_exhausted(postgres_database: Database) -> None:
    def create(url: str) -> None:
        with psycopg.connect(url) as connection:
            connection.execute("SELECT pg_advisory_xact_lock(1)")
            number = connection.execute(COUNT).fetchone()
            connection.execute(STORE.format(number[0]))  # type: ignore[index]

    seen = explore(database=postgres_database, clients=[create, create], invariants=[numbers_are_unique], setup=INVOICES)

    assert (seen.verdict, seen.coverage, seen.diverged) == (Verdict.PASS, "exhaustive", 0)
    seen.check()


def test_a_failure_is_told_with_the_interleaving_and_its_token(postgres_database: Database) -> None:
    script = ["BEGIN", "INSERT INTO invoices SELECT count(*) + 1 FROM invoices", "COMMIT"]

    found = explore(database=postgres_database, clients=[script, script], invariants=[numbers_are_unique], setup=INVOICES)

    with pytest.raises(AssertionError, match="number 3 was issued twice") as told:
        found.check()
    assert "client 1" in str(told.value)
    assert found.token in str(told.value)


def test_brute_force_over_sql_scripts_is_the_same_as_isolationtesters(postgres_database: Database) -> None:
    script = ["BEGIN", "SELECT count(*) FROM invoices", "INSERT INTO invoices SELECT count(*) + 1 FROM invoices", "COMMIT"]

    seen = explore(
        database=postgres_database,
        clients=[script, script],
        invariants=[numbers_are_unique],
        setup=INVOICES,
        reduce=False,
        stop_at_first=False,
    )

    assert (seen.explored, seen.coverage, seen.diverged) == (70, "exhaustive", 0)


def test_documents_of_mongo_race_too(mongo_database: Database) -> None:
    def create(client: Any) -> None:
        invoices = client.get_default_database(mongo_database.name).invoices
        invoices.insert_one({"number": invoices.count_documents({}) + 1})

    def unique(seen: Seen) -> bool:
        numbers = [document["number"] for document in seen.connection.invoices.find()]
        return len(numbers) == len(set(numbers))

    client = Client(connect=pymongo.MongoClient, act=create)

    found = explore(database=mongo_database, clients=[client, client], invariants=[unique])

    assert (found.verdict, found.message) == (Verdict.FAIL, "unique: it does not hold")


class Invoicing(BaseHTTPRequestHandler):
    url = ""

    def do_POST(self) -> None:
        body = json.dumps({"number": with_psycopg(self.url)}).encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


class Limits(Invoicing):
    seen: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        with pymongo.MongoClient[Any](self.url) as client:
            self.seen.append(transactions_last(client))
        self.send_response(204)
        self.end_headers()


def transactions_last(client: pymongo.MongoClient[Any]) -> int:
    found = client.admin.command("getParameter", 1, transactionLifetimeLimitSeconds=1)
    return int(found["transactionLifetimeLimitSeconds"])


@contextmanager
def running(server: ThreadingHTTPServer, url: str) -> Iterator[None]:
    Invoicing.url = url
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_services_transaction_that_is_held_lasts_though_a_server_of_ours_ends_those_of_the_dead_soon(
    mongo_store: Any, mongo_database: Database
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Limits)
    request = Request(url=f"http://127.0.0.1:{server.server_port}/")
    explore(database=mongo_database, clients=[request], invariants=[lambda _: True], service=partial(running, server))

    assert (set(Limits.seen), transactions_last(mongo_store.client)) == ({60}, 3)


def test_requests_to_a_service_race_through_its_own_connections(postgres_database: Database) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Invoicing)
    request = Request(url=f"http://127.0.0.1:{server.server_port}/invoices")

    def everybody_was_answered(seen: Seen) -> bool:
        return [status for status, _ in seen.answers] == [201, 201]

    found = explore(
        database=postgres_database,
        clients=[request, request],
        invariants=[everybody_was_answered, numbers_are_unique],
        setup=INVOICES,
        service=partial(running, server),
    )

    assert (found.verdict, found.message) == (Verdict.FAIL, "number 3 was issued twice")


def test_a_lost_reply_shows_what_a_blind_retry_does(postgres_database: Database) -> None:
    def create(url: str) -> None:
        try:
            with_psycopg(url)
        except psycopg.OperationalError:
            with_psycopg(url)

    def one_invoice_more(seen: Seen) -> bool:
        return bool(seen.value("SELECT count(*) FROM invoices") == 3)

    given: Any = {"database": postgres_database, "clients": [create], "invariants": [one_invoice_more]}

    assert explore(**given, setup=INVOICES).verdict is Verdict.PASS
    found = explore(**given, faults="lose_reply")

    assert found.verdict is Verdict.FAIL
    assert "carried out, but the connection" in found.diagram
    assert replay(found.token, **given, times=2).again == 2


def test_without_clients_or_invariants_nothing_would_be_explored(postgres_database: Database) -> None:
    with pytest.raises(UsageError, match="at least one"):
        explore(database=postgres_database, clients=[], invariants=[numbers_are_unique])
    with pytest.raises(UsageError, match="at least one"):
        explore(database=postgres_database, clients=[["SELECT 1"]], invariants=[])


def unlocked(connection: Any) -> int:
    number: int = connection.execute(COUNT).fetchone()[0]
    connection.execute(STORE.format(number))
    return number


@pytest.fixture
def soon_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stays connected past the proxy is refused sooner."""
    monkeypatch.setattr("harness.engines.explore.bypass.LEAVING", 1.0)


@pytest.mark.usefixtures("soon_refused")
def test_a_client_that_goes_past_the_proxy_is_refused_though_it_stays_connected(postgres_database: Database) -> None:
    past = Client(connect=lambda url: psycopg.connect(postgres_database.url, autocommit=True), act=unlocked)

    with pytest.raises(EnvironmentProblem, match="does not go through the proxy: backend"):
        explore(database=postgres_database, clients=[with_psycopg, past], invariants=[numbers_are_unique], setup=INVOICES)


def test_a_client_that_goes_past_the_proxy_is_refused_though_it_connects_for_a_moment_only(postgres_database: Database) -> None:
    def past(url: str) -> int:
        return with_psycopg(postgres_database.url)

    with pytest.raises(EnvironmentProblem, match="the database counts . sessions, and . went through it"):
        explore(database=postgres_database, clients=[past, past], invariants=[numbers_are_unique], setup=INVOICES)


@pytest.mark.usefixtures("soon_refused")
def test_a_client_that_goes_past_the_proxy_to_mongo_is_refused(mongo_database: Database) -> None:
    past = Client(
        connect=lambda url: pymongo.MongoClient(mongo_database.url),
        act=lambda client: client[mongo_database.name].invoices.insert_one({"number": 1}),
    )

    with pytest.raises(EnvironmentProblem, match="does not go through the proxy"):
        explore(database=mongo_database, clients=[past, past], invariants=[lambda seen: True])


def test_a_pool_smaller_than_the_number_of_clients_is_told(postgres_database: Database) -> None:
    """Client 1 waits for client 0's connection inside the application, where nothing holds it."""
    made: dict[str, sqlalchemy.Engine] = {}

    def create(url: str) -> int:
        pool = made.setdefault(
            url, sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), pool_size=1, max_overflow=0)
        )
        with pool.begin() as connection:
            number: int = connection.execute(sqlalchemy.text(COUNT)).scalar_one()
            connection.execute(sqlalchemy.text(STORE.format(number)))
        return number

    found = explore(database=postgres_database, clients=[create, create], invariants=[numbers_are_unique], setup=INVOICES)
    for pool in made.values():
        pool.dispose()

    assert (found.verdict, found.coverage, found.diverged) == (Verdict.PASS, "exhaustive", 0)
    assert list(found.waited_outside) == [1], "one connection makes the clients take turns: it hides the race"


def test_a_connection_that_a_pool_hands_on_is_not_its_last_owners_any_more(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Client 0 is not done when client 1 speaks on the connection that it gave back."""
    begun = threading.Event()

    def opened(kind: str, url: str) -> WireProxy:
        proxy = open_proxy(kind, url)
        control = proxy.control

        def watched(on_event: Any) -> None:
            def hear(event: Event) -> None:
                on_event(event)
                if isinstance(event, StepArrived) and event.step.text == "BEGIN":
                    begun.set()

            control(hear)

        monkeypatch.setattr(proxy, "control", watched)
        return proxy

    monkeypatch.setattr("harness.engines.explore.engine.open_proxy", opened)
    made: dict[str, sqlalchemy.Engine] = {}

    def create(url: str) -> None:
        pool = made.setdefault(
            url, sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), pool_size=1, max_overflow=0)
        )
        with pool.begin() as connection:
            connection.execute(sqlalchemy.text(STORE.format(3)))
            begun.clear()

    def create_and_linger(url: str) -> None:
        create(url)
        assert begun.wait(20), "nobody got the connection"

    found = explore(
        database=postgres_database, clients=[create_and_linger, create], invariants=[numbers_are_unique], setup=INVOICES
    )
    for pool in made.values():
        pool.dispose()

    script = ["BEGIN", STORE.format(3), "COMMIT"]
    assert [(step["client"], step["statement"]) for step in found.steps] == [(n, text) for n in (0, 1) for text in script]


def test_a_sequence_that_sessions_take_ahead_from_gives_the_same_numbers_in_every_run(postgres_database: Database) -> None:
    """Sessions keep what they took ahead (CACHE), wherever the sequence is put back to."""

    def create(connection: Any) -> int:
        number: int = connection.execute("INSERT INTO invoices (number) SELECT nextval('ahead') RETURNING number").fetchone()[0]
        return number

    numbers = set()

    def note(seen: Seen) -> None:
        numbers.add(tuple(sorted(seen.answers)))

    client = Client(connect=lambda url: psycopg.connect(url, autocommit=True), act=create)
    found = explore(
        database=postgres_database,
        clients=[client, client],
        invariants=[note],
        setup=["CREATE SEQUENCE ahead CACHE 10", "CREATE TABLE invoices (id bigserial PRIMARY KEY, number int UNIQUE)"],
        reduce=False,
    )

    assert (found.verdict, found.explored) == (Verdict.PASS, 2)
    assert numbers == {(1, 11)}


def test_ids_that_sessions_take_ahead_never_collide(postgres_database: Database) -> None:
    def create(connection: Any) -> None:
        for _ in range(3):
            connection.execute("INSERT INTO invoices (number) VALUES (1)")

    client = Client(connect=lambda url: psycopg.connect(url, autocommit=True), act=create)
    found = explore(
        database=postgres_database,
        clients=[client, client],
        invariants=[lambda seen: [a for a in seen.answers if a is not None] == []],
        setup=["CREATE TABLE invoices (id bigint GENERATED ALWAYS AS IDENTITY (CACHE 5) PRIMARY KEY, number int)"],
        reduce=False,
    )

    assert (found.verdict, found.explored, found.coverage, found.message) == (Verdict.PASS, 20, "exhaustive", "")


def test_clients_that_remember_the_last_run_begin_anew_for_each(postgres_database: Database) -> None:
    """A block of numbers that is taken ahead must not last from one interleaving to the next."""

    class Session:
        def __init__(self, url: str) -> None:
            self.connection = psycopg.connect(url, autocommit=True)
            self.block: list[int] = []

        def close(self) -> None:
            self.connection.close()

    def create(session: Session) -> int:
        if not session.block:
            query = "UPDATE counter SET n = n + 2 RETURNING n"
            last: int = session.connection.execute(query).fetchone()[0]  # type: ignore[index]
            session.block = [last - 1, last]
        return session.block.pop(0)

    client = Client(connect=Session, act=create)
    found = explore(
        database=postgres_database,
        clients=[client, client],
        invariants=[lambda seen: sorted(seen.answers) == [1, 3]],
        setup=["CREATE TABLE counter (n int)", "INSERT INTO counter VALUES (0)"],
        reduce=False,
    )

    assert (found.verdict, found.explored, found.diverged, found.message) == (Verdict.PASS, 2, 0, "")
