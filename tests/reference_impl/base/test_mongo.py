"""A transaction on MongoDB ends as the driver's own would: a commit whose reply is lost is repeated, the work is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
import pymongo.errors
import pytest

from harness.model import Outcome
from harness.stores import Database
from harness.targets.classify import classify_error
from reference_impl.base.mongo import UNKNOWN, MongoSession
from tests.reference_impl.stepping import play

RIGHT = "mongo.approve_in_transaction"

LOST: dict[str, Any] = {"closeConnection": True}
"""The connection ends before the commit is carried out: until it is repeated, the transaction is open."""

UNCERTAIN: dict[str, Any] = {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
"""The commit is carried out, and nobody says whether a majority has it."""


@contextmanager
def commits(database: Database, times: int, how: dict[str, Any]) -> Iterator[None]:
    """Let the next commits in the database end like this."""
    with pymongo.MongoClient[Any](database.url, appName="tests") as client:
        about = {"failCommands": ["commitTransaction"], "appName": database.name, **how}
        client.admin.command("configureFailPoint", "failCommand", mode={"times": times}, data=about)
        yield
        client.admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.mark.parametrize("how", [LOST, UNCERTAIN], ids=["lost", "uncertain"])
def test_a_commit_is_repeated_until_its_reply_is_heard_and_the_work_is_not(mongo_database: Database, how: dict[str, Any]) -> None:
    session, ran = MongoSession(mongo_database.url), []
    session.database.create_collection("t")

    def work(own: Any) -> str:
        ran.append(session.database.t.insert_one({}, session=own))
        return "done"

    with commits(mongo_database, 5, how):
        assert session.transaction(work, lambda point: None) == ("done", 1)

    assert (len(ran), session.database.t.count_documents({})) == (1, 1)
    session.close()


def test_a_commit_is_not_repeated_for_ever(mongo_database: Database) -> None:
    session = MongoSession(mongo_database.url)
    session.database.create_collection("t")
    session.patience = 0.0

    with commits(mongo_database, 50, LOST), pytest.raises(pymongo.errors.AutoReconnect) as lost:
        session.transaction(lambda own: session.database.t.insert_one({}, session=own), lambda point: None)

    assert lost.value.has_error_label(UNKNOWN), "nobody knows what became of it"
    session.close()


@pytest.mark.parametrize(("point", "known"), [("work", True), ("before_commit", False)])
def test_a_client_that_was_closed_tries_no_more(mongo_database: Database, point: str, known: bool) -> None:
    session = MongoSession(mongo_database.url)
    session.database.create_collection("t")
    session.patience = 20.0
    began = time.monotonic()

    def at(reached: str) -> None:
        if reached == point:
            session.vanish()

    def work(own: Any) -> None:
        at("work")
        session.database.t.insert_one({}, session=own)

    with pytest.raises(pymongo.errors.PyMongoError) as gone:
        session.transaction(work, at)

    assert time.monotonic() - began < 15
    assert classify_error(gone.value)[0] is (Outcome.FAIL if known else Outcome.INFO)


def test_a_lost_reply_leaves_no_open_transaction_in_the_way_of_others(mongo_database: Database) -> None:
    with play(RIGHT, mongo_database) as stage:
        a, b = stage.actor(), stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_000_000)
        with commits(mongo_database, 3, LOST):
            assert a.does("submit", "A", subject="p1", term="a/1", amount=100).outcome is Outcome.OK
        b.begins("submit", "B", subject="p2", term="a/1", amount=100)
        assert not b.waits
        second = b.ends()
        assert second.failure is not None
        assert second.failure.code == "already_awaiting_approval"
