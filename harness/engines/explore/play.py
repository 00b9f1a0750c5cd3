"""One interleaving as it goes: who is at the gate, in flight, blocked, or done, and when everybody is quiet.

At most one client moves: a step is released, and nothing else is decided until everybody is quiet again. Blocked is asked of the
database, and asked again when something may have let go of a lock. There is no timer on the normal path: the short waits below
only say when to ask.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from harness.engines.explore.footprints import SNAPSHOT, WORLD, Footprint, Footprints, independent
from harness.engines.explore.moves import NO_FAULTS, FaultPlan, Move
from harness.engines.explore.worker import Worker
from harness.model.errors import EnvironmentProblem
from harness.wire.base import (
    ConnectionClosed,
    ConnectionClosing,
    ConnectionOpened,
    Decision,
    Event,
    Fate,
    Result,
    Status,
    Step,
    StepArrived,
    StepDone,
    StepKind,
    WireProxy,
)

ASK_AFTER = 0.002
"""Seconds of silence after which the database is asked who is blocked."""

ASK_SOON = 0.0003
"""The same where a step writes what another client's open transaction wrote: it will most likely be blocked."""

OUTSIDE_AFTER = 400
"""Moments of silence (`ASK_AFTER` each) after which a client that has no statement in flight is taken to wait inside the
application: for a connection of a pool that is too small, or for a lock of the process. About a second; counted and not timed,
because on a busy machine the client has as little time as the one who waits for it."""

ELSEWHERE = 4
"""So many times as many moments for a client whose code runs in another process, until one was seen to wait there: the
process may be held up by what does not hold us up, such as its own start."""

LONGEST_SILENCE = 4.0
"""Seconds after which such a client counts as waiting, however few moments that were: of the pools in common use, the first gives
up after five seconds (Rails)."""

UNCLEAR_AFTER = 100
"""Moments of silence after which a statement is taken to be that of the connection's last owner, though it could be that of
one who waited for the connection: the last owner would mostly have been heard by then if it did anything else. It is the price
of a statement outside a transaction while somebody waits outside. A guess that was wrong is taken back when its client ends."""

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
    OUTSIDE = "outside"
    DONE = "done"


@dataclass
class Row:
    """One step of a run: who, what, and what came of it.

    ``blocked`` tells that it had to wait for another's lock, ``holders`` which clients held it, where the store says so, and
    ``until`` how many steps had been made when it could go on.
    """

    client: int
    step: Step
    footprint: Footprint
    fault: str = ""
    result: Result | None = None
    blocked: bool = False
    holders: tuple[int, ...] = ()
    until: int | None = None


