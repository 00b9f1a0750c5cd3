"""The parent's side of a load run: starts Locust's processes, hears them, ends them, and says what became of them.

A worker's final word counts what it did; a worker that goes without one is lost, and the run with it cannot pass whatever
the others say, so it is ended. The parent itself imports neither Locust nor gevent.
"""

from __future__ import annotations

import contextlib
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.engines.load.channel import Channel
from harness.engines.load.measures import total
from harness.engines.load.plan import LoadPlan, Page, Part
from harness.engines.stress import Progress
from harness.model.errors import EnvironmentProblem, RacegateError, UnsafeStore, UsageError
from harness.recording.recorder import now

START_LIMIT = 120.0
"""Seconds within which every process must have imported Locust and be ready."""

END_LIMIT = 75.0
"""Seconds, beyond the grace, within which a run that was told to stop must be over; Locust's master itself waits 60."""

LEAVE_LIMIT = 5.0
"""Seconds within which a process that has nothing left to do must be gone."""

POLL = 0.1

_ERRORS: Mapping[str, type[RacegateError]] = {e.__name__: e for e in (UsageError, EnvironmentProblem, UnsafeStore)}


@dataclass(frozen=True, kw_only=True)
class LoadOutcome:
    """What happened to the processes and clients, apart from the history.

    ``finals`` are the workers' final words; ``lost`` names processes that went without one; ``requests`` and ``errors`` are
    Locust's own counts; ``interrupted`` tells that somebody stopped the run before its time; ``hosts`` what became of the
    histories of workers that have another file system or clock.
    """

    seconds: float
    finals: tuple[Mapping[str, Any], ...] = ()
    lost: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()
    stuck: tuple[tuple[int, float], ...] = ()
    requests: int = 0
    errors: int = 0
    interrupted: bool = False
    hosts: tuple[Mapping[str, Any], ...] = ()

    def counts(self) -> dict[str, int]:
        """Return what the workers counted, added up."""
        return total(final["counts"] for final in self.finals)


@dataclass
class _Process:
    name: str
    part: Part
    popen: subprocess.Popen[bytes]
    channel: Channel
    ready: bool = False
    gone: bool = False
    prepared: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    users: int = 0
    final: Mapping[str, Any] | None = None

    @property
    def works(self) -> bool:
        """Whether it has clients."""
        return self.part.role != "master"

    def begin_round(self) -> None:
        """Forget the round before."""
        self.prepared, self.counts, self.users, self.final = False, {}, 0, None


@dataclass
class _Round:
    """What is known of the round that runs, the ``number``-th. Times are ns."""

    number: int
    plan: LoadPlan
    observe: Callable[[Progress], None]
    hear: Callable[[str, Mapping[str, Any]], None]
    began: int = 0
    ended: int = 0
    stop_at: int | None = None
    stopped: bool = False
    lost: list[str] = field(default_factory=list)
    requests: int = 0
    errors: int = 0

    @property
    def limit(self) -> int | None:
        """When it must be over, whatever its processes say."""
        plan, limits = self.plan, []
        if plan.duration is not None and plan.duration < float("inf"):
            limits.append(self.began + int((plan.duration + plan.grace + END_LIMIT) * 1e9))
        if self.stop_at is not None:
            limits.append(self.stop_at + int((plan.grace + END_LIMIT) * 1e9))
        return min(limits, default=None)


