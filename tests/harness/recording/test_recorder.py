"""What a recorder has accepted is on disk, whatever happens next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.model import EnvironmentProblem, Outcome
from harness.recording.loader import load
from harness.recording.recorder import Recorder

KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from harness.recording.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]), worker=0)
for n in range(100):
    recorder.invoke(process=0, client=0, f="create", token=str(n), arguments={})
    if n == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    from harness.model import Outcome
    recorder.complete(process=0, client=0, f="create", token=str(n), outcome=Outcome.OK, at=1 + n, result={"number": n})
"""


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "worker-0.jsonl"

    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], check=False)

    assert done.returncode == -signal.SIGKILL
    history, [facts] = load([path])
    assert history.count() == {"ok": 99, "fail": 0, "info": 1}
    assert not facts.ended


def test_a_folder_that_is_not_there_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="choose another --out"):
        Recorder(tmp_path / "missing" / "worker-0.jsonl", worker=0)


def test_a_full_disk_is_noticed_at_the_event_that_no_longer_fits() -> None:
    with pytest.raises(EnvironmentProblem, match="No space left on device"):
        Recorder(Path("/dev/full"), worker=0)


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "worker-0.jsonl", worker=0)
    recorder.complete(process=0, client=0, f="create", token="t", outcome=Outcome.OK, at=1)
    recorder.close()
    recorder.close()

    assert os.stat(tmp_path / "worker-0.jsonl").st_size > 0
