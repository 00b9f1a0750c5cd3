"""Plain Locust with workers elsewhere: another file system, another clock, killed in the middle."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import harness.engines.load
from harness.config.sections import TargetSection
from harness.recording.loader import load
from harness.run.folder import RunFolder
from harness.run.service_process import wait_until_healthy
from harness.stores import Database
from harness.stores.ports import free_port

FILE = Path(harness.engines.load.__file__).with_name("locustfile.py")

ROOT = Path(__file__).parents[4]

AHEAD = 86_400
"""Seconds that the clock of the other host shows more."""


def elsewhere(hidden: Path) -> list[str]:
    """Return the beginning of a command that sees nothing of a folder, on a host whose monotonic clock is a day ahead."""
    script = f'mount -t tmpfs none "{hidden}" && exec "$0" "$@"'
    return ["unshare", "--mount", "--time", "--monotonic", str(AHEAD), "--fork", "--kill-child", "sh", "-c", script]


@pytest.fixture
def other_host(tmp_path: Path) -> list[str]:
    probe = subprocess.run([*elsewhere(tmp_path), "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"this machine lets nobody make namespaces: {probe.stderr.strip()}")
    return elsewhere(tmp_path / "runs")


class Rig:
    """A master, and workers that were started by hand."""

    def __init__(self, folder: Path, held: contextlib.ExitStack) -> None:
        self.folder, self._held, self.port = folder, held, free_port()
        (folder / "runs").mkdir()

    def master(self, *more: str) -> subprocess.Popen[bytes]:
        words = ["--master", "--headless", "-u", "4", "-r", "4", "--racegate-out", str(self.folder / "runs")]
        return self._start([], *words, "--master-bind-host", "127.0.0.1", "--master-bind-port", str(self.port), *more)

    def worker(self, prefix: list[str]) -> subprocess.Popen[bytes]:
        return self._start(prefix, "--worker", "--master-host", "127.0.0.1", "--master-port", str(self.port))

    def _start(self, prefix: list[str], *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / "said.log").open("a") as said:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "locust", "-f", str(FILE), *words], stdout=said, stderr=said, cwd=self.folder
            )
        self.ends(process)
        return process

    def ends(self, process: subprocess.Popen[bytes]) -> None:
        """End a process with the test."""
        self._held.callback(process.wait)
        self._held.callback(process.kill)

    def await_work(self, name: str, size: int = 1000) -> None:
        """Wait until a worker has recorded so many bytes."""
        limit = time.monotonic() + 100
        while not any(f.stat().st_size > size for f in self.folder.glob(f"runs/*/history/{name}")):
            assert time.monotonic() < limit
            time.sleep(0.05)

    def result(self) -> tuple[RunFolder, dict[str, Any]]:
        [file] = self.folder.glob("runs/*/result.json")
        found: dict[str, Any] = json.loads(file.read_text())
        return RunFolder.open(file.parent), found


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Rig]:
    with contextlib.ExitStack() as held:
        yield Rig(tmp_path, held)


def test_a_worker_on_another_host_hands_its_history_over_and_its_clock_is_compared(made: Rig, other_host: list[str]) -> None:
    master = made.master("--target", "reference:pg.counter_row", "-t", "3s", "--expect-workers", "2")
    workers = [made.worker([]), made.worker(other_host)]
    master.wait(timeout=120)
    for worker in workers:
        worker.wait(timeout=30)

    folder, result = made.result()
    assert (master.returncode, result["verdict"]) == (0, "pass"), (made.folder / "said.log").read_text()
    counts = result["facts"]["load"]["counts"]
    assert counts["invoked"] == sum(result["operations"].values()) > 0
    [host] = result["facts"]["load"]["hosts"]
    assert host["fetched"]
    least, most = host["skew_ns"]
    assert least <= AHEAD * 10**9 <= most
    assert most - least < 10**9
    history, facts = load(folder.history_files())
    assert len(facts) == 3
    assert all(fact.ended for fact in facts)
    assert history.operations["invoked"].max() - history.operations["invoked"].min() < 60 * 10**9, "one clock"  # type: ignore[operator]
    received = folder.path / "received" / f"load-{host['rank']}.jsonl"
    assert received.stat().st_size == host["bytes"]


def test_a_worker_on_another_host_that_dies_takes_its_evidence_along(made: Rig, other_host: list[str]) -> None:
    master = made.master("--target", "reference:pg.counter_row", "-t", "60s", "--expect-workers", "2")
    made.worker([])
    far = made.worker(other_host)
    made.await_work("load-*.jsonl")
    for child in psutil.Process(far.pid).children(recursive=True):
        child.send_signal(signal.SIGKILL)
    time.sleep(0.2)
    began = time.monotonic()
    master.send_signal(signal.SIGTERM)
    master.wait(timeout=120)

    _, result = made.result()
    assert (master.returncode, result["verdict"]) == (4, "unknown")
    assert any("said nothing" in f["message"] for f in result["findings"])
    assert time.monotonic() - began < 60


def test_numbers_that_two_hosts_were_given_twice_are_found(made: Rig, other_host: list[str]) -> None:
    master = made.master("--target", "reference:pg.count_plus_one", "--expect-workers", "2")
    made.worker([])
    made.worker(other_host)
    made.await_work("load-*.jsonl", 100_000)
    master.send_signal(signal.SIGTERM)
    master.wait(timeout=120)

    _, result = made.result()
    assert (master.returncode, result["verdict"]) == (1, "fail")
    assert "N-UNIQ" in {f["invariant"] for f in result["findings"]}


def test_a_service_that_is_there_already_is_judged_by_its_books_as_the_compose_file_does(
    made: Rig, other_host: list[str], postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("DATABASE_URL", postgres_database.url)
    described = (ROOT / "containers" / "service" / "racegate.toml").read_text()
    described = described.replace(":8000", f":{port}").replace(
        'disposable = "racegate"', f'disposable = "{postgres_database.name}"'
    )
    (made.folder / "racegate.toml").write_text(described)
    served = ["racegate", "serve", "pg.counter_row", "--port", str(port), "--database-url", "env:DATABASE_URL"]
    service = subprocess.Popen([str(Path(sys.executable).with_name(served[0])), *served[1:]], stderr=subprocess.DEVNULL)
    made.ends(service)
    here = f"http://127.0.0.1:{port}"
    wait_until_healthy(here, TargetSection(url=here, health="/health"), limit=60, process=None, shown=here)
    master = made.master("--racegate-config", "racegate.toml", "-t", "3s", "--expect-workers", "1")
    made.worker(other_host)
    master.wait(timeout=120)

    _, result = made.result()
    assert (master.returncode, result["verdict"]) == (0, "pass"), (made.folder / "said.log").read_text()
    assert result["target"] == here
    assert result["facts"]["load"]["hosts"][0]["fetched"]
