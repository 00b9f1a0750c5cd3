"""Explores a scenario from start to verdict, and replays a schedule that was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.engines.client import Client
from harness.engines.explore import ExploreEngine, ExploreOutcome, ExplorePlan, Found
from harness.engines.explore.diagram import rows_of
from harness.engines.explore.engine import fingerprints
from harness.engines.explore.moves import NO_FAULTS, Choices, FaultPlan
from harness.engines.explore.piece import MANY_CLIENTS, ScenarioPiece, alike
from harness.engines.explore.token import Schedule, compare, encode
from harness.invariants import judge
from harness.model import (
    Books,
    EnvironmentProblem,
    Finding,
    FindingClass,
    History,
    Operation,
    Outcome,
    UsageError,
    Verdict,
    verdict_of,
)
from harness.recording.loader import load
from harness.recording.recorder import Recorder, now, write_history
from harness.run.asked import asked
from harness.run.folder import RunFolder
from harness.run.phases import look_before
from harness.run.request import build_request
from harness.run.result import RunResult, finding_to_json
from harness.run.run_request import RunRequest
from harness.run.server_faults import server_faults
from harness.run.stores import Stores
from harness.run.versions import versions
from harness.stores.base import Database
from harness.targets.http import HttpTarget
from harness.wire.base import WireProxy

SHRINK_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What repeating a schedule showed: how often it broke again, of how many times, and where a run diverged, if one did."""

    again: int
    times: int
    diverged: str | None
    findings: Sequence[Finding]
    rows: Sequence[dict[str, Any]]


def explore(
    request: RunRequest,
    stores: Stores,
    observe: Callable[[int, float], None] = lambda explored, seconds: None,
    *,
    operations: int = 1,
    reduce: bool = True,
    faults: FaultPlan = NO_FAULTS,
    stop_at_first: bool = True,
    most: int | None = None,
    proxy: WireProxy | None = None,
    background: Sequence[str] = (),
    audit: int = 0,
) -> RunResult:
    """Explore the request's scenario with its few clients, ``operations`` calls each, and return the result.

    Args:
        request: what to explore; ``budget`` is in seconds.
        stores: where.
        observe: told now and then how many interleavings were judged, in how many seconds.
        operations: calls of each client.
        reduce: try independent steps in one order only.
        faults: what may go wrong on the way.
        stop_at_first: end with the first interleaving that breaks something, instead of counting them.
        most: so many interleavings at most: then the same are tried every time. If the budget ends before: unknown.
        proxy: what the target speaks through, if it is a service that was given one already.
        background: regular expressions of statements that are the service's own, let through.
        audit: how many of the interleavings that the reduction left out are tried after all.

    Raises:
        UsageError: the target keeps nothing on a store, so there is no wire to hold.
        EnvironmentProblem: a store, the opening scene or the proxy failed, or there is traffic past the proxy.
    """
    began = time.perf_counter()
    folder = RunFolder.make(request.out)
    with OpenedScene(request, stores, folder) as scene:
        piece = scene.piece(operations=operations)
        folder.write_json("run.json", {**asked(request, scene.description), "operations_per_client": operations})
        plan = ExplorePlan(
            database=scene.database,
            seed=request.seed,
            budget=request.budget,
            most=most,
            reduce=reduce,
            faults=faults,
            stop_at_first=stop_at_first,
            proxy=proxy,
            background=background,
            audit=audit,
        )
        with ExploreEngine(plan, piece) as engine:
            outcome = engine.explore(observe)
            found = _shrunk(engine, piece, outcome.found) if outcome.found else None
        description = scene.description
    ending = found.ending if found else outcome.last
    history, books = (ending.history, ending.books) if ending else (History.of([]), Books(complete=False))
    ids = [i for i in request.scenario.invariants if i != "L-PROGRESS" or not piece.progressed]
    judged = judge(history, books, request.policy, ids)
    findings = _with_schedule(request, found, piece) if found else list(judged.findings)
    if outcome.out_of_time and most is not None:
        findings.append(_out_of_time(outcome, most))
    race = [o for o in history if o.client >= 0]
    result = RunResult(
        verdict=verdict_of(findings, checked=len(judged.checked)) if outcome.explored else Verdict.UNKNOWN,
        seed=request.seed,
        scenario=request.scenario.name,
        target=request.target.name,
        engine="explore",
        operations=History.of(race).count(),
        findings=findings,
        timings={"total": time.perf_counter() - began, "explore": outcome.seconds},
        checked=judged.checked,
        skipped=judged.skipped,
        schedules=_schedules(outcome, piece, faults),
        facts={
            "store": description,
            "clients": request.clients,
            "operations_per_client": operations,
            "scenario_settings": dict(request.settings),
            "target_settings": dict(request.target.settings),
            "policy": request.policy.name,
            "versions": versions(),
        },
        folder=folder.path,
        command=request.command,
    )
    write_history(folder.history / "race.jsonl", race)
    folder.write_books(books)
    folder.write_findings([finding_to_json(f) for f in findings])
    folder.write_json("result.json", result.to_json())
    return result


