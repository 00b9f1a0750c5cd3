"""Runs a scenario from start to verdict.

Store, database, schema, opening scene, engine, rest, books, judgement, run folder: always in this order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from harness.engines.stress import Progress, StressEngine, StressPlan
from harness.invariants import judge
from harness.model import Finding, FindingClass, History, StoreNeeds, UsageError, verdict_of
from harness.recording.loader import FileFacts, load
from harness.run.asked import asked
from harness.run.folder import RunFolder
from harness.run.phases import Clock, books_at_rest, come_to_rest, look_before, open_scene, race_of
from harness.run.result import RunResult, finding_to_json
from harness.run.run_request import RunRequest, check_fit
from harness.run.server_faults import FaultDirector, points_of, server_faults
from harness.run.stores import Stores
from harness.run.versions import versions
from harness.stores.base import Database, Store
from harness.targets.base import Target


@dataclass(frozen=True, kw_only=True)
class Raced:
    """What an engine says of its race, apart from the history.

    ``seconds`` is how long clients were at work. ``recorded`` is how many operations the engine's processes say that they
    recorded, if they count. ``facts`` go into the result.
    """

    seconds: float
    findings: Sequence[Finding] = ()
    recorded: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


Race = Callable[[RunRequest, Database | None, RunFolder, Callable[[Progress], None]], Raced]
"""How an engine is asked for a race on a database whose scene is set; it leaves its history in the folder."""


def stress(request: RunRequest, database: Database | None, folder: RunFolder, observe: Callable[[Progress], None]) -> Raced:
    """Race with many processes at full speed."""
    outcome = StressEngine(_plan(request, database, folder), observe).run()
    return Raced(
        seconds=outcome.seconds,
        findings=engine_findings(outcome.stuck, outcome.troubles),
        facts={"processes_restarted": outcome.restarted},
    )


def execute(
    request: RunRequest,
    stores: Stores,
    observe: Callable[[Progress], None] = lambda progress: None,
    race: Race = stress,
    mark: Callable[[str], None] = lambda text: None,
) -> RunResult:
    """Run the request on the stores and return the result, which is also written to a new run folder.

    Args:
        request: what to run.
        stores: where.
        observe: told the progress a few times a second.
        race: the engine that drives the clients.
        mark: told what the scenario does to servers, as it begins and as it is over.

    Raises:
        UsageError: target and scenario do not fit, or cannot be sent to processes.
        EnvironmentProblem: a store, the disk or the opening scene failed.
    """
    check_fit(request.scenario, request.target)
    folder = RunFolder.make(request.out)
    clock = Clock()
    with clock.phase("total"), contextlib.ExitStack() as closing:
        with clock.phase("start"):
            store = _store(request, stores, folder)
            if store:
                closing.callback(stores.give_back, store)
            database = store.create_database() if store else None
            faults = server_faults(request)
            halt = _plan(request, database, folder).halt()
            director = FaultDirector(faults, store, mark, halt) if faults and store else None
        about = store.description if store else None
        folder.write_json("run.json", {**asked(request, about), "database": database.shown if database else None})
        try:
            with clock.phase("prepare"):
                request.target.install(database)
                before = look_before(store, database, request.target, request.policy, request.scenario.invariants)
                open_scene(request, database, folder)
            with clock.phase("race"):
                raced = race(request, database, folder, director.watching(observe) if director else observe)
                if director:
                    director.finish()
            with clock.phase("rest"):
                trouble = come_to_rest(store, database)
            with clock.phase("books"):
                books = replace(books_at_rest(request.target, database, trouble), earlier=before.earlier)
            with clock.phase("load"):
                history, files = load(folder.history_files())
            with clock.phase("judge"):
                judgement = judge(history, books, request.policy, request.scenario.invariants, broken_before=before.broken)
        finally:
            if director:
                director.stop()
            if store and database and not director:
                store.drop_database(database)
    operations = race_of(judgement.history)
    findings = [*judgement.findings, *raced.findings, *_lost_evidence(raced, operations)]
    findings += [indeterminate(missed, {}) for missed in director.missed] if director else []
    findings += [*_unread(request.target, operations), *_vacuous(operations, findings)]
    result = RunResult(
        verdict=verdict_of(findings, checked=len(judgement.checked)),
        seed=request.seed,
        scenario=request.scenario.name,
        target=request.target.name,
        engine=request.engine,
        operations=operations.count(),
        findings=findings,
        timings=clock.timings,
        checked=judgement.checked,
        skipped=judgement.skipped,
        facts={
            **_facts(request, store, history, files, raced),
            **({"server_faults": director.done} if director else {}),
        },
        folder=folder.path,
        command=request.command,
    )
    folder.write_books(books)
    folder.write_findings([finding_to_json(f) for f in findings])
    folder.write_json("result.json", result.to_json())
    return result


def _store(request: RunRequest, stores: Stores, folder: RunFolder) -> Store | None:
    kind, logs = request.target.store, folder.path / "stores"
    if not server_faults(request):
        return stores.get(kind, logs=logs) if kind else None
    if kind is None:
        raise UsageError(
            f"{request.scenario.name} hurts the store's servers, and {request.target.name} brings a store of its own; "
            "choose another scenario: racegate list scenarios"
        )
    return stores.get_own(kind, getattr(request.scenario, "needs", StoreNeeds()), logs=logs)


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
        points=points_of(server_faults(request)),
    )


def engine_findings(stuck: Sequence[tuple[int, float]], troubles: Sequence[str]) -> list[Finding]:
    """Return what is wrong when clients were stuck (client, seconds), or met with trouble."""
    findings = []
    for client, seconds in stuck:
        findings.append(
            Finding(
                finding_class=FindingClass.LIVENESS,
                invariant="L-PROGRESS",
                message=f"client {client} was still busy with one operation after {seconds:.1f} s and was ended",
                evidence={"client": client, "seconds": seconds},
            )
        )
    for trouble in troubles:
        findings.append(indeterminate(f"{trouble}; what it would have done is not known", {"trouble": trouble}))
    return findings


def indeterminate(message: str, evidence: Mapping[str, Any]) -> Finding:
    """Return the finding that nobody can say, because of what happened to the run itself."""
    return Finding(finding_class=FindingClass.INDETERMINATE, invariant="L-PROGRESS", message=message, evidence=evidence)


def _lost_evidence(raced: Raced, operations: History) -> list[Finding]:
    if raced.recorded is None or raced.recorded == len(operations):
        return []
    return [
        indeterminate(
            f"{raced.recorded} operations were recorded and {len(operations)} arrived: evidence is missing",
            {"recorded": raced.recorded, "arrived": len(operations)},
        )
    ]


def _unread(target: Target, operations: History) -> list[Finding]:
    """Tell of what should be in answers and was in none: then nothing held the answers against the books."""
    findings = []
    for f, wanted in getattr(target, "answers", {}).items():
        answered = operations.operations.filter(pl.col("f") == f, pl.col("outcome") == "ok")
        for name in ("number", "text"):
            if name in wanted and answered.height and answered[name].null_count() == answered.height:
                findings.append(
                    indeterminate(
                        f"none of {answered.height} answers to {f} held its {name} at {wanted[name]!r}: what clients were told "
                        f"is not checked; correct or remove {name} below operations.{f}.answer",
                        {"operation": f, "name": name, "path": wanted[name], "answers": answered.height},
                    )
                )
    return findings


def _vacuous(operations: History, findings: Sequence[Finding]) -> list[Finding]:
    if operations.count()["ok"] or any(f.invariant == "L-PROGRESS" for f in findings):
        return []
    return [
        indeterminate(f"nothing succeeded of {len(operations)} operations: nothing is proved", {"operations": len(operations)})
    ]


def _facts(request: RunRequest, store: Store | None, history: History, files: list[FileFacts], raced: Raced) -> dict[str, Any]:
    return {
        "store": store.description if store else None,
        "clients": request.clients,
        "processes": min(request.processes, request.clients),
        "scenario_settings": dict(request.settings),
        "target_settings": dict(request.target.settings),
        "policy": request.policy.name,
        "operations_per_second": round(len(history) / raced.seconds, 1) if raced.seconds else None,
        "torn_files": sum(f.torn for f in files),
        "unended_files": sum(not f.ended for f in files),
        "versions": versions(),
        **raced.facts,
    }
