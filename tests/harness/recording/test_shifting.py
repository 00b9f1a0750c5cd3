"""A history of another clock is brought to ours, no narrower than is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.errors import DamagedHistory
from harness.model.operation import Outcome
from harness.recording.loader import load
from harness.recording.recorder import Recorder
from harness.recording.shifting import shift


def recorded(path: Path, *, ended: bool = True) -> Path:
    recorder = Recorder(path, worker=1)
    for n in range(3):
        at = recorder.invoke(process=n, client=n, f="create", token=f"t{n}", arguments={"note": '"time":5,', "amount": 1})
        result = {"number": n, "time": 9}
        recorder.complete(process=n, client=n, f="create", token=f"t{n}", outcome=Outcome.OK, at=at + 10, result=result)
    if ended:
        recorder.close()
    return path


def test_invocations_go_to_their_earliest_and_completions_to_their_latest(tmp_path: Path) -> None:
    source = recorded(tmp_path / "there.jsonl")
    lines = shift(source, tmp_path / "here.jsonl", least=1000, most=1300, boot="ours")
    before, [fact] = load([source])
    after, [moved] = load([tmp_path / "here.jsonl"])

    assert lines == 7
    assert (moved.boot, moved.worker, moved.ended, moved.events) == ("ours", 1, True, fact.events)
    assert moved.opened == fact.opened - 1300
    for there, here in zip(before, after, strict=True):
        assert there.completed is not None
        assert (here.invoked, here.completed) == (there.invoked - 1300, there.completed - 1000)
        assert (here.arguments, here.result, here.token) == (there.arguments, there.result, there.token)


def test_a_file_of_a_killed_process_stays_without_its_ending(tmp_path: Path) -> None:
    source = recorded(tmp_path / "there.jsonl", ended=False)
    source.write_bytes(source.read_bytes() + b'{"process":9,"type":"inv')
    shift(source, tmp_path / "here.jsonl", least=0, most=5, boot=None)
    _, [fact] = load([tmp_path / "here.jsonl"])

    assert (fact.ended, fact.torn, fact.boot) == (False, True, None)


def test_what_was_changed_since_does_not_become_sound(tmp_path: Path) -> None:
    source = recorded(tmp_path / "there.jsonl")
    source.write_bytes(source.read_bytes().replace(b'"number":1', b'"number":2'))

    with pytest.raises(DamagedHistory, match="checksum"):
        shift(source, tmp_path / "here.jsonl", least=0, most=5, boot=None)
