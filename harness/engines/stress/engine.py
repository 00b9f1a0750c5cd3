"""The parent's side of a stress run: starts the workers, lets them go together, watches, and ends what is stuck.

A worker that dies (killed by a fault, or by the machine) leaves its clients' open operations unfinished; another process
takes its seats and the run goes on. Nothing here looks at a result: the history files are the evidence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from harness.engines.forks import forks
from harness.engines.stress.plan import StressPlan
from harness.engines.stress.tally import Tally
from harness.engines.stress.worker import work
from harness.model.errors import EnvironmentProblem, UsageError
from harness.recording.recorder import now

START_LIMIT = 60.0
"""Seconds within which every worker must have connected its clients."""

GRACE = 3.0
"""Seconds between asking clients to stop and ending their processes."""

POLL = 0.1
"""Seconds between two looks at the progress."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come: operations invoked so far and their outcomes, seconds since the start."""

    invoked: int
    ok: int
    fail: int
    info: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class StressOutcome:
    """What happened to the clients and processes, apart from the history.

    ``stuck`` names clients that were still busy at the budget, with the seconds that they had been; ``restarted`` counts
    processes that died and were replaced; ``troubles`` are sentences about clients that had to give up.
    """

    seconds: float
    restarted: int = 0
    stuck: tuple[tuple[int, float], ...] = ()
    troubles: tuple[str, ...] = ()


@dataclass
class _Worker:
    number: int
    life: int
    process: BaseProcess
    pipe: Pipe
    ready: bool = False
    done: bool = False


@dataclass
class _State:
    workers: dict[int, _Worker] = field(default_factory=dict)
    restarted: int = 0
    troubles: list[str] = field(default_factory=list)
    stopping: bool = False


class StressEngine:
    """Runs a plan. ``observe`` is told the progress a few times a second, in the caller's thread."""

    def __init__(self, plan: StressPlan, observe: Callable[[Progress], None] = lambda progress: None) -> None:
        self._plan = plan
        self._observe = observe
        self._context = forks(plan.target)

    def run(self) -> StressOutcome:
        """Run from the barrier to the last client's end.

        Raises:
            EnvironmentProblem: the clients could not connect, or the history could not be written.
            UsageError: the target or the scenario cannot be sent to another process.
        """
        plan, state = self._plan, _State()
        tally = Tally(plan.folder / "tally", clients=plan.clients)
        try:
            for number in range(plan.processes):
                self._start(state, number, life=0)
            self._await_ready(state)
            began = now()
            self._order(state, "go")
            stuck = self._watch(state, tally, began)
            return StressOutcome(
                seconds=(now() - began) / 1e9,
                restarted=state.restarted,
                stuck=tuple(stuck),
                troubles=tuple(state.troubles),
            )
        finally:
            for worker in state.workers.values():
                worker.process.kill()
                worker.process.join()
                worker.pipe.close()
            tally.close()

    def _start(self, state: _State, number: int, *, life: int) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(self._plan, number, life, theirs), daemon=True)
        try:
            process.start()
        except (AttributeError, TypeError) as e:  # pickle's way of saying it cannot
            raise UsageError(
                f"the target or the scenario cannot be sent to another process ({e}); define it at the top of a module"
            ) from e
        theirs.close()
        state.workers[number] = _Worker(number=number, life=life, process=process, pipe=ours)

    def _await_ready(self, state: _State) -> None:
        limit = time.monotonic() + START_LIMIT
        while waiting := [w for w in state.workers.values() if not w.ready]:
            left = limit - time.monotonic()
            if left <= 0:
                raise EnvironmentProblem(
                    f"{len(waiting)} of {len(state.workers)} client processes did not connect within {START_LIMIT:.0f} s; "
                    "is the machine overloaded, or the store out of connections?"
                )
            for pipe in wait([w.pipe for w in waiting], timeout=left):
                worker = next(w for w in waiting if w.pipe is pipe)
                kind, text = self._receive(worker)
                if kind == "ready":
                    worker.ready = True
                else:
                    raise EnvironmentProblem(f"a client could not start: {text or 'its process died'}")

    def _watch(self, state: _State, tally: Tally, began: int) -> list[tuple[int, float]]:
        plan = self._plan
        budget_at = began + int(plan.budget * 1e9)
        stop_at = budget_at if plan.duration is None else min(budget_at, began + int(plan.duration * 1e9))
        kill_at = None
        stuck: list[tuple[int, float]] = []
        while running := [w for w in state.workers.values() if not w.done]:
            for item in wait([x for w in running for x in (w.pipe, w.process.sentinel)], timeout=POLL):
                worker = next(w for w in running if item is w.pipe or item == w.process.sentinel)
                if not worker.done:
                    self._hear(state, worker, item)
            self._observe(Progress(**tally.totals(), seconds=(now() - began) / 1e9))
            if not state.stopping and now() >= stop_at:
                state.stopping = True
                self._order(state, "stop")
            if state.stopping and kill_at is None:
                kill_at = now() + int(GRACE * 1e9)
            if kill_at is not None and now() >= kill_at:
                stuck = _still_busy(plan, tally, state)
                break
        self._observe(Progress(**tally.totals(), seconds=(now() - began) / 1e9))
        return stuck

    def _hear(self, state: _State, worker: _Worker, item: Any) -> None:
        if item is worker.pipe:
            kind, text = self._receive(worker)
        else:  # the process ended; what it still said comes first
            while worker.pipe.poll():
                kind, text = self._receive(worker)
                if kind in ("gone", "done"):
                    break
                self._note(state, kind, text)
            else:
                kind, text = "gone", None
        if kind == "ready":
            worker.ready = True
            worker.pipe.send("go")
        elif kind == "done":
            worker.done = True
        elif kind == "gone":
            self._replace(state, worker)
        else:
            self._note(state, kind, text)

    def _note(self, state: _State, kind: str, text: str | None) -> None:
        if kind == "full":
            raise EnvironmentProblem(text or "the history could not be written")
        if kind in ("trouble", "broken") and text:
            state.troubles.append(text)

    def _replace(self, state: _State, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        worker.done = True
        if state.stopping:
            return
        state.restarted += 1
        self._start(state, worker.number, life=worker.life + 1)

    def _order(self, state: _State, order: str) -> None:
        for worker in state.workers.values():
            if worker.done:
                continue
            try:
                worker.pipe.send(order)
            except OSError:  # it is dying; its sentinel says so next
                continue

    @staticmethod
    def _receive(worker: _Worker) -> tuple[str, str | None]:
        try:
            kind, text = worker.pipe.recv()
        except (EOFError, OSError):
            return "gone", None
        return kind, text


def _still_busy(plan: StressPlan, tally: Tally, state: _State) -> list[tuple[int, float]]:
    at = now()
    late = [c for w in state.workers.values() if not w.done for c in plan.seats(w.number)]
    return [(c, (at - since) / 1e9) for c in sorted(late) if (since := tally.read(c)["busy_since"])]
