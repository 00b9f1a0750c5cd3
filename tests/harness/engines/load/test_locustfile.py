"""Plain Locust on our file: its command line, our verdict and exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import harness.engines.load
from harness.stores.ports import free_port
from tests.processes import descendants

FILE = Path(harness.engines.load.__file__).with_name("locustfile.py")


def two_workers() -> list[str]:
    """Return the words for a master with two workers, on a port of their own: Locust's default is everybody's."""
    port = str(free_port())
    return ["--processes", "2", "--master-bind-port", port, "--master-port", port]


def locust(out: Path, target: str, *more: str, **how: Any) -> subprocess.Popen[str]:
    words = ["-f", str(FILE), "--headless", "-u", "4", "-r", "4", "--target", f"reference:{target}", "--racegate-out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-m", "locust", *words, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how
    )


def result_of(out: Path) -> dict[str, Any]:
    [file] = out.glob("*/result.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def await_work(process: subprocess.Popen[str], out: Path) -> None:
    """Wait until both workers have recorded something."""
    limit = time.monotonic() + 60
    while sum(f.stat().st_size > 1000 for f in out.glob("*/history/load-*.jsonl")) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_the_verdict_is_locusts_exit_status(tmp_path: Path) -> None:
    process = locust(tmp_path, "pg.count_plus_one", "-t", "3s")
    said, wrong = process.communicate(timeout=120)

    result = result_of(tmp_path)
    assert process.returncode == {"pass": 0, "fail": 1, "unknown": 4}[result["verdict"]], wrong
    assert result["verdict"].upper() in said
    assert result["engine"] == "load"
    counts = result["facts"]["load"]["counts"]
    assert counts["invoked"] == sum(result["operations"].values()) > 0
    assert result["verdict"] == "fail" or counts["invoked"] < 100, "on a busy machine too little may happen to go wrong"


def test_workers_hand_in_their_final_word_and_a_killed_one_is_missed(tmp_path: Path) -> None:
    process = locust(tmp_path, "pg.counter_row", "-t", "60s", *two_workers())
    await_work(process, tmp_path)
    descendants(process.pid, "locust")[0].send_signal(signal.SIGKILL)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)

    result = result_of(tmp_path)
    assert (process.returncode, result["verdict"]) == (4, "unknown")
    assert any("went without a final word" in f["message"] for f in result["findings"])


def test_what_a_killed_master_leaves_is_judged_and_nothing_goes_on(tmp_path: Path) -> None:
    process = locust(tmp_path, "pg.counter_row", *two_workers(), start_new_session=True)
    await_work(process, tmp_path)
    others = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    _, left = psutil.wait_procs(others, timeout=60)

    assert left == []
    result = result_of(tmp_path)
    assert result["verdict"] == "unknown"
    assert "Locust ended without a word" in result["findings"][-1]["message"]


def test_locusts_own_page_shows_the_verdict_after_stop(tmp_path: Path) -> None:
    page = f"http://127.0.0.1:{(port := free_port())}"
    words = ["--web-host", "127.0.0.1", "--web-port", str(port), *two_workers(), "--racegate-out", str(tmp_path)]
    with (tmp_path / "said.log").open("w") as said:
        process = subprocess.Popen([sys.executable, "-m", "locust", "-f", str(FILE), *words], stdout=said, stderr=said)
    try:
        until(lambda: b"racegate/panel.js" in asked(f"{page}/"))
        until(lambda: len(json.loads(asked(f"{page}/stats/requests") or b"{}").get("workers", ())) == 2)
        until(lambda: b'success":true' in asked(f"{page}/swarm", b"user_count=4&spawn_rate=4").replace(b" ", b""))
        until(lambda: sum(f.stat().st_size > 1000 for f in tmp_path.glob("*/history/load-*.jsonl")) == 2)
        asked(f"{page}/stop", b"")
        until(lambda: json.loads(asked(f"{page}/racegate/live"))["state"] == "done")
        told = json.loads(asked(f"{page}/racegate/live"))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)

    assert (told["title"], told["result"]["verdict"]) == ("concurrent_creates on reference:pg.counter_row", "pass")
    assert told["result"]["operations"]["ok"] > 0
    assert process.returncode == 0, (tmp_path / "said.log").read_text()


def asked(url: str, data: bytes | None = None) -> bytes:
    try:
        with urllib.request.urlopen(url, data) as response:
            content: bytes = response.read()
            return content
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError:  # it does not listen yet
        return b"{}"


def until(reached: Callable[[], bool]) -> None:
    limit = time.monotonic() + 100
    while not reached():
        assert time.monotonic() < limit
        time.sleep(0.1)


def test_an_interrupt_of_everybody_lets_operations_complete(tmp_path: Path) -> None:
    """As a terminal sends it: to Locust, its workers and the keeper at once."""
    process = locust(tmp_path, "pg.counter_row", *two_workers(), start_new_session=True)
    await_work(process, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    said, wrong = process.communicate(timeout=120)

    result = result_of(tmp_path)
    assert (process.returncode, result["verdict"]) == (0, "pass"), (said, wrong)
    assert result["operations"]["fail"] == result["operations"]["info"] == 0
    assert "KeyboardInterrupt" not in wrong


HANDED_ON = """
import sys
from pathlib import Path

import gevent
from locust.env import Environment

from harness.engines.load import locustfile
from tests.harness.engines.load.test_engine import plan

master = Environment(user_classes=[locustfile.Client]).create_master_runner("127.0.0.1", 0)
environment = Environment(user_classes=[locustfile.Client])
worker = environment.create_worker_runner("127.0.0.1", master.server.port)
locustfile.on_init(environment)

seated = []
for number, stopping in enumerate((False, True)):
    folder = Path(sys.argv[1]) / str(number)
    folder.mkdir()
    site = locustfile.take(plan(folder), 0, 1)
    if stopping:
        environment.events.test_stopping.fire(environment=environment)
    worker.spawn_users({"Client": 2})
    gevent.sleep(0.1)
    seated.append(site.seated)
    worker.stop_users({"Client": 2})
print(*seated)
"""


def test_a_user_that_a_worker_is_given_while_the_test_is_being_stopped_takes_no_seat(tmp_path: Path) -> None:
    """The user of a worker that has left already: it would begin an operation, and be killed in the middle."""
    done = subprocess.run(
        [sys.executable, "-c", HANDED_ON, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "2 0\n", done.stderr


def test_what_does_not_exist_is_said_and_nothing_is_run(tmp_path: Path) -> None:
    process = locust(tmp_path, "pg.counter_rov", "-t", "3s")
    _, wrong = process.communicate(timeout=120)

    assert process.returncode == 2
    assert "did you mean 'reference:pg.counter_row'" in wrong
