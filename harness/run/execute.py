"""Runs a scenario from start to verdict.

Store, database, schema, opening scene, engine, rest, books, judgement, run folder: always in this order. After the clients
are done the store must come to rest before the books are read, because a hole in the numbers may belong to a transaction
that is still open, and an unknown outcome may still be decided.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from harness.engines.client import Client
from harness.engines.stress import Progress, StressEngine, StressOutcome, StressPlan
from harness.invariants import judge
from harness.model import (
    Books,
    EnvironmentProblem,
    Finding,
    FindingClass,
    History,
    Outcome,
    verdict_of,
)
from harness.recording.loader import FileFacts, load
from harness.recording.recorder import Recorder, now
from harness.run.asked import asked
from harness.run.folder import RunFolder
from harness.run.result import RunResult, finding_to_json
from harness.run.run_request import RunRequest, check_fit
from harness.run.stores import Stores
from harness.run.versions import versions
from harness.stores.base import Database, Store
from harness.targets.base import Target
from harness.targets.books_reader import read_books

REST_LIMIT = 10.0
"""Seconds that transactions of the finished clients may take to end by themselves."""


@dataclass
class _Clock:
    """Measures the phases of a run."""

    timings: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - began


def execute(
    request: RunRequest,
    stores: Stores,
    observe: Callable[[Progress], None] = lambda progress: None,
) -> RunResult:
    """Run the request on the stores and return the result, which is also written to a new run folder.

    Raises:
        UsageError: target and scenario do not fit, or cannot be sent to processes.
        EnvironmentProblem: a store, the disk or the opening scene failed.
    """
    check_fit(request.scenario, request.target)
    folder = RunFolder.make(request.out)
    clock = _Clock()
    with clock.phase("total"):
        with clock.phase("start"):
            store = stores.get(request.target.store) if request.target.store else None
            database = store.create_database() if store else None
        about = store.description if store else None
        folder.write_json("run.json", {**asked(request, about), "database": database.shown if database else None})
        try:
            with clock.phase("prepare"):
                request.target.install(database)
                _open_scene(request, database, folder)
            plan = _plan(request, database, folder)
            with clock.phase("race"):
                outcome = StressEngine(plan, observe).run()
            with clock.phase("rest"):
                trouble = _come_to_rest(store, database)
            with clock.phase("books"):
                books = _read(request.target, database, trouble)
            with clock.phase("load"):
                history, files = load(folder.history_files())
            with clock.phase("judge"):
                judgement = judge(history, books, request.policy, request.scenario.invariants)
        finally:
            if store and database:
                store.drop_database(database)
    findings = [*judgement.findings, *_engine_findings(outcome)]
    result = RunResult(
        verdict=verdict_of(findings, checked=len(judgement.checked)),
        seed=request.seed,
        scenario=request.scenario.name,
        target=request.target.name,
        engine=request.engine,
        operations=_race(judgement.history).count(),
        findings=findings,
        timings=clock.timings,
        checked=judgement.checked,
        skipped=judgement.skipped,
        facts=_facts(request, store, history, files, outcome),
        folder=folder.path,
        command=request.command,
    )
    folder.write_books(books)
    folder.write_findings([finding_to_json(f) for f in findings])
    folder.write_json("result.json", result.to_json())
    return result


def _plan(request: RunRequest, database: Database | None, folder: RunFolder) -> StressPlan:
    return StressPlan(
        target=request.target,
        database=database,
        scenario=request.scenario,
        settings=request.settings,
        clients=request.clients,
        processes=min(request.processes, request.clients),
        ops=request.ops,
        duration=request.duration,
        budget=request.budget,
        seed=request.seed,
        folder=folder.history,
    )


def _open_scene(request: RunRequest, database: Database | None, folder: RunFolder) -> None:
    """Make the scenario's opening calls, one after another; every one must be ok."""
    calls = iter(request.scenario.opening(request.settings))
    first = next(calls, None)
    if first is None:
        return
    recorder = Recorder(folder.history / "opening.jsonl", worker=-1)
    client = Client(
        number=-1,
        clients=0,
        connect=lambda: request.target.connect(database, -1),
        record=recorder,
        clock=now,
    )
    try:
        for call in (first, *calls):
            operation = client.perform(call)
            if operation.outcome is not Outcome.OK:
                why = operation.failure.message if operation.failure else "no reason given"
                raise EnvironmentProblem(
                    f"{request.target.name} could not set the scene of {request.scenario.name}: "
                    f"{call.f} ended as {operation.outcome.value}: {why}"
                )
    finally:
        client.close()
        recorder.close()


def _come_to_rest(store: Store | None, database: Database | None) -> str | None:
    """Wait until no transaction of the clients is open; end those that stay. Returns what is still open, if anything."""
    if store is None or database is None:
        return None
    for attempt in range(2):
        limit = time.monotonic() + REST_LIMIT
        pause = 0.005
        while still := store.in_flight(database):
            if time.monotonic() > limit:
                break
            time.sleep(pause)  # between two questions to the server; the condition is what it answers
            pause = min(pause * 2, 0.25)
        if not still:
            return None
        if attempt == 0:
            store.end_in_flight(database)
    return f"{len(still)} transactions did not end: {still[0]}"


def _read(target: Target, database: Database | None, trouble: str | None) -> Books:
    if trouble is not None:
        return Books(complete=False, trouble=trouble)
    if database is None:
        return Books()
    return read_books(database, target.books())


def _engine_findings(outcome: StressOutcome) -> list[Finding]:
    findings = []
    for client, seconds in outcome.stuck:
        findings.append(
            Finding(
                finding_class=FindingClass.LIVENESS,
                invariant="L-PROGRESS",
                message=f"client {client} was still busy with one operation after {seconds:.1f} s and was ended",
                evidence={"client": client, "seconds": seconds},
            )
        )
    for trouble in outcome.troubles:
        findings.append(
            Finding(
                finding_class=FindingClass.INDETERMINATE,
                invariant="L-PROGRESS",
                message=f"{trouble}; what it would have done is not known",
                evidence={"trouble": trouble},
            )
        )
    return findings


def _race(history: History) -> History:
    """Return the operations of the race alone, without those that set the scene."""
    return History(history.operations.filter(pl.col("client") >= 0), open_at=history.open_at)


def _facts(
    request: RunRequest, store: Store | None, history: History, files: list[FileFacts], outcome: StressOutcome
) -> dict[str, Any]:
    return {
        "store": store.description if store else None,
        "clients": request.clients,
        "processes": min(request.processes, request.clients),
        "scenario_settings": dict(request.settings),
        "target_settings": dict(request.target.settings),
        "policy": request.policy.name,
        "operations_per_second": round(len(history) / outcome.seconds, 1) if outcome.seconds else None,
        "processes_restarted": outcome.restarted,
        "torn_files": sum(f.torn for f in files),
        "unended_files": sum(not f.ended for f in files),
        "versions": versions(),
    }
