"""How much a target can take: more and more users until a limit, an invariant or the generator gives way.

Each step is a whole run, in a fresh database or one whose rows were put back, with a verdict of its own, because a faster
system that is wrong has no capacity. The number of users doubles until a step is not good any more; then the place between the
last good step and the first bad one is tried. Two steps in a row that are no faster than the best before them end the search
as well: the knee is behind.

The knee is where rate divided by latency is largest (Kleinrock's power): before it users are served as they come, after it
they wait for one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.engines.load.engine import LoadEngine
from harness.engines.load.measures import BUSY
from harness.engines.stress import Progress
from harness.model import Verdict
from harness.run.limits import Limit, measured_of
from harness.run.loaded import LoadOptions, run_load
from harness.run.result import RunResult
from harness.run.run_request import RunRequest
from harness.run.scaling import Fit, fit_of
from harness.run.stores import Stores

CAPACITY_SCHEMA = "racegate.capacity/1"

WAITING = 0.3
"""Share of the sessions at work that wait for a lock, from which on locks are the bottleneck."""

FASTER = 1.03
"""How many times faster a step must be than the best before it to count as faster."""


Fresh = Callable[[int], AbstractContextManager[tuple[RunRequest, Stores]]]
"""Makes a step with so many users ready: what is asked for, and where; what was opened for it is closed after it."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One number of users, and what came of it. Rates are per second, latencies in ms."""

    users: int
    verdict: Verdict
    rate: float
    p50: float | None
    p95: float | None
    p99: float | None
    broken: tuple[str, ...]
    saturated: bool
    cpu: float
    lock_waits: float | None
    write_conflicts: int | None
    seconds_rates: tuple[float, ...]
    holding: float | None = None
    folder: Path | None = None

    @property
    def good(self) -> bool:
        """Whether it is correct, within every limit, and not the generator's own doing."""
        return self.verdict is Verdict.PASS and not self.broken and not self.saturated

    @property
    def power(self) -> float:
        """Rate divided by latency."""
        return self.rate / self.p50 if self.p50 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the step as plain JSON values."""
        return {**vars(self), "verdict": self.verdict.value, "folder": str(self.folder), "good": self.good}


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What was found of one target."""

    target: str
    store: str | None
    steps: tuple[Step, ...]
    ended: str
    fit: Fit | None

    @property
    def best(self) -> Step | None:
        """The step with the highest rate that is correct and within every limit."""
        return max((s for s in self.steps if s.good), key=lambda s: s.rate, default=None)

    @property
    def knee(self) -> Step | None:
        """The correct step with the most power."""
        return max((s for s in self.steps if s.verdict is Verdict.PASS), key=lambda s: s.power, default=None)

    @property
    def verdict(self) -> Verdict:
        """Fail if some step was wrong, pass if one was good, otherwise unknown."""
        if any(s.verdict is Verdict.FAIL for s in self.steps):
            return Verdict.FAIL
        return Verdict.PASS if self.best is not None else Verdict.UNKNOWN

    @property
    def ceiling(self) -> float | None:
        """The rate that the hold time allows, per second: one transaction after another, each for as long as it holds locks.

        The hold time is the share of the time in which the single user's transaction had written something, divided by its
        rate. It is an upper bound: what is written before the counter is touched counts too. So the ceiling is a lower bound.
        """
        alone = next((s for s in self.steps if s.users == 1), None)
        if alone is None or not alone.holding:
            return None
        return alone.rate / alone.holding

    def bottleneck(self) -> str:
        """Return what held the last step back, with the figures that say so."""
        last = max(self.steps, key=lambda s: s.users)
        if last.saturated and last.cpu < BUSY:
            return "the generator's machine: its timers are late, though it is not busy itself; something else is at work there"
        if last.saturated or last.cpu > BUSY:
            return f"the generator itself, at {100 * last.cpu:.0f} % of a core: use more --processes, or another machine"
        if last.lock_waits is not None and last.lock_waits / last.users >= WAITING:
            return f"locks: {last.lock_waits:.1f} of {last.users} sessions wait for one at any moment"
        if last.write_conflicts and last.rate:
            return f"write conflicts: {last.write_conflicts} in that step; transactions are tried again instead of waiting"
        return "none that is known: neither the generator nor locks; more users, or a look at the store's disk and CPU"

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "target": self.target,
            "store": self.store,
            "verdict": self.verdict.value,
            "best": self.best.to_json() if self.best else None,
            "knee_users": self.knee.users if self.knee else None,
            "ceiling_per_second": round(self.ceiling, 1) if self.ceiling else None,
            "bottleneck": self.bottleneck(),
            "ended": self.ended,
            "fit": self.fit.to_json() if self.fit else None,
            "steps": [s.to_json() for s in self.steps],
        }


