"""The phases that every run at full speed goes through, whichever engine drives it.

Opening scene before the race; rest and books after it. After the clients are done the store must come to rest before the
books are read, because a hole in the numbers may belong to a transaction that is still open, and an unknown outcome may
still be decided.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from harness.engines.client import Client
from harness.invariants import judge
from harness.model import Books, EnvironmentProblem, FindingClass, History, Outcome, Policy
from harness.recording.recorder import Recorder, now
from harness.run.folder import RunFolder
from harness.run.run_request import RunRequest
from harness.stores.base import Database, Store
from harness.targets.base import Target
from harness.targets.books_reader import read_books

REST_LIMIT = 10.0
"""Seconds that transactions of the finished clients may take to end by themselves."""


@dataclass
class Clock:
    """Measures the phases of a run."""

    timings: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what happens inside to the phase's seconds."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - began


def open_scene(request: RunRequest, database: Database | None, folder: RunFolder) -> None:
    """Make the scenario's opening calls, one after another.

    Raises:
        EnvironmentProblem: one of them is not ok.
    """
    calls = iter(request.scenario.opening(request.settings))
    first = next(calls, None)
    if first is None:
        return
    recorder = Recorder(folder.history / "opening.jsonl", worker=-1)
    client = Client(
        number=-1,
        clients=0,
        connect=lambda: request.target.connect(database, -1),
        record=recorder,
        clock=now,
    )
    try:
        for call in (first, *calls):
            operation = client.perform(call)
            if operation.outcome is not Outcome.OK:
                why = operation.failure.message if operation.failure else "no reason given"
                raise EnvironmentProblem(
                    f"{request.target.name} could not set the scene of {request.scenario.name}: "
                    f"{call.f} ended as {operation.outcome.value}: {why}"
                )
    finally:
        client.close()
        recorder.close()


def come_to_rest(store: Store | None, database: Database | None) -> str | None:
    """Wait until no transaction of the clients is open; end those that stay. Returns what is still open, if anything."""
    if store is None or database is None:
        return None
    for attempt in range(2):
        limit = time.monotonic() + REST_LIMIT
        pause = 0.005
        while still := store.in_flight(database):
            if time.monotonic() > limit:
                break
            time.sleep(pause)  # between two questions to the server; the condition is what it answers
            pause = min(pause * 2, 0.25)
        if not still:
            return None
        if attempt == 0:
            store.end_in_flight(database)
    return f"{len(still)} transactions did not end: {still[0]}"


def books_at_rest(target: Target, database: Database | None, trouble: str | None) -> Books:
    """Read the books, which are not complete if ``trouble`` says that the store did not come to rest."""
    if trouble is not None:
        return Books(complete=False, trouble=trouble)
    if database is None:
        return Books()
    return read_books(database, target.books())


@dataclass(frozen=True, kw_only=True)
class Before:
    """What was in somebody's own database before anything was asked of it.

    ``earlier`` are the ids of its rows, by table; ``broken`` the rules that these rows break by themselves.
    """

    earlier: Mapping[str, frozenset[str]] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()


def look_before(store: Store | None, database: Database | None, target: Target, policy: Policy, rules: Iterable[str]) -> Before:
    """Read the books before the opening scene, where they may hold rows already."""
    if database is None or not getattr(store, "lived_in", False):
        return Before()
    books = read_books(database, target.books())
    found = judge(History.of([]), books, policy, rules).findings
    return Before(
        earlier={name: frozenset(table["id"].drop_nulls()) for name, table in books.tables.items() if books.gives(name, "id")},
        broken=frozenset(f.invariant for f in found if f.finding_class is FindingClass.VIOLATION),
    )


def race_of(history: History) -> History:
    """Return the operations of the race alone, without those that set the scene."""
    return History(history.operations.filter(pl.col("client") >= 0), open_at=history.open_at)
