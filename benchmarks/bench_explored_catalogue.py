"""The catalogue through the explorer: what each broken row takes to be found, and whether each correct twin is exhausted.

``python -m benchmarks explored_catalogue`` takes all cases; ``python -m benchmarks.bench_explored_catalogue postgres N0`` those
of one store whose id begins so. Two clients; one call each, then more or with a fault if that found nothing. Seconds are those
of the exploration itself, without installing the variant, and with shrinking left out. Each finding is replayed 20 times.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.engines.explore.moves import NO_FAULTS, FaultPlan
from harness.engines.explore.token import decode
from harness.model import RacegateError
from harness.run.cases import Case, cases
from harness.run.explored import explore, replay
from harness.run.request import build_request
from harness.run.result import RunResult
from harness.run.stores import Stores
from harness.stores import StoreKind, StoreOptions

REPLAYS = 20
BUDGET = 10.0
TRIES = ((1, NO_FAULTS), (2, NO_FAULTS), (1, FaultPlan(kinds=("kill_client", "lose_reply"), most=1)), (4, NO_FAULTS))
"""Calls of each client, and what may go wrong, until something is found."""

OFTEN: Mapping[str, Mapping[str, Any]] = {
    "period_rollover": {"seconds_before": 1.0},
    "creates_with_deletes": {"delete": 1.0},
    "retried_creates": {"other_payload": 1.0},
    "key_reuse": {"other_payload": 1.0},
}
"""Settings with which a few calls of a scenario do what it does rarely; tried before four calls are."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of a case."""

    case: Case
    result: RunResult
    calls: int
    replayed: int = 0
    steps: int = 0
    lanes: str = ""

    @property
    def met(self) -> bool:
        """As expected: found by an invariant that the case names, or passed with everything tried."""
        if self.case.expect == "pass":
            return self.result.verdict == "pass" and self.coverage == "exhaustive"
        spoke = {f.invariant for f in self.result.findings}
        return self.result.verdict == "fail" and (not self.case.invariants or bool(spoke & set(self.case.invariants)))

    @property
    def coverage(self) -> str:
        """What the run says of itself."""
        return str((self.result.schedules or {})["coverage"])

    def row(self) -> str:
        """Say it in a line."""
        schedules = self.result.schedules or {}
        spoke = ",".join(sorted({f.invariant for f in self.result.findings if f.finding_class != "cost"})) or "-"
        found = f"{self.steps} steps {self.lanes}, replayed {self.replayed} of {REPLAYS}" if self.lanes else ""
        return (
            f"{'ok  ' if self.met else 'DIFF'} {self.case.id:<64} {self.result.verdict:<7} {schedules['explored']:>5} explored "
            f"{self.coverage:<16} {schedules['diverged']} diverged {schedules['missed']} missed of {schedules['audited']:<2} "
            f"{self.result.timings['explore']:>6.2f} s  {spoke}  {found}"
        )


def tried(case: Case, stores: Stores, out: Path) -> Tried:
    """Explore a case until it says what is expected of it, or all tries are used up."""
    rarely = [(calls, faults, {}) for calls, faults in TRIES]
    often = [(calls, NO_FAULTS, OFTEN[case.scenario]) for calls in (1, 2) if case.scenario in OFTEN and case.expect == "fail"]
    for calls, faults, chosen in [*rarely[:3], *often, *rarely[3:]]:
        request = build_request(
            scenario=case.scenario,
            target=case.variant,
            chosen={**case.settings, **case.scenario_settings, **chosen},
            policy=case.policy,
            clients=2,
            seed=1,
            out=out,
            engine="explore",
            budget=BUDGET,
        )
        result = explore(request, stores, operations=calls, faults=faults, audit=5)
        last = Tried(case=case, result=result, calls=calls)
        if last.met or case.expect == "pass":
            break
    token = next((f.schedule for f in last.result.findings if f.schedule), None)
    if token is None:
        return last
    schedule = decode(token)
    again = replay(schedule, stores, times=REPLAYS, out=out)
    return Tried(case=case, result=result, calls=calls, replayed=again.again, steps=len(schedule.choices), lanes=schedule.lanes)


def each(stores: Stores, kind: str, prefix: str) -> Iterator[Tried]:
    """Try the cases of a store whose ids begin so."""
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            if case.store == kind and case.id.startswith(prefix):
                try:
                    yield tried(case, stores, Path(folder))
                except RacegateError as e:
                    print(f"none {case.id}: {e}", flush=True)


def main(kinds: tuple[str, ...] = ("postgres", "mongo"), prefix: str = "") -> None:
    """Print a line for each case, and the sums."""
    with Stores({StoreKind.POSTGRES: "embedded", StoreKind.MONGO: "embedded"}, StoreOptions(connections=60)) as stores:
        for kind in kinds:
            began, all_of_it = time.monotonic(), []
            for one in each(stores, kind, prefix):
                all_of_it.append(one)
                print(one.row(), flush=True)
            _sum_up(kind, all_of_it, time.monotonic() - began)


def _sum_up(kind: str, all_of_it: list[Tried], seconds: float) -> None:
    broken = [t for t in all_of_it if t.case.expect == "fail"]
    found = sorted(t.result.timings["explore"] for t in broken if t.met)
    twins = [t for t in all_of_it if t.case.expect == "pass"]
    counts = Counter[str]()
    for one in all_of_it:
        counts.update({k: int((one.result.schedules or {})[k]) for k in ("diverged", "audited", "missed")})
    print(
        f"{kind}: {len(found)} of {len(broken)} broken cases found, median {found[len(found) // 2] if found else 0:.2f} s, "
        f"{sum(t < 2 for t in found)} in under 2 s, {sum(t.replayed == REPLAYS for t in broken if t.met)} replayed {REPLAYS} of "
        f"{REPLAYS}; {sum(t.met for t in twins)} of {len(twins)} correct cases exhausted; {counts['diverged']} diverged; "
        f"{counts['missed']} of {counts['audited']} left out ended in a way of their own; {seconds:.0f} s"
    )


if __name__ == "__main__":
    main((sys.argv[1],) if len(sys.argv) > 1 else ("postgres", "mongo"), sys.argv[2] if len(sys.argv) > 2 else "")
