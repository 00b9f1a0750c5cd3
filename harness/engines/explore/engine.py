"""Explores a piece on a store: every interleaving that matters, each from the same scene, each judged.

The scene is set once; before each run the store is put back to it. Coverage is labelled for what it is: ``exhaustive`` only when
the whole tree was searched; ``preemptions<=N`` when all interleavings with at most N voluntary switches were; else ``sampled N``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg

from harness.engines.explore.bypass import Bypass, MongoBypass, PostgresBypass
from harness.engines.explore.footprints import WORLD, Footprints, read_mongo_schema, read_schema
from harness.engines.explore.moves import NO_FAULTS, FaultPlan, Move
from harness.engines.explore.piece import Ending, Piece
from harness.engines.explore.play import Run
from harness.engines.explore.pymongo_patience import impatient
from harness.engines.explore.sampling import lots
from harness.engines.explore.scene import MongoScene, PostgresScene, Scene
from harness.engines.explore.search import Follow, Sample, Search, preemptions
from harness.engines.explore.stage import Chooser, Stage
from harness.engines.explore.token import short
from harness.model.errors import EnvironmentProblem
from harness.model.finding import Finding, FindingClass
from harness.stores.base import Database, StoreKind
from harness.stores.mongo import lasting_transactions
from harness.wire.base import WireProxy
from harness.wire.opening import open_proxy
from harness.wire.postgres.blocking import blocked_pids

BOUNDS = (0, 1, 2)
"""Preemption bounds that are searched in turn when the whole tree does not fit the budget."""


@dataclass(frozen=True, kw_only=True)
class ExplorePlan:
    """How to explore. ``budget`` is in seconds; ``most`` bounds the interleavings, which makes what is seen repeatable; ``audit``
    of those that the reduction leaves out are tried after all.

    ``proxy`` is one that the target speaks through already; without it the engine opens its own. ``background`` are statements
    that are nobody's: they are let through.
    """

    database: Database
    seed: int = 0
    budget: float = 60.0
    most: int | None = None
    reduce: bool = True
    stop_at_first: bool = True
    audit: int = 0
    faults: FaultPlan = NO_FAULTS
    proxy: WireProxy | None = None
    background: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Found:
    """An interleaving that broke something: its findings, how it went, and what came of it."""

    findings: Sequence[Finding]
    run: Run
    ending: Ending


@dataclass(frozen=True, kw_only=True)
class ExploreOutcome:
    """What the exploration found and how much of the tree it saw.

    ``explored`` counts interleavings that were carried out and judged, ``cut_short`` those that were left because everything
    below was seen already, ``diverged`` those whose prefix did not repeat. ``failing`` is how many of the explored were bad,
    ``endings`` how many different endings there were (0 where that cannot be told). ``outside`` are clients that waited
    inside the application. ``out_of_time`` says that the time ended before as many were tried as was asked for.
    ``audited`` interleavings that the reduction had left out were tried after all, and ``missed`` of
    them ended in a way that no explored one did: then the reduction was wrong, and coverage is not called exhaustive.
    """

    explored: int
    failing: int
    cut_short: int
    diverged: int
    coverage: str
    seconds: float
    endings: int
    outside: Sequence[int]
    found: Found | None
    last: Ending | None
    out_of_time: bool = False
    audited: int = 0
    missed: int = 0


class ExploreEngine:
    """Explores a piece. Use it as a context manager: it owns a proxy, threads and control connections.

    Args:
        plan: how to explore. The database is the scene: what it holds now is where every interleaving begins.
        piece: who does what.
    """

    def __init__(self, plan: ExplorePlan, piece: Piece) -> None:
        self._plan = plan
        self._piece = piece
        with ExitStack() as opening:
            self._open(plan, piece, opening)
            self._until_closed = opening.pop_all()

    def _open(self, plan: ExplorePlan, piece: Piece, opening: ExitStack) -> None:
        self._proxy = plan.proxy or open_proxy(plan.database.kind.value, plan.database.url)
        self._scene: Scene
        self._control: psycopg.Connection[Any] | None = None
        if plan.database.kind is StoreKind.POSTGRES:
            self._control = psycopg.connect(plan.database.url, autocommit=True, application_name="racegate control")
            schema = read_schema(self._control)
            self._scene = PostgresScene(plan.database.url, piece.queries)
            self._bypass: Bypass = PostgresBypass(self._control, self._proxy, self._scene.backends)
        else:
            opening.enter_context(impatient())
            scene = MongoScene(plan.database, piece.queries)
            if self._elsewhere:  # catalogues share their servers between explorations and runs that need them to be impatient
                opening.enter_context(lasting_transactions(scene.client))
            self._scene = scene
            schema = read_mongo_schema(scene.client[plan.database.name])
            self._bypass = MongoBypass(scene.client, self._proxy, plan.database.name)
        self._footprints = Footprints(schema)
        self._stage = Stage(self._proxy, self._blocked, self._footprints, piece.clients, plan.faults, piece.alike, piece.here)
        self._stage.let_through(plan.background)
        self._judged: dict[Hashable, Sequence[Finding]] = {}
        self._wrongs: set[frozenset[str]] = set()
        self._touched: frozenset[str] | None = None
        self._fresh = False
        """Clients begin anew for every run."""

    @property
    def _elsewhere(self) -> bool:
        """Whether clients' code may run in another process, which keeps connections of its own."""
        return self._plan.proxy is not None or len(self._piece.here) < self._piece.clients

    @property
    def url(self) -> str:
        """The proxied URL, which the clients connect to."""
        return self._proxy.url

    def __enter__(self) -> ExploreEngine:
        try:
            self._scene.remember()
            self._piece.remember(self._scene.read())
            for client in range(self._piece.clients):
                self._enter(client)
            self._bypass.begin()
            self._fresh = self._scene.sessions_remember or self._clients_remember()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _clients_remember(self) -> bool:
        """Carry out one interleaving twice, and tell whether the second went another way though it began in the same scene.

        Then a client keeps something from run to run, such as a block of numbers, and must begin anew for each.
        """
        first, one = self.once(Follow([]))
        self._bypass.look()
        second, other = self.once(Follow([]))
        assert one is not None  # whoever follows never cuts a run short
        assert other is not None
        return fingerprints(first) != fingerprints(second) or one.key != other.key

    def _enter(self, client: int) -> None:
        self._stage.connect(client, lambda: self._piece.enter(client, self._proxy.url))

    def __exit__(self, *error: object) -> None:
        self._leave()
        self.close()

    def _leave(self) -> None:
        for client in range(self._piece.clients):
            with suppress(Exception):  # a goodbye that fails changes nothing
                self._stage.uncontrolled(client, lambda n=client: self._piece.leave(n))  # type: ignore[misc]

    def close(self) -> None:
        """Let go of everything but the clients. Leaving the context does it."""
        self._stage.close()
        if self._plan.proxy is None:
            self._proxy.close()
        self._until_closed.close()
        self._scene.close()
        if self._control is not None:
            self._control.close()

    def allow(self, faults: FaultPlan) -> None:
        """Let these faults happen from the next interleaving on, instead of the plan's."""
        self._stage.allow(faults)

    def _blocked(self, backends: Sequence[int]) -> Mapping[int, Sequence[int]]:
        if self._control is not None:
            return blocked_pids(self._control, backends)
        return dict.fromkeys(self._scene.waiting(backends), ())

    def explore(self, observe: Callable[[int, float], None] = lambda explored, seconds: None) -> ExploreOutcome:
        """Search until something breaks, the tree is exhausted, or the budget is spent."""
        state = _Tally(limit=time.monotonic() + self._plan.budget, observe=observe)
        sample = Sample(self._plan.audit, self._plan.seed)
        search = Search(reduce=self._plan.reduce, sample=sample)
        self._search(search, state, share=0.6)
        if self._plan.proxy is not None and state.explored and not any(state.steps.values()):
            raise EnvironmentProblem(
                "no statement came through the proxy, so nothing was held; "
                "does the service use the database URL that it was given?"
            )
        missed = self._audit(sample, state) if search.exhausted else 0
        coverage = "exhaustive" if search.exhausted and not missed else f"sampled {state.explored}"
        if not search.exhausted and not self._enough(state):
            for bound in BOUNDS:
                bounded = Search(reduce=False, preemptions=bound)
                self._search(bounded, state, share=0.9)
                if not bounded.exhausted:
                    break
                coverage = f"preemptions<={bound}"
            self._sample(state)
            if not coverage.startswith("preemptions"):
                coverage = f"sampled {state.explored}"
        if state.found and self._plan.stop_at_first and not search.exhausted:
            coverage = f"sampled {state.explored}"
        tried = state.explored + state.cut_short
        short = self._plan.most is not None and tried < self._plan.most and not search.exhausted and not self._enough(state)
        return ExploreOutcome(
            explored=state.explored,
            failing=state.failing,
            cut_short=state.cut_short,
            diverged=state.diverged,
            coverage=coverage,
            out_of_time=short,
            seconds=time.monotonic() - state.began,
            endings=len(self._judged),
            outside=sorted(state.outside),
            found=state.found,
            last=state.last,
            audited=len(sample.kept) if search.exhausted else 0,
            missed=missed,
        )

    def _audit(self, sample: Sample, state: _Tally) -> int:
        """Try what was left out; return how many ended in a way of their own. What they break is found like anything else.

        Clients that do the same may have changed places, so endings of twins are compared by what is wrong with them.
        """
        missed = 0
        for moves in sample.kept:
            known, known_wrongs = set(self._judged), set(self._wrongs)
            found = self.replay(moves)
            by_key = found.ending.key is not None and not self._piece.alike
            if found.ending.key not in known if by_key else _wrongs(found.findings) not in known_wrongs:
                missed += 1
                if found.findings and state.found is None:
                    state.found = found
        return missed

    def _enough(self, state: _Tally) -> bool:
        return state.found is not None and self._plan.stop_at_first

    def _search(self, search: Search, state: _Tally, *, share: float) -> None:
        while not search.exhausted and self._goes_on(state, share) and not self._enough(state):
            search.begin()
            self._perform(search, state)
            state.diverged += search.diverged
            search.end()

    def _sample(self, state: _Tally) -> None:
        """Draw interleavings at random, in ways that find what a depth-first search reaches last."""
        choosers = lots(self._plan.seed, clients=self._piece.clients, steps=state.steps)
        while self._goes_on(state, 1.0) and not self._enough(state):
            self._perform(next(choosers), state)

    def _goes_on(self, state: _Tally, share: float) -> bool:
        """Tell whether there is something left of this share: of the interleavings if they are bounded, and of the time.

        Where they are bounded, the time ends the whole and divides nothing: what is seen must not depend on it.
        """
        if self._plan.most is not None:
            return state.explored + state.cut_short < self._plan.most * share and time.monotonic() < state.limit
        return time.monotonic() < state.began + (state.limit - state.began) * share

    def _perform(self, chooser: Chooser, state: _Tally) -> None:
        run, ending = self.once(chooser)
        state.outside |= run.outside
        if ending is None:
            state.cut_short += 1
            return
        state.explored += 1
        state.last = ending
        for client in range(self._piece.clients):
            state.steps[client] = max(state.steps.get(client, 0), sum(m.client == client for m in run.moves))
        findings = self.findings(ending)
        if findings:
            state.failing += 1
            if state.found is None:
                state.found = Found(findings=findings, run=run, ending=ending)
        state.observe(state.explored, time.monotonic() - state.began)

    def findings(self, ending: Ending) -> Sequence[Finding]:
        """Judge an ending, once for all that are alike. Costs are no fault of one interleaving."""
        if ending.key is not None and ending.key in self._judged:
            return self._judged[ending.key]
        findings = [f for f in self._piece.judge(ending) if f.finding_class is not FindingClass.COST]
        if ending.key is not None:
            self._judged[ending.key] = findings
        self._wrongs.add(_wrongs(findings))
        return findings

    def once(self, chooser: Chooser) -> tuple[Run, Ending | None]:
        """Carry out one interleaving from the scene; its ending is None if it was cut short."""
        if self._fresh:
            self._leave()
        self._scene.restore(self._touched)
        self._touched = None
        self._piece.begin()
        if self._elsewhere:
            self._stage.adopt()
        for client in range(self._piece.clients):  # whoever lost its connection begins with a new one, as in the first run
            if not self._piece.entered(client):
                self._enter(client)
        run = self._stage.run([self._job(client) for client in range(self._piece.clients)], chooser)
        if not run.complete:
            return run, None
        self._touched = _written(run, self._footprints)
        return run, self._piece.ending(self._scene.read())

    def _job(self, client: int) -> Callable[[], None]:
        return lambda: self._piece.perform(client, lambda: self._stage.alive(client))

    def replay(self, moves: Sequence[Move]) -> Found:
        """Repeat given moves; the findings may be none."""
        run, ending = self.once(Follow(moves))
        assert ending is not None  # whoever follows never cuts a run short
        return Found(findings=self.findings(ending), run=run, ending=ending)

    def shrink(self, found: Found, *, until: float) -> Found:
        """Look for a smaller interleaving that breaks the same invariant: fewer faults, fewer switches, later faults.

        Args:
            found: where to begin.
            until: the monotonic time at which to stop with the smallest so far.
        """
        wanted = {f.invariant for f in found.findings}
        best = found
        improved = True
        while improved and time.monotonic() < until:
            improved = False
            for candidate in _smaller(best.run.moves):
                again = self.replay(candidate)
                if _size(again.run) < _size(best.run) and wanted & {f.invariant for f in again.findings}:
                    best = again
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
    outside: set[int] = field(default_factory=set)
    steps: dict[int, int] = field(default_factory=dict)
    found: Found | None = None
    last: Ending | None = None


