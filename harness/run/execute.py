"""Runs a scenario from start to verdict.

Store, database, schema, opening scene, engine, rest, books, judgement, run folder: always in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.engines.stress import Progress, StressEngine, StressOutcome, StressPlan
from harness.invariants import judge
from harness.model import Finding, FindingClass, History, verdict_of
from harness.recording.loader import FileFacts, load
from harness.run.asked import asked
from harness.run.folder import RunFolder
from harness.run.phases import Clock, books_at_rest, come_to_rest, open_scene, race_of
from harness.run.result import RunResult, finding_to_json
from harness.run.run_request import RunRequest, check_fit
from harness.run.stores import Stores
from harness.run.versions import versions
from harness.stores.base import Database, Store


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
    clock = Clock()
    with clock.phase("total"):
        with clock.phase("start"):
            store = stores.get(request.target.store) if request.target.store else None
            database = store.create_database() if store else None
        about = store.description if store else None
        folder.write_json("run.json", {**asked(request, about), "database": database.shown if database else None})
        try:
            with clock.phase("prepare"):
                request.target.install(database)
                open_scene(request, database, folder)
            plan = _plan(request, database, folder)
            with clock.phase("race"):
                outcome = StressEngine(plan, observe).run()
            with clock.phase("rest"):
                trouble = come_to_rest(store, database)
            with clock.phase("books"):
                books = books_at_rest(request.target, database, trouble)
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
        operations=race_of(judgement.history).count(),
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
