"""Three nodes: what a majority acknowledged survives the loss of one, what only the primary has does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pymongo
import pymongo.database
import pymongo.monitoring
import pytest

from harness.model import EnvironmentProblem, UsageError
from harness.stores import Database, StoreKind, StoreOptions, embedded_mongo, open_store
from tests.containers import needs_docker


@pytest.fixture(scope="module", params=["embedded", pytest.param("container", marks=needs_docker)])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def nodes(place: str) -> Iterator[Any]:
    store = open_store(StoreKind.MONGO, f"{place},nodes=3", StoreOptions(connections=20))
    yield store
    store.close()


@pytest.fixture
def collection(nodes: Any) -> Iterator[Any]:
    database: Database = nodes.create_database()
    with pymongo.MongoClient[Any](database.url, w="majority") as client:
        yield client[database.name].t
    nodes.recover()
    nodes.drop_database(database)


def acknowledged_by_one(collection: Any) -> Any:
    return collection.with_options(write_concern=pymongo.WriteConcern(w=1))


def direct(nodes: Any, number: int) -> pymongo.MongoClient[Any]:
    return pymongo.MongoClient(f"mongodb://{nodes._nodes[number].address}/?directConnection=true")


def follow(nodes: Any, follower: int, source: int) -> None:
    """Let one secondary fetch from another, once it hears that one: after a fault that may be later than the primary does."""
    address = nodes._nodes[source].address
    limit = time.monotonic() + 60
    with direct(nodes, follower) as client:
        while True:
            heard = {m["name"]: m["health"] for m in client.admin.command("replSetGetStatus")["members"]}
            if heard[address] == 1:
                break
            assert time.monotonic() < limit, f"{address} is not heard: {heard}"
            time.sleep(0.1)  # between two questions to the node
        client.admin.command("replSetSyncFrom", address)


def make_lead(nodes: Any, number: int) -> None:
    """Let a node be elected. It cannot win before it has caught up."""
    limit = time.monotonic() + 60
    while nodes.primary() != number:
        assert time.monotonic() < limit, "it may not stand"
        with suppress(pymongo.errors.OperationFailure):
            nodes._direct[number].admin.command("replSetStepUp")
        time.sleep(0.1)  # between two tries; the condition is who leads


def seen(collection: Any) -> list[str]:
    """Read what is there. A driver asks twice; a machine that stalls brings more elections than that."""
    limit = time.monotonic() + 60
    while True:
        try:
            return [row["by"] for row in collection.find()]
        except pymongo.errors.AutoReconnect:
            if time.monotonic() > limit:
                raise


@pytest.mark.parametrize("fault", ["kill_primary", "pause_primary", "stop_primary"])
def test_what_one_node_acknowledged_is_lost_with_it_and_what_a_majority_did_is_not(
    nodes: Any, collection: Any, fault: str
) -> None:
    collection.insert_one({"by": "a majority"})
    nodes.hold_replication()
    acknowledged_by_one(collection).insert_one({"by": "one"})
    getattr(nodes, fault)()
    nodes.release_replication()

    after_the_election = seen(collection)
    nodes.bring_back()

    assert after_the_election == ["a majority"] or fault == "stop_primary"  # a tidy stop may wait for a follower
    assert "a majority" in seen(collection)


def test_what_is_held_stays_held_when_another_node_comes_to_lead(nodes: Any, collection: Any) -> None:
    """On a machine that stalls for a second, an election comes at any time."""
    # Whoever lacked it could not catch up while it is held, and would not lead.
    collection.with_options(write_concern=pymongo.WriteConcern(w=3)).insert_one({"by": "all"})
    nodes.hold_replication()
    before, other = nodes.primary(), nodes._secondaries()[0]
    nodes._stand(other, 0)
    make_lead(nodes, other)
    nodes._freeze(before)  # the other one goes on leading, until the next fault
    with pytest.raises(pymongo.errors.WTimeoutError):  # a node that may fetch does so within one second
        collection.with_options(write_concern=pymongo.WriteConcern(w="majority", wtimeout=3000)).insert_one({"by": "one"})
    nodes.pause_primary()
    nodes.release_replication()

    assert seen(collection) == ["all"]
    nodes.bring_back()
    collection.with_options(write_concern=pymongo.WriteConcern(w=3)).insert_one({"by": "all"})


def test_those_that_are_held_stand_for_election_after_a_fault_only(nodes: Any, collection: Any) -> None:
    """One elected because the machine stalled would be the one that the fault takes away: nothing would be lost."""
    collection.insert_one({"by": "a majority"})
    nodes.hold_replication()
    for follower in nodes._secondaries():
        with pytest.raises(pymongo.errors.OperationFailure, match="Election failed"):
            nodes._direct[follower].admin.command("replSetStepUp")

    before = nodes.primary()
    nodes.kill_primary()
    assert nodes.primary() != before


def test_a_hold_that_failed_half_way_leaves_nobody_who_may_not_lead(
    nodes: Any, collection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.insert_one({"by": "a majority"})
    with monkeypatch.context() as patched:
        patched.setattr(nodes, "_stands_still", fail)
        with pytest.raises(EnvironmentProblem):
            nodes.hold_replication()
    nodes.recover()

    make_lead(nodes, nodes._secondaries()[1])


def fail(*words: Any) -> bool:
    raise EnvironmentProblem("it does not answer")


def test_a_store_is_not_at_rest_while_a_write_is_on_one_node_alone(nodes: Any, collection: Any) -> None:
    database = Database(kind=StoreKind.MONGO, name=collection.database.name, url="", shown="")
    nodes.hold_replication()
    acknowledged_by_one(collection).insert_one({"by": "one"})

    assert nodes.in_flight(database) == ["writes that no majority of the nodes has yet"]


def test_a_secondary_that_is_held_shows_the_past(nodes: Any, collection: Any) -> None:
    collection.insert_one({"n": 1})
    held = nodes.hold_one_secondary().split(" ")[0]
    collection.insert_one({"n": 2})

    with pymongo.MongoClient[Any](f"mongodb://{held}/?directConnection=true&readPreference=secondary") as stale:
        assert stale[collection.database.name].t.count_documents({}) <= 1
    assert collection.count_documents({}) == 2


def test_a_secondary_that_is_held_holds_nobody_else(nodes: Any, collection: Any) -> None:
    """One that fetched from another secondary would wait for it: half a minute, until it looks for another source."""
    primary = nodes.primary()
    one, other = (number for number in range(3) if number != primary)
    for follower, source in ((one, other), (other, one)):
        follow(nodes, follower, source)
    collection.insert_one({"n": 1})
    nodes.hold_one_secondary()

    collection.with_options(write_concern=pymongo.WriteConcern(w="majority", wtimeout=15_000)).insert_one({"n": 2})


def test_a_primary_that_steps_down_loses_nothing(nodes: Any, collection: Any) -> None:
    before = nodes.primary()
    collection.insert_one({"n": 1})
    nodes.step_down()

    assert collection.count_documents({}) == 1
    assert nodes.primary() != before


@pytest.mark.parametrize(
    "how",
    [{"errorCode": 10107}, {"errorCode": 24}, {"closeConnection": True}],
    ids=["it does not lead", "its lock is taken", "the connection is closed"],
)
def test_a_step_down_that_did_not_happen_is_not_told_as_done(nodes: Any, collection: Any, how: dict[str, Any]) -> None:
    collection.insert_one({"n": 1})
    refuse = {"configureFailPoint": "failCommand", "data": {"failCommands": ["replSetStepDown"], **how}}
    try:
        for node in nodes._direct:  # whichever leads by then
            node.admin.command({**refuse, "mode": "alwaysOn"})
        with pytest.raises(EnvironmentProblem, match="MongoDB"):
            nodes.step_down()
    finally:
        for node in nodes._direct:
            node.admin.command({**refuse, "mode": "off"})

    assert "stepped down" in nodes.step_down()


def test_a_primary_that_closes_the_connection_as_it_steps_down_did_step_down(
    nodes: Any, collection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.insert_one({"n": 1})
    command = pymongo.database.Database.command

    def answer_by_closing(self: Any, name: Any, *values: Any, **more: Any) -> Any:
        answer = command(self, name, *values, **more)
        if name == "replSetStepDown":
            raise pymongo.errors.AutoReconnect("connection closed")
        return answer

    monkeypatch.setattr(pymongo.database.Database, "command", answer_by_closing)

    assert "stepped down" in nodes.step_down()


def test_a_primary_that_is_cut_off_is_replaced_and_comes_back(nodes: Any, collection: Any, place: str) -> None:
    if place == "embedded":
        with pytest.raises(UsageError, match="pause it, or use --mongo container"):
            nodes.cut_off_primary()
        return
    before = nodes.primary()
    nodes.cut_off_primary()
    collection.insert_one({"n": 1})

    assert nodes.primary() != before
    nodes.bring_back()
    assert collection.count_documents({}) == 1


class Met(pymongo.monitoring.ServerHeartbeatListener):
    """Tells when a driver has heard the server at a port."""

    def __init__(self, port: int) -> None:
        self.event = threading.Event()
        self._port = port

    def started(self, event: pymongo.monitoring.ServerHeartbeatStartedEvent) -> None:
        """Nothing is told yet."""

    def succeeded(self, event: pymongo.monitoring.ServerHeartbeatSucceededEvent) -> None:
        """The server answered."""
        if event.connection_id[1] == self._port:
            self.event.set()

    def failed(self, event: pymongo.monitoring.ServerHeartbeatFailedEvent) -> None:
        """Nobody answered."""


def test_a_stranger_where_a_node_was_killed_is_shunned(
    nodes: Any, collection: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place != "embedded":
        pytest.skip("containers have addresses of their own")
    left = int(nodes._nodes[nodes.primary()].address.rpartition(":")[2])
    nodes.kill_primary()
    monkeypatch.setattr(embedded_mongo, "free_port", lambda: left)
    stranger: Any = open_store(StoreKind.MONGO, "embedded", StoreOptions())
    try:
        for _ in range(3):  # drivers believe the primary of the latest election
            with suppress(pymongo.errors.NotPrimaryError):  # a node that would fetch from the dead told it of a later one
                stranger.client.admin.command("replSetStepDown", 1, force=True)
            stranger._await_server()

        met = Met(left)
        with pymongo.MongoClient[Any](nodes.create_database().url, w="majority", event_listeners=[met]) as client:
            client.admin.command("ping")
            assert met.event.wait(30)
            client[collection.database.name].t.insert_one({"by": "a newcomer"})
        collection.insert_one({"by": "one who was there before"})

        assert seen(collection) == ["a newcomer", "one who was there before"]
        assert collection.database.name not in stranger.client.list_database_names()
    finally:
        stranger.close()
