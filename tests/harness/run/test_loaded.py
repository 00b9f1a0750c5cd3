"""A scenario under load runs from start to verdict on a real store; what proved nothing never passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.engines.load.engine import LoadOutcome
from harness.engines.load.measures import Counts, Generator
from harness.model import FindingClass, Verdict
from harness.recording.loader import load
from harness.run.folder import RunFolder
from harness.run.loaded import LoadOptions, raced, run_load
from harness.run.request import build_request
from harness.run.result import RunResult
from harness.run.run_request import RunRequest
from harness.run.stores import Stores
from harness.stores import Store, StoreKind, StoreOptions
from tests.support import Echoes, EchoTarget


@pytest.fixture
def stores(postgres_store: Store, monkeypatch: pytest.MonkeyPatch) -> Stores:
    """The session's own server, which is not closed by the run."""
    shared = Stores({}, StoreOptions())
    monkeypatch.setattr(shared, "_open", {StoreKind.POSTGRES: postgres_store})
    return shared


def loaded(stores: Stores, out: Path, target: str, scenario: str = "concurrent_creates", **more: Any) -> RunResult:
    asked = {"duration": 1.5, "clients": 4, "processes": 1, "seed": 1, "engine": "load", **more}
    request = build_request(scenario=scenario, target=f"reference:{target}", out=out, **asked)
    return run_load(request, stores, LoadOptions(spawn_rate=100.0))


def test_right_numbering_passes_and_everything_is_kept(stores: Stores, tmp_path: Path) -> None:
    result = loaded(stores, tmp_path, "pg.counter_row")

    assert (result.verdict, list(result.findings)) == (Verdict.PASS, [])
    assert result.engine == "load"
    assert result.folder is not None
    folder = RunFolder.open(result.folder)
    history, facts = load(folder.history_files())
    made = len(history) - 1
    assert made == result.operations["ok"] > 1, "the opening call is in the history as well"
    assert all(f.ended for f in facts)
    assert folder.read_books().table("documents").height == made + 3
    told = result.facts["load"]
    assert told["counts"]["invoked"] == told["requests"] == made
    assert told["errors"] == 0
    assert told["latency_ms"]["create"]["service"]["count"] == made
    assert (result.folder / "logs" / "local.log").exists()


def test_wrong_numbering_fails_with_evidence(stores: Stores, tmp_path: Path) -> None:
    result = loaded(stores, tmp_path, "pg.count_plus_one")

    assert result.verdict is Verdict.FAIL
    assert "was issued" in next(f.message for f in result.findings if f.invariant == "N-UNIQ")


def test_refusals_are_answers_and_no_errors(stores: Stores, tmp_path: Path) -> None:
    result = loaded(
        stores, tmp_path, "pg.counter_row", "creates_with_rollback", chosen={"refuse": 0.3, "vanish": 0.0, "kill": 0.0}
    )

    assert (result.verdict, result.facts["load"]["errors"]) == (Verdict.PASS, 0)
    assert result.facts["load"]["counts"]["refused"] > 0


def echoes(tmp_path: Path, **changes: Any) -> RunRequest:
    asked: dict[str, Any] = {"scenario": "concurrent_creates", "target": "reference:pg.counter_row", "out": tmp_path}
    request = build_request(**asked, duration=0.4, clients=2, processes=1, engine="load")
    return RunRequest(**{**vars(request), "scenario": Echoes(invariants=("P-ONCE",)), "target": EchoTarget(), **changes})


def test_nothing_sent_is_unknown(tmp_path: Path) -> None:
    request = echoes(tmp_path, target=EchoTarget(refuses_clients=True), duration=3.0)  # it counts from before the first user
    result = run_load(request, Stores({}, StoreOptions()), LoadOptions(spawn_rate=100.0))

    assert result.verdict is Verdict.UNKNOWN
    assert result.facts["load"]["counts"]["unconnected"] > 0


def outcome(**changes: Any) -> LoadOutcome:
    counts = {**Counts().to_json(), "invoked": 5, "ok": 5}
    final = {"counts": counts, "latencies": {}, "generator": Generator().to_json(), "last": [9, True], "unfinished": 0, **changes}
    return LoadOutcome(seconds=1.0, finals=(final,))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, []),
        ({"unfinished": 2}, ["the run ended after 1.0 of 600.0 s, and 2 users had more to do"]),
        ({"last": [9, False]}, ["the last operation got no answer: the system may be gone"]),
    ],
)
def test_a_run_that_was_cut_short_or_went_unanswered_is_not_known(
    changes: dict[str, Any], says: list[str], tmp_path: Path
) -> None:
    live = {"duplicates": 0, "gap_rate": 0.0}
    found = raced(echoes(tmp_path, duration=600.0), LoadOptions(spawn_rate=1.0), outcome(**changes), live)

    assert [(f.finding_class, f.message) for f in found.findings] == [(FindingClass.INDETERMINATE, text) for text in says]
