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
from harness.engines.explore.token import Schedule, compare, encode
from harness.invariants import judge
from harness.model import Books, EnvironmentProblem, Finding, History, Outcome, UsageError, Verdict, verdict_of
from harness.recording.loader import load
from harness.recording.recorder import Recorder, now
from harness.run.folder import RunFolder
from harness.run.request import build_request
from harness.run.result import RunResult, finding_to_json
from harness.run.run_request import RunRequest
from harness.run.stores import Stores
from harness.run.versions import versions
from harness.stores.base import Database

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
) -> RunResult:
    """Explore the request's scenario with its few clients, ``operations`` calls each, and return the result.

    Raises:
        UsageError: the target keeps nothing on a store, so there is no wire to hold.
        EnvironmentProblem: a store, the opening scene or the proxy failed, or there is traffic past the proxy.
    """
    began = time.perf_counter()
    folder = RunFolder.make(request.out)
    with _Scene(request, stores, folder) as scene:
        plan = scene.plan(operations=operations, reduce=reduce, budget=request.budget)
        with ExploreEngine(plan, scene.judge, scene.opening) as engine:
            outcome = engine.explore(observe)
            found = engine.shrink(outcome.found, until=time.monotonic() + SHRINK_SECONDS) if outcome.found else None
        description = scene.description
    findings = _with_schedule(request, found, operations) if found else []
    judged = judge(
        found.history if found else outcome.history,
        found.books if found else outcome.books,
        request.policy,
        request.scenario.invariants,
    )
    findings = findings or list(judged.findings)
    verdict = verdict_of(findings, checked=len(judged.checked)) if outcome.explored else Verdict.UNKNOWN
    history = found.history if found else outcome.history
    result = RunResult(
        verdict=verdict,
        seed=request.seed,
        scenario=request.scenario.name,
        target=request.target.name,
        engine="explore",
        operations=History.of(o for o in history if o.client >= 0).count(),
        findings=findings,
        timings={"total": time.perf_counter() - began, "explore": outcome.seconds},
        checked=judged.checked,
        skipped=judged.skipped,
        schedules=_schedules(outcome),
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
    folder.write_json(
        "run.json", {"schema": "racegate.run/1", "engine": "explore", "seed": request.seed, "command": request.command}
    )
    folder.write_findings([finding_to_json(f) for f in findings])
    folder.write_json("result.json", result.to_json())
    return result


def _schedules(outcome: ExploreOutcome) -> dict[str, Any]:
    return {
        "explored": outcome.explored,
        "coverage": outcome.coverage,
        "diverged": outcome.diverged,
        "failing": outcome.failing,
        "cut_short": outcome.cut_short,
        "per_second": round(outcome.explored / outcome.seconds, 1) if outcome.seconds else None,
    }


def _with_schedule(request: RunRequest, found: Found, operations: int) -> list[Finding]:
    schedule = Schedule(
        scenario=request.scenario.name,
        target=request.target.name,
        clients=request.clients,
        operations=operations,
        seed=request.seed,
        policy=request.policy.name,
        choices=tuple(found.run.choices),
        steps=tuple(mark for mark, _ in fingerprints(found.run)),
        scenario_settings=dict(request.settings),
        target_settings=dict(request.target.settings),
    )
    token = encode(schedule)
    steps = {"steps": rows_of(found.run), "clients": request.clients, "choices": schedule.lanes}
    return [replace(f, schedule=token, evidence={**f.evidence, **steps}) for f in found.findings]


def replay(schedule: Schedule, stores: Stores, *, times: int, out: Path) -> Replay:
    """Repeat a schedule from its scene and say how often it breaks again.

    Raises:
        UsageError: its scenario or target is not there any more.
        EnvironmentProblem: as `explore`.
    """
    request = build_request(
        scenario=schedule.scenario,
        target=schedule.target,
        chosen={**schedule.scenario_settings, **schedule.target_settings},
        policy=schedule.policy,
        clients=schedule.clients,
        seed=schedule.seed,
        out=out,
        engine="explore",
    )
    again = 0
    diverged: str | None = None
    findings: list[Finding] = []
    rows: list[dict[str, Any]] = []
    with _Scene(request, stores, RunFolder.make(out)) as scene:
        plan = scene.plan(operations=schedule.operations, reduce=True, budget=request.budget)
        with ExploreEngine(plan, scene.judge, scene.opening) as engine:
            for _ in range(times):
                run, seen = engine.replay(schedule.choices)
                diverged = diverged or compare(schedule.steps, fingerprints(run))
                again += bool(seen)
                if seen or not rows:
                    findings, rows = list(seen), rows_of(run)
    return Replay(again=again, times=times, diverged=diverged, findings=findings, rows=rows)


class _Scene:
    """A database with the target installed and the opening calls made."""

    def __init__(self, request: RunRequest, stores: Stores, folder: RunFolder) -> None:
        if request.target.store is None:
            raise UsageError(f"{request.target.name} brings its own store; there is no wire that could be held")
        self._request = request
        self._store = stores.get(request.target.store)
        self._database: Database = self._store.create_database()
        self._folder = folder
        self.description = self._store.description

    def __enter__(self) -> _Scene:
        try:
            self._request.target.install(self._database)
            self.opening = self._open()
        except BaseException:
            self._store.drop_database(self._database)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._store.drop_database(self._database)

    def _open(self) -> list[Any]:
        path = self._folder.history / "opening.jsonl"
        recorder = Recorder(path, worker=-1)
        client = Client(
            number=-1,
            clients=0,
            connect=lambda: self._request.target.connect(self._database, -1),
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

    def plan(self, *, operations: int, reduce: bool, budget: float) -> ExplorePlan:
        """Return what the engine is to do."""
        return ExplorePlan(
            target=self._request.target,
            database=self._database,
            scenario=self._request.scenario,
            settings=self._request.settings,
            clients=self._request.clients,
            operations=operations,
            seed=self._request.seed,
            budget=budget,
            reduce=reduce,
        )

    def judge(self, history: History, books: Books) -> Sequence[Finding]:
        """Judge one interleaving. Whether a single run made progress is not asked: refusals are legal ends of one."""
        ids = [i for i in self._request.scenario.invariants if i != "L-PROGRESS"]
        return judge(history, books, self._request.policy, ids).findings
