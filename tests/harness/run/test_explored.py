"""Explorations of the reference on real stores: broken code is found and replayed, its twin is exhausted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.engines.explore.moves import NO_FAULTS, FaultPlan
from harness.engines.explore.token import decode
from harness.model import Verdict
from harness.run.explored import explore, replay
from harness.run.request import build_request
from harness.run.result import RunResult
from harness.run.stores import Stores
from harness.stores import Store, StoreKind, StoreOptions


@pytest.fixture
def stores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, target: str) -> Stores:
    """The session's own server of the target's kind."""
    kind = StoreKind.POSTGRES if target.startswith("pg.") else StoreKind.MONGO
    store: Store = request.getfixturevalue(f"{kind}_store")
    shared = Stores({}, StoreOptions())
    monkeypatch.setattr(shared, "_open", {kind: store})
    return shared


def explored(
    stores: Stores,
    out: Path,
    target: str,
    scenario: str,
    *,
    reduce: bool = True,
    stop_at_first: bool = True,
    faults: FaultPlan = NO_FAULTS,
    operations: int = 1,
    audit: int = 0,
    **chosen: Any,
) -> RunResult:
    clients = chosen.pop("clients", 2)
    request = build_request(
        scenario=scenario,
        target=f"reference:{target}",
        chosen=chosen,
        clients=clients,
        out=out,
        engine="explore",
        budget=60.0,
    )
    how = {"reduce": reduce, "stop_at_first": stop_at_first, "faults": faults, "operations": operations, "audit": audit}
    return explore(request, stores, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["pg.balance_from_one_row"])
def test_a_migration_is_played_to_its_end_whatever_a_client_may_make(stores: Stores, tmp_path: Path, target: str) -> None:
    result = explored(stores, tmp_path, target, "migration_against_payments", orders=1, batch=7)
    assert result.findings == []
    assert result.verdict is Verdict.PASS
    assert result.operations["ok"] >= 3  # the migration and its verification, though one call was allowed, and a payment


@pytest.mark.parametrize(
    ("target", "scenario", "chosen", "spoke"),
    [
        ("pg.count_plus_one", "concurrent_creates", {}, "N-UNIQ"),
        ("pg.count_plus_one", "concurrent_creates", {"unique_index": True}, "L-RETRY"),
        ("pg.increment_then_refresh", "concurrent_creates", {}, "N-UNIQ"),
        ("pg.load_add_save", "concurrent_creates", {}, "N-UNIQ"),
        ("pg.lock_last_row", "concurrent_creates", {}, "N-UNIQ"),
        ("pg.advisory_lock_max", "concurrent_creates", {"isolation": "repeatable_read"}, "N-UNIQ"),
        ("pg.select_then_insert_counter", "first_documents", {}, "N-UNIQ"),
        ("pg.serializable_without_retry", "concurrent_creates", {}, "L-RETRY"),
        ("pg.lock_without_transaction", "double_approval", {}, "P-ONCE"),
        ("mongo.count_plus_one", "concurrent_creates", {}, "N-UNIQ"),
        ("mongo.increment_then_find", "concurrent_creates", {}, "N-UNIQ"),
        ("mongo.count_in_transaction", "concurrent_creates", {}, "N-UNIQ"),
    ],
)
def test_a_race_is_found_and_replays_every_time(
    stores: Stores, tmp_path: Path, target: str, scenario: str, chosen: dict[str, Any], spoke: str
) -> None:
    result = explored(stores, tmp_path, target, scenario, **chosen)

    assert result.verdict is Verdict.FAIL
    assert spoke in {f.invariant for f in result.findings}
    assert result.schedules is not None
    assert result.schedules["diverged"] == 0
    token = result.findings[0].schedule
    assert token is not None
    again = replay(decode(token), stores, times=3, out=tmp_path)
    assert (again.again, again.times, again.diverged) == (3, 3, None)


@pytest.mark.parametrize(
    ("target", "scenario", "chosen"),
    [
        ("pg.counter_row", "concurrent_creates", {}),
        ("pg.counter_row", "concurrent_creates", {"unique_index": True, "isolation": "repeatable_read"}),
        ("pg.increment_then_refresh_in_transaction", "concurrent_creates", {}),
        ("pg.advisory_lock_max", "concurrent_creates", {}),
        ("pg.serializable_max", "concurrent_creates", {}),
        ("pg.optimistic_savepoint", "concurrent_creates", {}),
        ("pg.approve_in_one_transaction", "double_approval", {}),
        ("mongo.counter_document", "concurrent_creates", {}),
        ("mongo.counter_in_transaction", "concurrent_creates", {}),
    ],
)
def test_a_correct_twin_is_exhausted_and_nothing_that_was_left_out_ends_in_another_way(
    stores: Stores, tmp_path: Path, target: str, scenario: str, chosen: dict[str, Any]
) -> None:
    result = explored(stores, tmp_path, target, scenario, audit=20, **chosen)

    assert (result.verdict, [f.message for f in result.findings]) == (Verdict.PASS, [])
    assert result.schedules is not None
    assert (result.schedules["coverage"], result.schedules["diverged"]) == ("exhaustive", 0)
    assert (result.schedules["audited"] > 0, result.schedules["missed"]) == (True, 0)


@pytest.mark.parametrize("target", ["pg.count_plus_one"])
def test_a_reduction_that_leaves_out_too_much_is_found_out(
    stores: Stores, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.engines.explore.search.independent", lambda one, other: True)

    unaudited = explored(stores, tmp_path, target, "concurrent_creates")
    result = explored(stores, tmp_path, target, "concurrent_creates", audit=20)

    assert unaudited.verdict is Verdict.PASS, "the reduction is not broken enough for this test"
    assert result.verdict is Verdict.FAIL
    assert result.schedules is not None
    assert result.schedules["missed"] > 0
    assert result.schedules["coverage"].startswith("sampled")


@pytest.mark.parametrize("target", ["pg.count_plus_one"])
def test_brute_force_finds_60_bad_of_70(stores: Stores, tmp_path: Path, target: str) -> None:
    """The same figures as PostgreSQL's isolationtester for two sessions of BEGIN, SELECT, INSERT, COMMIT."""
    result = explored(stores, tmp_path, target, "concurrent_creates", reduce=False, stop_at_first=False)

    assert result.schedules is not None
    assert (result.schedules["explored"], result.schedules["failing"]) == (70, 60)
    assert (result.schedules["coverage"], result.schedules["diverged"]) == ("exhaustive", 0)