def fresh_database(request: RunRequest, stores: Stores) -> Fresh:
    """Return how a step is made ready for a target that makes its own tables."""

    @contextmanager
    def fresh(users: int) -> Iterator[tuple[RunRequest, Stores]]:
        yield replace(request, clients=users), stores

    return fresh


def find_capacity(
    request: RunRequest,
    fresh: Fresh,
    options: LoadOptions,
    limits: Sequence[Limit],
    logs: Path,
    observe: Callable[[Progress], None] = lambda progress: None,
    tell: Callable[[Step], None] = lambda step: None,
) -> Capacity:
    """Find out how many users, up to the request's clients, the target serves correctly and within the limits.

    Args:
        request: what is run, with as many clients as there may be users.
        fresh: makes each step ready.
        options: how the load is made.
        limits: what a good step keeps.
        logs: folder that receives what Locust has to say.
        observe: told the progress a few times a second.
        tell: given each step when it is over.

    Raises:
        UsageError: target and scenario do not fit, or cannot be sent to processes.
        EnvironmentProblem: a store, the disk, the opening scene or a load process failed.
    """
    steps: list[Step] = []
    store: str | None = None
    with LoadEngine(processes=request.processes, logs=logs) as engine:

        def attempt(users: int) -> Step:
            nonlocal store
            how = replace(options, spawn_rate=max(options.spawn_rate, users))
            with fresh(users) as (one, stores):
                result = run_load(one, stores, how, observe, engine=engine)
            step = step_of(users, result, limits)
            store = result.facts["store"]
            steps.append(step)
            tell(step)
            return step

        ended = _search(attempt, request, steps)
    points = [(s.users, rate) for s in steps if s.verdict is Verdict.PASS for rate in s.seconds_rates]
    return Capacity(target=request.target.name, store=store, steps=tuple(steps), ended=ended, fit=fit_of(points, request.seed))


def _search(attempt: Callable[[int], Step], request: RunRequest, steps: Sequence[Step]) -> str:
    users, slower, best = request.processes, 0, 0.0
    while True:
        step = attempt(users)
        if not step.good:
            good = [s.users for s in steps if s.good]
            between = (max(good) + users) // 2 if good else 0
            if good and between not in (max(good), users) and step.verdict is Verdict.PASS:
                attempt(between)
            return why_not(step)
        slower = 0 if step.rate > FASTER * best else slower + 1
        best = max(best, step.rate)
        if slower == 2:
            return "two steps in a row were no faster"
        if users == request.clients:
            return f"--users {request.clients} is reached"
        users = min(2 * users, request.clients)


def why_not(step: Step) -> str:
    """Return why a step is not good."""
    if step.verdict is not Verdict.PASS:
        return f"the verdict at {step.users} users is {step.verdict.value}"
    if step.broken:
        return f"at {step.users} users: {'; '.join(step.broken)}"
    return f"the generator is saturated at {step.users} users"


def step_of(users: int, result: RunResult, limits: Sequence[Limit]) -> Step:
    """Return what a run with so many users comes to."""
    load: Mapping[str, Any] = result.facts["load"]
    measured = measured_of(load)
    live = load["live"]
    return Step(
        users=users,
        verdict=result.verdict,
        rate=load["correct_per_second"],
        p50=measured.get("p50"),
        p95=measured.get("p95"),
        p99=measured.get("p99"),
        broken=tuple(text for limit in limits if (text := limit.broken(measured))),
        saturated=load["saturated"],
        cpu=max((g["cpu_mean"] for g in load["generator"]), default=0.0),
        lock_waits=live["lock_waits"],
        write_conflicts=live["write_conflicts"],
        seconds_rates=tuple(live["rates"]),
        holding=live["holding"],
        folder=result.folder,
    )
