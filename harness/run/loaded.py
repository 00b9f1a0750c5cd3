"""Runs a scenario under load: the same phases as any run at full speed, with Locust's users between scene and rest."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.engines.load.arrivals import Arrivals
from harness.engines.load.engine import LoadEngine, LoadOutcome
from harness.engines.load.measures import merged, saturated, summary
from harness.engines.load.plan import GRACE, LoadPlan
from harness.engines.stress import Progress
from harness.model import Finding, FindingClass, UsageError
from harness.run.execute import Raced, engine_findings, execute, indeterminate
from harness.run.folder import RunFolder
from harness.run.limits import Limit, measured_of
from harness.run.live import SHOWN, LiveWatch
from harness.run.load_faults import LoadFault, Timeline
from harness.run.result import RunResult
from harness.run.run_request import RunRequest
from harness.run.server_faults import server_faults
from harness.run.stores import Stores
from harness.stores.base import Database

LIVE_SCHEMA = "racegate.live/1"


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What a load run is told beyond what every run is.

    ``spawn_rate`` is users started per second; ``think`` the least and the most that a user pauses before a call, in seconds.
    With ``arrivals`` the model is open, and the clients of the request are the cap on what is in flight. ``limits`` have to be
    kept; with ``abort`` a broken one, or a finding, ends the run early. ``faults`` are done to the store meanwhile.
    Without ``live`` nobody looks at history, books and locks before the run is over.
    """

    spawn_rate: float
    think: tuple[float, float] = (0.0, 0.0)
    arrivals: Arrivals | None = None
    limits: Sequence[Limit] = ()
    abort: bool = False
    faults: Sequence[LoadFault] = ()
    live: bool = True


ABORT_AFTER = 3
"""Seconds in a row that a limit must be broken for a run to be ended early."""


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

    marks: list[Callable[[str], None]] = []
    check_one_kind(request, options)

    def race(request: RunRequest, database: Database | None, folder: RunFolder, observe: Callable[[Progress], None]) -> Raced:
        plan = plan_of(request, options, database, folder)
        store = stores.get(request.target.store) if request.target.store and options.faults else None
        ended = Ending(options)

        def seen(sample: Mapping[str, Any]) -> None:
            ended.look(sample)
            tell(sample)

        watch = LiveWatch(
            folder=folder.history,
            database=database,
            queries=list(request.target.books()),
            invariants=request.scenario.invariants,
            policy=request.policy,
            alone=request.clients == 1 and options.arrivals is None,
            checks=options.live,
            tell=seen,
        )
        marks.append(watch.mark)
        timeline = Timeline(options.faults, store, database, watch.mark)
        with contextlib.ExitStack() as held:
            there = engine or held.enter_context(LoadEngine(processes=request.processes, logs=folder.path / "logs"))
            ended.stop = there.abort

            def hear(name: str, message: Mapping[str, Any]) -> None:
                timeline.begin()
                watch.hear(name, message)

            with watch, timeline:
                outcome = there.run(plan, observe, hear)
        folder.write_json("live.json", {"schema": LIVE_SCHEMA, "samples": watch.samples})
        found = raced(request, options, outcome, watch.facts())
        return replace(found, findings=[*found.findings, *_told(timeline, ended)])

    return execute(request, stores, observe, race, lambda text: marks[0](text) if marks else None)


def check_one_kind(request: RunRequest, options: LoadOptions) -> None:
    """Make sure that one hand alone hurts the servers. Raises UsageError if the scenario does it as well."""
    if options.faults and server_faults(request):
        raise UsageError(f"{request.scenario.name} hurts the store's servers itself; leave --fault {options.faults[0].text} out")


class Ending:
    """Decides whether a run is to be ended early, from what is seen of it."""

    def __init__(self, options: LoadOptions) -> None:
        self._limits = [limit for limit in options.limits if limit.name in LIVE] if options.abort else []
        self._wanted = options.abort
        self._broken = 0
        self.reason: str | None = None
        self.stop: Callable[[], None] = lambda: None

    def look(self, sample: Mapping[str, Any]) -> None:
        """Take in a sample of the live figures."""
        if not self._wanted or self.reason is not None:
            return
        broken = [text for limit in self._limits if sample.get(limit.name) and (text := limit.broken(sample))]
        self._broken = self._broken + 1 if broken else 0
        if sample["findings"]:
            self.reason = str(sample["findings"][0])
        elif self._broken >= ABORT_AFTER:
            self.reason = broken[0]
        if self.reason is not None:
            self.stop()


