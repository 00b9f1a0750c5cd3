"""Wire proxies: microseconds that a statement costs on top of a direct connection, let through and held at each step.

The client and the proxy share one process, as they do when interleavings are explored. Direct, passthrough and controlled
take turns in short rounds, so that a busy machine slows all of them; the figures are of the best round of each, which is
the least disturbed one, and of the median round.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import psycopg
import pymongo

from harness.stores import StoreKind, StoreOptions, open_store
from harness.wire.base import Event, StepArrived, WireProxy
from harness.wire.opening import open_proxy

ROUNDS = 15
STATEMENTS = 300


def main() -> None:
    """Print the figures."""
    for kind, connect in ((StoreKind.POSTGRES, _postgres), (StoreKind.MONGO, _mongo)):
        store = open_store(kind, "embedded", StoreOptions(connections=20))
        try:
            database = store.create_database()
            proxy = open_proxy(kind.value, database.url)
            try:
                _measure(kind.value, connect, database.url, proxy)
            finally:
                proxy.close()
        finally:
            store.close()


def _measure(name: str, connect: Callable[[str], dict[str, Callable[[], Any]]], url: str, proxy: WireProxy) -> None:
    def release(event: Event) -> None:
        if isinstance(event, StepArrived):
            proxy.decide(event.step)

    direct, through = connect(url), connect(proxy.url)
    for what in direct:
        found: dict[str, list[float]] = {"direct": [], "passthrough": [], "controlled": []}
        for _ in range(ROUNDS):
            found["direct"].append(_each(direct[what]))
            proxy.passthrough()
            found["passthrough"].append(_each(through[what]))
            proxy.control(release)
            found["controlled"].append(_each(through[what]))
        for word, figure in (("best", min), ("median", median)):
            at = {mode: figure(times) for mode, times in found.items()}
            print(
                f"{name:8} {what:9} {word:6} direct {at['direct']:5.0f} us, "
                f"passthrough +{at['passthrough'] - at['direct']:4.0f} us (aim < 100), "
                f"controlled +{at['controlled'] - at['direct']:4.0f} us"
            )


def _each(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    for _ in range(STATEMENTS):
        action()
    return (time.perf_counter() - began) / STATEMENTS * 1e6


def _postgres(url: str) -> dict[str, Callable[[], Any]]:
    connection = psycopg.connect(url, autocommit=True)
    connection.execute("CREATE TABLE IF NOT EXISTS counters (id int PRIMARY KEY, n int)")
    connection.execute("INSERT INTO counters VALUES (1, 0) ON CONFLICT DO NOTHING")
    return {
        "simple": lambda: connection.execute("SELECT n FROM counters"),
        "extended": lambda: connection.execute("SELECT n FROM counters WHERE id = %s", (1,), prepare=False),
        "prepared": lambda: connection.execute("SELECT n FROM counters WHERE id = %s", (1,), prepare=True),
    }


def _mongo(url: str) -> dict[str, Callable[[], Any]]:
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(url)
    counters = client.get_default_database().counters
    counters.update_one({"_id": 1}, {"$set": {"n": 0}}, upsert=True)
    return {
        "find": lambda: counters.find_one({"_id": 1}),
        "update": lambda: counters.update_one({"_id": 1}, {"$inc": {"n": 1}}),
    }


if __name__ == "__main__":
    main()
