"""Histories of others are read as they mean them, written as they read them, and refused when they are damaged."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model import DamagedHistory, EnvironmentProblem, Failure, History, Operation, Outcome, UsageError
from harness.recording.etcd_log import read_etcd_log, write_etcd_log
from harness.recording.formats import HistoryFormat, read_history, write_history
from harness.recording.jepsen import read_edn, read_json, write_edn, write_json
from harness.recording.recorder import Recorder

PORCUPINE = Path(__file__).parents[2] / "corpus" / "porcupine"
HERE = Path("history")


def operation(
    process: int, f: str, span: tuple[int, int | None], outcome: str, asked: Any, answer: Any = None, **more: Any
) -> Operation:
    return Operation(
        process=process,
        client=process,
        f=f,
        token=f"{process}-{span[0]}",
        arguments={"value": asked, **more.pop("arguments", {})},
        invoked=span[0],
        completed=span[1],
        outcome=Outcome(outcome),
        result={"value": answer} if outcome == "ok" else None,
        **more,
    )


EDN = """
{:process 0, :type :invoke, :f :write, :value 3, :time 10, :index 0}
{:process 1, :type :invoke, :f :cas, :value [1 2], :time 11}
{:process :nemesis, :type :info, :f :start, :value nil, :time 12}
{:process 0, :type :ok, :f :write, :value 3, :time 13}
{:process 1, :type :info, :f :cas, :value [1 2], :time 14, :error :timeout}
{:process 2, :type :invoke, :f :read, :value nil, :time 15}
{:process 2, :type :fail, :f :read, :value nil, :time 16}
{:process 3, :type :invoke, :f :read, :value #jepsen.independent/tuple [7 nil], :time 17}
{:process 3, :type :ok, :f :read, :value #jepsen.independent/tuple [7 5], :time 18}
"""

READ = [
    operation(0, "write", (10, 13), "ok", 3, 3),
    operation(1, "cas", (11, 14), "info", [1, 2], failure=Failure(code="timeout", message="")),
    operation(2, "read", (15, 16), "fail", None, failure=Failure(code="failed", message="")),
    operation(3, "read", (17, 18), "ok", None, 5, arguments={"key": 7}),
]


def test_edn_is_read_as_jepsen_means_it() -> None:
    assert read_edn(EDN, HERE) == READ
    assert read_edn(f"[{EDN}]", HERE) == READ


def test_a_tagged_operation_is_an_operation() -> None:
    text = EDN.replace("{:process 0", "#jepsen.history.Op{:process 0")
    assert read_edn(text, HERE) == READ


def test_json_is_read_alike() -> None:
    lines = [
        '{"process":0,"type":"invoke","f":"write","value":3,"time":10}',
        '{"process":"nemesis","type":"info","f":"start","value":null,"time":12}',
        '{"process":0,"type":"ok","f":"write","value":3,"time":13}',
    ]
    assert read_json("\n".join(lines).encode(), HERE) == READ[:1]
    assert read_json(f"[{','.join(lines)}]".encode(), HERE) == READ[:1]


def test_without_times_the_place_of_an_event_is_its_time() -> None:
    text = '{:process 0, :type :invoke, :f :get, :key "a", :value nil}\n{:process 0, :type :ok, :f :get, :key "a", :value "x"}'
    assert read_edn(text, HERE) == [operation(0, "get", (1, 2), "ok", None, "x", arguments={"key": "a"})]


def test_what_never_completes_may_have_happened() -> None:
    (left,) = read_edn("{:process 0, :type :invoke, :f :write, :value 1, :time 5}", HERE)
    assert (left.outcome, left.completed) == (Outcome.INFO, None)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{:process 0, :type :ok, :f :read, :value 1}", "history:1 is damaged: process 0 completes what it never invoked"),
        (
            "{:process 0, :type :invoke, :f :read}\n{:process 0, :type :invoke, :f :read}",
            "history:2 is damaged: process 0 invokes while it has an open operation",
        ),
        (
            "{:process 0, :type :invoke, :f :read, :time 5}\n{:process 0, :type :ok, :f :read, :time 4}",
            "history:2 is damaged: its time 4 is not a number of ns that follows 5",
        ),
        ("{:process 0, :type :invoke, :f :read, :time :x}", "its time 'x' is not a number"),
        ("{:process 0, :type :begin, :f :read}", "history:1 is damaged: not an event"),
        ("{:process 0, :type :invoke}", "not an event"),
        ("{:type :invoke, :f :read}", "not an event"),
        ("5", "not an event"),
        ("{:process 0, :type :invoke, :f :read\n", "is damaged"),
        ("]", "closes what was never opened"),
        ("[]", "history holds no event"),
    ],
)
def test_damaged_edn_is_refused_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(DamagedHistory) as refused:
        read_edn(text, HERE)
    assert complaint in str(refused.value)


@pytest.mark.parametrize("text", [b'{"process":0', b"[1,", b'{"process":0}\n{"process":1', b"[3]"])
def test_damaged_json_is_refused(text: bytes) -> None:
    with pytest.raises(DamagedHistory):
        read_json(text, HERE)


LOG = """
INFO  jepsen.core - Worker 0 starting
INFO  jepsen.util - 0	:invoke	:write	3
INFO  jepsen.util - 1	:invoke	:cas	[1 2]
INFO  jepsen.util - 0	:ok	:write	3
INFO  jepsen.util - 1	:fail	:cas	[1 2]
INFO  jepsen.util - 2	:invoke	:read	nil
INFO  jepsen.util - 2	:fail	:read	:timed-out
INFO  jepsen.util - 3	:invoke	:read	nil
INFO  jepsen.util - 3	:ok	:read	3
INFO  jepsen.util - 4	:invoke	:write	4
INFO  jepsen.util - 4	:info	:write	:timed-out
"""


def test_an_etcd_log_is_read_as_its_corpus_means_it() -> None:
    late = Failure(code="timed-out", message="")
    assert read_etcd_log(LOG, HERE) == [
        operation(0, "write", (3, 5), "ok", 3, 3),
        operation(1, "cas", (4, 6), "ok", [1, 2], False),
        operation(2, "read", (7, 8), "fail", None, failure=late),
        operation(3, "read", (9, 10), "ok", None, 3),
        operation(4, "write", (11, 12), "info", 4, failure=late),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("INFO  jepsen.util - 0\t:ok\t:read\t3", "history:1 is damaged: process 0 completes a read that it never invoked"),
        ("INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok\t:write\t3", "completes a write that it never"),
        ("INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:invoke\t:read\tnil", "has an open operation"),
        ("INFO  jepsen.util - 0\t:invoke\t:rea", "history:1 is damaged: not an event"),
        ("nothing here", "holds no event of jepsen.util"),
    ],
)
def test_a_damaged_log_is_refused_with_its_line(text: str, complaint: str) -> None:
    with pytest.raises(DamagedHistory) as refused:
        read_etcd_log(text, HERE)
    assert complaint in str(refused.value)


def test_a_log_is_written_as_it_was_read() -> None:
    text = (PORCUPINE / "etcd" / "etcd_007.log").read_text()
    assert "".join(write_etcd_log(read_etcd_log(text, HERE))) == text


def test_a_key_value_history_is_written_as_it_was_read() -> None:
    text = (PORCUPINE / "kv" / "c10-ok.txt").read_text()
    assert "".join(write_edn(read_edn(text, HERE), timed=False)) == text


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """Histories of a few processes, with every outcome, in a form that Jepsen's can hold."""
    operations, time = [], 0
    for process in range(draw(st.integers(1, 4))):
        time = draw(st.integers(0, 5))
        for _ in range(draw(st.integers(1, 3))):
            f = draw(st.sampled_from(["read", "write", "cas"]))
            asked = {"read": None, "write": draw(st.integers(0, 9)), "cas": [draw(st.integers(0, 9)), draw(st.integers(0, 9))]}[f]
            outcome = draw(st.sampled_from(["ok", "ok", "fail", "info"]))
            invoked, completed = time, time + draw(st.integers(1, 9))
            time = completed + draw(st.integers(1, 3))
            answer = {"read": draw(st.none() | st.integers(0, 9)), "write": asked, "cas": asked}[f]
            code = draw(st.sampled_from(["timeout", "lost"]))
            operations.append(
                operation(
                    process,
                    f,
                    (invoked, completed),
                    outcome,
                    asked,
                    answer,
                    failure=None if outcome == "ok" else Failure(code=code, message=""),
                )
            )
            if outcome == "info":
                break
    return sorted(operations, key=lambda o: (o.invoked, o.process))


@given(histories())
def test_what_is_exported_reads_back(operations: list[Operation]) -> None:
    history = History.of(operations)

    def same(read: list[Operation]) -> bool:
        return sorted(read, key=lambda o: (o.invoked, o.process)) == operations

    assert same(read_edn("".join(write_edn(history)), HERE))
    assert same(read_json(b"".join(write_json(history)), HERE))


@pytest.mark.parametrize(
    "kind", [HistoryFormat.RACEGATE, HistoryFormat.PARQUET, HistoryFormat.JEPSEN_EDN, HistoryFormat.JEPSEN_JSON]
)
def test_every_form_is_recognised_again(tmp_path: Path, kind: HistoryFormat) -> None:
    path = tmp_path / "history"
    history = History.of(READ, open_at=10)
    write_history(history, path, kind)
    read = read_history(path)
    assert read.format is kind
    assert read.timed
    assert list(read.history) == READ
    assert read.history.complete


def test_a_register_is_exported_as_a_log_and_key_values_as_porcupine_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "history"
    write_history(History.of(read_etcd_log(LOG, HERE)), path, HistoryFormat.ETCD_LOG)
    assert read_history(path).format is HistoryFormat.ETCD_LOG
    assert not read_history(path).timed
    write_history(History.of(READ[3:]), path, HistoryFormat.PORCUPINE_KV)
    assert path.read_text().splitlines() == [
        "{:process 3, :type :invoke, :f :read, :key 7, :value nil}",
        "{:process 3, :type :ok, :f :read, :key 7, :value 5}",
    ]


def test_numbered_creates_are_exported_with_all_that_they_said(tmp_path: Path) -> None:
    create = Operation(
        process=0,
        client=0,
        f="create",
        token="a",
        arguments={"company": "acme", "amount": 5},
        invoked=1,
        completed=2,
        outcome=Outcome.OK,
        result={"number": 4, "text": "INV-00004"},
    )
    assert list(write_edn([create]))[1] == (
        '{:process 0, :type :ok, :f :create, :value {:number 4, :text "INV-00004"}, :time 2}\n'
    )


def test_a_form_that_cannot_hold_the_history_is_refused(tmp_path: Path) -> None:
    create = operation(0, "create", (1, 2), "ok", 1, 1)
    with pytest.raises(UsageError, match=r"etcd-log cannot hold this history: the log of a register has no 'create'"):
        write_history(History.of([create]), tmp_path / "x", HistoryFormat.ETCD_LOG)
    text = operation(0, "write", (1, 2), "ok", "abc", "abc")
    with pytest.raises(UsageError, match="holds whole numbers, not 'abc'"):
        write_history(History.of([text]), tmp_path / "x", HistoryFormat.ETCD_LOG)


def test_an_unwritable_export_is_the_environments_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        write_history(History.of(READ), tmp_path / "none" / "x", HistoryFormat.JEPSEN_EDN)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"hello", "is not a history that racegate knows"),
        (b"PAR1 but not really", "is damaged"),
        (b"{:process 0 \xff}", "is damaged: not text in UTF-8"),
        (b'{"schema":"racegate.history/9"}\n', "expected a header with schema"),
    ],
)
def test_what_is_no_history_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "history"
    path.write_bytes(content)
    with pytest.raises(DamagedHistory) as refused:
        read_history(path)
    assert complaint in str(refused.value)


