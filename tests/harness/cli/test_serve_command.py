"""racegate serve: what it prints, where it works, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import urllib3

from harness.cli.main import main
from harness.run.serving import listen
from harness.stores.base import Database

RACEGATE = str(Path(sys.executable).with_name("racegate"))


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``racegate serve`` and yield the process and the URL that it printed."""
    command = [RACEGATE, "serve", *arguments, "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def create(url: str) -> str:
    """Create an invoice; return its number as printed."""
    answer = urllib3.request(
        "POST", f"{url}/create", json={"company": "A", "amount": 1}, headers={"Idempotency-Key": os.urandom(8).hex()}
    )
    return str(answer.json()["text"])


def failing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main(["serve", *arguments])
    seen = capsys.readouterr()
    assert (seen.out, "Traceback" in seen.err) == ("", False)
    return status, seen.err.splitlines()[-1]


def test_the_url_is_printed_and_being_stopped_is_no_failure(postgres_database: Database) -> None:
    url = postgres_database.url
    with serving("pg.counter_row", "--database-url", "env:THE_DATABASE", THE_DATABASE=url) as (process, address):
        assert create(address) == "INV-00001"
        paths = urllib3.request("GET", f"{address}/openapi.json").json()["paths"]
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]

    assert {"/create", "/void", "/health"} <= set(paths)
    assert process.returncode == 0
    assert "racegate: stopped" in said
    assert "Traceback" not in said
    with psycopg.connect(url, autocommit=True) as connection:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        limit = time.monotonic() + 60
        while connection.execute(others).fetchone() != (0,):  # the server's ends of them close a moment later
            assert time.monotonic() < limit
            time.sleep(0.01)
        assert connection.execute("SELECT text FROM documents").fetchall() == [("INV-00001",)]


def test_what_cannot_be_served_is_told_in_one_line(capsys: pytest.CaptureFixture[str], postgres_database: Database) -> None:
    url = postgres_database.url

    assert failing([], capsys) == (
        2,
        "racegate: name what to serve, for example: racegate serve pg.counter_row; see: racegate list targets",
    )
    assert "did you mean 'pg.counter_row'" in failing(["pg.counter_rwo"], capsys)[1]
    assert failing(["pg.counter_row", "--set", "isolation=none"], capsys)[0] == 2
    assert failing(["pg.counter_row", "--disposable", "x"], capsys)[0] == 2
    assert "contradict" in failing(["pg.counter_row", "--database-url", url, "--disposable", "x"], capsys)[1]
    assert "is not set" in failing(["pg.counter_row", "--database-url", "env:NOT_THERE_AT_ALL"], capsys)[1]
    assert "--disposable" in failing(["pg.counter_row", "--postgres", url], capsys)[1]
    assert "looks like production" in failing(["pg.counter_row", "--database-url", "postgresql://x@127.0.0.1/live"], capsys)[1]
    assert "not a postgres URL" in failing(["pg.counter_row", "--database-url", "mongodb://127.0.0.1/x"], capsys)[1]


def test_an_environment_that_does_not_serve_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], postgres_database: Database
) -> None:
    with listen(0) as line:
        line.listen()
        port = line.getsockname()[1]
        status, told = failing(["pg.counter_row", "--port", str(port)], capsys)
    assert (status, f"port {port} cannot be used" in told) == (3, True)

    nowhere = "postgresql://me:s3cr3t@127.0.0.1:1/nowhere"
    status, told = failing(["pg.counter_row", "--database-url", nowhere, "--port", "0"], capsys)
    assert (status, "cannot be used: connection failed" in told, "s3cr3t" in told) == (3, True, False)

    with psycopg.connect(postgres_database.url) as connection:
        connection.execute("CREATE TABLE something_else (x int)")
    status, told = failing(["pg.counter_row", "--database-url", postgres_database.url, "--port", "0"], capsys)
    assert (status, "use an empty database" in told) == (3, True)
    with psycopg.connect(postgres_database.url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables == [("something_else",)]


def test_the_url_file_is_ours_alone(tmp_path: Path) -> None:
    kept = tmp_path / "url"
    with serving("pg.counter_row", "--url-file", str(kept)) as (process, address):
        assert json.loads(urllib3.request("GET", f"{address}/health").data)["status"] == "ok"
        mode, url = kept.stat().st_mode & 0o777, kept.read_text().strip()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM documents").fetchone() == (0,)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0

    assert mode == 0o600
