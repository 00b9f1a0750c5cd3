"""Who waits, and who goes past the proxy, asked of a real MongoDB."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest

from harness.stores import Database
from harness.wire.base import Fate, StepArrived, StepDone, WireProxy
from harness.wire.mongo.blocking import running_ports, strangers, waiting_ports
from tests.harness.wire.watching import PATIENCE, event_of, running

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


def test_a_plain_write_that_meets_a_transaction_is_seen_to_wait(mongo_proxy: WireProxy, client: Client, control: Client) -> None:
    counters = client.get_default_database().counters
    mongo_proxy.control()
    backends: dict[int, int] = {}

    def in_a_transaction() -> None:
        with client.start_session() as session, session.start_transaction():
            counters.update_one({"_id": "a"}, {"$inc": {"n": 1}}, session=session)

    def plainly() -> None:
        counters.update_one({"_id": "a"}, {"$inc": {"n": 10}}, comment={"who": "plain"})

    def release(wanted: str) -> int:
        event = event_of(mongo_proxy, StepArrived, lambda e: e.step.text.startswith(wanted))
        mongo_proxy.decide(event.step)
        return event.step.connection

    with running(in_a_transaction) as raised:
        release("update")
        commit = event_of(mongo_proxy, StepArrived).step
        with running(plainly) as also_raised:
            waiting = release("update")
            backends = {n: c.backend for n, c in mongo_proxy.open_connections().items()}
            port = backends[waiting]
            limit = time.monotonic() + PATIENCE
            while not (found := waiting_ports(control, [port])) and time.monotonic() < limit:
                pass  # the question is the wait
            assert found[port].reason == "writes what a transaction wrote"
            assert port in running_ports(control, backends.values())
            mongo_proxy.decide(commit)
            ended = event_of(mongo_proxy, StepDone, lambda e: e.step.connection == waiting)
            assert ended.fate is Fate.ANSWERED
    assert raised + also_raised == [None, None]
    assert control.get_default_database().counters.find_one({"_id": "a"}) == {"_id": "a", "n": 11}
    assert waiting_ports(control, backends.values()) == {}


def test_traffic_past_the_proxy_is_seen(mongo_proxy: WireProxy, mongo_database: Database) -> None:
    url, name = mongo_database.url, mongo_database.name
    with (
        Client(url, appname="racegate control") as control,
        Client(mongo_proxy.url) as ours,
        ours.start_session() as session,
        session.start_transaction(),
    ):
        ours[name].counters.insert_one({}, session=session)
        assert strangers(control, name, mongo_proxy.store_ports()) == []
        with Client(url) as past:
            past.admin.command("ping")
            found = strangers(control, name, mongo_proxy.store_ports())
    assert found
    assert all(f.startswith(f"{name} (127.0.0.1:") for f in found)
