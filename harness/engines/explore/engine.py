"""Explores a scenario on a target: every interleaving that matters, each from the same scene, each judged.

The scene is set once; before each run the store is put back to it. Coverage is labelled for what it is: ``exhaustive`` only when
the whole tree was searched; ``preemptions<=N`` when all interleavings with at most N voluntary switches were; else ``sampled N``.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from harness.engines.client import Client
from harness.engines.explore.footprints import Footprints, Schema, read_schema
from harness.engines.explore.scene import MongoScene, PostgresScene, Scene
from harness.engines.explore.search import Follow, Search, preemptions
from harness.engines.explore.stage import Chooser, Run, Stage
from harness.engines.explore.token import short
from harness.model.books import Books
from harness.model.errors import EnvironmentProblem
from harness.model.finding import Finding, FindingClass
from harness.model.history import History
from harness.model.operation import Call, Failure, Operation, Outcome
from harness.model.scenario import Scenario, Seat
from harness.stores.base import Database, StoreKind
from harness.targets.base import Target
from harness.targets.books_reader import read_books
from harness.wire.opening import open_proxy
from harness.wire.postgres.blocking import blocked_pids, strangers

BOUNDS = (0, 1, 2)
"""Preemption bounds that are searched in turn when the whole tree does not fit the budget."""

Judge = Callable[[History, Books], Sequence[Finding]]


@dataclass(frozen=True, kw_only=True)
class ExplorePlan:
    """What to explore: ``operations`` calls for each of ``clients``; ``budget`` is in seconds."""

    target: Target
    database: Database
    scenario: Scenario
    settings: Mapping[str, Any] = field(default_factory=dict)
    clients: int = 2
    operations: int = 1
    seed: int = 0
    budget: float = 60.0
    reduce: bool = True
    stop_at_first: bool = True


@dataclass(frozen=True, kw_only=True)
class Found:
    """An interleaving that broke something: its findings, how it went, and its history and books."""

    findings: Sequence[Finding]
    run: Run
    history: History
    books: Books


@dataclass(frozen=True, kw_only=True)
class ExploreOutcome:
    """What the exploration found and how much of the tree it saw.

    ``explored`` counts interleavings that were carried out and judged, ``cut_short`` those that were left because everything
    below was seen already, ``diverged`` those whose prefix did not repeat. ``failing`` is how many of the explored were bad.
    """

    explored: int
    failing: int
    cut_short: int
    diverged: int
    coverage: str
    seconds: float
    found: Found | None
    history: History
    books: Books


class _List:
    """Takes a run's events as values."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._open: dict[int, tuple[int, Mapping[str, Any]]] = {}

    def invoke(self, *, process: int, client: int, f: str, token: str, arguments: Mapping[str, Any]) -> int:
        at = time.monotonic_ns()
        self._open[process] = (at, arguments)
        return at

    def complete(
        self,
        *,
        process: int,
        client: int,
        f: str,
        token: str,
        outcome: Outcome,
        at: int,
        attempts: int = 1,
        result: Mapping[str, Any] | None = None,
        failure: Failure | None = None,
    ) -> None:
        invoked, arguments = self._open.pop(process)
        self.operations.append(
            Operation(
                process=process,
                client=client,
                f=f,
                token=token,
                arguments=arguments,
                invoked=invoked,
                completed=at,
                outcome=outcome,
                result=result,
                failure=failure,
                attempts=attempts,
            )
        )


