"""Clients of the reference, each in a process of its own, that do the same thing over and over for a while."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.stores import Database
from reference_impl.provider import PROVIDER

PRELOAD = ["benchmarks.fleet", "reference_impl.numbering.variants", "reference_impl.payments.variants", "psycopg", "pymongo"]
"""What the clients' processes have imported before they are forked."""

AT = "2026-12-31T12:00:00+00:00"
Job = Callable[[Any, int, int], None]
"""What a client does once: its connection, its number, and how often it did so before."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A variant and what its clients do. ``job`` is a function of a module, so that it can be sent to a process."""

    variant: str
    job: Job
    settings: Mapping[str, Any]

    def install(self, database: Database) -> None:
        """Make its tables."""
        PROVIDER.target(self.variant, self.settings).install(database)

    def rate(self, database: Database, clients: int, seconds: float) -> float:
        """Return how often a second the job was done by all clients together, connecting not counted."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        barrier = context.Barrier(clients)
        results: Any = context.SimpleQueue()
        given = [(self, database, n, seconds, barrier, results) for n in range(clients)]
        processes = [context.Process(target=_work, args=each, daemon=True) for each in given]
        for process in processes:
            process.start()
        rates = [results.get() for _ in processes]
        for process in processes:
            process.join()
        if None in rates:
            raise RuntimeError(f"a client of {self.variant} failed; its process says why")
        return float(sum(rates))


def _work(fleet: Fleet, database: Database, client: int, seconds: float, barrier: Any, results: Any) -> None:
    rate = None
    try:
        connection = PROVIDER.target(fleet.variant, fleet.settings).connect(database, client)
        life = time.time_ns()
        for n in range(12):
            fleet.job(connection, client, life + n)  # statements are prepared, numbers start
        barrier.wait(60)
        began, done = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - began) < seconds:
            done += 1
            fleet.job(connection, client, life + 12 + done)
        rate = done / elapsed
        connection.close()
    finally:
        results.put(rate)


def nothing(point: str) -> None:
    """Pass a named point."""
