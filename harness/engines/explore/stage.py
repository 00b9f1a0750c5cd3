"""Runs one interleaving on real connections.

Each client is a thread with a connection of its own that goes through a wire proxy. At most one client moves: a step is released,
and nothing else is decided until everybody is quiet again: at the gate, done, or in flight and blocked by another of ours.
Blocked is asked of the database and asked again after every step, because any of them may have let go of a lock. There is no
timer on the normal path: the short wait below only says when to ask.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from harness.engines.explore.footprints import Footprint, Footprints
from harness.model.errors import EnvironmentProblem
from harness.model.operation import Operation
from harness.wire.base import (
    ConnectionClosed,
    ConnectionOpened,
    Event,
    Result,
    Step,
    StepArrived,
    StepDone,
    WireProxy,
)

ASK_AFTER = 0.002
"""Seconds of silence after which the database is asked who is blocked."""

STUCK_AFTER = 20.0
"""Seconds in which nothing at all happened: the target hangs, and the exploration says so."""


TRY_AGAIN = frozenset({"40001", "40P01", "55P03", "mongo:112", "mongo:251"})
"""Errors after which a client does the same again."""


class Mood(StrEnum):
    """What a client is doing, as the scheduler sees it."""

    IDLE = "idle"
    WORKING = "working"
    HELD = "held"
    BLOCKED = "blocked"
    DONE = "done"


@dataclass
class Row:
    """One step of a run: who, what, and what came of it. ``blocked`` tells that it had to wait for another's lock."""

    client: int
    step: Step
    footprint: Footprint
    result: Result | None = None
    blocked: bool = False


@dataclass
class Run:
    """One interleaving that was carried out. ``complete`` is false when it was cut short."""

    choices: list[int] = field(default_factory=list)
    enabled: list[tuple[int, ...]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    complete: bool = True


class Chooser(Protocol):
    """Who decides: `Search` or `Follow`."""

    def choose(self, enabled: dict[int, Footprint]) -> int | None:
        """Return who moves, or None to cut the run short."""


class Worker:
    """A client's thread, kept from run to run."""

    def __init__(self, number: int, said: queue.SimpleQueue[Any]) -> None:
        self.number = number
        self._said = said
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"client {number}", daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], None]) -> None:
        """Run a job on this thread; its end is reported as ``("done", number)``."""
        self._jobs.put(job)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException as e:  # noqa: BLE001 - handed to the scheduler, which raises it
                self._said.put(("trouble", e))
            self._said.put(("done", self.number))

    def close(self) -> None:
        """End the thread."""
        self._jobs.put(None)


class Stage:
    """The clients, their connections, and who is where.

    Args:
        proxy: holds the connections.
        blocked: which of these backends wait for another of them; asked of the database.
        footprints: of steps.
        clients: how many.
    """

    def __init__(
        self, proxy: WireProxy, blocked: Callable[[Sequence[int]], set[int]], footprints: Footprints, clients: int
    ) -> None:
        self._proxy = proxy
        self._ask = blocked
        self._footprints = footprints
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.workers = [Worker(n, self._said) for n in range(clients)]
        self._owner: dict[int, int] = {}
        self._backend: dict[int, int] = {}

    def connect(self, client: int, open_connection: Callable[[], None]) -> None:
        """Let a client connect, uncontrolled, and note which connections are its own."""
        before = set(self._proxy.open_connections())
        self.workers[client].do(open_connection)
        self._wait_done({client})
        for number, opened in self._proxy.open_connections().items():
            if number not in before:
                self._owner[number] = client
                self._backend[number] = opened.backend

    def uncontrolled(self, client: int, job: Callable[[], None]) -> None:
        """Run a job on a client's thread without holding its steps."""
        self.workers[client].do(job)
        self._wait_done({client})

    def _wait_done(self, clients: set[int]) -> None:
        trouble: BaseException | None = None
        while clients:
            try:
                item = self._said.get(timeout=STUCK_AFTER)
            except queue.Empty:
                raise EnvironmentProblem(f"client {min(clients)} did not come back within {STUCK_AFTER:.0f} s") from None
            if isinstance(item, tuple) and item[0] == "trouble":
                trouble = item[1]
            elif isinstance(item, tuple):
                clients.discard(item[1])
        if trouble is not None:
            raise trouble

    def run(self, jobs: Sequence[Callable[[], None]], chooser: Chooser) -> Run:
        """Let the jobs race, one per client, in the order that the chooser decides."""
        play = _Play(self, len(jobs))
        self._footprints.reset()
        self._proxy.control(self._said.put)
        try:
            for worker, job in zip(self.workers, jobs, strict=True):
                play.start(worker, job)  # one after another, so that a connection that is opened late has one owner
            while not play.over:
                enabled = {client: self._footprints.of(client, step) for client, step in play.willing().items()}
                if not enabled:
                    play.until_quiet(stirred=True)
                    continue
                chosen = chooser.choose(enabled)
                if chosen is None:
                    play.run.complete = False
                    break
                play.release(chosen, enabled)
                play.until_quiet()
            play.hear_the_last()
        finally:
            self._proxy.passthrough()
            play.finish()
        if play.trouble is not None:
            raise play.trouble
        return play.run

    def close(self) -> None:
        """End the threads."""
        for worker in self.workers:
            worker.close()


