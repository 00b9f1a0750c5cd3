"""Runs a scenario under load: the same phases as any run at full speed, with Locust's users between scene and rest."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.engines.load.arrivals import Arrivals
from harness.engines.load.engine import LoadEngine, LoadOutcome
from harness.engines.load.measures import merged, saturated, summary
from harness.engines.load.plan import GRACE, LoadPlan
from harness.engines.stress import Progress
from harness.model import Finding
from harness.run.execute import Raced, engine_findings, execute, indeterminate
from harness.run.folder import RunFolder
from harness.run.live import LiveWatch
from harness.run.result import RunResult
from harness.run.run_request import RunRequest
from harness.run.stores import Stores
from harness.stores.base import Database

LIVE_SCHEMA = "racegate.live/1"


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What a load run is told beyond what every run is.

    ``spawn_rate`` is users started per second; ``think`` the least and the most that a user pauses before a call, in seconds.
    With ``arrivals`` the model is open, and the clients of the request are the cap on what is in flight.
    """

    spawn_rate: float
    think: tuple[float, float] = (0.0, 0.0)
    arrivals: Arrivals | None = None


def run_load(
    request: RunRequest,
    stores: Stores,
    options: LoadOptions,
    observe: Callable[[Progress], None] = lambda progress: None,
    *,
    engine: LoadEngine | None = None,
    tell: Callable[[Mapping[str, Any]], None] = lambda sample: None,
) -> RunResult:
    """Run the request under load, with ``clients`` of the request as users, and judge it.

    Args:
        request: what to run.
        stores: where.
        options: how the load is made.
        observe: told the progress a few times a second.
        engine: processes that are there already; otherwise some are started for this run.
        tell: given a sample of the live figures a second.

    Raises:
        UsageError: target and scenario do not fit, or cannot be sent to processes.
        EnvironmentProblem: a store, the disk, the opening scene or a load process failed.
    """

    def race(request: RunRequest, database: Database | None, folder: RunFolder, observe: Callable[[Progress], None]) -> Raced:
        plan = plan_of(request, options, database, folder)
        watch = LiveWatch(
            folder=folder.history,
            database=database,
            queries=list(request.target.books()),
            invariants=request.scenario.invariants,
            policy=request.policy,
            alone=request.clients == 1 and options.arrivals is None,
            tell=tell,
        )
        with contextlib.ExitStack() as held:
            there = engine or held.enter_context(LoadEngine(processes=request.processes, logs=folder.path / "logs"))
            with watch:
                outcome = there.run(plan, observe, watch.hear)
        folder.write_json("live.json", {"schema": LIVE_SCHEMA, "samples": watch.samples})
        return raced(request, options, outcome, watch.facts())

    return execute(request, stores, observe, race)


def plan_of(request: RunRequest, options: LoadOptions, database: Database | None, folder: RunFolder) -> LoadPlan:
    """Return what the load processes are told."""
    return LoadPlan(
        target=request.target,
        database=database,
        scenario=request.scenario,
        settings=request.settings,
        users=request.clients,
        spawn_rate=options.spawn_rate,
        duration=min(request.budget, _seconds(request, options)),
        ops=request.ops,
        think=options.think,
        arrivals=options.arrivals,
        seed=request.seed,
        folder=folder.history,
    )


def _seconds(request: RunRequest, options: LoadOptions) -> float:
    """Return the seconds after which clients are told to stop; arrivals end by themselves, what is in flight a little later."""
    if options.arrivals is not None:
        return options.arrivals.seconds + GRACE
    return math.inf if request.duration is None else request.duration


def raced(request: RunRequest, options: LoadOptions, outcome: LoadOutcome, live: Mapping[str, Any]) -> Raced:
    """Return what the engine's outcome means for the verdict, and what is worth keeping of it."""
    counts = outcome.counts()
    return Raced(
        seconds=outcome.seconds,
        findings=[*engine_findings(outcome.stuck, outcome.troubles), *_unfinished(request, outcome)],
        recorded=None if outcome.lost else counts["invoked"],
        facts={
            "load": {
                "users": request.clients,
                "spawn_rate": options.spawn_rate,
                "seconds": round(outcome.seconds, 3),
                "correct_per_second": correct_rate(counts, live, outcome.seconds),
                "arrivals": arrivals_of(options.arrivals, counts, outcome.seconds),
                "counts": counts,
                "requests": outcome.requests,
                "errors": outcome.errors,
                "latency_ms": latencies_of(outcome.finals),
                "live": dict(live),
                "generator": [final["generator"] for final in outcome.finals],
                "saturated": saturated([final["generator"] for final in outcome.finals]),
            }
        },
    )


def correct_rate(counts: Mapping[str, int], live: Mapping[str, Any], seconds: float) -> float:
    """Return the operations per second that were ok and got no number that was issued before."""
    return round(max(counts["ok"] - live["duplicates"], 0) / seconds, 1) if seconds else 0.0


def arrivals_of(arrivals: Arrivals | None, counts: Mapping[str, int], seconds: float) -> dict[str, Any] | None:
    """Return the rate that was asked for and the rate that was reached, per second, and who was late or dropped."""
    if arrivals is None:
        return None
    span = arrivals.seconds or seconds
    return {
        "schedule": arrivals.text,
        "offered_per_second": round(counts["arrived"] / span, 1),
        "achieved_per_second": round(counts["invoked"] / max(span, seconds), 1),
        **{name: counts[name] for name in ("arrived", "dropped", "late")},
    }


def latencies_of(finals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the latencies of all processes together, in ms by operation: service time, and response time if measured."""
    names = sorted({f for final in finals for f in final["latencies"]})
    found: dict[str, Any] = {}
    for f in names:
        parts = [final["latencies"][f] for final in finals if f in final["latencies"]]
        kinds = {kind: merged(parts, kind) for kind in ("service", "response")}
        found[f] = {kind: summary(histogram) for kind, histogram in kinds.items() if histogram is not None}
    return found


def _unfinished(request: RunRequest, outcome: LoadOutcome) -> list[Finding]:
    findings = [
        indeterminate(f"{lost}: what it recorded last, and what it would have done, is not known", {"lost": lost})
        for lost in outcome.lost
    ]
    if outcome.interrupted and request.duration is not None:
        findings.append(
            indeterminate(
                f"the run was interrupted after {outcome.seconds:.1f} of {request.duration:.1f} s",
                {"seconds": outcome.seconds, "asked": request.duration},
            )
        )
    return findings