class ExploreEngine:
    """Explores a plan. Use it as a context manager: it owns a proxy, threads and control connections.

    Args:
        plan: what to explore. The target is installed already, and the scenario's opening calls were made.
        judge: what is wrong with a history and its books.
        opening: the history of the opening calls, part of every run's.
    """

    def __init__(self, plan: ExplorePlan, judge: Judge, opening: Iterable[Operation] = ()) -> None:
        self._plan = plan
        self._judge = judge
        self._opening = list(opening)
        self._proxy = open_proxy(plan.database.kind.value, plan.database.url)
        self._scene: Scene
        self._control: psycopg.Connection[Any] | None = None
        if plan.database.kind is StoreKind.POSTGRES:
            self._control = psycopg.connect(plan.database.url, autocommit=True, application_name="racegate control")
            schema = read_schema(self._control)
            self._scene = PostgresScene(plan.database.url)
        else:
            schema = Schema()
            self._scene = MongoScene(plan.database)
        self._stage = Stage(self._proxy, self._blocked, Footprints(schema), plan.clients)
        self._clients: list[Client] = []
        self._recorder = _List()
        proxied = replace(plan.database, url=self._proxy.url, shown=self._proxy.shown)
        for number in range(plan.clients):
            client = Client(
                number=number,
                clients=plan.clients,
                connect=lambda n=number: plan.target.connect(proxied, n),  # type: ignore[misc]
                record=self._recorder,
                clock=time.monotonic_ns,
            )
            self._clients.append(client)

    def __enter__(self) -> ExploreEngine:
        self._scene.remember()
        for number, client in enumerate(self._clients):
            self._stage.connect(number, client.open)
        if self._control is not None:
            ours = [o.backend for o in self._proxy.open_connections().values()] + [
                *self._scene.backends(),
                self._control.info.backend_pid,
            ]
            if found := strangers(self._control, ours):
                raise EnvironmentProblem(
                    f"there is traffic that does not go through the proxy: {found[0]}; it cannot be controlled"
                )
        return self

    def __exit__(self, *error: object) -> None:
        for number, client in enumerate(self._clients):
            with suppress(Exception):  # a goodbye that fails changes nothing
                self._stage.uncontrolled(number, client.close)
        self._stage.close()
        self._proxy.close()
        self._scene.close()
        if self._control is not None:
            self._control.close()

    def _blocked(self, backends: Sequence[int]) -> set[int]:
        if self._control is not None:
            return set(blocked_pids(self._control, backends))
        return self._scene.waiting(backends)

    def explore(self, observe: Callable[[int, float], None] = lambda explored, seconds: None) -> ExploreOutcome:
        """Search until something breaks, the tree is exhausted, or the budget is spent."""
        state = _Tally(limit=time.monotonic() + self._plan.budget, observe=observe)
        search = Search(reduce=self._plan.reduce)
        self._search(search, state, share=0.6)
        coverage = "exhaustive" if search.exhausted else f"sampled {state.explored}"
        if not search.exhausted and not (state.found and self._plan.stop_at_first):
            for bound in BOUNDS:
                bounded = Search(reduce=False, preemptions=bound)
                self._search(bounded, state, share=1.0)
                if not bounded.exhausted:
                    break
                coverage = f"preemptions<={bound}"
            else:
                self._sample(state)
        if state.found and self._plan.stop_at_first and not search.exhausted:
            coverage = f"sampled {state.explored}"
        return ExploreOutcome(
            explored=state.explored,
            failing=state.failing,
            cut_short=state.cut_short,
            diverged=state.diverged,
            coverage=coverage,
            seconds=time.monotonic() - state.began,
            found=state.found,
            history=state.history,
            books=state.books,
        )

    def _search(self, search: Search, state: _Tally, *, share: float) -> None:
        limit = state.began + (state.limit - state.began) * share
        while not search.exhausted and time.monotonic() < limit and not (state.found and self._plan.stop_at_first):
            followed = [(p.chosen, tuple(sorted(p.enabled))) for p in search.path]
            search.begin()
            run = self._perform(search, state)
            if any(seen != wanted for seen, wanted in zip(zip(run.choices, run.enabled, strict=True), followed, strict=False)):
                state.diverged += 1
            search.end()

    def _sample(self, state: _Tally) -> None:
        chance = random.Random(self._plan.seed)

        class Anybody:
            def choose(self, enabled: Mapping[int, object]) -> int:
                return chance.choice(sorted(enabled))

        while time.monotonic() < state.limit and not (state.found and self._plan.stop_at_first):
            self._perform(Anybody(), state)

    def _perform(self, chooser: Chooser, state: _Tally) -> Run:
        run, history, books = self.once(chooser)
        if not run.complete:
            state.cut_short += 1
            return run
        state.explored += 1
        state.history, state.books = history, books
        findings = [f for f in self._judge(history, books) if f.finding_class is not FindingClass.COST]
        if findings:
            state.failing += 1
            if state.found is None:
                state.found = Found(findings=findings, run=run, history=history, books=books)
        state.observe(state.explored, time.monotonic() - state.began)
        return run

    def once(self, chooser: Chooser) -> tuple[Run, History, Books]:
        """Carry out one interleaving from the scene and read its books."""
        self._scene.restore()
        self._recorder.operations.clear()
        run = self._stage.run([self._job(client) for client in self._clients], chooser)
        run.operations = sorted(self._recorder.operations, key=lambda o: o.invoked)
        history = History.of([*self._opening, *run.operations])
        books = read_books(self._plan.database, self._plan.target.books()) if run.complete else Books(complete=False)
        return run, history, books

    def _job(self, client: Client) -> Callable[[], None]:
        plan = self._plan

        def job() -> None:
            seat = Seat(
                client=client.number,
                clients=plan.clients,
                random=random.Random(f"{plan.seed}/{client.number}/0"),
                settings=plan.settings,
            )
            program = plan.scenario.program(seat)
            call: Call | None = next(program, None)
            for _ in range(plan.operations):
                if call is None:
                    return
                operation = client.perform(replace(call, fault=None, think=0.0))
                try:
                    call = program.send(operation)
                except StopIteration:
                    return

        return job

    def replay(self, choices: Sequence[int]) -> tuple[Run, Sequence[Finding]]:
        """Repeat given choices and return the run with its findings."""
        run, history, books = self.once(Follow(choices))
        return run, [f for f in self._judge(history, books) if f.finding_class is not FindingClass.COST]

    def shrink(self, found: Found, *, until: float) -> Found:
        """Merge switches: look for an interleaving with fewer preemptions that breaks the same invariant."""
        wanted = {f.invariant for f in found.findings}
        best = found
        improved = True
        while improved and time.monotonic() < until:
            improved = False
            for candidate in _merged(best.run.choices):
                run, history, books = self.once(Follow(candidate))
                findings = [f for f in self._judge(history, books) if f.finding_class is not FindingClass.COST]
                fewer = _switches(run) < _switches(best.run)
                if fewer and wanted & {f.invariant for f in findings}:
                    best = Found(findings=findings, run=run, history=history, books=books)
                    improved = True
                    break
                if time.monotonic() > until:
                    break
        return best


