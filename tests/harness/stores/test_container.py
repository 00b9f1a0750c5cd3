"""Servers in containers: like the embedded ones, reached from this machine alone, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pymongo
import pytest

from harness.model import EnvironmentProblem
from harness.run.cases import cases, run_cases
from harness.run.stores import Stores
from harness.stores import Database, StoreKind, StoreOptions, open_store
from harness.stores.docker_engine import LABEL, Engine
from harness.stores.images import DEFAULTS, candidates
from tests.containers import needs_docker

KINDS = pytest.mark.parametrize("kind", list(StoreKind))

HOLDER = """
import signal, sys
from harness.stores import StoreKind, StoreOptions, open_store
signal.signal(signal.SIGINT, signal.default_int_handler)
store = open_store(StoreKind(sys.argv[1]), "container", StoreOptions(connections=20))
print(store._premises.token, store._premises._reaper.pid, flush=True)
sys.stdin.read()
store.close()
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


def made(engine: Engine, token: str) -> list[str]:
    chosen = {"label": f"{LABEL}={token}"}
    return [c["Id"] for c in engine.client.api.containers(all=True, filters=chosen)]


@needs_docker
@KINDS
@pytest.mark.parametrize("end", ["normal end", "Ctrl-C", "kill -9"])
def test_nothing_of_a_container_is_left_after(kind: StoreKind, end: str, engine: Engine) -> None:
    volumes = {v["Name"] for v in engine.client.api.volumes()["Volumes"] or []}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, kind.value],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    token, reaper = process.stdout.readline().split()
    assert len(made(engine, token)) == 1

    if end == "normal end":
        process.stdin.close()
    else:
        process.send_signal(signal.SIGINT if end == "Ctrl-C" else signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    process.stdin.close()
    watch = subprocess.run(["tail", f"--pid={reaper}", "-f", "/dev/null"], check=False, timeout=30)

    assert watch.returncode == 0
    assert made(engine, token) == []
    assert {v["Name"] for v in engine.client.api.volumes()["Volumes"] or []} <= volumes


@pytest.fixture(scope="module", params=list(StoreKind))
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    store = open_store(request.param, "container", StoreOptions(connections=20, fsync=True))
    yield store
    store.close()


@needs_docker
def test_its_port_is_published_on_loopback_alone(store: Any) -> None:
    published = [binding for bindings in store._server._made.ports.values() for binding in bindings or []]

    assert {binding["HostIp"] for binding in published} == {"127.0.0.1"}


@needs_docker
def test_committed_work_survives_a_killed_server_and_a_restart(store: Any) -> None:
    database = store.create_database()
    write(database)
    store.kill_server()
    store.start_server()
    assert read(database) == 1
    store.restart()
    assert read(database) == 1


@needs_docker
def test_a_paused_server_goes_on_where_it_was(store: Any) -> None:
    database = store.create_database()
    write(database)
    store.pause_server()
    store.resume_server()
    assert read(database) == 1


@needs_docker
def test_a_container_is_set_up_like_the_embedded_server(store: Any) -> None:
    embedded = open_store(store.kind, "embedded", StoreOptions(connections=20, fsync=True))
    try:
        assert settings(store) == settings(embedded)
    finally:
        embedded.close()


@needs_docker
def test_transactions_work(store: Any) -> None:
    database = store.create_database()
    if store.kind is StoreKind.POSTGRES:
        write(database)
    else:
        with pymongo.MongoClient[Any](database.url) as client, client.start_session() as session, session.start_transaction():
            client[database.name].t.insert_one({"n": 1}, session=session)
    assert read(database) == 1
    assert store.in_flight(database) == []
    store.drop_database(database)


@needs_docker
def test_a_server_that_dies_at_the_start_leaves_its_last_words_and_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setattr("harness.stores.container_postgres.server_settings", lambda options: {"shared_buffers": "a lot"})

    with pytest.raises(EnvironmentProblem, match="does not serve: .*shared_buffers") as caught:
        open_store(StoreKind.POSTGRES, "container", StoreOptions(folder=tmp_path / "stores"))

    assert "\n" not in str(caught.value)
    assert "shared_buffers" in "".join(path.read_text() for path in (tmp_path / "stores").iterdir())


@needs_docker
def test_a_full_memory_folder_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.stores import container

    monkeypatch.setattr(container, "SCRATCH_SIZE", "size=8m")

    with pytest.raises(EnvironmentProblem, match="disk is full"):
        open_store(StoreKind.POSTGRES, "container", StoreOptions())


@needs_docker
def test_an_image_that_is_not_to_be_had_is_named_with_what_to_do() -> None:
    with pytest.raises(EnvironmentProblem, match=r"the image 127.0.0.1:1/none:1 .*make images.*container:IMAGE"):
        open_store(StoreKind.POSTGRES, "container:127.0.0.1:1/none:1", StoreOptions())


@KINDS
def test_without_docker_one_line_says_what_to_do(kind: StoreKind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")

    with pytest.raises(EnvironmentProblem, match="Docker is missing or does not run .*; start it, or use embedded") as caught:
        open_store(kind, "container", StoreOptions())

    assert "\n" not in str(caught.value)


def test_the_option_names_the_image_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    kind, default = StoreKind.MONGO, DEFAULTS[StoreKind.MONGO]
    assert candidates(kind, "") == [default.official, default.local]
    monkeypatch.setenv(default.variable, "mongo:from-the-environment")
    assert candidates(kind, "") == ["mongo:from-the-environment"]
    assert candidates(kind, "host:5000/mongo:7") == ["host:5000/mongo:7"]


def test_every_default_is_pinned_by_its_digest() -> None:
    assert all("@sha256:" in default.official for default in DEFAULTS.values())


CASES = ("N01-pg", "N04-twin", "N06-mongo", "S05", "S05-crash", "N20-twin")


@needs_docker
def test_the_same_cases_pass_and_fail_on_containers_as_on_embedded_servers(tmp_path: Path) -> None:
    chosen = [(case, 1) for case in cases() if case.id in CASES]
    observed = []
    for spec in ("embedded", "container"):
        with Stores(dict.fromkeys(StoreKind, spec), StoreOptions(connections=60)) as stores:
            results = list(run_cases(chosen, stores, out=tmp_path, jobs=2))
        assert {spec in str(r.result.facts["store"]) for r in results} == {True}
        observed.append([(r.case.id, str(r.result.verdict), r.met) for r in results])

    assert observed[0] == observed[1]
    assert all(met for _, _, met in observed[0])


@needs_docker
@pytest.mark.skipif(os.environ.get("RACEGATE_CHURN") is None, reason="takes minutes; set RACEGATE_CHURN=1")
def test_twenty_starts_and_stops_leave_nothing(engine: Engine) -> None:
    done = subprocess.run([sys.executable, "containers/churn"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def settings(store: Any) -> dict[str, Any]:
    if store.kind is StoreKind.POSTGRES:
        names = "'listen_addresses','port','unix_socket_directories','unix_socket_permissions','data_directory','hba_file'"
        places = f"{names},'config_file','ident_file','default_text_search_config','krb_server_keyfile','max_stack_depth'"
        query = f"SELECT name, setting FROM pg_settings WHERE name NOT IN ({places}) AND name NOT LIKE 'log%%' ORDER BY 1"
        return dict(store.control.execute(query))
    parsed = store.client.admin.command("getCmdLineOpts")["parsed"]
    configuration = store.client.admin.command("replSetGetConfig")["config"]
    return {
        "parameters": parsed["setParameter"],
        "storage": {name: value for name, value in parsed["storage"].items() if name != "dbPath"},
        "replication": parsed["replication"],
        "settings": {name: value for name, value in configuration["settings"].items() if name != "replicaSetId"},
        "journal": configuration["writeConcernMajorityJournalDefault"],
    }


def write(database: Database) -> None:
    if database.kind is StoreKind.POSTGRES:
        with psycopg.connect(database.url) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS n")
        return
    with pymongo.MongoClient[Any](database.url, w="majority", journal=True) as client:
        client[database.name].t.insert_one({"n": 1})


def read(database: Database) -> int:
    if database.kind is StoreKind.POSTGRES:
        with psycopg.connect(database.url) as connection:
            row = connection.execute("SELECT count(*) FROM t").fetchone()
            return int(row[0]) if row else 0
    with pymongo.MongoClient[Any](database.url) as client:
        return int(client[database.name].t.count_documents({}))
