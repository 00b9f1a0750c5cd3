"""The gate: what a release must pass, in the time that it may take.

Cheap explorations first: bounded by a number of interleavings, they try the same ones for the same commit and seed, so that their
verdicts repeat. Then stress, round after round until the budget ends, each listed check at least once. A failure of stress is
a matter of luck; it is handed to the explorer, which looks for an interleaving that breaks the same invariant and repeats.
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config.gate import GateCheck, GateConfig
from harness.engines.explore.moves import FaultPlan, fault_plan
from harness.model import Finding, FindingClass, RacegateError, UsageError, Verdict, worst
from harness.run.execute import execute
from harness.run.explored import explore
from harness.run.own_service import OwnService
from harness.run.registry import scenario_named
from harness.run.request import build_request
from harness.run.result import RunResult, finding_to_json
from harness.run.run_request import RunRequest
from harness.run.stores import Stores
from harness.targets.http import HttpTarget

GATE_SCHEMA = "racegate.gate/1"

LEAST_SECONDS = 20.0
"""What an exploration gets at least, however many share the budget: a slow machine must not turn a pass into an unknown."""

ROUND_LIMIT = 300.0
"""Seconds after which a client of a stress round is stuck; far above what a round takes, for the same reason."""

HUNT_SECONDS = 30.0
"""For all attempts to turn one failure of stress into an interleaving. They are made whatever is left of the budget."""

HUNTS = ((2, 1, ""), (2, 2, ""), (3, 1, ""), (2, 2, "lose_reply,kill_client"))
"""Clients, operations of each and faults of the attempts, from small to large."""

WRONG = (FindingClass.VIOLATION, FindingClass.LIVENESS)


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """What one engine made of one check.

    ``result`` is the worst of its ``rounds`` runs, ``operations`` those of all rounds. ``replayable`` is the exploration that
    turned a failure of stress into an interleaving; ``hunted`` says what came of the attempt. ``note`` sums the row up.
    """

    check: GateCheck
    engine: str
    result: RunResult
    seconds: float
    rounds: int = 1
    operations: int = 0
    replayable: RunResult | None = None
    note: str = ""
    hunted: str = ""

    @property
    def verdict(self) -> Verdict:
        """Of the worst round."""
        return self.result.verdict

    @property
    def finding(self) -> Finding | None:
        """What is wrong first, replayable if possible."""
        shown = [*(self.replayable.findings if self.replayable else ()), *self.result.findings]
        return next((f for f in shown if f.finding_class is not FindingClass.COST), None)

    @property
    def folders(self) -> list[Path]:
        """The run folders that were kept."""
        return [r.folder for r in (self.result, self.replayable) if r is not None and r.folder is not None]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        document: dict[str, Any] = {
            "scenario": self.check.scenario,
            "target": self.result.target,
            "engine": self.engine,
            "verdict": self.verdict.value,
            "rounds": self.rounds,
            "operations": self.operations,
            "seconds": round(self.seconds, 3),
            "note": self.note,
            "hunted": self.hunted,
            "findings": [finding_to_json(f) for f in self.result.findings],
            "folders": [str(folder) for folder in self.folders],
        }
        if self.result.schedules is not None:
            document["schedules"] = dict(self.result.schedules)
        if (found := self.finding) is not None and found.schedule is not None:
            document["schedule"] = found.schedule
        return document


@dataclass(frozen=True, kw_only=True)
class GateOutcome:
    """What the gate found. ``seconds`` is what it took."""

    config: GateConfig
    seconds: float
    rows: Sequence[GateRow] = field(default_factory=tuple)

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        return worst([row.verdict for row in self.rows])

    @property
    def folders(self) -> list[Path]:
        """Every run folder that was kept, in the order of the rows."""
        return [folder for row in self.rows for folder in row.folders]

    def to_json(self) -> dict[str, Any]:
        """Return the machine-readable result (schema ``racegate.gate/1``)."""
        return {
            "schema": GATE_SCHEMA,
            "verdict": self.verdict.value,
            "config": str(self.config.path),
            "seed": self.config.seed,
            "budget": self.config.budget,
            "seconds": round(self.seconds, 3),
            "checks": [row.to_json() for row in self.rows],
        }


class Gate:
    """Runs what a configuration lists.

    Args:
        config: what to run.
        stores: where.
        out: where the run folders are made.
        observe: told of each row as it is done.
        service: opens the service that the configuration describes, with its statements held or not; for checks without a target.
        clock: tells the seconds that the budget is made of.
    """

    def __init__(
        self,
        config: GateConfig,
        stores: Stores,
        *,
        out: Path,
        observe: Callable[[GateRow], None] = lambda row: None,
        service: Callable[[bool], AbstractContextManager[OwnService]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._stores = stores
        self._out = out
        self._observe = observe
        self._service = service
        self._clock = clock

    def run(self) -> GateOutcome:
        """Run everything and return what was found.

        Raises:
            UsageError: a scenario, target or setting does not exist or does not fit; nothing was run then.
            EnvironmentProblem: a store failed.
        """
        checks = self._config.checks
        for check in checks:  # a mistake in the last check must not cost the time of the others
            fault_plan(",".join(check.faults), 1)
            for engine in check.engines if check.target else ():
                self._request(check, _Place(check.target, self._stores), engine, self._config.seed)
            scenario_named(check.scenario)
        began = self._clock()
        until = began + self._config.budget
        rows: list[GateRow] = []
        failed: set[int] = set()
        exploring = [(n, check) for n, check in enumerate(checks) if "explore" in check.engines]
        for left, (n, check) in zip(range(len(exploring), 0, -1), exploring, strict=True):
            rows.append(self._explored(check, max(LEAST_SECONDS, (until - self._clock()) / left)))
            self._observe(rows[-1])
            if rows[-1].verdict is Verdict.FAIL:
                failed.add(n)
        stressing = [check for n, check in enumerate(checks) if "stress" in check.engines and n not in failed]
        for left, check in zip(range(len(stressing), 0, -1), stressing, strict=True):
            rows.append(self._stressed(check, self._clock() + (until - self._clock()) / left))
            self._observe(rows[-1])
        return GateOutcome(config=self._config, seconds=self._clock() - began, rows=rows)

    @contextmanager
    def _place(self, check: GateCheck, *, wire: bool) -> Iterator[_Place]:
        """Yield what a check is fired at: a named target, or the service, started for the time being."""
        if check.target:
            yield _Place(check.target, self._stores)
            return
        if self._service is None:
            raise UsageError(f"the check of {check.scenario} names no target; name one, or describe your service in [target]")
        with self._service(wire) as service:
            held = {"proxy": service.proxy, "background": service.background} if wire else {}
            yield _Place(service.target, service.stores, held)

    def _request(
        self,
        check: GateCheck,
        place: _Place,
        engine: str,
        seed: int,
        *,
        clients: int | None = None,
        budget: float = ROUND_LIMIT,
    ) -> RunRequest:
        wanted = clients or (check.explore_clients if engine == "explore" else check.clients)
        return build_request(
            scenario=check.scenario,
            target=place.target,
            chosen=check.settings,
            policy=check.policy,
            clients=wanted,
            ops=check.ops,
            budget=budget,
            seed=seed,
            out=self._out,
            engine=engine,
            command=command_of(check, engine, seed, self._config.path),
        )

    def _explored(self, check: GateCheck, seconds: float) -> GateRow:
        faults = fault_plan(",".join(check.faults), 1)
        with self._place(check, wire=True) as place:
            request = self._request(check, place, "explore", self._config.seed, budget=seconds)
            result = _explore(request, check, place, operations=check.explore_operations, faults=faults)
        assert result.schedules is not None
        return GateRow(
            check=check,
            engine="explore",
            result=result,
            seconds=result.timings["total"],
            operations=check.explore_clients * check.explore_operations,
            note=f"{result.schedules['explored']} schedules, {result.schedules['coverage']}",
        )

    def _stressed(self, check: GateCheck, until: float) -> GateRow:
        began = time.monotonic()
        kept: RunResult | None = None
        rounds, operations = 0, 0
        while kept is None or (kept.verdict is Verdict.PASS and self._clock() < until):
            with self._place(check, wire=False) as place:  # anew: a service's rows of the last round would be judged again
                result = execute(self._request(check, place, "stress", self._config.seed + rounds), place.stores)
            rounds += 1
            operations += sum(result.operations.values())
            if kept is None or result.verdict is not Verdict.PASS:
                _forget(kept)
                kept = result
            else:
                _forget(result)
        replayable, hunted = None, ""
        if kept.verdict is Verdict.FAIL:
            replayable, hunted = self._hunt(check, {f.invariant for f in kept.findings if f.finding_class in WRONG})
        return GateRow(
            check=check,
            engine="stress",
            result=kept,
            seconds=time.monotonic() - began,
            rounds=rounds,
            operations=operations,
            replayable=replayable,
            note=f"{operations:,} operations in {rounds} {'rounds' if rounds > 1 else 'round'}",
            hunted=hunted,
        )

    def _hunt(self, check: GateCheck, wanted: set[str]) -> tuple[RunResult | None, str]:
        """Look for an interleaving that breaks one of the invariants that stress broke."""
        tried = 0
        until = time.monotonic() + HUNT_SECONDS
        try:
            with self._place(check, wire=True) as place:
                for left, (clients, operations, faults) in zip(range(len(HUNTS), 0, -1), HUNTS, strict=True):
                    seconds = (until - time.monotonic()) / left
                    request = self._request(check, place, "explore", self._config.seed, clients=clients, budget=seconds)
                    if request.target.store is None:
                        return None, "not replayable: the target brings its own store"
                    result = _explore(request, check, place, operations=operations, faults=fault_plan(faults, 1))
                    explored = (result.schedules or {}).get("explored", 0)
                    if wanted & {f.invariant for f in result.findings if f.schedule is not None}:
                        return result, f"made replayable: {explored} schedules of {clients} clients"
                    tried += explored
                    _forget(result)
        except RacegateError as e:  # the failure stands; that it cannot be repeated is no reason to lose it
            return None, f"not replayable: {e}"
        return None, f"not replayable: {tried} interleavings of 2 and 3 clients did not show it"


@dataclass(frozen=True)
class _Place:
    """What a check is fired at, where, and how the explorer reaches it."""

    target: str | HttpTarget
    stores: Stores
    held: Mapping[str, Any] = field(default_factory=dict)


def _explore(request: RunRequest, check: GateCheck, place: _Place, *, operations: int, faults: FaultPlan) -> RunResult:
    return explore(request, place.stores, operations=operations, faults=faults, most=check.interleavings, **place.held)


def _forget(result: RunResult | None) -> None:
    """Remove the folder of a round that says nothing that another does not."""
    if result is not None and result.folder is not None:
        shutil.rmtree(result.folder, ignore_errors=True)


def command_of(check: GateCheck, engine: str, seed: int, config: Path) -> str:
    """Return the command that runs this check alone."""
    where = ["--target", check.target] if check.target else ["--config", config]
    words: list[object] = ["racegate", "explore" if engine == "explore" else "run", check.scenario, *where]
    if engine == "explore":
        words += ["--clients", check.explore_clients, "--ops", check.explore_clients * check.explore_operations]
        if check.faults:
            words += ["--faults", ",".join(check.faults)]
    else:
        words += ["--clients", check.clients, "--ops", check.ops]
    for name, value in check.settings.items():
        words += ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    if check.policy:
        words += ["--policy", check.policy]
    return shlex.join(str(word) for word in [*words, "--seed", seed])
