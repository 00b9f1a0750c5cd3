"""What a failover takes back was neither published nor given as a reason: payments on three nodes, the primary killed."""

from __future__ import annotations

import threading
import time
from typing import Any

import pymongo
import pytest
from pymongo.client_session import ClientSession

from harness.model import Outcome
from harness.stores import Database
from tests.reference_impl.stepping import Play, play

RIGHT = "mongo.approve_in_transaction"


def one_waits(stage: Play) -> None:
    """Open an account with one payment that awaits approval, and publish what there is to tell."""
    opening = stage.actor()
    opening.does("open_account", "open", subject="a", assessment=1_000_000)
    opening.does("submit", "submit", subject="p1", term="a/1", amount=100)
    assert opening.does("deliver", "d0").outcome is Outcome.OK


class Client:
    """Calls one operation in a thread of its own: while nothing is replicated, a commit waits for its majority."""

    def __init__(self, stage: Play) -> None:
        self.connection = stage.actor().connection
        self.connection.call("account", {"subject": "a"}, "look", lambda point: None)  # connects before anything is held
        self.reached = threading.Event()
        self._said: list[Any] = []
        self._thread = threading.Thread()

    def begins(self, f: str, token: str, *, until: str, **arguments: Any) -> None:
        """Start the operation; return when it has come to the point and gone on, or has ended."""

        def call() -> None:
            try:
                self._said.append(
                    self.connection.call(f, arguments, token, lambda point: self.reached.set() if point == until else None)
                )
            except Exception as e:  # noqa: BLE001 - every failure is an answer
                self._said.append(e)

        self._thread = threading.Thread(target=call, daemon=True)
        self._thread.start()
        while self._thread.is_alive() and not self.reached.wait(0.01):
            pass

    def ends(self) -> Any:
        """Wait for the answer, or the error, and return it."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self._said[0]


def approval_that_only_the_primary_has(nodes: Any, stage: Play, approver: Client) -> None:
    """Stop replication, approve, and wait until the commit can be seen."""
    nodes.hold_replication()
    approver.begins("approve", "k", until="before_commit", subject="p1")
    can_be_seen(stage, "payments", {"_id": "p1", "status": "paid"})


def can_be_seen(stage: Play, collection: str, query: dict[str, Any]) -> None:
    """Wait until a commit can be seen."""
    limit = time.monotonic() + 20
    with pymongo.MongoClient[Any](stage.database.url) as client:
        while client.get_default_database()[collection].find_one(query) is None:
            assert time.monotonic() < limit
            time.sleep(0.01)  # between two looks: nobody can be told of a commit that is not replicated


def fail_over(nodes: Any, gone: Client) -> None:
    """Kill the primary; the client that vanishes before does not send its approval again."""
    gone.connection.vanish()
    nodes.kill_primary()
    nodes.release_replication()
    nodes.primary()
    assert isinstance(gone.ends(), Exception)


def test_an_approval_that_a_failover_takes_back_is_published_once_when_it_is_made_again(
    nodes: Any, replicated_database: Database
) -> None:
    with play(RIGHT, replicated_database) as stage:
        one_waits(stage)
        approver, publisher = Client(stage), Client(stage)
        approval_that_only_the_primary_has(nodes, stage, approver)
        publisher.begins("deliver", "d1", until="its end")
        fail_over(nodes, approver)
        assert (publisher.ends()["delivered"], publisher.ends()["left"]) == (0, 0)

        again = stage.actor()
        assert again.does("approve", "k", subject="p1").outcome is Outcome.OK
        assert again.does("deliver", "d2").outcome is Outcome.OK
        books = stage.books()
        assert sorted(books.table("deliveries")["event"]) == sorted(books.table("audit")["id"])


def test_nothing_that_a_failover_takes_back_is_given_as_a_reason(nodes: Any, replicated_database: Database) -> None:
    with play(RIGHT, replicated_database) as stage:
        one_waits(stage)
        approver, rejecter = Client(stage), Client(stage)
        approval_that_only_the_primary_has(nodes, stage, approver)
        rejecter.begins("reject", "r", until="before_commit", subject="p1", reason="no")
        fail_over(nodes, approver)
        answer = rejecter.ends()
        assert not isinstance(answer, Exception), "it was not paid when this was said"
        assert answer["status"] == "rejected"
        assert stage.books().table("payments")["status"].to_list() == ["rejected"]


def test_nothing_that_a_failover_takes_back_is_said_to_be_there_already(
    nodes: Any, replicated_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with play(RIGHT, replicated_database) as stage:
        one_waits(stage)
        first, second = Client(stage), Client(stage)
        nodes.hold_replication()
        first.begins("open_account", "first", until="before_commit", subject="b", assessment=500)
        can_be_seen(stage, "accounts", {"_id": "b"})

        abort = ClientSession.abort_transaction

        def abort_transaction(session: ClientSession) -> None:  # the index has said no; what it means is looked up after this
            second.reached.set()
            abort(session)

        monkeypatch.setattr(ClientSession, "abort_transaction", abort_transaction)
        second.begins("open_account", "second", until="before_commit", subject="b", assessment=700)
        fail_over(nodes, first)
        answer = second.ends()
        assert not isinstance(answer, Exception), "there was no account when this was said"
        assert answer["amount"] == 700
        assert answer["attempts"] > 1, "it ran into the first one's account"
        assert stage.books().table("terms").filter(account="b")["assessment"].to_list() == [700] * 5
