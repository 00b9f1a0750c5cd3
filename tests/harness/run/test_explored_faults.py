"""Faults at steps that the search chooses: a reply that is lost, a backend or a client that is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.engines.explore.moves import FAULTS, FaultPlan
from harness.engines.explore.token import decode
from harness.model import FindingClass, Verdict
from harness.run.explored import explore, replay
from harness.run.request import build_request
from harness.run.result import RunResult
from harness.run.stores import Stores
from harness.stores import Store, StoreKind, StoreOptions

LOST_ONCE = FaultPlan(kinds=("lose_reply",), most=1)
LOST_TWICE = FaultPlan(kinds=("lose_reply",), most=2)
"""MongoDB's driver sends a retryable write again by itself: it takes two lost replies before the application hears of it."""


@pytest.fixture
def stores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, target: str) -> Stores:
    """The session's own server of the target's kind."""
    kind = StoreKind.POSTGRES if target.startswith("pg.") else StoreKind.MONGO
    store: Store = request.getfixturevalue(f"{kind}_store")
    shared = Stores({}, StoreOptions())
    monkeypatch.setattr(shared, "_open", {kind: store})
    return shared


def explored(stores: Stores, out: Path, target: str, scenario: str, faults: FaultPlan, **how: Any) -> RunResult:
    request = build_request(
        scenario=scenario, target=f"reference:{target}", chosen={}, clients=how.pop("clients", 1), out=out, engine="explore"
    )
    return explore(request, stores, faults=faults, **how)


def faulty(result: RunResult) -> list[str]:
    """What is wrong; a number that a failed attempt used up is a cost."""
    return [f.message for f in result.findings if f.finding_class is not FindingClass.COST]


@pytest.mark.parametrize(("target", "faults"), [("pg.token_ignored", LOST_ONCE), ("mongo.token_ignored", LOST_TWICE)])
def test_a_naive_retry_after_a_lost_reply_does_it_twice(stores: Stores, tmp_path: Path, target: str, faults: FaultPlan) -> None:
    result = explored(stores, tmp_path, target, "retried_creates", faults, operations=2)

    assert result.verdict is Verdict.FAIL
    assert "P-ONCE" in {f.invariant for f in result.findings}
    schedule = decode(str(result.findings[0].schedule))
    assert set(schedule.faults.values()) == {"lose_reply"}
    again = replay(schedule, stores, times=3, out=tmp_path)
    assert (again.again, again.times, again.diverged) == (3, 3, None)


@pytest.mark.parametrize(
    ("target", "faults"),
    [("pg.counter_row", LOST_ONCE), ("mongo.counter_document", LOST_TWICE), ("mongo.counter_in_transaction", LOST_TWICE)],
)
def test_a_keyed_retry_does_it_once_wherever_the_reply_is_lost(
    stores: Stores, tmp_path: Path, target: str, faults: FaultPlan
) -> None:
    result = explored(stores, tmp_path, target, "retried_creates", faults, operations=2)

    assert (result.verdict, faulty(result)) == (
        Verdict.PASS,
        [],
    )
    assert result.schedules is not None
    assert (result.schedules["coverage"], result.schedules["diverged"]) == ("exhaustive", 0)
    assert result.schedules["explored"] > 1, "no reply was lost: nothing was shown"


@pytest.mark.parametrize("target", ["pg.counter_row", "mongo.counter_in_transaction"])
@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_a_correct_variant_survives_any_single_fault_at_any_step(stores: Stores, tmp_path: Path, target: str, kind: str) -> None:
    result = explored(stores, tmp_path, target, "concurrent_creates", FaultPlan(kinds=(kind,), most=1), clients=2)

    assert faulty(result) == []
    assert result.schedules is not None
    assert (result.schedules["coverage"], result.schedules["diverged"]) == ("exhaustive", 0)


@pytest.mark.parametrize("target", ["pg.native_sequence"])
def test_a_client_killed_between_number_and_document_leaves_a_gap(stores: Stores, tmp_path: Path, target: str) -> None:
    """A sequence gives a number away for good; the gapless policy does not accept the hole."""
    request = build_request(
        scenario="concurrent_creates",
        target=f"reference:{target}",
        chosen={},
        policy="gapless",
        clients=2,
        out=tmp_path,
        engine="explore",
    )
    result = explore(request, stores, faults=FaultPlan(kinds=("kill_client",), most=1))

    assert result.verdict is Verdict.FAIL
    assert result.findings[0].invariant == "N-GAPLESS"
    assert set(decode(str(result.findings[0].schedule)).faults.values()) == {"kill_client"}