def _told(timeline: Timeline, ended: Ending) -> list[Finding]:
    findings = [indeterminate(trouble, {"fault": trouble}) for trouble in timeline.troubles]
    if timeline.left:
        findings.append(indeterminate(f"the run was over before {', '.join(timeline.left)}", {"faults": timeline.left}))
    if ended.reason is not None:
        findings.append(indeterminate(f"the run was ended early, as was asked: {ended.reason}", {"reason": ended.reason}))
    return findings


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


EARLY = 0.9
"""Share of the time that was asked for below which a run that was cut short proves less than was asked."""

LIVE = ("p50", "p95", "p99", "rate")
"""Measurements that are there every second."""


def _seconds(request: RunRequest, options: LoadOptions) -> float:
    """Return the seconds after which clients are told to stop; arrivals end by themselves, what is in flight a little later."""
    if options.arrivals is not None:
        return options.arrivals.seconds + GRACE
    return math.inf if request.duration is None else request.duration


def raced(request: RunRequest, options: LoadOptions, outcome: LoadOutcome, live: Mapping[str, Any]) -> Raced:
    """Return what the engine's outcome means for the verdict, and what is worth keeping of it."""
    counts = outcome.counts()
    load = facts_of(request, options, outcome, live)
    return Raced(
        seconds=outcome.seconds,
        findings=[
            *engine_findings(outcome.stuck, outcome.troubles),
            *_unfinished(request, outcome),
            *_beyond(options.limits, load),
        ],
        recorded=None if outcome.lost else counts["invoked"],
        facts={"load": load},
    )


def _beyond(limits: Sequence[Limit], load: Mapping[str, Any]) -> list[Finding]:
    """Return a finding for each limit that was not kept: the data may be right, and yet this is not good enough."""
    measured = measured_of(load)
    return [
        Finding(
            finding_class=FindingClass.LIVENESS,
            invariant="L-LIMIT",
            message=f"the limit was not kept: {text}",
            evidence={"limit": limit.text, "measured": measured.get(limit.name)},
        )
        for limit in limits
        if (text := limit.broken(measured))
    ]


def facts_of(request: RunRequest, options: LoadOptions, outcome: LoadOutcome, live: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is worth keeping of the load itself."""
    counts = outcome.counts()
    return {
        "users": request.clients,
        "spawn_rate": options.spawn_rate,
        "seconds": round(outcome.seconds, 3),
        "correct_per_second": correct_rate(counts, live, outcome.seconds),
        "arrivals": arrivals_of(options.arrivals, counts, outcome.seconds),
        "counts": counts,
        "requests": outcome.requests,
        "errors": counts["errors"],
        "latency_ms": latencies_of(outcome.finals),
        "live": dict(live),
        "generator": [final["generator"] for final in outcome.finals],
        "saturated": saturated([final["generator"] for final in outcome.finals]),
        "hosts": [dict(host) for host in outcome.hosts],
    }


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
    lasts = [(at, answered) for at, answered in (final["last"] for final in outcome.finals) if at]
    if lasts and not max(lasts)[1]:
        findings.append(indeterminate("the last operation got no answer: the system may be gone", {"last": max(lasts)[0]}))
    left = sum(final["unfinished"] for final in outcome.finals)
    early = request.duration is not None and outcome.seconds < EARLY * request.duration
    if early and left and not outcome.interrupted and not outcome.lost:
        findings.append(
            indeterminate(
                f"the run ended after {outcome.seconds:.1f} of {request.duration:.1f} s, and {left} users had more to do",
                {"seconds": outcome.seconds, "asked": request.duration, "users": left},
            )
        )
    if outcome.interrupted and request.duration is not None:
        findings.append(
            indeterminate(
                f"the run was interrupted after {outcome.seconds:.1f} of {request.duration:.1f} s",
                {"seconds": outcome.seconds, "asked": request.duration},
            )
        )
    return findings


def for_the_page(result: RunResult) -> dict[str, Any]:
    """Return what a visitor of the page is told of a result."""
    whole = result.to_json()
    return {
        "verdict": whole["verdict"],
        "operations": whole["operations"],
        "folder": str(result.folder),
        "findings": [{k: f[k] for k in ("class", "invariant", "message")} for f in whole["findings"][:SHOWN]],
    }
