"""The service behind racegate's proxy: two requests at once, in every order that their statements can take."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import urllib3

from harness.model import Verdict
from harness.run.coded import Request, Seen, explore, replay
from harness.run.serving import listen
from harness.stores.base import Database, StoreKind
from reference_impl.service import SERVICE
from tests.reference_impl.service.running import served

WITHOUT_INDEX = {"unique_index": False}


@pytest.fixture
def line() -> Iterator[socket.socket]:
    """A port for the service: requests are written before it is started."""
    with listen(0) as found:
        yield found


def port(line: socket.socket) -> int:
    return int(line.getsockname()[1])


def asking(line: socket.socket, operation: str, arguments: dict[str, Any]) -> Request:
    """Return a client that asks the service for an operation, with a key of its own."""
    return Request(
        url=f"http://127.0.0.1:{port(line)}/{operation}", json=arguments, headers={"Idempotency-Key": secrets.token_hex(8)}
    )


def two_creates(line: socket.socket) -> list[Request]:
    return [asking(line, "create", {"company": "A", "amount": 5}) for _ in range(2)]


def behind_the_proxy(
    variant: str, database: Database, line: socket.socket, settings: dict[str, Any]
) -> Callable[[str], AbstractContextManager[Any]]:
    """Return what starts the service with its pool on the proxied URL."""
    return lambda url: served(variant, replace(database, url=url), connections=2, line=line, **settings)


def numbers_are_unique(seen: Seen) -> None:
    twice = seen.rows("SELECT text FROM documents GROUP BY text HAVING count(*) > 1")
    assert not twice, f"{twice[0][0]} was issued twice"


def both_were_done(seen: Seen) -> None:
    assert [answer[0] for answer in seen.answers] == [200, 200], str(seen.answers)


def test_count_plus_one_over_http_is_found_and_replayed(postgres_database: Database, line: socket.socket) -> None:
    """Found with one service, repeated with another one."""
    SERVICE.prepare("pg.count_plus_one", WITHOUT_INDEX, postgres_database.url)

    @contextmanager
    def start(url: str) -> Iterator[None]:
        same_port = socket.socket(fileno=os.dup(line.fileno()))
        with served("pg.count_plus_one", replace(postgres_database, url=url), connections=2, line=same_port, **WITHOUT_INDEX):
            yield

    given: dict[str, Any] = {
        "database": postgres_database,
        "clients": two_creates(line),
        "invariants": [both_were_done, numbers_are_unique],
        "service": start,
    }
    found = explore(**given)
    again = replay(found.token, **given, times=3)

    assert (found.verdict, found.message) == (Verdict.FAIL, "INV-00001 was issued twice")
    assert "SELECT count(*)" in found.diagram
    assert (again.again, again.times, again.diverged) == (3, 3, None)


def test_the_counter_row_over_http_is_exhausted_and_quiet(postgres_database: Database, line: socket.socket) -> None:
    SERVICE.prepare("pg.counter_row", WITHOUT_INDEX, postgres_database.url)

    seen = explore(
        database=postgres_database,
        clients=two_creates(line),
        invariants=[both_were_done, numbers_are_unique],
        service=behind_the_proxy("pg.counter_row", postgres_database, line, WITHOUT_INDEX),
    )

    assert (seen.verdict, seen.coverage, seen.diverged) == (Verdict.PASS, "exhaustive", 0), seen.message
    assert seen.explored >= 2


def owed(seen: Seen) -> int:
    """Return what the first term still owes, in minor units."""
    if seen.database.kind is StoreKind.POSTGRES:
        return int(seen.value("SELECT balance FROM terms WHERE id = 's1/1'"))
    return int(seen.connection.terms.find_one({"_id": "s1/1"})["balance"])


@pytest.mark.parametrize(
    ("variant", "verdict"),
    [
        ("pg.lock_without_transaction", Verdict.FAIL),
        ("pg.approve_in_one_transaction", Verdict.PASS),
        ("mongo.blind_status", Verdict.FAIL),
        ("mongo.approve_in_transaction", Verdict.PASS),
    ],
)
def test_a_double_approval_over_http_takes_its_amount_once(
    line: socket.socket, variant: str, verdict: Verdict, request: pytest.FixtureRequest
) -> None:
    database = request.getfixturevalue("postgres_database" if variant.startswith("pg.") else "mongo_database")
    with served(variant, database) as service:
        service.post("open_account", {"subject": "s1", "assessment": 1_554_000})
        service.post("submit", {"subject": "p1", "term": "s1/1", "amount": 30_000})

    def taken_once(seen: Seen) -> None:
        assert owed(seen) == 655_011 - 30_000, f"the term owes {owed(seen)}"

    found = explore(
        database=database,
        clients=[asking(line, "approve", {"subject": "p1"}) for _ in range(2)],
        invariants=[taken_once],
        service=behind_the_proxy(variant, database, line, {}),
    )

    assert found.verdict is verdict, found.message
    assert verdict is Verdict.FAIL or (found.coverage, found.diverged) == ("exhaustive", 0)


def test_what_nobody_knows_is_asked_for_again_with_the_same_key(postgres_database: Database, line: socket.socket) -> None:
    SERVICE.prepare("pg.counter_row", WITHOUT_INDEX, postgres_database.url)
    told: set[int] = set()

    def insistent(url: str) -> int:
        """Send the request again for as long as nobody knows what came of it."""
        headers = {"Idempotency-Key": "one-intent"}
        for _ in range(5):
            answer = urllib3.request(
                "POST",
                f"http://127.0.0.1:{port(line)}/create",
                json={"company": "A", "amount": 5},
                headers=headers,
                retries=False,
                timeout=60,
            )
            told.add(answer.status)
            if answer.status not in (503, 504):
                return answer.status
        return 0

    def one_document(seen: Seen) -> None:
        assert seen.answers == [200], str(seen.answers)
        assert seen.rows("SELECT text FROM documents") == [("INV-00001",)]

    seen = explore(
        database=postgres_database,
        clients=[insistent],
        invariants=[one_document],
        service=behind_the_proxy("pg.counter_row", postgres_database, line, WITHOUT_INDEX),
        faults="lose_request,lose_reply,kill_backend",
    )

    assert (seen.verdict, seen.coverage, seen.diverged) == (Verdict.PASS, "exhaustive", 0), seen.message
    assert told == {200, 504}, "a reply to a COMMIT was lost"