class _Play:
    """The state of one run."""

    def __init__(self, stage: Stage, clients: int) -> None:
        self._stage = stage
        self.run = Run()
        self.mood = dict.fromkeys(range(clients), Mood.IDLE)
        self.held: dict[int, Step] = {}
        self.flying: dict[int, Row] = {}
        self.yielding: set[int] = set()
        self.trouble: BaseException | None = None

    @property
    def over(self) -> bool:
        return all(mood is Mood.DONE for mood in self.mood.values())

    def willing(self) -> dict[int, Step]:
        """Return the held steps of those who may move.

        Whoever was just told to try again does not move before somebody else has: nothing changed, so it would be told
        the same for ever. (Fair scheduling, as in Musuvathi and Qadeer, PLDI 2008.)
        """
        others = {client: step for client, step in self.held.items() if client not in self.yielding}
        return others or self.held

    def start(self, worker: Worker, job: Callable[[], None]) -> None:
        """Let a client run until it is at the gate."""
        self.mood[worker.number] = Mood.WORKING
        worker.do(job)
        self.until_quiet()

    def release(self, client: int, enabled: dict[int, Footprint]) -> None:
        """Let a client's step through."""
        step = self.held.pop(client)
        self.yielding &= {client}
        row = Row(client=client, step=step, footprint=enabled[client])
        self.run.choices.append(client)
        self.run.enabled.append(tuple(sorted(enabled)))
        self.run.rows.append(row)
        self._stage._footprints.did(client, step, enabled[client])
        self.mood[client] = Mood.WORKING
        self.flying[client] = row
        self._stage._proxy.decide(step)

    def until_quiet(self, *, stirred: bool = False) -> None:
        """Wait until every client is held, done, or confirmed blocked. ``stirred``: wait for something to happen first."""
        deadline = time.monotonic() + STUCK_AFTER
        while True:
            working = [c for c, mood in self.mood.items() if mood is Mood.WORKING]
            blocked = [c for c, mood in self.mood.items() if mood is Mood.BLOCKED]
            if not working and not stirred and (not blocked or not self._woken(blocked)):
                return
            try:
                self._take(self._stage._said.get(timeout=ASK_AFTER))
                stirred = False
                deadline = time.monotonic() + STUCK_AFTER
            except queue.Empty:
                self._look(working)
                if stirred and blocked and self._woken(blocked):
                    stirred = False
            if time.monotonic() > deadline:
                names = ", ".join(str(c) for c in working or blocked)
                raise EnvironmentProblem(f"client {names} neither arrived at the gate, nor waited for a lock, nor ended")

    def _backends(self, clients: Sequence[int]) -> dict[int, int]:
        return {self._stage._backend[self.flying[c].step.connection]: c for c in clients if c in self.flying}

    def _look(self, working: Sequence[int]) -> None:
        """Nothing was heard for a moment: ask whether those in flight are blocked."""
        backends = self._backends(working)
        if not backends:
            return
        everybody = list(self._stage._backend.values())
        for backend in self._stage._ask(everybody) & backends.keys():
            client = backends[backend]
            self.mood[client] = Mood.BLOCKED
            self.flying[client].blocked = True

    def _woken(self, blocked: Sequence[int]) -> bool:
        """Ask again about the blocked; those that are not any more are at work."""
        backends = self._backends(blocked)
        still = self._stage._ask(list(self._stage._backend.values()))
        woken = [client for backend, client in backends.items() if backend not in still]
        for client in woken:
            self.mood[client] = Mood.WORKING
        return bool(woken)

    def _take(self, item: Event | tuple[str, Any]) -> None:
        if isinstance(item, tuple):
            if item[0] == "trouble":
                self.trouble = item[1]
            else:
                self.mood[item[1]] = Mood.DONE
                self.held.pop(item[1], None)
        elif isinstance(item, StepArrived):
            client = self._client_of(item.step.connection)
            self.held[client] = item.step
            self.mood[client] = Mood.HELD
        elif isinstance(item, StepDone):
            client = self._client_of(item.step.connection)
            row = self.flying.pop(client, None)
            if row is not None:
                row.result = item.result
                if item.result.error in TRY_AGAIN:
                    self.yielding.add(client)
                else:
                    self.yielding.discard(client)
            if self.mood[client] is Mood.BLOCKED:
                self.mood[client] = Mood.WORKING
        elif isinstance(item, ConnectionOpened):
            self._stage._backend[item.connection] = item.backend
            self._client_of(item.connection)
        elif isinstance(item, ConnectionClosed):
            self._stage._backend.pop(item.connection, None)

    def _client_of(self, connection: int) -> int:
        """A connection that is opened during the run belongs to the one client that is working."""
        owner = self._stage._owner
        if connection not in owner:
            working = [c for c, mood in self.mood.items() if mood is Mood.WORKING]
            if len(working) != 1:
                raise EnvironmentProblem(
                    "a new connection appeared and it is not clear whose it is; is there traffic of another program, or a pool "
                    "that opens connections by itself?"
                )
            owner[connection] = working[0]
        return owner[connection]

    def hear_the_last(self) -> None:
        """The application may be done before the proxy has reported the answer that it got."""
        while self.over and self.flying:
            try:
                self._take(self._stage._said.get(timeout=STUCK_AFTER))
            except queue.Empty:
                return

    def finish(self) -> None:
        """Let whoever is left run to the end, uncontrolled, and forget what was still said."""
        limit = time.monotonic() + STUCK_AFTER
        while any(mood not in (Mood.DONE, Mood.IDLE) for mood in self.mood.values()):
            try:
                item = self._stage._said.get(timeout=max(limit - time.monotonic(), 0.01))
            except queue.Empty:
                raise EnvironmentProblem("a client did not end after it was let go; its target hangs") from None
            if isinstance(item, tuple):
                self._take(item)
        with suppress(queue.Empty):
            while True:
                self._stage._said.get_nowait()
