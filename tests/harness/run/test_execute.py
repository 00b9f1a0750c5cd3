"""A scenario runs from start to verdict on a real store, and everything is kept."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.model import Books, EnvironmentProblem, UsageError, Verdict
from harness.recording.loader import load
from harness.run.execute import RunRequest, execute
from harness.run.folder import RunFolder
from harness.run.request import build_request
from harness.run.result import RunResult
from harness.run.stores import Stores
from harness.stores import Store, StoreKind, StoreOptions
from tests.support import Echoes, EchoTarget


@pytest.fixture
def stores(postgres_store: Store, monkeypatch: pytest.MonkeyPatch) -> Stores:
    """The session's own server, which is not closed by the run."""
    shared = Stores({}, StoreOptions())
    monkeypatch.setattr(shared, "_open", {StoreKind.POSTGRES: postgres_store})
    return shared


def run(stores: Stores, out: Path, target: str, scenario: str = "concurrent_creates", **more: Any) -> RunResult:
    request = build_request(scenario=scenario, target=f"reference:{target}", out=out, **{"ops": 200, "seed": 1, **more})
    return execute(request, stores)


def test_right_numbering_passes_and_the_folder_is_complete(stores: Stores, tmp_path: Path) -> None:
    result = run(stores, tmp_path, "pg.counter_row")

    assert (result.verdict, list(result.findings)) == (Verdict.PASS, [])
    assert dict(result.operations) == {"ok": 200, "fail": 0, "info": 0}
    assert result.folder is not None
    folder = RunFolder.open(result.folder)
    history, facts = load(folder.history_files())
    assert len(history) == 201, "the opening call is in the history as well"
    assert all(f.ended for f in facts)
    assert folder.read_books().table("documents").height == 203
    assert folder.read_json("run.json")["seed"] == 1
    assert folder.read_json("result.json") == json.loads(json.dumps(result.to_json()))


def test_wrong_numbering_fails_with_evidence_and_a_sentence(stores: Stores, tmp_path: Path) -> None:
    result = run(stores, tmp_path, "pg.count_plus_one")

    assert result.verdict is Verdict.FAIL
    finding = next(f for f in result.findings if f.invariant == "N-UNIQ")
    assert "was issued" in finding.message
    assert "read the count" in finding.message
    assert len(finding.evidence["operations"]) >= 2
    assert result.folder is not None
    assert json.loads((result.folder / "findings" / "1.json").read_text())["message"]


@pytest.mark.parametrize("variant", ["pg.counter_row", "pg.count_plus_one"])
def test_the_result_follows_its_published_schema(stores: Stores, tmp_path: Path, variant: str) -> None:
    schema = json.loads((files("harness.run") / "schemas" / "result-1.json").read_text())

    jsonschema.validate(run(stores, tmp_path, variant).to_json(), schema)


def test_killed_clients_are_explained_and_not_blamed(stores: Stores, tmp_path: Path) -> None:
    result = run(
        stores, tmp_path, "pg.counter_row", "creates_with_rollback", policy="gapless", chosen={"kill": 0.01, "vanish": 0.05}
    )

    assert (result.verdict, [f.message for f in result.findings]) == (Verdict.PASS, [])
    assert result.facts["processes_restarted"] >= 1
    assert result.operations["info"] == 0, "the books decided every one"


def test_a_run_in_which_nothing_succeeds_is_unknown(stores: Stores, tmp_path: Path) -> None:
    result = run(
        stores,
        tmp_path,
        "pg.counter_row",
        "creates_with_rollback",
        chosen={"refuse": 1.0, "vanish": 0.0, "kill": 0.0},
        ops=20,
    )

    assert result.verdict is Verdict.UNKNOWN
    assert [f.invariant for f in result.findings] == ["L-PROGRESS"]


def test_a_stuck_client_is_reported_and_what_it_did_is_unknown(stores: Stores, tmp_path: Path) -> None:
    request = RunRequest(
        scenario=Echoes(sometimes="hang", invariants=("L-PROGRESS",)),
        target=EchoTarget(),
        settings={},
        policy=build_request(scenario="concurrent_creates", target="reference:pg.counter_row").policy,
        clients=2,
        processes=2,
        ops=20,
        budget=1.0,
        out=tmp_path,
    )

    result = execute(request, stores)

    assert result.verdict is Verdict.FAIL
    assert any("client 0 was still busy" in f.message for f in result.findings)


def test_books_that_cannot_be_read_prove_nothing(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "harness.run.phases.read_books", lambda database, queries: Books(complete=False, trouble="statement timeout")
    )

    result = run(stores, tmp_path, "pg.counter_row", ops=20)

    assert result.verdict is Verdict.UNKNOWN
    assert any("statement timeout" in f.message for f in result.findings)


def test_no_database_is_left_behind(stores: Stores, tmp_path: Path) -> None:
    run(stores, tmp_path, "pg.counter_row", ops=20)

    store: Any = stores.get("postgres")
    assert store.control.execute("SELECT datname FROM pg_database WHERE datname LIKE 'racegate%'") == []


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"scenario": "concurent_creates"}, "did you mean 'concurrent_creates'"),
        ({"target": "reference:pg.count_plus_on"}, "did you mean 'reference:pg.count_plus_one'"),
        ({"target": "elsewhere:pg.count_plus_one"}, "no target is called"),
        ({"policy": "atlantis"}, "no policy is called 'atlantis'"),
        ({"chosen": {"unique_idx": "true"}}, "did you mean 'unique_index'"),
        ({"chosen": {"unique_index": "maybe"}}, "unique_index cannot be 'maybe'; choose one of: true, false"),
        ({"chosen": {"isolation": "snapshot"}}, "isolation cannot be 'snapshot'; choose one of: read_committed"),
        ({"chosen": {"scopes": "many"}}, "scopes is a number such as 1, not 'many'"),
        ({"ops": 5, "duration": 5.0}, "contradict each other"),
        ({"clients": 2, "processes": 4}, "a process needs a client to drive"),
        ({"scenario": "double_approval"}, "does not offer"),
    ],
)
def test_a_wrong_call_is_told_what_to_do(asked: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        build_request(**{"scenario": "concurrent_creates", "target": "reference:pg.counter_row", **asked})


def test_a_choice_may_be_written_with_hyphens_and_capitals() -> None:
    request = build_request(
        scenario="concurrent_creates", target="reference:pg.counter_row", chosen={"isolation": "Repeatable-Read"}
    )

    assert request.target.settings["isolation"] == "repeatable_read"


def test_an_out_that_cannot_be_written_is_the_environments_fault(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(EnvironmentProblem, match="choose another --out|name a folder"):
        run(stores, tmp_path / "file", "pg.counter_row")
