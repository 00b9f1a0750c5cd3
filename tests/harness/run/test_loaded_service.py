"""A service over HTTP under load: judged by its own books; a service that dies never passes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.stores import Database
from tests.harness.run.test_own_service import TOKEN, called, described
from tests.processes import descendants
from tests.services import invoices


@pytest.fixture(autouse=True)
def api_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", TOKEN)


@pytest.fixture
def never_saturated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that is late, as on a busy machine, ends a search at any step: that is proved elsewhere."""
    monkeypatch.setattr("harness.run.loaded.saturated", lambda generators: False)


def test_a_correct_service_passes_and_its_latencies_are_told(tmp_path: Path, postgres_database: Database) -> None:
    config = str(described(tmp_path, bug=False, database=postgres_database))
    status, result = called(tmp_path, "load", "--config", config, "--users", "4", "--duration", "2s", "--seed", "1")

    assert (status, result["verdict"], result["engine"]) == (0, "pass", "load")
    load = result["facts"]["load"]
    assert load["counts"]["ok"] == load["requests"] == load["latency_ms"]["create"]["service"]["count"] > 3
    assert load["errors"] == 0


def test_a_wrong_service_fails(tmp_path: Path, postgres_database: Database) -> None:
    config = str(described(tmp_path, bug=True, database=postgres_database))
    status, result = called(tmp_path, "load", "--config", config, "--users", "8", "--duration", "2s", "--rate", "400")

    assert status == 1
    assert "N-UNIQ" in {f["invariant"] for f in result["findings"]}
    assert result["facts"]["load"]["arrivals"]["arrived"] == 800
    kept = [p for p in (tmp_path / "runs").rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]
    assert kept == []


def test_limits_in_the_configuration_are_kept_or_told(tmp_path: Path, postgres_database: Database) -> None:
    config = described(tmp_path, bug=False, database=postgres_database)
    config.write_text(config.read_text() + 'limits = ["p95=1ms"]\n')
    status, result = called(tmp_path, "load", "--config", str(config), "--users", "2", "--duration", "1s", "--seed", "1")

    assert status == 1
    assert [f["invariant"] for f in result["findings"]] == ["L-LIMIT"]


def test_the_capacity_of_a_service_is_found_each_step_on_rows_that_are_put_back(
    tmp_path: Path, postgres_database: Database, never_saturated: None
) -> None:
    config = described(tmp_path, bug=False, database=postgres_database)
    words = ["load", "--config", str(config), "--users", "4", "--duration", "1s", "--find-capacity", "--slo", "p95=60s"]
    status, result = called(tmp_path, *words, "--seed", "1")

    [found] = result["targets"]
    steps = found["steps"]
    assert result["schema"] == "racegate.capacity/1"
    assert all(step["verdict"] == "pass" and step["rate"] > 0 for step in steps), "the rows of the step before are gone"
    assert [step["users"] for step in steps][:2] == [1, 2]
    assert status == 0


def test_a_wrong_service_has_no_capacity_beyond_one_user(
    tmp_path: Path, postgres_database: Database, never_saturated: None
) -> None:
    config = described(tmp_path, bug=True, database=postgres_database)
    words = ["load", "--config", str(config), "--users", "16", "--duration", "2s", "--find-capacity", "--slo", "p95=60s"]
    status, result = called(tmp_path, *words, "--seed", "1")

    assert status == 1
    assert result["targets"][0]["ended"].endswith("is fail")


def test_without_a_database_there_is_no_fresh_one_for_each_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = described(tmp_path, bug=False)
    text = config.read_text()
    config.write_text(text[: text.index("[store]")] + "[[runs]]\nscenario = 'concurrent_creates'\n")

    assert main(["load", "--config", str(config), "--find-capacity"]) == 2
    assert "needs a fresh database for each step" in capsys.readouterr().err


def test_a_service_that_is_killed_is_never_a_pass(tmp_path: Path, postgres_database: Database) -> None:
    """Only the load's own clients may notice: the kill comes while they are at work."""
    killed = threading.Event()

    def kill() -> None:
        limit, service = time.monotonic() + 60, None
        while time.monotonic() < limit and not killed.is_set():
            files = list((tmp_path / "runs").glob("*/history/load-0.jsonl"))
            if service is None:
                service = next(iter(descendants(os.getpid(), invoices.__file__)), None)
            elif files and files[0].stat().st_size > 2000:
                service.send_signal(signal.SIGKILL)
                killed.set()
            time.sleep(0.005)

    watching = threading.Thread(target=kill)
    watching.start()
    config = str(described(tmp_path, bug=False, database=postgres_database))
    status, result = called(tmp_path, "load", "--config", config, "--users", "4", "--duration", "4s", "--seed", "1")
    killed.set()
    watching.join()

    load = result["facts"]["load"]
    assert load["errors"] > 0
    assert load["counts"]["info"] > 0, "what was sent and not answered is not known, until the books are read"
    assert status != 0
    assert load["counts"]["invoked"] < 500, "clients whose connection broke take a breath"
    assert result["operations"]["ok"] > 0


def test_a_request_is_never_sent_twice(tmp_path: Path) -> None:
    """A kept-alive connection that is closed without an answer is unknown, not tried again."""
    program = """
import locust, socket, threading, sys
from urllib3.exceptions import HTTPError
from harness.engines.load.http import FastPool
server = socket.create_server(("127.0.0.1", 0))
asked = []
def serve():
    for n in range(2):
        line, _ = server.accept()
        for answer in (True, False):
            got = line.recv(65536)
            if not got:
                break
            asked.append(got)
            if not answer:
                break
            line.sendall(b"HTTP/1.1 201 Created\\r\\nContent-Length: 2\\r\\nSet-Cookie: a=b\\r\\n\\r\\n{}")
        line.close()
threading.Thread(target=serve, daemon=True).start()
pool = FastPool("http://127.0.0.1:%d/api" % server.getsockname()[1], 2.0)
answer = pool.request("POST", "/api/x", body=b"{}", headers={"A": "b"})
assert (answer.status, answer.read(10), answer.headers.getlist("set-cookie")) == (201, b"{}", ["a=b"]), vars(answer)
try:
    pool.request("POST", "/api/x", body=b"{}", headers={})
    print("answered?")
except HTTPError as e:
    print(type(e).__name__, len(asked))
print(pool.request("POST", "/api/x", body=None, headers={}).status, len(asked), asked[0].splitlines()[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert done.stdout.splitlines() == ["ProtocolError 2", "201 3 b'POST /api/x HTTP/1.1'"], done.stderr