@dataclass
class _Tally:
    limit: float
    observe: Callable[[int, float], None]
    began: float = field(default_factory=time.monotonic)
    explored: int = 0
    failing: int = 0
    cut_short: int = 0
    diverged: int = 0
    found: Found | None = None
    history: History = field(default_factory=lambda: History.of([]))
    books: Books = field(default_factory=Books)


def _switches(run: Run) -> int:
    return preemptions(run.choices, [dict.fromkeys(e) for e in run.enabled])


def _merged(choices: Sequence[int]) -> Iterable[list[int]]:
    """Yield the choices with one block of a client's steps moved to its client's block before or after it."""
    blocks: list[tuple[int, int]] = []
    for client in choices:
        if blocks and blocks[-1][0] == client:
            blocks[-1] = (client, blocks[-1][1] + 1)
        else:
            blocks.append((client, 1))
    for at, (client, _) in enumerate(blocks):
        for other in range(at + 2, len(blocks)):
            if blocks[other][0] == client:
                moved = [*blocks[: at + 1], blocks[other], *blocks[at + 1 : other], *blocks[other + 1 :]]
                yield [c for c, count in moved for _ in range(count)]
                later = [*blocks[:at], *blocks[at + 1 : other], blocks[at], *blocks[other:]]
                yield [c for c, count in later for _ in range(count)]
                break


def fingerprints(run: Run) -> list[tuple[str, str]]:
    """Return each step's short fingerprint with its text."""
    return [(short(row.step.fingerprint), row.step.text) for row in run.rows]
