"""A recorded history is checked alone, whoever recorded it, and never passes for what could not be seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.cli.main import main
from harness.invariants.linearizability import Limits
from harness.model import History, Operation, Outcome, UsageError, Verdict
from harness.recording.formats import HistoryFormat, write_history
from harness.run import check_history
from harness.run.check_history import HistoryCheck, check_file

PORCUPINE = Path(__file__).parents[2] / "corpus" / "porcupine"


def create(token: str, span: tuple[int, int | None], number: int | None, outcome: str = "ok", **more: Any) -> Operation:
    client = ord(token[0]) - ord("a")
    result = {"scope": "acme/invoice", "period": "", "number": number, "text": f"INV-{number:05d}"} if number else None
    return Operation(
        process=more.pop("process", client),
        client=client,
        f="create",
        token=token,
        arguments={"scope": "acme/invoice"},
        invoked=span[0] * 1_000_000,
        completed=None if span[1] is None else span[1] * 1_000_000,
        outcome=Outcome(outcome),
        result=result,
        **more,
    )


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., HistoryCheck]:
    def check(*operations: Operation, **how: Any) -> HistoryCheck:
        path = tmp_path / "history.jsonl"
        write_history(History.of(operations, open_at=0), path, HistoryFormat.RACEGATE)
        return check_file(path, **how)

    return check


def said(found: HistoryCheck) -> list[str]:
    return [f"{f.finding_class.value} {f.invariant}: {f.message}" for f in found.findings]


def test_right_numbers_pass(checked: Callable[..., HistoryCheck]) -> None:
    found = checked(create("a", (0, 1), 4), create("b", (0, 2), 5), policy="chronological")
    assert (found.verdict, said(found)) == (Verdict.PASS, [])
    assert found.how == "the allocator of numbers under policy chronological"
    assert "N-MONO" in found.checked
    assert found.skipped["N-DURABLE"] == "there are no books"


def test_a_number_twice_fails(checked: Callable[..., HistoryCheck]) -> None:
    found = checked(create("a", (0, 1), 4), create("b", (0, 2), 4))
    assert found.verdict is Verdict.FAIL
    assert said(found) == ["violation N-UNIQ: INV-00004 was issued twice: by client 0 at +0.001 s and client 1 at +0.002 s"]


def test_numbers_out_of_order_fail_where_order_is_demanded(checked: Callable[..., HistoryCheck]) -> None:
    late = (create("a", (0, 1), 4), create("b", (0, 2), 6), create("c", (3, 4), 5))
    assert checked(*late).verdict is Verdict.PASS
    found = checked(*late, policy="chronological")
    assert said(found) == [
        "violation N-MONO: INV-00005 was asked for by client 2 at +0.003 s, when INV-00006 had already been issued to "
        "client 1 at +0.002 s"
    ]


def test_a_lost_number_fails_unless_somebody_may_have_it(checked: Callable[..., HistoryCheck]) -> None:
    hole = (create("a", (0, 1), 4), create("b", (0, 2), 6))
    found = checked(*hole)
    assert said(found) == [
        "violation N-EXPLAINED: number 5 of acme/invoice never came back: 1 missing up to there, and none of the other attempts "
        "began to have taken one; 1 number was skipped, or its document was lost"
    ]
    assert checked(*hole, create("c", (0, None), None, "info"), open_ends=True).verdict is Verdict.PASS
    late = create("c", (3, None), None, "info")
    assert checked(*hole, late, open_ends=True).verdict is Verdict.PASS
    assert checked(*hole, late, open_ends=True, policy="chronological").verdict is Verdict.FAIL
    failed = create("c", (0, 1), None, "fail")
    assert checked(*hole, failed).verdict is Verdict.PASS
    assert checked(*hole, failed, policy="gapless").verdict is Verdict.FAIL
    assert checked(*hole, policy="unique").verdict is Verdict.PASS


def test_the_start_is_the_lowest_number_unless_it_is_said(checked: Callable[..., HistoryCheck]) -> None:
    assert checked(create("a", (0, 1), 4)).verdict is Verdict.PASS
    assert checked(create("a", (0, 1), 4), start=4).verdict is Verdict.PASS
    assert checked(create("a", (0, 1), 4), start=3).verdict is Verdict.FAIL
    found = checked(create("a", (0, 1), 4), create("b", (0, 1), 5), start=5)
    assert said(found) == ["violation N-EXPLAINED: 1 number lies below the start, the first 1 below it in acme/invoice"]


def test_a_run_in_which_nothing_succeeded_is_unknown(checked: Callable[..., HistoryCheck]) -> None:
    assert checked(create("a", (0, 1), None, "fail")).verdict is Verdict.UNKNOWN


def test_an_open_end_is_unknown_even_if_all_the_rest_is_right(checked: Callable[..., HistoryCheck], tmp_path: Path) -> None:
    path = tmp_path / "x.edn"
    path.write_text(
        "{:process 0, :type :invoke, :f :write, :value 1}\n{:process 0, :type :ok, :f :write, :value 1}\n"
        "{:process 0, :type :invoke, :f :write, :value 2}\n"
    )
    found = check_file(path)
    assert found.verdict is Verdict.UNKNOWN
    assert said(found) == [
        "indeterminate RESOLVED: the history is not complete: one operation never completes, so the end may be missing; "
        "if clients died there, say --open-ends"
    ]
    assert check_file(path, open_ends=True).verdict is Verdict.PASS


def test_a_register_fails_with_the_smallest_part_that_is_still_wrong() -> None:
    found = check_file(PORCUPINE / "etcd" / "etcd_000.log")
    assert found.verdict is Verdict.FAIL
    assert said(found) == [
        "violation LINEARIZABLE: no order explains read -> 2 by process 11 (line 85 to 86): after the longest order that fits, "
        "of 37 operations, the register could only be 1"
    ]
    assert list(found.smallest) == [
        "line 65 to 69  write 2",
        "line 78 to 80  cas (2, 2) (refused)",
        "line 85 to 86  read -> 2",
    ]
    assert found.facts["partitions"] == 1


def test_the_model_is_found_by_the_operations_or_asked_for() -> None:
    path = PORCUPINE / "kv" / "c01-ok.txt"
    assert check_file(path).how == "the model kv"
    with pytest.raises(UsageError, match="the model register knows"):
        check_file(path, model="register")
    with pytest.raises(UsageError, match="no model is called 'kw'; did you mean 'kv'"):
        check_file(path, model="kw")


def test_operations_that_no_model_knows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.edn"
    path.write_text("{:process 0, :type :invoke, :f :enqueue, :value 1}\n{:process 0, :type :ok, :f :enqueue, :value 1}\n")
    with pytest.raises(UsageError, match="no model knows all of enqueue; the nearest is"):
        check_file(path)


def test_a_search_that_runs_out_is_unknown(tmp_path: Path) -> None:
    found = check_file(PORCUPINE / "kv" / "c50-ok.txt.gz", limits=Limits(steps=1))
    assert found.verdict is Verdict.UNKNOWN
    assert said(found) == ["indeterminate LINEARIZABLE: unknown: 10 of 10 partitions undecided: 1 steps of search were used up"]


def test_the_result_obeys_its_schema() -> None:
    schema = json.loads((Path(check_history.__file__).parent / "schemas" / "result-1.json").read_text())
    for name in ("etcd/etcd_000.log", "etcd/etcd_002.log"):
        path = PORCUPINE / name
        document = json.loads(json.dumps(check_file(path).result(path).to_json()))
        jsonschema.validate(document, schema)
        assert document["engine"] == "check"


def test_the_command_prints_the_verdict_and_exits_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    path = PORCUPINE / "etcd" / "etcd_000.log"
    assert main(["check", str(path)]) == 1
    assert capsys.readouterr().out == (
        f"FAIL    {path} (etcd-log) against the model register\n"
        "        85 operations: 69 ok, 0 failed, 16 unknown\n"
        "\n"
        "  LINEARIZABLE  violation\n"
        "    no order explains read -> 2 by process 11 (line 85 to 86): after the longest order that fits, of 37 operations, "
        "the register could only be 1\n"
        "\n"
        "  the smallest part that is still wrong:\n"
        "    line 65 to 69  write 2\n"
        "    line 78 to 80  cas (2, 2) (refused)\n"
        "    line 85 to 86  read -> 2\n"
    )
    assert main(["check", str(PORCUPINE / "etcd" / "etcd_002.log"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "pass"


def test_the_command_exports_for_a_second_opinion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "history.edn"
    assert main(["check", str(PORCUPINE / "etcd" / "etcd_002.log"), "--export", str(out), "--to", "jepsen-edn"]) == 0
    assert "wrote" in capsys.readouterr().err
    assert main(["check", str(out)]) == 0


def test_a_damaged_history_is_one_line_and_exit_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.edn"
    path.write_text("{:process 0, :type :ok, :f :write, :value 1}\n")
    assert main(["check", str(path)]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "is damaged: process 0 completes what it never invoked" in captured.err