def _out_of_time(outcome: ExploreOutcome, most: int) -> Finding:
    tried = outcome.explored + outcome.cut_short
    return Finding(
        finding_class=FindingClass.INDETERMINATE,
        invariant="coverage",
        message=f"the time ended after {tried} of {most} interleavings; those showed nothing, and the rest is not known",
        evidence={"tried": tried, "most": most},
    )


def _shrunk(engine: ExploreEngine, piece: ScenarioPiece, found: Found) -> Found:
    """Make a failing interleaving smaller: without clients, without later operations, then within."""
    until = time.monotonic() + SHRINK_SECONDS
    wanted = {f.invariant for f in found.findings}
    best = found
    for client in reversed(range(piece.clients)):
        if piece.must_stay(client):
            continue
        before = piece.absent
        piece.absent = before | {client}
        again = engine.replay([m for m in best.run.moves if m.client != client])
        if len(piece.absent) < piece.clients and wanted & {f.invariant for f in again.findings}:
            best = again
        else:
            piece.absent = before
    while piece.operations > 1 and time.monotonic() < until:
        piece.operations -= 1
        again = engine.replay(best.run.moves)
        if not wanted & {f.invariant for f in again.findings}:
            piece.operations += 1
            break
        best = again
    return engine.shrink(best, until=until)


def _schedules(outcome: ExploreOutcome, piece: ScenarioPiece, faults: FaultPlan) -> dict[str, Any]:
    return {
        "explored": outcome.explored,
        "coverage": outcome.coverage,
        "diverged": outcome.diverged,
        "failing": outcome.failing,
        "cut_short": outcome.cut_short,
        "endings": outcome.endings,
        "audited": outcome.audited,
        "missed": outcome.missed,
        "faults": [*faults.kinds] if faults.most else [],
        "alike": [sorted(group) for group in piece.alike],
        "waited_outside": list(outcome.outside),
        "per_second": round(outcome.explored / outcome.seconds, 1) if outcome.seconds else None,
    }


def _with_schedule(request: RunRequest, found: Found, piece: ScenarioPiece) -> list[Finding]:
    choices = Choices.of(found.run.moves)
    schedule = Schedule(
        scenario=request.scenario.name,
        target=request.target.name,
        clients=request.clients,
        operations=piece.operations,
        seed=request.seed,
        policy=request.policy.name,
        choices=choices.clients,
        steps=tuple(mark for mark, _ in fingerprints(found.run)),
        scenario_settings=dict(request.settings),
        target_settings=dict(request.target.settings),
        faults=choices.faults,
        absent=tuple(sorted(piece.absent)),
    )
    token = encode(schedule)
    steps = {"steps": rows_of(found.run), "clients": request.clients, "choices": schedule.lanes}
    return [replace(f, schedule=token, evidence={**f.evidence, **steps}) for f in found.findings]


