"""Unmodified Node programs through the proxy. Their drivers are installed by npm into a folder of the test's own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from harness.stores import Database
from harness.wire.base import ConnectionOpened, Decision, Fate, StepKind, WireProxy
from tests.harness.wire.watching import Watch

PROGRAMS = Path(__file__).parent / "node"
PACKAGES = ("pg@8", "mongoose@8")
NPM_LIMIT = 120


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the drivers and the programs; skipped where there is no Node, or npm reaches no registry."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed: programs in Node are not tested")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--prefer-offline", *PACKAGES]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm install did not end within {NPM_LIMIT} s: programs in Node are not tested")
    if done.returncode:
        pytest.skip(f"npm install failed: programs in Node are not tested ({done.stderr.strip().splitlines()[-1]})")
    for program in PROGRAMS.glob("*.mjs"):
        shutil.copy(program, folder)
    return folder


def node(folder: Path, program: str, url: str) -> dict[str, Any]:
    done = subprocess.run(["node", program, url], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def counters(database: Database) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE counters (id text PRIMARY KEY, n int NOT NULL)")
        connection.execute("INSERT INTO counters VALUES ('a', 1), ('b', 2)")


def test_node_postgres_is_held_at_each_statement(
    node_folder: Path, postgres_proxy: WireProxy, postgres_database: Database
) -> None:
    counters(postgres_database)
    watch = Watch(postgres_proxy)
    answer = node(node_folder, "pg.mjs", postgres_proxy.url)
    assert answer == {"code": "23505", "rows": [{"id": "a", "n": 2}, {"id": "b", "n": 9}]}
    assert {o.application_name for o in watch.of(ConnectionOpened)} == {"node"}
    assert [(s.text, s.parameters) for s in watch.steps()] == [
        ("BEGIN", ()),
        ("SELECT n FROM counters WHERE id = $1", ("a",)),
        ("UPDATE counters SET n = $1 WHERE id = $2", ("2", "a")),
        ("UPDATE counters SET n = $1 WHERE id = $2", ("9", "b")),
        ("COMMIT", ()),
        ("INSERT INTO counters VALUES ('a', 1)", ()),
        ("SELECT id, n FROM counters ORDER BY id", ()),
    ]
    assert [e.result.error for e in watch.ends() if e.result.error] == ["23505"]


def test_node_postgres_sees_a_lost_commit_as_an_error(
    node_folder: Path, postgres_proxy: WireProxy, postgres_database: Database
) -> None:
    counters(postgres_database)
    watch = Watch(postgres_proxy, {"COMMIT": Decision.LOSE_REPLY})
    with pytest.raises(AssertionError, match="Connection terminated unexpectedly"):
        node(node_folder, "pg.mjs", postgres_proxy.url)
    assert watch.ends()[-1].fate is Fate.REPLY_LOST
    with psycopg.connect(postgres_database.url) as control:
        assert control.execute("SELECT n FROM counters ORDER BY id").fetchall() == [(2,), (9,)]


@pytest.mark.parametrize("option", ["directConnection=true", "replicaSet=racegate"])
def test_mongoose_is_held_at_each_command(node_folder: Path, mongo_proxy: WireProxy, option: str) -> None:
    watch = Watch(mongo_proxy)
    answer = node(node_folder, "mongoose.mjs", mongo_proxy.url.replace("directConnection=true", option))
    assert answer == {"rows": [{"_id": "a", "n": 2}]}
    kinds = [s.kind for s in watch.steps() if s.kind is not StepKind.OTHER]
    assert kinds == [
        StepKind.WRITE,
        StepKind.READ,
        StepKind.WRITE,
        StepKind.COMMIT,
        StepKind.WRITE,
        StepKind.READ,
    ], watch.texts()
    assert mongo_proxy.tunnelled() == []


def test_mongoose_tries_a_lost_commit_again(node_folder: Path, mongo_proxy: WireProxy) -> None:
    watch = Watch(mongo_proxy, {"commitTransaction": Decision.LOSE_REPLY})
    assert node(node_folder, "mongoose.mjs", mongo_proxy.url) == {"rows": [{"_id": "a", "n": 2}]}
    commits = [(e.step.attempt, e.fate) for e in watch.ends() if e.step.kind is StepKind.COMMIT]
    assert commits == [(1, Fate.REPLY_LOST), (2, Fate.ANSWERED)]
