"""racegate load from the outside: whatever is killed while it runs, the exit status is right and the history is kept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.cli.load_page import choices_for
from harness.cli.main import main
from harness.config.service import load_service
from harness.run.live import HistoryTail
from harness.run.registry import target_named
from harness.targets.http import HttpTarget
from tests.processes import descendants

RACEGATE = str(Path(sys.executable).with_name("racegate"))


def started(out: Path, *more: str, target: str = "reference:pg.counter_row") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [RACEGATE, "load", "concurrent_creates", "--target", target, "--users", "4", "--seed", "1", "--out", str(out), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_history(process: subprocess.Popen[str], out: Path, files: int) -> None:
    """Wait until every worker has recorded something."""
    until(process, lambda: sum(f.stat().st_size > 2000 for f in out.glob("*/history/load-*.jsonl")) >= files)


def until(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.05)


def ended(process: subprocess.Popen[str], out: Path) -> tuple[int, dict[str, Any], str]:
    said = process.communicate(timeout=90)[1]
    results = list(out.glob("*/result.json"))
    return process.returncode, json.loads(results[0].read_text()) if results else {}, said


def locust(process: subprocess.Popen[str], number: int) -> psutil.Process:
    """Return one of Locust's processes, in the order in which they were started: master, worker 0, worker 1."""
    return descendants(process.pid, "harness.engines.load")[number]


def postgres(process: subprocess.Popen[str]) -> psutil.Process:
    return descendants(process.pid, "/postgres")[0]


@pytest.mark.parametrize(
    ("victim", "says"),
    [
        pytest.param(lambda process: locust(process, 1), "worker 0", id="worker"),
        pytest.param(lambda process: locust(process, 0), "master", id="master"),
    ],
)
def test_a_killed_locust_process_is_unknown(
    victim: Callable[[subprocess.Popen[str]], psutil.Process], says: str, tmp_path: Path
) -> None:
    process = started(tmp_path, "--duration", "60s", "--processes", "2")
    await_history(process, tmp_path, 2)
    victim(process).send_signal(signal.SIGKILL)
    status, result, _ = ended(process, tmp_path)

    assert (status, result["verdict"]) == (4, "unknown")
    assert any(f["message"].startswith(says) and "was killed by signal 9" in f["message"] for f in result["findings"])
    assert result["operations"]["ok"] > 0, "the history is kept"


def test_a_killed_server_never_passes(tmp_path: Path) -> None:
    process = started(tmp_path, "--duration", "60s")
    await_history(process, tmp_path, 1)
    postgres(process).send_signal(signal.SIGKILL)
    until(process, lambda: b'"type":"info"' in b"".join(f.read_bytes() for f in tmp_path.glob("*/history/load-*.jsonl")))
    process.send_signal(signal.SIGINT)
    status, result, said = ended(process, tmp_path)

    assert (status, result.get("verdict")) in ((4, "unknown"), (3, None)), said
    assert status == 3 or "the last operation got no answer" in json.dumps(result["findings"]), "not by Ctrl-C alone"
    assert "Traceback" not in said
    assert list(tmp_path.glob("*/history/load-0.jsonl"))


def test_ctrl_c_ends_in_good_order_and_proves_nothing(tmp_path: Path) -> None:
    process = started(tmp_path, "--duration", "60s")
    await_history(process, tmp_path, 1)
    process.send_signal(signal.SIGINT)
    status, result, _ = ended(process, tmp_path)

    assert (status, result["verdict"]) == (4, "unknown")
    assert "the run was interrupted" in result["findings"][-1]["message"]
    assert result["torn_files"] == 0 if "torn_files" in result else True
    assert not psutil.pid_exists(process.pid)


def test_a_violation_is_a_fail_even_after_ctrl_c(tmp_path: Path) -> None:
    process = started(tmp_path, "--duration", "60s", target="reference:pg.count_plus_one")
    await_history(process, tmp_path, 1)
    [folder] = tmp_path.glob("*/history")
    tail = HistoryTail(folder)

    def issued_twice() -> bool:
        tail.follow()
        return tail.duplicates > 0

    until(process, issued_twice)
    process.send_signal(signal.SIGINT)

    assert ended(process, tmp_path)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["load"], "name a scenario"),
        (["load"], "--config"),
        (["load", "concurrent_creates"], "name a target"),
        (["load", "concurrent_creates"], "--config"),
        (["load", "-t", "reference:pg.counter_row"], "name a scenario"),
        (["load", "concurrent_creates", "-t", "reference:pg.counter_row", "--rate", "fast"], "is no rate of arrivals"),
        (["load", "concurrent_creates", "-t", "reference:pg.counter_row", "--rate", "5", "--ops", "5"], "a schedule of its own"),
    ],
)
def test_a_wrong_call_says_what_to_do(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert says in capsys.readouterr().err


def test_the_page_offers_what_a_described_service_can_be_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "racegate.toml"
    file.write_text('[target]\nurl = "http://127.0.0.1:1"\n[operations.create]\npath = "/invoices"\n')
    service = choices_for(HttpTarget.of(load_service(file)))
    reference = choices_for(target_named("reference:pg.counter_row", {}))

    assert "concurrent_creates" in service["scenario"]
    assert "double_approval" in set(reference["scenario"]) - set(service["scenario"])
    assert (service["target"], len(reference["target"]) > 50) == (["http://127.0.0.1:1"], True)


@pytest.mark.parametrize("command", ["load", "run", "explore"])
@pytest.mark.parametrize("scenario", [[], ["concurrent_creates"]], ids=["all", "one"])
def test_a_description_in_the_current_folder_is_read(
    command: str, scenario: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("racegate.toml").write_text("runs = 3\n")

    assert main([command, *scenario]) == 2
    assert "racegate.toml:1" in capsys.readouterr().err
