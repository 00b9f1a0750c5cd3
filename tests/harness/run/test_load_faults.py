"""Faults and limits under load: done when they were asked for, told on the timeline, and judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.engines.load.engine import LoadEngine
from harness.model import StoreNeeds, UsageError, Verdict
from harness.run.limits import parse_limits
from harness.run.load_faults import LoadFault, check_faults, needs_of, parse_fault
from harness.run.loaded import Ending, LoadOptions, run_load
from harness.run.request import build_request
from harness.run.result import RunResult
from harness.run.run_request import RunRequest
from harness.run.stores import Stores
from harness.stores import Store, StoreKind, StoreOptions, open_store


def loaded(
    store: Store,
    out: Path,
    target: str = "pg.counter_row",
    duration: float = 4.0,
    **how: Any,
) -> RunResult:
    stores = Stores({}, StoreOptions())
    stores._open[store.kind] = store
    request = build_request(
        scenario="concurrent_creates",
        target=f"reference:{target}",
        out=out,
        duration=duration,
        clients=4,
        processes=1,
        seed=1,
        engine="load",
    )
    return run_load(request, stores, LoadOptions(spawn_rate=100.0, **how))


def through(store: Store, out: Path, target: str, faults: Sequence[str], **chosen: object) -> RunResult:
    stores = Stores({}, StoreOptions())
    stores._open[store.kind] = store
    asked: dict[str, Any] = {"scenario": "concurrent_creates", "target": f"reference:{target}", "out": out, "chosen": chosen}
    request = build_request(**asked, clients=4, processes=1, seed=1, engine="load")
    return until_over(request, stores, [parse_fault(text) for text in faults], len(faults))


def until_over(request: RunRequest, stores: Stores, faults: Sequence[LoadFault], count: int) -> RunResult:
    """Load until so many faults are over and users got answers again, however long that takes on a busy machine."""
    over: list[int] = []

    def look(sample: Mapping[str, Any]) -> None:
        over.extend(sample["ok"] for event in sample["events"] if event["text"].endswith(" over"))
        if len(over) == count and sample["ok"] > over[-1] + 20:
            engine.abort()

    request = replace(request, ops=None, duration=None)
    options = LoadOptions(spawn_rate=100.0, faults=faults)
    with LoadEngine(processes=1, logs=request.out / "logs") as engine:
        return run_load(request, stores, options, engine=engine, tell=look)


@pytest.fixture(scope="module")
def replica_set() -> Iterator[Store]:
    """Three real servers."""
    store = open_store(StoreKind.MONGO, "embedded", StoreOptions(nodes=3, fsync=True))
    yield store
    store.close()


def test_a_text_becomes_a_fault() -> None:
    assert parse_fault("failover@2s") == LoadFault(kind="failover", at=2.0, text="failover@2s")
    assert parse_fault("failover:1s@2s").seconds == 1.0
    assert parse_fault("pause:500ms@2s") == LoadFault(kind="pause", at=2.0, seconds=0.5, text="pause:500ms@2s")
    assert parse_fault("restart@1m").at == 60.0


@pytest.mark.parametrize("text", ["restart", "restart@soon", "pause@5s", "explode@5s"])
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no fault"):
        parse_fault(text)


def test_a_store_that_cannot_suffer_a_fault_says_so(postgres_store: Store) -> None:
    with pytest.raises(UsageError, match="only MongoDB has a primary"):
        check_faults([parse_fault("stepdown@1s")], postgres_store)
    with pytest.raises(UsageError, match="no store that racegate knows"):
        check_faults([parse_fault("restart@1s")], None)


def test_connections_that_are_killed_leave_right_books_and_a_mark(postgres_store: Store, tmp_path: Path) -> None:
    result = through(postgres_store, tmp_path, "pg.counter_row", ["kill-connections@1s"])

    assert (result.verdict, [f.message for f in result.findings]) == (Verdict.PASS, [])
    load = result.facts["load"]
    assert [event["text"] for event in load["live"]["events"]] == ["kill-connections@1s", "kill-connections over"]
    assert load["errors"] >= 1, "the clients noticed"


def test_what_a_fault_may_lose_is_kept_by_the_store_that_suffers_it() -> None:
    assert needs_of([parse_fault("restart@1s")]) == StoreNeeds(nodes=1, fsync=True)
    assert needs_of([parse_fault("stepdown@1s")]) == StoreNeeds(nodes=3)
    assert needs_of([parse_fault("pause:1s@1s")]) == StoreNeeds()


def test_a_server_that_is_restarted_leaves_right_books(tmp_path: Path) -> None:
    faults = [parse_fault("restart@1s")]
    with closing(open_store(StoreKind.POSTGRES, "embedded", StoreOptions(fsync=needs_of(faults).fsync))) as store:
        result = through(store, tmp_path, "pg.counter_row", ["restart@1s"])

    assert (result.verdict, [f.message for f in result.findings]) == (Verdict.PASS, [])
    assert [event["text"] for event in result.facts["load"]["live"]["events"]] == ["restart@1s", "restart over"]
    assert result.facts["load"]["errors"] >= 1, "the clients noticed"


def test_a_primary_that_hands_over_and_one_that_is_restarted_leave_right_books(replica_set: Store, tmp_path: Path) -> None:
    result = through(replica_set, tmp_path, "mongo.counter_document", ["stepdown@1s", "restart@3s"])

    assert (result.verdict, [f.message for f in result.findings]) == (Verdict.PASS, [])
    told = [event["text"] for event in result.facts["load"]["live"]["events"]]
    assert told == ["stepdown@1s", "stepdown over", "restart@3s", "restart over"]


@pytest.mark.parametrize(("acknowledged_by", "verdict"), [("majority", Verdict.PASS), ("1", Verdict.FAIL)])
def test_numbers_that_only_the_killed_primary_had_are_issued_again(
    acknowledged_by: str, verdict: Verdict, replica_set: Store, tmp_path: Path
) -> None:
    result = through(replica_set, tmp_path, "mongo.counter_document", ["failover:1s@1s"], write_concern=acknowledged_by)

    assert result.verdict is verdict, [f.message for f in result.findings]
    assert ("N-UNIQ" in {f.invariant for f in result.findings}) == (verdict is Verdict.FAIL)
    assert [event["text"] for event in result.facts["load"]["live"]["events"]] == ["failover:1s@1s", "failover over"]


def test_what_a_scenario_does_to_servers_is_on_the_timeline_too(tmp_path: Path) -> None:
    request = build_request(
        scenario="creates_through_a_crash",
        target="reference:pg.counter_row",
        out=tmp_path,
        clients=4,
        processes=1,
        seed=1,
        engine="load",
        chosen={"crash_after": 10},
    )
    with Stores({}, StoreOptions()) as stores:
        with pytest.raises(UsageError, match="hurts the store's servers itself"):
            run_load(request, stores, LoadOptions(spawn_rate=100.0, faults=[parse_fault("restart@1s")]))
        result = until_over(request, stores, [], 3)

    assert (result.verdict, [f.message for f in result.findings]) == (Verdict.PASS, [])
    told = [event["text"] for event in result.facts["load"]["live"]["events"]]
    assert told == [f"{fault}{over}" for fault in ("kill server", "start server", "restart") for over in ("", " over")]


def test_a_fault_that_the_run_did_not_reach_leaves_it_unknown(postgres_store: Store, tmp_path: Path) -> None:
    result = loaded(postgres_store, tmp_path, duration=1.0, faults=[parse_fault("restart@1m")])

    assert result.verdict is Verdict.UNKNOWN
    assert "the run was over before restart@1m" in [f.message for f in result.findings]


def test_a_limit_that_is_not_kept_is_a_fail(postgres_store: Store, tmp_path: Path) -> None:
    result = loaded(postgres_store, tmp_path, duration=1.0, limits=parse_limits(["p95=1ms", "errors=50%"]))

    assert result.verdict is Verdict.FAIL
    [finding] = result.findings
    assert finding.message.startswith("the limit was not kept: p95=1ms: ")


def test_a_finding_ends_the_run_early_if_asked(postgres_store: Store, tmp_path: Path) -> None:
    result = loaded(postgres_store, tmp_path, "pg.count_plus_one", duration=40.0, abort=True)

    assert result.verdict is Verdict.FAIL
    assert result.facts["load"]["seconds"] < 30
    assert any("ended early, as was asked" in f.message for f in result.findings)


def test_a_limit_must_be_broken_for_a_while_to_end_a_run() -> None:
    ending = Ending(LoadOptions(spawn_rate=1.0, limits=parse_limits(["p95=100ms"]), abort=True))
    stopped: list[bool] = []
    ending.stop = lambda: stopped.append(True)
    for p95 in (200.0, 200.0, 50.0, 200.0, 200.0):
        ending.look({"p95": p95, "findings": []})
    before = list(stopped)
    ending.look({"p95": 300.0, "findings": []})

    assert (before, stopped, ending.reason) == ([], [True], "p95=100ms: 300.0 ms")