def replay(
    schedule: Schedule,
    stores: Stores,
    *,
    times: int,
    out: Path,
    service: HttpTarget | None = None,
    proxy: WireProxy | None = None,
    background: Sequence[str] = (),
) -> Replay:
    """Repeat a schedule from its scene and say how often it breaks again. ``service`` and what follows are as for `explore`.

    Raises:
        UsageError: its scenario or target is not there any more.
        EnvironmentProblem: as `explore`.
    """
    request = build_request(
        scenario=schedule.scenario,
        target=service or schedule.target,
        chosen={**schedule.scenario_settings, **schedule.target_settings},
        policy=None if service else schedule.policy,
        clients=schedule.clients,
        seed=schedule.seed,
        out=out,
        engine="explore",
    )
    again = 0
    diverged: str | None = None
    findings: list[Finding] = []
    rows: list[dict[str, Any]] = []
    with OpenedScene(request, stores, RunFolder.make(out)) as scene:
        piece = scene.piece(operations=schedule.operations)
        piece.absent = frozenset(schedule.absent)
        plan = ExplorePlan(
            database=scene.database, seed=schedule.seed, faults=_that_allow(schedule), proxy=proxy, background=background
        )
        with ExploreEngine(plan, piece) as engine:
            for _ in range(times):
                found = engine.replay(schedule.moves)
                diverged = diverged or compare(schedule.steps, fingerprints(found.run))
                again += bool(found.findings)
                if found.findings or not rows:
                    findings, rows = list(found.findings), rows_of(found.run, wrong=bool(found.findings))
    return Replay(again=again, times=times, diverged=diverged, findings=findings, rows=rows)


def _that_allow(schedule: Schedule) -> FaultPlan:
    return FaultPlan(kinds=tuple(sorted(set(schedule.faults.values()))), most=len(schedule.faults))


class OpenedScene:
    """A database with the target installed and the opening calls made."""

    def __init__(self, request: RunRequest, stores: Stores, folder: RunFolder) -> None:
        if request.target.store is None:
            raise UsageError(f"{request.target.name} brings its own store; there is no wire that could be held")
        self._request = request
        if server_faults(request):
            raise UsageError(f"{request.scenario.name} hurts the store's servers, which no schedule can decide; use racegate run")
        self._store = stores.get(request.target.store, logs=folder.path / "stores")
        self.database: Database = self._store.create_database()
        self._folder = folder
        self._rules = [i for i in request.scenario.invariants if i != "L-PROGRESS"]
        self.description = self._store.description

    def __enter__(self) -> OpenedScene:
        try:
            self._request.target.install(self.database)
            self._before = look_before(self._store, self.database, self._request.target, self._request.policy, self._rules)
            self.opening = self._open()
        except BaseException:
            self._store.drop_database(self.database)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._store.drop_database(self.database)

    def _open(self) -> list[Operation]:
        path = self._folder.history / "opening.jsonl"
        recorder = Recorder(path, worker=-1)
        client = Client(
            number=-1,
            clients=0,
            connect=lambda: self._request.target.connect(self.database, -1),
            record=recorder,
            clock=now,
        )
        try:
            for call in self._request.scenario.opening(self._request.settings):
                operation = client.perform(call)
                if operation.outcome is not Outcome.OK:
                    why = operation.failure.message if operation.failure else "no reason given"
                    raise EnvironmentProblem(f"{self._request.target.name} could not set the scene: {call.f}: {why}")
        finally:
            client.close()
            recorder.close()
        return list(load([path])[0])

    def piece(self, *, operations: int) -> ScenarioPiece:
        """Return what is played: the request's scenario on its target."""
        request = self._request
        many = request.clients >= MANY_CLIENTS and operations == 1
        return ScenarioPiece(
            target=request.target,
            database=self.database,
            scenario=request.scenario,
            settings=request.settings,
            judged=self.judge,
            clients=request.clients,
            operations=operations,
            seed=request.seed,
            opening=self.opening,
            alike=alike(request.scenario, request.settings, clients=request.clients, seed=request.seed) if many else (),
        )

    def judge(self, history: History, books: Books) -> Sequence[Finding]:
        """Judge one interleaving. Whether a single run made progress is not asked: refusals are legal ends of one."""
        return judge(history, books, self._request.policy, self._rules, broken_before=self._before.broken).findings