@dataclass
class Run:
    """One interleaving that was carried out.

    ``complete`` is false when it was cut short. ``outside`` are clients that at some time waited inside the application, where
    nothing can be held: a pool smaller than the number of clients, or a lock of the process.
    """

    moves: list[Move] = field(default_factory=list)
    enabled: list[tuple[Move, ...]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    complete: bool = True
    outside: set[int] = field(default_factory=set)


@dataclass
class Ground:
    """What outlives an interleaving.

    ``ask`` tells which of these backends wait, and for which others of them where the store says so. ``kill`` ends a client's
    code, if it runs here. ``owner`` and ``backend`` are by connection. ``dead`` are clients that were killed in this run:
    whatever their code still does, they do not act. ``background`` matches statements that are nobody's. ``here`` are clients
    whose code runs in this process; ``waited`` tells that one of the others was seen to wait outside.
    """

    proxy: WireProxy
    ask: Callable[[Sequence[int]], Mapping[int, Sequence[int]]]
    kill: Callable[[int], None]
    footprints: Footprints
    faults: FaultPlan = NO_FAULTS
    alike: Sequence[frozenset[int]] = ()
    owner: dict[int, int] = field(default_factory=dict)
    backend: dict[int, int] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    background: re.Pattern[str] | None = None
    here: frozenset[int] = frozenset()
    waited: bool = False


Story = Generator[float, Any, None]
"""Yields how many seconds it waits at most, and is sent what happened, or None when nothing did."""


class Play:
    """The state of one run."""

    def __init__(self, ground: Ground, clients: int) -> None:
        self._ground = ground
        self.run = Run()
        self.mood = dict.fromkeys(range(clients), Mood.IDLE)
        self.held: dict[int, Step] = {}
        self.flying: dict[int, Row] = {}
        self.yielding: set[int] = set()
        self.leaving: set[int] = set()
        """Connections that are being closed: the store may still hold locks for them."""
        self.trouble: BaseException | None = None
        self._unclear: list[Step] = []
        """Statements that came and may be one client's or another's, until more is heard."""
        self._guessed: list[Step] = []
        """Those that were laid to a client though it could not be told."""
        self._past: dict[int, list[Hashable] | None] = {client: [] for client in range(clients)}
        """What each client asked and was answered; None once it wrote something, or got more than is kept of an answer."""
        self._published = 0
        """How many steps made something visible so far."""
        self._looked: dict[int, int] = {}
        """How many there were when each client made its last step."""
        self._sessions: dict[str, int] = {}
        """Whose step was the last of a session."""
        self._ended: set[int] = set()
        """Clients whose code is done."""
        self._faults = 0
        self._let_go = True
        """Something happened that may have let go of a lock since the blocked were last asked about."""
        self._patience = ASK_AFTER

    @property
    def over(self) -> bool:
        """Tell whether every client is done."""
        return all(mood is Mood.DONE for mood in self.mood.values())

    def _in(self, *moods: Mood) -> list[int]:
        return [c for c, mood in self.mood.items() if mood in moods]

    def moves(self) -> dict[Move, Footprint]:
        """Return what may be done now, and what each would touch.

        Whoever was just told to try again does not move before somebody else has: nothing changed, so it would be told
        the same for ever. (Fair scheduling, as in Musuvathi and Qadeer, PLDI 2008.)
        """
        held = {client: step for client, step in self.held.items() if client not in self.yielding} or self.held
        footprints = self._ground.footprints
        found: dict[Move, Footprint] = {}
        for client, step in held.items():
            footprint = footprints.of(client, step)
            found |= self._ground.faults.moves(client, step, footprint, footprints.undone(client), self._faults)
        return found

    def twins(self) -> frozenset[int]:
        """Return the clients whose move would be that of another one under another name.

        Clients that do the same, were answered the same and wrote nothing have left no difference in the world yet, so of
        their next moves one stands for all. (Symmetry: Clarke, Jha, Enders, Filkorn, Formal Methods in System Design 1996.)
        """
        found: set[int] = set()
        for group in self._ground.alike:
            pasts: set[Hashable] = set()
            for client in sorted(group & self.held.keys()):
                if (past := self._past[client]) is not None:
                    known = tuple(past)
                    if known in pasts:
                        found.add(client)
                    pasts.add(known)
        return frozenset(found)

    def start(self, worker: Worker, job: Callable[[], None]) -> Story:
        """Let a client run until it is at the gate."""
        self.mood[worker.number] = Mood.WORKING
        worker.do(job)
        yield from self.until_quiet()

    def make(self, move: Move, enabled: dict[Move, Footprint]) -> None:
        """Let a client's step through, or do to it what the move says."""
        client, footprint = move.client, enabled[move]
        step = self.held.pop(client)
        self.yielding &= {client}
        row = Row(client=client, step=step, footprint=footprint, fault=move.fault)
        self.run.moves.append(move)
        self.run.enabled.append(tuple(sorted(enabled)))
        self.run.rows.append(row)
        self._looked[client] = self._published
        self._published += footprint.publishes or footprint.unknown
        footprints = self._ground.footprints
        if move.fault:
            self._faults += 1
            self.leaving.add(step.connection)
            footprints.forget(client, step.session)
        else:
            footprints.did(client, step, footprint)
        if move.decision is Decision.KILL_CLIENT:
            self._ground.dead.add(client)
            self._ground.kill(client)
        self._let_go = self._let_go or bool(move.fault) or _may_let_go(step, footprint)
        open_elsewhere = (footprints.undone(c) for c in self.mood if c != client)
        self._patience = ASK_AFTER if all(independent(footprint, other) for other in open_elsewhere) else ASK_SOON
        self.mood[client] = Mood.WORKING
        self.flying[client] = row
        self._ground.proxy.decide(step, move.decision)

    def until_quiet(self, *, stirred: bool = False) -> Story:
        """Wait until every client is held, done, or confirmed blocked. ``stirred``: wait for something to happen first."""
        silent_since, moments = time.monotonic(), 0
        while True:
            working, blocked = self._in(Mood.WORKING), self._in(Mood.BLOCKED)
            if not working and not self.leaving and not stirred and not self._unclear and not self._woken(blocked):
                return
            item = yield self._patience
            if item is not None:
                self._take(item)
                self._settle()
                stirred = False
                silent_since, moments = time.monotonic(), 0
                continue
            moments += 1
            self._patience = ASK_AFTER
            self._look(working)
            if stirred and blocked:
                self._let_go = True
                stirred = not self._woken(blocked)
            if self._unclear and moments > UNCLEAR_AFTER:
                self._settle(guess=True)
                silent_since, moments = time.monotonic(), 0
            elif self.held and not self._unclear and self._leave_outside(moments, time.monotonic() - silent_since):
                silent_since, moments = time.monotonic(), 0
            elif moments > ELSEWHERE * OUTSIDE_AFTER and time.monotonic() - silent_since > STUCK_AFTER:
                names = ", ".join(str(c) for c in self._in(Mood.WORKING, Mood.BLOCKED, Mood.OUTSIDE))
                raise EnvironmentProblem(f"client {names} neither arrived at the gate, nor waited for a lock, nor ended")

    def _leave_outside(self, moments: int, silence: float) -> bool:
        """Go on without those who have no statement in flight and say nothing: they wait for something of the application."""
        if moments <= OUTSIDE_AFTER:
            return False
        ground = self._ground
        all_of_them = ground.waited or moments > ELSEWHERE * OUTSIDE_AFTER or silence > LONGEST_SILENCE
        silent = {client for client in self._in(Mood.WORKING) if client not in self.flying}
        gone = silent if all_of_them else silent & ground.here
        for client in gone:
            self.mood[client] = Mood.OUTSIDE
        self.run.outside |= gone
        ground.waited = ground.waited or not gone <= ground.here
        return bool(gone)

    def _backends(self, clients: Sequence[int]) -> dict[int, int]:
        backend = self._ground.backend
        return {
            backend[row.step.connection]: c for c in clients if (row := self.flying.get(c)) and row.step.connection in backend
        }

    def _look(self, working: Sequence[int]) -> None:
        """Nothing was heard for a moment: ask whether those in flight are blocked."""
        backends = self._backends(working)
        if not backends:
            return
        waiting = self._ground.ask(list(self._ground.backend.values()))
        for backend in waiting.keys() & backends.keys():
            client = backends[backend]
            self.mood[client] = Mood.BLOCKED
            row = self.flying[client]
            row.blocked, row.until = True, None
            row.holders = row.holders or self._clients(waiting[backend])

    def _clients(self, backends: Sequence[int]) -> tuple[int, ...]:
        ground = self._ground
        connections = [number for number, backend in ground.backend.items() if backend in backends]
        return tuple(sorted({ground.owner[number] for number in connections if number in ground.owner}))

    def _woken(self, blocked: Sequence[int]) -> bool:
        """Ask again about the blocked if anything let go of a lock; those that are not blocked any more are at work."""
        if not blocked or not self._let_go:
            return False
        self._let_go = False
        backends = self._backends(blocked)
        still = self._ground.ask(list(self._ground.backend.values()))
        woken = [client for backend, client in backends.items() if backend not in still]
        for client in woken:
            self._go_on(client)
        return bool(woken)

    def _take(self, item: Event | tuple[str, Any]) -> None:
        if isinstance(item, tuple):
            self._hear_client(item)
        elif isinstance(item, StepArrived):
            self._arrive(item.step)
        elif isinstance(item, StepDone):
            self._finish_step(item)
        elif isinstance(item, ConnectionOpened):
            self._ground.backend[item.connection] = item.backend
        elif isinstance(item, ConnectionClosing):
            self.leaving.add(item.connection)
            self._drop_unclear(item.connection)
        elif isinstance(item, ConnectionClosed):
            self.leaving.discard(item.connection)
            self._let_go = True
            self._drop_unclear(item.connection)
            self._ground.backend.pop(item.connection, None)
            self._ground.owner.pop(item.connection, None)

    def _hear_client(self, item: tuple[str, Any]) -> None:
        if item[0] == "trouble":
            self.trouble = item[1]
        else:
            client = item[1]
            self._ended.add(client)
            if not self._still_to_write(client):
                self.mood[client] = Mood.DONE
                step = self.held.pop(client, None)
                # Who sent a statement waits for its answer: one that was laid to whoever has ended is somebody else's.
                if step is not None and any(step is guessed for guessed in self._guessed):
                    self._unclear.append(step)

    def _still_to_write(self, client: int) -> bool:
        """A client that asked for no answer may be done before its write is."""
        held, flying = self.held.get(client), self.flying.get(client)
        step = held or (flying.step if flying else None)
        return step is not None and not step.acknowledged

    def _drop_unclear(self, connection: int) -> None:
        """Forget the statements of a connection whose client has hung up: nobody waits for them."""
        self._unclear = [step for step in self._unclear if step.connection != connection]

    def _settle(self, *, guess: bool = False) -> None:
        """Look again whose the statements are that were not clear; with ``guess``, decide."""
        unclear, self._unclear = self._unclear, []
        for step in unclear:
            self._arrive(step, guess=guess)

    def _arrive(self, step: Step, *, guess: bool = False) -> None:
        if self._ground.background is not None and self._ground.background.search(step.text):
            self._ground.proxy.decide(step, Decision.RELEASE)
            return
        client = self._client_of(step, guess=guess)
        if client is None:
            self._unclear.append(step)
            return
        self._sessions[step.session] = client
        if client in self._ground.dead:
            self.leaving.add(step.connection)
            self._ground.proxy.decide(step, Decision.LOSE_REQUEST)
            return
        if guess:
            self._guessed.append(step)
        self.held[client] = step
        self.mood[client] = Mood.HELD

    def _finish_step(self, done: StepDone) -> None:
        client = next((c for c, row in self.flying.items() if row.step is done.step), None)
        if client is None:
            return
        row = self.flying.pop(client)
        row.result = done.result
        if row.blocked and row.until is None:
            row.until = len(self.run.rows)
        self._remember(client, row, done)
        if done.fate is not Fate.ANSWERED or done.result.error is not None:
            self._let_go = True
        if done.fate is Fate.BROKEN:
            self.leaving.add(done.step.connection)
        if done.result.error in TRY_AGAIN:
            self.yielding.add(client)
        else:
            self.yielding.discard(client)
        if client in self._ended:
            self.mood[client] = Mood.DONE
        elif self.mood[client] is Mood.BLOCKED:
            self.mood[client] = Mood.WORKING

    def _go_on(self, client: int) -> None:
        self.mood[client] = Mood.WORKING
        if (row := self.flying.get(client)) is not None:
            row.until = len(self.run.rows)

    def _remember(self, client: int, row: Row, done: StepDone) -> None:
        past, touched, result = self._past[client], row.footprint, done.result
        wrote = touched.writes or touched.inserts or touched.at_once or touched.unknown or row.fault
        if past is None or wrote or result.rows > len(result.first_rows) or done.step.body is not None:
            self._past[client] = None
        else:
            kept = touched.serializable or bool(touched.reads & (SNAPSHOT | {WORLD}))  # what it saw decides what it will see
            asked = (done.step.text, tuple(map(repr, done.step.parameters)), self._looked[client] if kept else None)
            past.append((*asked, result.tag, result.error, result.first_rows))

    def _client_of(self, step: Step, *, guess: bool) -> int | None:
        """Tell whose step it is: a client is a request, not a socket, because a pool gives any request any connection.

        In a transaction it is its owner's; otherwise that of the one client that is at work without a statement in flight, of
        several the connection's last owner. A comment in the statement (``/*client='1'*/``) settles it.

        None if one of several waited outside: the connection may have been handed on to it before the last owner's end is
        heard. Who sent the statement waits for its answer, and the other goes on and is heard. If nobody is, ``guess``.
        """
        owner = self._ground.owner
        tag = step.tags.get("client", "")
        if tag.isdecimal() and int(tag) in self.mood:
            owner[step.connection] = int(tag)
        elif step.connection not in owner or step.status is Status.IDLE:
            if step.status is not Status.IDLE and step.session in self._sessions:
                return self._sessions[step.session]  # MongoDB: a transaction is its session's, on any connection
            busy = [c for c in self._in(Mood.WORKING, Mood.OUTSIDE) if c not in self.flying]
            last = owner.get(step.connection)
            if not step.acknowledged and last is not None:
                return last
            if len(busy) == 1:
                owner[step.connection] = busy[0]
            elif not guess and last not in self._ground.dead and any(self.mood[c] is Mood.OUTSIDE for c in busy):
                return None
            elif last not in busy:
                raise EnvironmentProblem(
                    f"a statement came and it is not clear whose it is ({step.text[:80]}); is there traffic of another "
                    "program, or of the service itself? Name the service's own in target.background. Do several requests wait "
                    "for one connection? Mark each request's statements with a comment such as /*client='1'*/"
                )
        return owner[step.connection]

    def hear_the_last(self) -> Story:
        """The application may be done before the proxy has reported the answer that it got, or the end of a connection."""
        while self.over and (self.flying or self.leaving):
            item = yield STUCK_AFTER
            if item is None:
                return
            self._take(item)

    def finish(self) -> Story:
        """Let whoever is left run to the end, uncontrolled, and forget what was still said."""
        limit = time.monotonic() + STUCK_AFTER
        while any(mood not in (Mood.DONE, Mood.IDLE) for mood in self.mood.values()):
            item = yield max(limit - time.monotonic(), 0.01)
            if item is None and time.monotonic() > limit:
                raise EnvironmentProblem("a client did not end after it was let go; its target hangs")
            if isinstance(item, tuple):
                self._take(item)


def _may_let_go(step: Step, footprint: Footprint) -> bool:
    """Tell whether a step may release locks: the end of a transaction or savepoint, an unlock, or what is not understood."""
    return (
        footprint.publishes
        or footprint.unknown
        or bool(footprint.at_once)
        or step.kind not in (StepKind.READ, StepKind.WRITE, StepKind.BEGIN)
    )
