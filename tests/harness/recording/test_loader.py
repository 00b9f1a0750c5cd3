"""A history survives what happens to the processes that write it, and damage is never mistaken for that."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model import DamagedHistory, EnvironmentProblem, Failure, Operation, Outcome
from harness.recording.format import completion, ending, header, invocation
from harness.recording.loader import load
from harness.recording.recorder import Recorder


def call(process: int, time: int, token: str = "t", **arguments: object) -> bytes:
    return invocation(process=process, client=process, f="create", token=token, arguments=arguments, time=time)


def answer(process: int, time: int, outcome: str = "ok", token: str = "t", **result: object) -> bytes:
    return completion(
        process=process,
        client=process,
        f="create",
        token=token,
        outcome=outcome,
        time=time,
        attempts=1,
        result=result or None,
        failure=None if outcome == "ok" else Failure(code="40001", message="serialize", retryable=True),
    )


def written(folder: Path, *lines: bytes, name: str = "worker-0.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"".join([header(worker=0, pid=1, opened=1), *lines]))
    return path


def test_what_the_recorder_wrote_is_what_the_loader_reads(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "worker-0.jsonl", worker=0)
    invoked = recorder.invoke(process=3, client=3, f="create", token="c3-0", arguments={"amount": 5, "company": "ü"})
    recorder.complete(
        process=3,
        client=3,
        f="create",
        token="c3-0",
        outcome=Outcome.OK,
        at=invoked + 7,
        attempts=2,
        result={"scope": "acme/invoice", "period": "", "number": 4, "text": "INV-00004", "attempts": 2},
    )
    recorder.close()

    history, [facts] = load([tmp_path / "worker-0.jsonl"])

    assert list(history) == [
        Operation(
            process=3,
            client=3,
            f="create",
            token="c3-0",
            arguments={"amount": 5, "company": "ü"},
            invoked=invoked,
            completed=invoked + 7,
            outcome=Outcome.OK,
            result={"scope": "acme/invoice", "period": "", "number": 4, "text": "INV-00004", "attempts": 2},
            attempts=2,
        )
    ]
    assert (facts.ended, facts.torn, facts.events) == (True, False, 2)


def test_files_of_several_processes_merge_in_order_of_invocation(tmp_path: Path) -> None:
    one = written(tmp_path, call(0, 30), answer(0, 31), ending(events=2), name="worker-0.jsonl")
    two = written(tmp_path, call(1, 20), answer(1, 40), ending(events=2), name="worker-1.jsonl")

    history, _ = load([one, two])

    assert [(o.process, o.invoked, o.completed) for o in history] == [(1, 20, 40), (0, 30, 31)]


def test_an_invocation_without_completion_is_an_operation_nobody_knows_about(tmp_path: Path) -> None:
    history, [facts] = load([written(tmp_path, call(0, 5, amount=9))])

    [operation] = history
    assert (operation.outcome, operation.completed, operation.arguments) == (Outcome.INFO, None, {"amount": 9})
    assert not facts.ended


def test_a_failure_keeps_its_reason(tmp_path: Path) -> None:
    history, _ = load([written(tmp_path, call(0, 5), answer(0, 6, "fail"))])

    [operation] = history
    assert operation.failure == Failure(code="40001", message="serialize", retryable=True)


def test_a_torn_last_line_is_dropped_and_its_operation_stays_open(tmp_path: Path) -> None:
    history, [facts] = load([written(tmp_path, call(0, 5), answer(0, 6)[:-9])])

    assert [o.outcome for o in history] == [Outcome.INFO]
    assert facts.torn


@pytest.mark.parametrize(
    ("lines", "line", "what"),
    [
        ((call(0, 5), b'{"process":0,"ty\n', answer(0, 6)), 3, "not an event"),
        ((answer(0, 6),), 2, "completes what it never invoked"),
        ((call(0, 5), call(0, 6)), 3, "invokes while it has an open operation"),
        ((call(0, 5), answer(0, 6), answer(0, 7)), 4, "completes what it never invoked"),
        ((call(0, 5), answer(0, 6, "info"), call(0, 7)), 4, "invokes while it has an open operation"),
        ((call(0, 5), answer(0, 6), ending(events=9)), 4, "the ending counts 9 events and 2 are there"),
        ((b'{"process":0}\n',), 2, "not an event"),
        ((call(0, 5).replace(b"invoke", b"inwoke"),), 2, "not an event"),
    ],
)
def test_damage_is_reported_with_its_line(tmp_path: Path, lines: tuple[bytes, ...], line: int, what: str) -> None:
    path = written(tmp_path, *lines)

    with pytest.raises(DamagedHistory, match=f"worker-0.jsonl:{line} is damaged: .*{what}"):
        load([path])


@pytest.mark.parametrize("content", [b"", b"\n", b"hello\n", b'{"schema":"other/7"}\n'])
def test_a_file_that_is_no_history_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "worker-0.jsonl"
    path.write_bytes(content)

    with pytest.raises(DamagedHistory, match=r"racegate\.history/1"):
        load([path])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="nowhere"):
        load([tmp_path / "nowhere.jsonl"])


def test_no_file_at_all_is_an_error_and_not_an_empty_history() -> None:
    with pytest.raises(EnvironmentProblem, match="no history file"):
        load([])


def test_an_answer_that_is_not_a_whole_number_is_not_rounded_to_one(tmp_path: Path) -> None:
    history, _ = load([written(tmp_path, call(0, 5), answer(0, 6, number=7.5))])

    assert history.operations["number"].to_list() == [None]


def test_text_that_looks_like_our_own_fields_is_kept_apart(tmp_path: Path) -> None:
    nasty = '","value":{"number":1}}\n{"type":"end"'
    history, _ = load([written(tmp_path, call(0, 5, token=nasty, note=nasty), answer(0, 6, token=nasty, text=nasty))])

    [operation] = history
    assert (operation.token, operation.arguments, operation.result) == (nasty, {"note": nasty}, {"text": nasty})


steps = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["ok", "fail"])), max_size=40)


@given(steps, st.integers(1, 400))
def test_operations_are_joined_whatever_the_block_size(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]], block: int
) -> None:
    lines: list[bytes] = []
    busy: dict[int, int] = {}
    expected: list[tuple[int, int, int | None]] = []
    for time, (process, outcome) in enumerate(steps, start=1):
        if process in busy:
            lines.append(answer(process, time, outcome))
            expected.append((process, busy.pop(process), time))
        else:
            lines.append(call(process, time))
            busy[process] = time
    expected += [(process, began, None) for process, began in busy.items()]
    path = written(tmp_path_factory.mktemp("history"), *lines)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.recording.loader.BLOCK", block)
        history, _ = load([path])

    assert [(o.process, o.invoked, o.completed) for o in history] == sorted(expected, key=lambda e: e[1])