@pytest.mark.parametrize("target", ["pg.count_plus_one"])
def test_reduction_leaves_the_three_that_differ(stores: Stores, tmp_path: Path, target: str) -> None:
    result = explored(stores, tmp_path, target, "concurrent_creates", stop_at_first=False)

    assert result.schedules is not None
    assert (result.schedules["explored"], result.schedules["endings"], result.schedules["coverage"]) == (3, 3, "exhaustive")


@pytest.mark.parametrize("target", ["pg.approve_in_one_transaction"])
def test_whoever_comes_second_is_refused_and_that_is_progress(stores: Stores, tmp_path: Path, target: str) -> None:
    """In one interleaving only the approval succeeds, in another only the rejection; over all of them both do."""
    result = explored(stores, tmp_path, target, "approve_against_reject")

    assert (result.verdict, [f.message for f in result.findings]) == (Verdict.PASS, [])
    assert result.schedules is not None
    assert result.schedules["coverage"] == "exhaustive"


@pytest.mark.parametrize("target", ["pg.stale_balance"])
def test_a_wait_is_known_from_its_step_to_the_one_that_ended_it_and_drawn_beside_the_finding(
    stores: Stores, tmp_path: Path, target: str
) -> None:
    result = explored(stores, tmp_path, target, "installments_against_cancel", orders=1)

    assert result.folder is not None
    steps = result.findings[0].evidence["steps"]
    [(at, waiting)] = [(n, step) for n, step in enumerate(steps, start=1) if step["waited"]]
    [holder] = waiting["holders"]
    ended = steps[waiting["until"] - 1]
    assert waiting["until"] > at
    assert (ended["client"], ended["statement"]) == (holder, "COMMIT")
    assert all(step["until"] is None for step in steps if not step["waited"])
    picture = (result.folder / "findings" / "1.svg").read_text(encoding="utf-8")
    assert picture.count('class="wait"') == 1
    assert f"waits for client {holder}" in picture
    assert f"{result.findings[0].invariant}: " in picture
