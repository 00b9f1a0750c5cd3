"""What all users of one process share: the seats, the history file, the measurements.

A seat is a client's number in the scenario. The process of rank r among n takes the seats r, r + n, r + 2n and so on, which
is the order in which Locust hands users to its workers: together they are 0 to users - 1. A seat that was left is taken again
in a new life, so that no token is used twice.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from harness.engines.client import Client
from harness.engines.load.http import FastPool
from harness.engines.load.measures import Counts, Generator, Latencies
from harness.engines.load.plan import LoadPlan
from harness.model.operation import Operation, Outcome
from harness.model.scenario import Seat
from harness.recording.recorder import Recorder, now
from harness.targets.base import Connection
from harness.targets.http import HttpTarget

STEP = 1_000_000
"""Between a client's successive Jepsen processes: more seats than a run ever has, as users may be added while it runs."""


class Seats:
    """Hands out client numbers, the lowest free one first, each time in a new life."""

    def __init__(self, rank: int, processes: int) -> None:
        self._rank = rank
        self._processes = processes
        self._free: list[int] = []
        self._next = rank
        self._lives: dict[int, int] = defaultdict(int)

    def take(self) -> tuple[int, int]:
        """Return a free client number, and how often it was taken before."""
        if self._free:
            self._free.sort()
            number = self._free.pop(0)
        else:
            number = self._next
            self._next += self._processes
        life = self._lives[number]
        self._lives[number] += 1
        return number, life

    def give_back(self, number: int) -> None:
        """Take a client number back."""
        self._free.append(number)


@dataclass
class Occupied:
    """A seat in use: its client, its program, and its connection, which a client that is ended has to drop."""

    client: Client
    seat: Seat
    connection: Connection | None = None
    busy_since: int | None = None


@dataclass
class Site:
    """One process's share of a run. ``number`` is the process, ``rank`` its place among ``processes`` of them.

    Raises:
        EnvironmentProblem: the history file cannot be made.
    """

    plan: LoadPlan
    number: int
    rank: int = 0
    processes: int = 1
    counts: Counts = field(default_factory=Counts)
    generator: Generator = field(default_factory=Generator)
    latencies: dict[str, Latencies] = field(default_factory=lambda: defaultdict(Latencies))
    troubles: list[str] = field(default_factory=list)
    stuck: list[tuple[int, float]] = field(default_factory=list)
    last: tuple[int, bool] = (0, False)
    seated: int = 0
    finished: int = 0
    _generations: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self.file = f"load-{self.number}.jsonl"
        self.recorder = Recorder(self.plan.folder / self.file, worker=self.number)
        self._seats = Seats(self.rank, self.processes)
        self._share = self.plan.share(self.rank, self.processes)

    def warm_up(self) -> None:
        """Connect once and close, so that what a driver imports at first costs no user's time, and is there to be checked."""
        target: Any = self.plan.target
        if isinstance(target, HttpTarget):
            return
        try:
            target.connect(self.plan.database, -1).close()
        except Exception:  # noqa: BLE001 - if nobody can connect, the users will say so
            return

    def users(self, counted: int) -> int:
        """Return how many clients are there; in an open model Locust counts one for all of them."""
        return counted if self.plan.arrivals is None else len(range(self.rank, self.plan.users, self.processes))

    @property
    def spent(self) -> bool:
        """Whether this process has sent as many operations as it was asked to."""
        return self._share is not None and self.counts.invoked >= self._share

    def sit_down(self) -> Occupied:
        """Take a seat, not connected yet."""
        self.seated += 1
        number, life = self._seats.take()
        seat = Seat(
            client=number,
            clients=self.plan.users,
            random=random.Random(f"{self.plan.seed}/{number}/{life}"),
            settings=self.plan.settings,
            life=life,
        )

        def connect() -> Connection:
            target: Any = self.plan.target
            if isinstance(target, HttpTarget):
                occupied.connection = target.connect(self.plan.database, number, FastPool)
            else:
                occupied.connection = target.connect(self.plan.database, number)
            return occupied.connection

        client = Client(
            number=number,
            clients=STEP,
            connect=connect,
            record=self.recorder,
            clock=now,
            generation=self._generations[number],
        )
        occupied = Occupied(client=client, seat=seat)
        return occupied

    def stand_up(self, occupied: Occupied) -> None:
        """Leave a seat. A client that was ended in the middle of an operation is noted, and cuts its connection."""
        number = occupied.client.number
        self._generations[number] = occupied.client.process // STEP + 1
        if occupied.busy_since is not None:
            self.stuck.append((number, (now() - occupied.busy_since) / 1e9))
            if occupied.connection is not None:
                occupied.connection.vanish()
        else:
            try:
                occupied.client.close()
            except Exception:  # noqa: BLE001 - a goodbye that fails changes nothing: all is recorded
                occupied.connection = None
        self._seats.give_back(number)

    def count(self, operation: Operation, intended: int | None, *, on_purpose: bool = False) -> None:
        """Take a completed operation into the counts and latencies.

        ``intended`` is when it should have begun, in ns; ``on_purpose`` says that a fault was done to it.
        """
        counts = self.counts
        if not on_purpose:
            self.last = (operation.completed or operation.invoked, operation.outcome is not Outcome.INFO)
        if operation.outcome is Outcome.OK:
            counts.ok += 1
        elif operation.outcome is Outcome.FAIL:
            counts.fail += 1
            if operation.failure is not None and operation.failure.refusal:
                counts.refused += 1
        else:
            counts.info += 1
        completed = operation.completed or operation.invoked
        response = None if intended is None else completed - intended
        self.latencies[operation.f].add(completed - operation.invoked, response)

    def trouble(self, error: Exception) -> None:
        """Note that a client could not go on."""
        self.troubles.append(f"a client gave up: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")

    def end(self) -> dict[str, Any]:
        """Close the history file and return the process's final word. Raises EnvironmentProblem if it cannot be written."""
        self.recorder.close()
        return {
            "worker": self.number,
            "pid": os.getpid(),
            "file": self.file,
            "counts": self.counts.to_json(),
            "latencies": {f: latencies.to_json() for f, latencies in self.latencies.items()},
            "generator": self.generator.to_json(),
            "troubles": list(self.troubles),
            "last": list(self.last),
            "unfinished": self.seated - self.finished,
            "stuck": [list(s) for s in self.stuck],
        }
