"""Runs one interleaving on real connections.

Each client is a thread with a connection of its own that goes through a wire proxy.

The scheduler is a generator that is carried on in the proxy's own thread (`_Carrier`): it yields how long it is willing to wait
and is sent what happened. So between a step's arrival and its release no other thread is woken; the thread that asked for the
run sleeps until it is over. With a thread and a queue in between, a run of eight steps took twice the time.
"""

from __future__ import annotations

import queue
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from harness.engines.explore.footprints import Footprint, Footprints
from harness.engines.explore.moves import NO_FAULTS, FaultPlan, Move
from harness.engines.explore.play import STUCK_AFTER, Ground, Play, Run, Story
from harness.engines.explore.worker import Worker
from harness.model.errors import EnvironmentProblem
from harness.wire.base import WireProxy


class Chooser(Protocol):
    """Who decides: `Search`, `Follow`, or one that draws lots."""

    def choose(self, enabled: dict[Move, Footprint], twins: frozenset[int] = frozenset()) -> Move | None:
        """Return the next move, or None to cut the run short; ``twins`` would do what another one does."""


class Stage:
    """The clients, their connections, and who is where.

    Args:
        proxy: holds the connections.
        blocked: which of these backends wait, and for which others of them; asked of the database.
        footprints: of steps.
        clients: how many.
        faults: what may go wrong, if the chooser wants it to.
        alike: sets of clients that do the same but for names.
        here: clients whose code runs in their own thread, and not in a service somewhere: being killed ends it.
    """

    def __init__(
        self,
        proxy: WireProxy,
        blocked: Callable[[Sequence[int]], Mapping[int, Sequence[int]]],
        footprints: Footprints,
        clients: int,
        faults: FaultPlan = NO_FAULTS,
        alike: Sequence[frozenset[int]] = (),
        here: frozenset[int] = frozenset(),
    ) -> None:
        self._ground = Ground(
            proxy=proxy, ask=blocked, kill=self._kill, footprints=footprints, faults=faults, alike=alike, here=here
        )
        self._here = here
        self._proxy = proxy
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._carrier: _Carrier | None = None
        self.workers = [Worker(n, self._hear) for n in range(clients)]

    def connect(self, client: int, open_connection: Callable[[], None]) -> None:
        """Let a client connect, uncontrolled, and note which connections are its own."""
        before = set(self._proxy.open_connections())
        self.workers[client].do(open_connection)
        self._wait_done({client})
        for number, opened in self._proxy.open_connections().items():
            if number not in before:
                self._ground.owner[number] = client
                self._ground.backend[number] = opened.backend

    def _kill(self, client: int) -> None:
        if client in self._here:
            self.workers[client].kill()

    def allow(self, faults: FaultPlan) -> None:
        """Let these faults happen from the next interleaving on."""
        self._ground.faults = faults

    def let_through(self, patterns: Sequence[str]) -> None:
        """Let statements that match one of these regular expressions pass: they are the application's own, not a client's."""
        self._ground.background = re.compile("|".join(f"(?:{p})" for p in patterns)) if patterns else None

    def adopt(self) -> None:
        """Take over the connections as they are: a service's pool opens and closes them when it likes."""
        opened = self._proxy.open_connections()
        self._ground.backend = {number: o.backend for number, o in opened.items()}
        self._ground.owner = {number: client for number, client in self._ground.owner.items() if number in opened}

    def alive(self, client: int) -> bool:
        """Tell whether a client was not killed in this run."""
        return client not in self._ground.dead

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

    def _hear(self, item: tuple[str, Any]) -> None:
        """Take in what a client's thread says: for the run if there is one, else for whoever waits."""
        carrier = self._carrier
        if carrier is None:
            self._said.put(item)
        else:
            self._in_turns(2, lambda: carrier.hear(item))

    def _in_turns(self, turns: int, action: Callable[[], None]) -> None:
        """Act after so many turns of the proxy's loop, when what the client sent before has been read."""
        self._proxy.post((lambda: self._in_turns(turns - 1, action)) if turns else action)

    def run(self, jobs: Sequence[Callable[[], None]], chooser: Chooser) -> Run:
        """Let the jobs race, one per client, in the order that the chooser decides."""
        play = Play(self._ground, len(jobs))
        self._ground.footprints.reset()
        self._ground.dead.clear()
        self._carrier = _Carrier(self._proxy, self._story(play, jobs, chooser))
        try:
            self._carrier.carry()
        finally:
            self._carrier = None
        if play.trouble is not None:
            raise play.trouble
        return play.run

    def _story(self, play: Play, jobs: Sequence[Callable[[], None]], chooser: Chooser) -> Story:
        try:
            for worker, job in zip(self.workers, jobs, strict=True):
                yield from play.start(worker, job)  # one after another: a connection that is opened late has one owner
            while not play.over:
                enabled = play.moves()
                if not enabled:
                    yield from play.until_quiet(stirred=True)
                    continue
                chosen = chooser.choose(enabled, play.twins())
                if chosen is None:
                    play.run.complete = False
                    break
                play.make(chosen, enabled)
                yield from play.until_quiet()
            yield from play.hear_the_last()
        finally:
            self._proxy.passthrough()
            yield from play.finish()

    def close(self) -> None:
        """End the threads."""
        for worker in self.workers:
            worker.close()


class _Carrier:
    """Carries a story on in the proxy's thread."""

    def __init__(self, proxy: WireProxy, story: Story) -> None:
        self._proxy = proxy
        self._story = story
        self._heard: deque[Any] = deque()
        self._going = False
        self._call_off: Callable[[], None] | None = None
        self._over: Future[None] = Future()

    def carry(self) -> None:
        """Tell the story from its beginning to its end, and raise what it raised."""
        self._proxy.post(self._begin)
        self._over.result()

    def hear(self, item: Any) -> None:
        """Something happened. In the loop."""
        self._heard.append(item)
        if not self._going:
            self._go_on(self._heard.popleft())

    def _begin(self) -> None:
        self._going = True  # letting go of what was held before may already be reported
        self._proxy.control(self.hear)
        self._go_on(None)

    def _waited(self) -> None:
        self._call_off = None
        self._go_on(None)

    def _go_on(self, item: Any) -> None:
        self._going = True
        if self._call_off is not None:
            self._call_off()
            self._call_off = None
        try:
            patience = self._story.send(item)
            while self._heard:
                patience = self._story.send(self._heard.popleft())
        except StopIteration:
            self._over.set_result(None)
        except BaseException as e:  # noqa: BLE001 - raised where the run was asked for
            self._over.set_exception(e)
        else:
            self._call_off = self._proxy.call_later(patience, self._waited)
            self._going = False
