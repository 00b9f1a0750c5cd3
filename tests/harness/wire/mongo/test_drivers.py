"""Unmodified pymongo through the proxy: what its habits become as steps, and what faults leave behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pymongo
import pymongo.errors
import pytest
from pymongo import ReturnDocument
from pymongo.cursor import CursorType
from pymongo.write_concern import WriteConcern

from harness.stores import Database
from harness.wire.base import ConnectionOpened, Decision, Fate, Status, StepKind, WireProxy
from tests.harness.wire.watching import PATIENCE, Watch

Client = pymongo.MongoClient[dict[str, Any]]


@pytest.fixture
def control(mongo_database: Database) -> Iterator[Client]:
    with Client(mongo_database.url) as client:
        client.get_default_database().counters.insert_many([{"_id": "a", "n": 0}, {"_id": "b", "n": 0}])
        yield client


@pytest.fixture
def client(mongo_proxy: WireProxy, control: Client) -> Iterator[Client]:
    with Client(mongo_proxy.url) as client:
        yield client


def as_a_set(url: str) -> str:
    """Return the URL as it is written for a replica set: the driver then believes what the server tells of itself."""
    return url.replace("directConnection=true", "replicaSet=racegate")


def test_commands_are_steps_and_handshakes_are_not(mongo_proxy: WireProxy, client: Client) -> None:
    watch = Watch(mongo_proxy)
    counters = client.get_default_database().counters
    assert counters.find_one({"_id": "a"}) == {"_id": "a", "n": 0}
    counters.update_one({"_id": "a"}, {"$inc": {"n": 5}})
    found = counters.find_one_and_update({"_id": "a"}, {"$set": {"n": 7}}, return_document=ReturnDocument.AFTER)
    assert found == {"_id": "a", "n": 7}
    counters.insert_many([{"_id": i, "n": i} for i in range(3)])
    assert counters.count_documents({}) == 5
    client.admin.command("ping")
    assert [(s.fingerprint, s.kind) for s in watch.steps()] == [
        ("find counters filter: {_id: ?} limit: ? singleBatch: ?", StepKind.READ),
        ("update counters updates: [{q: {_id: ?}, u: {$inc: {n: ?}}, multi: ?, upsert: ?}]", StepKind.WRITE),
        ("findAndModify counters query: {_id: ?} new: true update: {$set: {n: ?}}", StepKind.WRITE),
        ("insert counters documents: ?", StepKind.WRITE),
        ("aggregate counters pipeline: [{$match: {}}, {$group: {_id: ?, n: {$sum: ?}}}] cursor: ?", StepKind.READ),
    ]
    assert len({s.session for s in watch.steps()}) == 1
    assert [e.result.tag for e in watch.ends()][1] == "n: 1, nModified: 1"
    assert watch.ends()[2].result.first_rows == (("{_id: 'a', n: 7}",),)
    (opened,) = watch.of(ConnectionOpened)
    assert opened.application_name.startswith("racegate_")


def test_a_driver_that_discovers_the_set_stays_at_the_proxy(mongo_proxy: WireProxy, control: Client) -> None:
    watch = Watch(mongo_proxy)
    with Client(as_a_set(mongo_proxy.url)) as client:
        client.get_default_database().counters.find_one({"_id": "a"})
        assert client.nodes == {("127.0.0.1", int(mongo_proxy.shown.split(":")[2].split("/")[0]))}
        assert client.primary in client.nodes
        assert client.topology_description.replica_set_name == "racegate"
    assert [s.kind for s in watch.steps()] == [StepKind.READ]


def test_the_monitor_polls_and_never_waits_for_a_stream(mongo_proxy: WireProxy, control: Client) -> None:
    class Heartbeats(pymongo.monitoring.ServerHeartbeatListener):
        beats: list[bool] = []  # noqa: RUF012 - one test

        def started(self, event: Any) -> None: ...

        def failed(self, event: Any) -> None:
            raise AssertionError(event)

        def succeeded(self, event: Any) -> None:
            self.beats.append(event.awaited)

    listener = Heartbeats()
    watch = Watch(mongo_proxy)
    with Client(mongo_proxy.url, heartbeatFrequencyMS=500, event_listeners=[listener]) as client:
        limit = time.monotonic() + PATIENCE
        while len(listener.beats) < 3 and time.monotonic() < limit:
            client.get_default_database().counters.find_one({"_id": "a"})
    assert listener.beats[:3] == [False, False, False]
    assert {s.kind for s in watch.steps()} == {StepKind.READ}


def test_a_transaction_is_one_session_from_first_command_to_commit(mongo_proxy: WireProxy, client: Client) -> None:
    watch = Watch(mongo_proxy)
    counters = client.get_default_database().counters

    def work(session: Any) -> None:
        counters.find_one({"_id": "a"}, session=session)
        counters.update_one({"_id": "a"}, {"$inc": {"n": 1}}, session=session)

    with client.start_session() as session:
        session.with_transaction(work)
    assert [(s.kind, s.status) for s in watch.steps()] == [
        (StepKind.READ, Status.IDLE),
        (StepKind.WRITE, Status.IN_TRANSACTION),
        (StepKind.COMMIT, Status.IN_TRANSACTION),
    ]
    assert [e.status for e in watch.ends()] == [Status.IN_TRANSACTION, Status.IN_TRANSACTION, Status.IDLE]
    assert len({s.session for s in watch.steps()}) == 1


def test_further_batches_are_steps_inside_a_transaction_alone(mongo_proxy: WireProxy, client: Client) -> None:
    rows = client.get_default_database().rows
    rows.insert_many([{"_id": i} for i in range(10)])
    watch = Watch(mongo_proxy)
    assert len(list(rows.find({}, batch_size=4))) == 10
    assert [s.text.split()[0] for s in watch.steps()] == ["find"]
    with client.start_session() as session, session.start_transaction():
        assert len(list(rows.find({}, batch_size=4, session=session))) == 10
    assert [s.text.split()[0] for s in watch.steps()][1:] == ["find", "getMore", "getMore", "commitTransaction"]


def test_exhaust_cursors_stream_through(mongo_proxy: WireProxy, client: Client) -> None:
    rows = client.get_default_database().rows
    rows.insert_many([{"_id": i, "x": "y" * 1000} for i in range(2000)])
    watch = Watch(mongo_proxy)
    assert len(list(rows.find({}, cursor_type=CursorType.EXHAUST, batch_size=100))) == 2000
    assert watch.texts()[0].startswith("find rows")
    assert rows.count_documents({}) == 2000


def test_unacknowledged_writes_end_when_the_server_is_done(mongo_proxy: WireProxy, client: Client) -> None:
    watch = Watch(mongo_proxy)
    counters = client.get_default_database().counters
    counters.with_options(write_concern=WriteConcern(w=0)).insert_one({"_id": "w0"})
    assert counters.find_one({"_id": "w0"})
    first = watch.ends()[0]
    assert (first.step.acknowledged, first.fate) == (False, Fate.UNACKNOWLEDGED)


def test_a_comment_tags_a_step(mongo_proxy: WireProxy, client: Client) -> None:
    watch = Watch(mongo_proxy)
    list(client.get_default_database().counters.find({}, comment={"client": "2"}))
    assert watch.steps()[0].tags == {"client": "2"}


def test_compression_is_never_negotiated(mongo_proxy: WireProxy, control: Client) -> None:
    watch = Watch(mongo_proxy)
    with Client(mongo_proxy.url, compressors="zlib") as client:
        client.get_default_database().counters.insert_one({"x": "y" * 10_000})
    assert mongo_proxy.tunnelled() == []
    assert [s.text.split()[0] for s in watch.steps()] == ["insert"]


def test_a_lost_reply_is_sent_again_and_the_server_answers_from_its_record(
    mongo_proxy: WireProxy, client: Client, control: Client
) -> None:
    watch = Watch(mongo_proxy, {"findAndModify": Decision.LOSE_REPLY})
    counters = client.get_default_database().counters
    found = counters.find_one_and_update({"_id": "a"}, {"$inc": {"n": 1}}, return_document=ReturnDocument.AFTER)
    assert found == {"_id": "a", "n": 1}
    assert [(e.step.attempt, e.fate) for e in watch.ends()] == [(1, Fate.REPLY_LOST), (2, Fate.ANSWERED)]
    assert control.get_default_database().counters.find_one({"_id": "a"}) == {"_id": "a", "n": 1}


def test_without_retryable_writes_a_lost_reply_and_a_naive_retry_take_two_numbers(
    mongo_proxy: WireProxy, control: Client
) -> None:
    watch = Watch(mongo_proxy, {"findAndModify": Decision.LOSE_REPLY})
    with Client(mongo_proxy.url, retryWrites=False) as client:
        counters = client.get_default_database().counters
        with pytest.raises(pymongo.errors.AutoReconnect):
            counters.find_one_and_update({"_id": "a"}, {"$inc": {"n": 1}})
        counters.find_one_and_update({"_id": "a"}, {"$inc": {"n": 1}})
    assert control.get_default_database().counters.find_one({"_id": "a"}) == {"_id": "a", "n": 2}
    assert [s.attempt for s in watch.steps()] == [1, 1]


def test_a_lost_request_is_sent_again_and_carried_out_once(mongo_proxy: WireProxy, client: Client, control: Client) -> None:
    watch = Watch(mongo_proxy, {"update": Decision.LOSE_REQUEST})
    client.get_default_database().counters.update_one({"_id": "a"}, {"$inc": {"n": 1}})
    assert [(e.step.attempt, e.fate) for e in watch.ends()] == [(1, Fate.REQUEST_LOST), (2, Fate.ANSWERED)]
    assert control.get_default_database().counters.find_one({"_id": "a"}) == {"_id": "a", "n": 1}


def test_a_commit_whose_reply_is_lost_is_tried_again_and_kept_once(
    mongo_proxy: WireProxy, client: Client, control: Client
) -> None:
    watch = Watch(mongo_proxy, {"commitTransaction": Decision.LOSE_REPLY})
    counters = client.get_default_database().counters
    with client.start_session() as session, session.start_transaction():
        counters.update_one({"_id": "a"}, {"$inc": {"n": 1}}, session=session)
    commits = [(e.step.attempt, e.fate) for e in watch.ends() if e.step.kind is StepKind.COMMIT]
    assert commits == [(1, Fate.REPLY_LOST), (2, Fate.ANSWERED)]
    assert control.get_default_database().counters.find_one({"_id": "a"}) == {"_id": "a", "n": 1}


@pytest.mark.parametrize("decision", [Decision.KILL_BACKEND_FIRST, Decision.KILL_CLIENT])
def test_a_killed_session_or_client_leaves_nothing_of_its_transaction(
    mongo_proxy: WireProxy, control: Client, decision: Decision
) -> None:
    watch = Watch(mongo_proxy, {"insert": decision})
    with Client(mongo_proxy.url) as client, client.start_session() as session:
        database = client.get_default_database()
        session.start_transaction()
        database.counters.update_one({"_id": "a"}, {"$inc": {"n": 1}}, session=session)
        with pytest.raises(pymongo.errors.PyMongoError):
            database.counters.insert_one({"_id": "c"}, session=session)
        session.abort_transaction()
    fates = [e.fate for e in watch.ends() if e.step.text.startswith("insert")]
    assert fates == [Fate.BACKEND_KILLED if decision is Decision.KILL_BACKEND_FIRST else Fate.CLIENT_KILLED]
    counters = control.get_default_database().counters
    assert counters.find_one({"_id": "a"}) == {"_id": "a", "n": 0}
    assert counters.update_one({"_id": "a"}, {"$inc": {"n": 1}}).modified_count == 1


def test_two_transactions_on_one_document_conflict_at_once_and_nobody_waits(mongo_proxy: WireProxy, client: Client) -> None:
    watch = Watch(mongo_proxy)
    counters = client.get_default_database().counters
    with client.start_session() as one, client.start_session() as two:
        one.start_transaction()
        two.start_transaction()
        counters.update_one({"_id": "a"}, {"$inc": {"n": 1}}, session=one)
        with pytest.raises(pymongo.errors.OperationFailure, match="WriteConflict|Write conflict"):
            counters.update_one({"_id": "a"}, {"$inc": {"n": 1}}, session=two)
        one.commit_transaction()
        two.abort_transaction()
    assert [e.result.error for e in watch.ends()] == [None, "mongo:112", None, "mongo:251"] or [
        e.result.error for e in watch.ends()
    ] == [None, "mongo:112", None]
    assert watch.ends()[1].status is Status.FAILED


def test_load_balanced_mode_is_refused_with_a_sentence(mongo_proxy: WireProxy, control: Client) -> None:
    url = mongo_proxy.url.replace("directConnection=true&", "loadBalanced=true&")
    with Client(url, serverSelectionTimeoutMS=2000) as client, pytest.raises(pymongo.errors.PyMongoError) as raised:
        client.admin.command("ping")
    assert "remove loadBalanced=true from the URI" in str(raised.value)
