"""Runs whose servers die: found where a promise was broken, quiet where it was kept, unknown where nothing was proved."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.model import UsageError
from harness.run.execute import execute
from harness.run.explored import explore
from harness.run.request import build_request
from harness.run.stores import Stores
from harness.stores import StoreOptions
from harness.stores.base import StoreKind

PRIMARY = "creates_while_the_primary_dies"
CRASH = "creates_through_a_crash"


def run(
    out: Path, scenario: str, target: str, *, clients: int = 8, ops: int = 400, policy: str | None = None, **chosen: Any
) -> Any:
    request = build_request(
        scenario=scenario, target=target, clients=clients, ops=ops, seed=1, chosen=chosen, policy=policy, out=out
    )
    with Stores({}, StoreOptions(connections=60)) as stores:
        return execute(request, stores)


def spoken(result: Any) -> set[str]:
    return {f.invariant for f in result.findings if f.finding_class == "violation"}


def test_a_number_is_issued_twice_when_the_primary_dies_before_it_replicated(tmp_path: Path) -> None:
    result = run(tmp_path, PRIMARY, "reference:mongo.counter_document", write_concern="1")

    assert {"N-UNIQ", "N-DURABLE"} <= spoken(result)
    assert [" was killed" in sentence for sentence in result.facts["server_faults"]].count(True) == 1


def test_a_majority_keeps_its_word_when_the_primary_dies(tmp_path: Path) -> None:
    result = run(tmp_path, PRIMARY, "reference:mongo.counter_document")

    assert result.verdict == "pass"
    assert len(result.facts["server_faults"]) == 4


def test_a_count_on_a_secondary_is_too_small(tmp_path: Path) -> None:
    result = run(tmp_path, "creates_with_a_lagging_secondary", "reference:mongo.count_on_secondary", clients=1, ops=100)

    assert "N-UNIQ" in spoken(result)


def test_acknowledged_documents_survive_a_killed_server(tmp_path: Path) -> None:
    result = run(tmp_path, CRASH, "reference:pg.counter_row")

    assert result.verdict == "pass"
    assert len(result.facts["server_faults"]) == 3


def test_commits_that_were_acknowledged_too_early_are_missed(tmp_path: Path) -> None:
    result = run(tmp_path, CRASH, "reference:pg.asynchronous_commit")

    assert "N-DURABLE" in spoken(result)


def test_a_race_that_ends_before_its_fault_proves_nothing(tmp_path: Path) -> None:
    result = run(tmp_path, CRASH, "reference:pg.counter_row", ops=20)

    assert result.verdict == "unknown"
    assert "the race was over before kill server" in " ".join(f.message for f in result.findings)


def test_somebody_elses_server_is_not_hurt(tmp_path: Path) -> None:
    request = build_request(scenario=CRASH, target="reference:pg.counter_row", out=tmp_path)
    given = Stores({StoreKind.POSTGRES: "postgresql://127.0.0.1:1/x"}, StoreOptions(disposable="x"))
    with given as stores, pytest.raises(UsageError, match="only if racegate started them"):
        execute(request, stores)


def test_a_postgresql_server_has_no_primary_to_lose(tmp_path: Path) -> None:
    request = build_request(scenario=PRIMARY, target="reference:pg.counter_row", out=tmp_path)
    with Stores({}, StoreOptions()) as stores, pytest.raises(UsageError, match="only MongoDB has replica sets"):
        execute(request, stores)


def test_no_schedule_decides_when_a_server_dies(tmp_path: Path) -> None:
    request = build_request(scenario=CRASH, target="reference:pg.counter_row", out=tmp_path, engine="explore")
    with Stores({}, StoreOptions()) as stores, pytest.raises(UsageError, match="use racegate run"):
        explore(request, stores)


def test_the_server_dies_between_number_and_document(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"crash_at": "number_taken", "crash_after": 20, "ops": 400, "policy": "gapless"}
    lost = run(tmp_path, CRASH, "reference:pg.counter_on_other_connection", **chosen)
    kept = run(tmp_path, CRASH, "reference:pg.counter_row", **chosen)

    assert "N-GAPLESS" in spoken(lost)
    assert kept.verdict == "pass"
    assert [
        re.search(r"while clients? .* stood at number_taken", fault) is not None for fault in kept.facts["server_faults"]
    ] == [
        True,
        False,
        True,
    ]


def test_the_server_dies_between_document_and_counter(tmp_path: Path) -> None:
    target, chosen = "reference:pg.document_then_counter", {"clients": 1, "ops": 40, "crash_after": 10}
    lost = run(tmp_path, "sales_through_a_crash", target, crash_at="document_committed", **chosen)
    spared = run(tmp_path, "oversell", target, clients=1, ops=40)

    assert "N-UNIQ" in spoken(lost)
    assert spared.verdict == "pass", "right, as long as there is one client and nobody dies"


def test_a_point_that_nobody_comes_to_proves_nothing(tmp_path: Path) -> None:
    result = run(
        tmp_path, "sales_through_a_crash", "reference:pg.sell_in_one_transaction", ops=40, crash_after=10, crash_at="number_drawn"
    )

    assert result.verdict == "unknown"
    assert "the race was over before kill server at number_drawn" in " ".join(f.message for f in result.findings)