def test_a_compressed_history_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.gz"
    path.write_bytes(gzip.compress(EDN.encode())[:-20])
    with pytest.raises(DamagedHistory, match="compressed data ends early or is broken"):
        read_history(path)
    path.write_bytes(b"not compressed")
    with pytest.raises(DamagedHistory, match="not compressed as its name says"):
        read_history(path)


def test_a_missing_history_and_a_folder_without_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot read the history"):
        read_history(tmp_path / "nothing")
    with pytest.raises(UsageError, match="is not a run folder"):
        read_history(tmp_path)


def test_columns_that_are_no_history_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"process": [1]}).write_parquet(path)
    with pytest.raises(DamagedHistory, match="it has no column 'f'"):
        read_history(path)


def recorded(path: Path, *, ended: bool = True) -> Path:
    recorder = Recorder(path, worker=0)
    recorder.invoke(process=0, client=0, f="create", token="a", arguments={})
    if ended:
        recorder.close()
    return path


def test_a_file_of_ours_without_its_ending_is_not_complete(tmp_path: Path) -> None:
    assert read_history(recorded(tmp_path / "a.jsonl")).history.complete
    cut = read_history(recorded(tmp_path / "b.jsonl", ended=False))
    assert not cut.history.complete
    assert cut.history.trouble == ("no ending in b.jsonl, so a part may be missing; if its process was killed, say --open-ends")
    assert read_history(tmp_path / "b.jsonl", open_ends=True).history.complete