def _wrongs(findings: Sequence[Finding]) -> frozenset[str]:
    return frozenset(f.invariant for f in findings)


def _written(run: Run, footprints: Footprints) -> frozenset[str] | None:
    """Return the tables that a run wrote to, or None when that is not certain."""
    if any(row.footprint.unknown for row in run.rows):
        return None
    names = frozenset[str]().union(*(row.footprint.writes | row.footprint.inserts for row in run.rows))
    return None if WORLD in names else footprints.written(names)


def _size(run: Run) -> tuple[int, int, int]:
    """What makes an interleaving small: few faults, few switches, few steps."""
    faults = sum(bool(m.fault) for m in run.moves)
    return faults, preemptions(run.moves, [dict.fromkeys(e) for e in run.enabled]), len(run.moves)


def _smaller(moves: Sequence[Move]) -> Iterable[list[Move]]:
    """Yield the moves without one of their faults, then with one block of a client's moves beside its client's next block."""
    for at, move in enumerate(moves):
        if move.fault:
            yield [*moves[:at], Move(move.client), *moves[at + 1 :]]
    blocks: list[list[Move]] = []
    for move in moves:
        if blocks and blocks[-1][0].client == move.client:
            blocks[-1].append(move)
        else:
            blocks.append([move])
    for at, block in enumerate(blocks):
        for other in range(at + 2, len(blocks)):
            if blocks[other][0].client == block[0].client:
                yield [m for b in (*blocks[: at + 1], blocks[other], *blocks[at + 1 : other], *blocks[other + 1 :]) for m in b]
                yield [m for b in (*blocks[:at], *blocks[at + 1 : other], block, *blocks[other:]) for m in b]
                break


def fingerprints(run: Run) -> list[tuple[str, str]]:
    """Return each step's short fingerprint with its text."""
    return [(short(row.step.fingerprint), row.step.text) for row in run.rows]