class LoadEngine:
    """Locust's processes, and the runs that they make one after another. Use it as a context manager.

    Args:
        processes: how many have clients; with more than one there is a master besides.
        logs: folder that receives what Locust has to say, one file a process.
        page: shown in the browser while the engine is there; ``address`` is where.

    Raises:
        EnvironmentProblem: on entering, a process could not start, or a driver is frozen.
    """

    def __init__(self, *, processes: int, logs: Path, page: Page | None = None) -> None:
        self._count = processes
        self._page = page
        self._wanted: deque[Mapping[str, Any]] = deque()
        self.address: str | None = None
        self._logs = logs
        self._processes: list[_Process] = []
        self._selector = selectors.DefaultSelector()
        self._round: _Round | None = None
        self._rounds = 0
        self._interrupts = 0
        self._aborted = False

    def __enter__(self) -> Self:
        try:
            self._start_all()
            self._await(lambda p: p.ready, "did not start")
        except BaseException:
            self._end_all()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end_all()

    def run(
        self,
        plan: LoadPlan,
        observe: Callable[[Progress], None] = lambda progress: None,
        hear: Callable[[str, Mapping[str, Any]], None] = lambda name, message: None,
    ) -> LoadOutcome:
        """Run the plan from the first client to the last final word.

        ``observe`` is told the progress a few times a second; ``hear`` what each process says of its own, by its name.

        Raises:
            EnvironmentProblem: a process is gone, or the history could not be written.
            UsageError: the target or the scenario cannot be sent to another process.
        """
        if ended := [p.name for p in self._processes if p.gone]:
            raise EnvironmentProblem(f"Locust's {', '.join(ended)} is gone since an earlier run; start racegate again")
        self._rounds += 1
        round = self._round = _Round(number=self._rounds, plan=plan, observe=observe, hear=hear)
        self._aborted = False
        self._interrupts = 0
        with self._interrupts_counted():
            for process in self._processes:
                process.begin_round()
                self._send_plan(process, round)
            self._await(lambda p: p.prepared, "did not take the plan")
            round.began = now()
            self._control.channel.send({"order": "go"})
            self._watch(round)
            return self._outcome(round)

    def next_wanted(self) -> Mapping[str, Any] | None:
        """Wait until somebody presses Start on the page, and return the form; None once it is over: Ctrl-C.

        Raises:
            EnvironmentProblem: a process is gone.
        """
        self._round = None
        with self._interrupts_counted():
            while not self._interrupts:
                if self._wanted:
                    return self._wanted.popleft()
                self._hear(POLL)
        return None

    def tell(self, order: str, **more: Any) -> None:
        """Tell the page something: ``live``, ``refused`` or ``verdict``. May be called from any thread."""
        self._control.channel.send({"order": order, **more})

    def abort(self) -> None:
        """End the run that goes on, in good order. May be called from any thread."""
        self._aborted = True

    @property
    def interrupted(self) -> bool:
        """Whether there was a Ctrl-C."""
        return bool(self._interrupts)

    @property
    def _control(self) -> _Process:
        return self._processes[0]

    @property
    def _workers(self) -> list[_Process]:
        return [p for p in self._processes if p.works]

    def _start_all(self) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        if self._count == 1:
            self._start(Part(role="local", number=0, processes=1, page=self._page))
            return
        self._start(Part(role="master", number=-1, processes=self._count, page=self._page))
        for number in range(self._count):
            self._start(Part(role="worker", number=number, processes=self._count))

    def _start(self, part: Part) -> None:
        ours, theirs = socket.socketpair()
        name = f"worker {part.number}" if part.role == "worker" else part.role
        with theirs, self._log(name).open("wb") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", "harness.engines.load", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        process = _Process(name=name, part=part, popen=popen, channel=Channel.of_parent(ours))
        self._processes.append(process)
        self._selector.register(process.channel, selectors.EVENT_READ, process)
        process.channel.send(sys.path)
        process.channel.send(part)

    @staticmethod
    def _send_plan(process: _Process, round: _Round) -> None:
        try:
            process.channel.send({"order": "plan", "plan": round.plan, "round": round.number})
        except (AttributeError, TypeError, pickle.PicklingError) as e:
            raise UsageError(
                f"the target or the scenario cannot be sent to another process ({e}); define it at the top of a module"
            ) from e

    def _watch(self, round: _Round) -> None:
        while not self._is_over(round):
            self._hear(POLL)
            round.observe(self._progress(round))
            if (self._interrupts or self._aborted) and round.stop_at is None:
                self._stop(round)
            if round.limit is not None and now() > round.limit:
                round.lost += [f"{p.name} did not end in time" for p in self._workers if p.final is None and not p.gone]
                break
        round.ended = round.ended or now()
        round.observe(self._progress(round))

    def _is_over(self, round: _Round) -> bool:
        workers_over = all(p.gone or p.final is not None for p in self._workers)
        return workers_over and (round.stopped or bool(round.lost))  # a master waits long for a worker that is no more

    def _stop(self, round: _Round) -> None:
        """Let operations complete; without a master the workers are told one by one."""
        round.stop_at = now()
        for process in self._workers if self._control.gone else [self._control]:
            process.channel.send({"order": "stop"})

    def _hear(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            process: _Process = key.data
            messages = process.channel.receive_some()
            if messages is None:
                self._gone(process)
                continue
            for message in messages:
                self._take(process, message)

    def _take(self, process: _Process, message: Mapping[str, Any]) -> None:
        said, round = message["said"], self._round
        if said == "ready":
            process.ready = True
            self.address = message.get("address") or self.address
        elif said == "port":
            for worker in self._workers:
                worker.channel.send({"order": "port", "port": message["port"]})
        elif said == "wanted":
            self._wanted.append(message["form"])
        elif said == "broken":
            raise _ERRORS.get(message["kind"], EnvironmentProblem)(message["text"])
        elif round is not None and message["round"] == round.number:  # nobody reads between rounds: there may be older ones
            self._take_of(round, process, message)

    @staticmethod
    def _take_of(round: _Round, process: _Process, message: Mapping[str, Any]) -> None:
        """Take in what a process said of the round that runs."""
        said = message["said"]
        if said == "prepared":
            process.prepared = True
        elif said == "progress":
            round.hear(process.name, message)
            process.counts, process.users = message["counts"], message["users"]
        elif said == "final":
            process.final = message
            process.counts = message["counts"]
        elif said == "stopped":
            round.stopped = True
            round.ended = now()
            round.requests, round.errors = message["requests"], message["errors"]

    def _gone(self, process: _Process) -> None:
        """Note that a process ended; before its final word this is a loss, and there is no reason to go on."""
        self._selector.unregister(process.channel)
        process.gone = True
        status = process.popen.wait()
        round = self._round
        if round is None or not round.began:
            raise EnvironmentProblem(f"Locust's {process.name} ended before the run began; its log is {self._log(process.name)}")
        if process.works and process.final is not None:
            return
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        round.lost.append(f"{process.name} (process {process.popen.pid}) {how} after {(now() - round.began) / 1e9:.1f} s")
        self._stop(round)

    def _await(self, condition: Callable[[_Process], bool], what: str) -> None:
        limit = now() + int(START_LIMIT * 1e9)
        while late := [p for p in self._processes if not condition(p)]:
            if now() > limit:
                raise EnvironmentProblem(
                    f"{len(late)} of {len(self._processes)} load processes {what} within {START_LIMIT:.0f} s; is the machine "
                    f"overloaded? The log of the first is {self._log(late[0].name)}"
                )
            self._hear(POLL)
            if self._interrupts:
                raise KeyboardInterrupt

    def _log(self, name: str) -> Path:
        return self._logs / f"{name.replace(' ', '-')}.log"

    def _progress(self, round: _Round) -> Progress:
        counts = total(p.counts for p in self._workers)
        return Progress(
            invoked=counts["invoked"],
            ok=counts["ok"],
            fail=counts["fail"],
            info=counts["info"],
            seconds=((round.ended or now()) - round.began) / 1e9,
        )

    def _outcome(self, round: _Round) -> LoadOutcome:
        finals = tuple(p.final for p in self._workers if p.final is not None)
        return LoadOutcome(
            seconds=(round.ended - round.began) / 1e9,
            finals=finals,
            lost=tuple(round.lost),
            troubles=tuple(trouble for final in finals for trouble in final["troubles"]),
            stuck=tuple((client, seconds) for final in finals for client, seconds in final["stuck"]),
            requests=round.requests,
            errors=round.errors,
            interrupted=bool(self._interrupts),
        )

    def _end_all(self) -> None:
        for process in self._processes:
            process.channel.send({"order": "quit"})
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(LEAVE_LIMIT)
            process.popen.kill()
            process.popen.wait()
            process.channel.close()
        self._selector.close()

    @contextlib.contextmanager
    def _interrupts_counted(self) -> Iterator[None]:
        """Let the first Ctrl-C end the run in good order, and the second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupted(number: int, frame: Any) -> None:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