def test_a_foreign_history_whose_operations_never_complete_is_not_complete(tmp_path: Path) -> None:
    path = tmp_path / "x.edn"
    path.write_text("{:process 0, :type :invoke, :f :write, :value 1}")
    assert not read_history(path).history.complete
    assert read_history(path, open_ends=True).history.complete


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([("invoke", 100, 0), ("ok", 90, 0)], "1 operations end before they begin, the first a create of process 0"),
        (
            [("invoke", 100, 0), ("ok", 110, 0), ("invoke", 105, 0), ("ok", 120, 0)],
            "begins an operation before its last one ended",
        ),
        ([("invoke", 3, 0), ("ok", 110, 0)], "begin before the file was opened"),
    ],
)
def test_a_clock_that_went_back_is_damage(tmp_path: Path, lines: list[tuple[str, int, int]], complaint: str) -> None:
    from harness.recording import format as ours

    path = tmp_path / "x.jsonl"
    content = [ours.header(worker=0, pid=1, opened=50)]
    for kind, time, process in lines:
        common: dict[str, Any] = {"process": process, "client": 0, "f": "create", "token": "a", "time": time}
        if kind == "invoke":
            content.append(ours.invocation(**common, arguments={}))
        else:
            content.append(ours.completion(**common, outcome=kind, attempts=1, result={}, failure=None))
    path.write_bytes(b"".join([*content, ours.ending(events=len(lines))]))
    with pytest.raises(DamagedHistory) as refused:
        read_history(path)
    assert complaint in str(refused.value)
