"""The gate on real databases: what it runs, in which order, and what becomes of a failure."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from harness.config.gate import GateCheck, GateConfig
from harness.config.service import load_service
from harness.model import UsageError, Verdict
from harness.run.folder import RunFolder
from harness.run.gate import Gate, GateOutcome
from harness.run.own_service import OwnService
from harness.run.stores import Stores
from harness.stores import Store, StoreOptions
from harness.stores.base import StoreKind
from tests.harness.run.test_own_service import described

RIGHT = GateCheck(scenario="concurrent_creates", target="reference:pg.counter_row", policy="gapless", clients=4, ops=60)
WRONG = GateCheck(scenario="concurrent_creates", target="reference:pg.count_plus_one", clients=4, ops=60)


class _Given(Stores):
    """The session's server, which whoever opened it closes."""

    def __init__(self, store: Store) -> None:
        super().__init__({}, StoreOptions())
        self._store = store

    def get(self, kind: str, *, logs: Path | None = None) -> Store:
        assert kind == StoreKind.POSTGRES
        return self._store


@pytest.fixture
def stores(postgres_store: Store) -> Stores:
    return _Given(postgres_store)


def gate(stores: Stores, out: Path, *checks: GateCheck, budget: float = 0.1) -> GateOutcome:
    return Gate(GateConfig(checks=checks, budget=budget, seed=1), stores, out=out).run()


def only(check: GateCheck, engine: str, **more: object) -> GateCheck:
    return GateCheck(**{**check.__dict__, "engines": (engine,), **more})  # type: ignore[arg-type]


def test_explorations_come_first_and_everything_listed_runs_at_least_once(stores: Stores, tmp_path: Path) -> None:
    done = gate(stores, tmp_path, RIGHT, only(RIGHT, "stress", scenario="creates_with_rollback"))

    assert [(row.engine, row.check.scenario) for row in done.rows] == [
        ("explore", "concurrent_creates"),
        ("stress", "concurrent_creates"),
        ("stress", "creates_with_rollback"),
    ]
    assert done.verdict is Verdict.PASS
    assert all(row.operations > 0 for row in done.rows)


def test_stress_goes_on_until_the_budget_ends_and_keeps_one_round_that_passed(stores: Stores, tmp_path: Path) -> None:
    ticks = itertools.count()  # the clock is asked a few times before, and once after each round that passed
    config = GateConfig(checks=(only(RIGHT, "stress"),), budget=6, seed=1)

    [row] = Gate(config, stores, out=tmp_path, clock=lambda: float(next(ticks))).run().rows

    assert (row.rounds, row.operations) == (3, 180)
    assert [p.name for p in tmp_path.iterdir()] == [row.folders[0].name]


def test_each_round_on_the_service_that_the_file_describes_is_judged_by_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TOKEN", "s3cr3t")
    service = load_service(described(tmp_path, bug=False))
    ticks = itertools.count()
    config = GateConfig(checks=(only(RIGHT, "stress", target="", policy=None),), budget=6, seed=1)

    [row] = (
        Gate(
            config,
            Stores({}, StoreOptions()),
            out=tmp_path / "runs",
            service=lambda wire: OwnService(service, url=None, wire=wire, connections=20, say=lambda text: None),
            clock=lambda: float(next(ticks)),
        )
        .run()
        .rows
    )

    assert (row.verdict, row.rounds, row.operations) == (Verdict.PASS, 3, 180)


def test_what_the_explorer_broke_is_replayable_and_not_stressed(stores: Stores, tmp_path: Path) -> None:
    done = gate(stores, tmp_path, WRONG)

    [row] = done.rows
    assert (row.engine, row.verdict) == ("explore", Verdict.FAIL)
    assert row.finding is not None
    assert row.finding.schedule is not None
    assert (row.folders[0] / "findings" / "1.schedule").is_file()


def test_a_failure_of_stress_is_turned_into_a_schedule(stores: Stores, tmp_path: Path) -> None:
    done = gate(stores, tmp_path, only(WRONG, "stress", ops=200))

    [row] = done.rows
    assert (row.verdict, row.result.engine) == (Verdict.FAIL, "stress")
    assert row.replayable is not None
    assert row.finding is not None
    assert row.finding.invariant == "N-UNIQ"
    assert row.finding.schedule is not None
    assert len(row.folders) == 2


def test_the_same_seed_gives_the_same_explored_findings(stores: Stores, tmp_path: Path) -> None:
    checks = [only(WRONG, "explore"), only(RIGHT, "explore", explore_operations=2, interleavings=20)]

    def told(n: int) -> list[object]:
        rows = gate(stores, tmp_path / str(n), *checks).rows
        return [
            (row.verdict, row.note, row.finding and row.finding.schedule, (row.result.schedules or {}).get("endings"))
            for row in rows
        ]

    assert told(1) == told(2)


def test_an_exploration_that_ran_out_of_time_is_unknown_and_never_a_pass(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.run.gate.LEAST_SECONDS", 0.2)

    done = gate(stores, tmp_path, only(RIGHT, "explore", explore_clients=3, explore_operations=3, interleavings=10_000))

    assert done.verdict is Verdict.UNKNOWN
    assert done.rows[0].finding is not None
    assert "of 10000 interleavings" in done.rows[0].finding.message


def test_a_mistake_in_the_last_check_is_told_before_anything_runs(stores: Stores, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no scenario is called"):
        gate(stores, tmp_path, RIGHT, GateCheck(scenario="concurrent_create", target="reference:pg.counter_row"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_can_be_reported_again(stores: Stores, tmp_path: Path) -> None:
    done = gate(stores, tmp_path, only(RIGHT, "explore"))

    for folder in done.folders:
        assert RunFolder.open(folder).read_json("result.json")["verdict"] == "pass"
