"""Unmodified PostgreSQL drivers through the proxy: what each of their habits becomes as steps."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa

from harness.stores import Database
from harness.wire.base import (
    CancelSent,
    ConnectionClosed,
    ConnectionClosing,
    ConnectionOpened,
    Status,
    StepKind,
    WireProxy,
)
from tests.harness.wire.watching import PATIENCE, Watch, running


@pytest.fixture(autouse=True)
def table(postgres_database: Database) -> None:
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE counters (id text PRIMARY KEY, n int NOT NULL)")
        connection.execute("INSERT INTO counters VALUES ('a', 1), ('b', 2)")


# psycopg


def test_the_server_asks_for_scram_and_it_passes(postgres_proxy: WireProxy, postgres_database: Database) -> None:
    with psycopg.connect(postgres_proxy.url) as connection:
        assert connection.pgconn.used_password
    with psycopg.connect(postgres_database.url) as control:
        (stored,) = control.execute("SELECT rolpassword FROM pg_authid WHERE rolname = current_user").fetchone() or ("",)
    assert stored.startswith("SCRAM-SHA-256$")
    wrong = postgres_proxy.url.replace(postgres_proxy.url.split(":")[2].split("@")[0], "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_psycopg_transactions_are_steps_with_parameters_and_results(postgres_proxy: WireProxy) -> None:
    watch = Watch(postgres_proxy)
    with psycopg.connect(postgres_proxy.url, application_name="till") as connection:
        backend = connection.info.backend_pid
        connection.execute("SELECT n FROM counters WHERE id = %s", ("a",))
        connection.execute("UPDATE counters SET n = %s WHERE id = %s", (5, "a"))
    (opened,) = watch.of(ConnectionOpened)
    assert (opened.backend, opened.application_name) == (backend, "till")
    assert [(s.text, s.parameters, s.kind, s.status.value) for s in watch.steps()] == [
        ("BEGIN", (), StepKind.BEGIN, "I"),
        ("SELECT n FROM counters WHERE id = $1", ("a",), StepKind.READ, "T"),
        ("UPDATE counters SET n = $1 WHERE id = $2", (5, "a"), StepKind.WRITE, "T"),
        ("COMMIT", (), StepKind.COMMIT, "T"),
    ]
    assert [(e.result.tag, e.result.first_rows, e.status.value) for e in watch.ends()] == [
        ("BEGIN", (), "T"),
        ("SELECT 1", (("1",),), "T"),
        ("UPDATE 1", (), "T"),
        ("COMMIT", (), "I"),
    ]
    watch.wait_for(ConnectionClosed)
    assert [c.in_transaction for c in watch.of(ConnectionClosing)] == [False]


def test_psycopg_simple_queries_and_several_statements_at_once(postgres_proxy: WireProxy) -> None:
    watch = Watch(postgres_proxy)
    with psycopg.connect(postgres_proxy.url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SELECT n FROM counters WHERE id = %s", ("a",))
        connection.execute("UPDATE counters SET n = 7; SELECT n FROM counters")
    assert [(s.fingerprint, s.statements) for s in watch.steps()] == [
        ("SELECT n FROM counters WHERE id = ?", 1),
        ("UPDATE counters SET n = ?; SELECT n FROM counters", 2),
    ]


def test_psycopg_prepared_statements_are_one_step_each_time(postgres_proxy: WireProxy) -> None:
    watch = Watch(postgres_proxy)
    with psycopg.connect(postgres_proxy.url, autocommit=True, prepare_threshold=0) as connection:
        for i in range(3):
            connection.execute("SELECT n FROM counters WHERE n = %s", (i,), binary=True)
    assert [s.parameters for s in watch.steps()] == [(0,), (1,), (2,)]
    assert {s.text for s in watch.steps()} == {"SELECT n FROM counters WHERE n = $1"}
    assert [e.result.first_rows for e in watch.ends()] == [(), ((1,),), ((2,),)]


def test_psycopg_pipelines_keep_their_order(postgres_proxy: WireProxy) -> None:
    watch = Watch(postgres_proxy)
    with psycopg.connect(postgres_proxy.url) as connection:
        with connection.pipeline() as pipeline:
            one = connection.execute("SELECT n FROM counters WHERE id = 'a'")
            two = connection.execute("UPDATE counters SET n = n + 1 RETURNING n")
            pipeline.sync()
            three = connection.execute("SELECT n FROM counters WHERE id = 'b'")
        assert (one.fetchone(), two.fetchone(), three.fetchone()) == ((1,), (2,), (3,))
    said = [part for s in watch.steps() for part in s.text.split("; ")]
    assert said == [
        "BEGIN",
        "SELECT n FROM counters WHERE id = 'a'",
        "UPDATE counters SET n = n + 1 RETURNING n",
        "SELECT n FROM counters WHERE id = 'b'",
        "COMMIT",
    ]


def test_psycopg_pipelines_that_fail_go_on_after_the_sync(postgres_proxy: WireProxy) -> None:
    watch = Watch(postgres_proxy)
    with psycopg.connect(postgres_proxy.url, autocommit=True) as connection:
        with connection.pipeline():
            failing = connection.execute("INSERT INTO counters VALUES ('a', 9) RETURNING n")
            connection.execute("SELECT n FROM counters")
            with pytest.raises(psycopg.errors.UniqueViolation):
                failing.fetchone()
        assert connection.execute("SELECT count(*) FROM counters").fetchone() == (2,)
    assert any(e.result.error == "23505" for e in watch.ends())
    assert watch.texts()[-1] == "SELECT count(*) FROM counters"


def test_psycopg_copies_in_and_out_as_one_step(postgres_proxy: WireProxy) -> None:
    watch = Watch(postgres_proxy)
    rows = 20_000
    with psycopg.connect(postgres_proxy.url, autocommit=True) as connection:
        with connection.cursor().copy("COPY counters FROM STDIN") as copy:
            for i in range(rows):
                copy.write_row((f"row {i}", i))
        with connection.cursor().copy("COPY counters TO STDOUT") as copy:
            assert len(list(copy.rows())) == rows + 2
        with pytest.raises(psycopg.errors.UniqueViolation), connection.cursor().copy("COPY counters FROM STDIN") as copy:
            copy.write_row(("a", 1))
        with pytest.raises(ZeroDivisionError), connection.cursor().copy("COPY counters FROM STDIN") as copy:
            raise ZeroDivisionError
        connection.execute("SELECT n FROM counters WHERE id = 'a'")
    assert [(e.step.kind, e.result.tag, e.result.error) for e in watch.ends()] == [
        (StepKind.WRITE, "COPY 20000", None),
        (StepKind.WRITE, "COPY 20002", None),
        (StepKind.WRITE, "", "23505"),
        (StepKind.WRITE, "", "57014"),
        (StepKind.READ, "SELECT 1", None),
    ]


def test_psycopg_server_side_cursors_are_a_step_each_fetch(postgres_proxy: WireProxy) -> None:
    watch = Watch(postgres_proxy)
    with psycopg.connect(postgres_proxy.url) as connection, connection.cursor("c1") as cursor:
        cursor.itersize = 1
        cursor.execute("SELECT n FROM counters ORDER BY n")
        assert [n for (n,) in cursor] == [1, 2]
    words = [s.text.split()[0] for s in watch.steps()]
    assert words == ["BEGIN", "DECLARE", "FETCH", "FETCH", "FETCH", "CLOSE", "COMMIT"]
    assert 'DECLARE "c#" CURSOR FOR SELECT n FROM counters ORDER BY n' in [s.fingerprint for s in watch.steps()]


def until_asleep(database: Database, backend: int) -> None:
    """Wait until a backend is in pg_sleep: PostgreSQL ignores a cancel that finds it still waiting for its statement."""
    limit = time.monotonic() + PATIENCE
    with psycopg.connect(database.url, autocommit=True) as control:
        while control.execute("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", [backend]).fetchone() != ("PgSleep",):
            assert time.monotonic() < limit
            time.sleep(0.01)


def test_psycopg_cancels_through_the_proxy(postgres_proxy: WireProxy, postgres_database: Database) -> None:
    watch = Watch(postgres_proxy)
    with psycopg.connect(postgres_proxy.url, autocommit=True) as connection:

        def cancel() -> None:
            until_asleep(postgres_database, connection.info.backend_pid)
            connection.cancel_safe()

        with running(cancel) as raised, pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(60)")
        assert raised == [None]
        (sent,) = watch.wait_for(CancelSent)
        assert sent.connection == watch.steps()[0].connection
    assert watch.ends()[0].result.error == "57014"


def test_large_answers_pass_whole(postgres_proxy: WireProxy) -> None:
    Watch(postgres_proxy)
    with psycopg.connect(postgres_proxy.url, autocommit=True) as connection:
        got = connection.execute("SELECT i, repeat('x', 200) FROM generate_series(1, 50000) i, counters WHERE id = 'a'")
        rows = got.fetchall()
        assert (len(rows), rows[-1]) == (50_000, (50_000, "x" * 200))
        blob = connection.execute("SELECT repeat('y', 8000000) FROM counters WHERE id = 'a'").fetchone()
        assert blob == ("y" * 8_000_000,)


def test_notifications_arrive_and_complete_nothing(postgres_proxy: WireProxy, postgres_database: Database) -> None:
    watch = Watch(postgres_proxy)
    with psycopg.connect(postgres_proxy.url, autocommit=True) as listener:
        listener.execute("LISTEN news")
        with psycopg.connect(postgres_database.url, autocommit=True) as other:
            other.execute("NOTIFY news, 'hello'")
        assert [n.payload for n in listener.notifies(timeout=10, stop_after=1)] == ["hello"]
    assert watch.texts() == ["LISTEN news"]


def test_a_newer_protocol_version_is_negotiated_through_the_proxy(
    postgres_proxy: WireProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    if psycopg.pq.version() < 180000:
        pytest.skip(f"libpq {psycopg.pq.version()} cannot ask for protocol 3.2; 18 can")
    monkeypatch.setenv("PGMAXPROTOCOLVERSION", "3.2")
    watch = Watch(postgres_proxy)
    with psycopg.connect(postgres_proxy.url, autocommit=True) as connection:
        connection.execute("SELECT n FROM counters")
    assert watch.texts() == ["SELECT n FROM counters"]


def test_a_client_that_leaves_in_a_transaction_says_so_and_the_rollback_is_over_when_it_is_closed(
    postgres_proxy: WireProxy, postgres_database: Database
) -> None:
    watch = Watch(postgres_proxy)
    connection = psycopg.connect(postgres_proxy.url)
    connection.execute("UPDATE counters SET n = 100 WHERE id = 'a'")
    connection.close()
    watch.wait_for(ConnectionClosed)
    assert [c.in_transaction for c in watch.of(ConnectionClosing)] == [True]
    with psycopg.connect(postgres_database.url, autocommit=True) as control:
        control.execute("SET lock_timeout = '1s'")
        assert control.execute("UPDATE counters SET n = n + 1 WHERE id = 'a' RETURNING n").fetchone() == (2,)


# asyncpg


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, 20))


def test_asyncpg_prepares_unasked_and_runs_as_steps(postgres_proxy: WireProxy) -> None:
    watch = Watch(postgres_proxy)

    async def work() -> None:
        connection = await asyncpg.connect(postgres_proxy.url)
        async with connection.transaction(isolation="repeatable_read"):
            assert await connection.fetchval("SELECT n FROM counters WHERE id = $1", "a") == 1
            await connection.execute("UPDATE counters SET n = $1 WHERE id = $2", 5, "a")
        await connection.execute("UPDATE counters SET n = 6")
        await connection.close()

    run(work())
    assert [(s.text, s.parameters, s.status) for s in watch.steps()] == [
        ("BEGIN ISOLATION LEVEL REPEATABLE READ;", (), Status.IDLE),
        ("SELECT n FROM counters WHERE id = $1", ("a",), Status.IN_TRANSACTION),
        ("UPDATE counters SET n = $1 WHERE id = $2", (5, "a"), Status.IN_TRANSACTION),
        ("COMMIT;", (), Status.IN_TRANSACTION),
        ("UPDATE counters SET n = 6", (), Status.IDLE),
    ]
    assert [e.result.first_rows for e in watch.ends()][1] == ((1,),)


def test_asyncpg_pools_copies_and_cursors(postgres_proxy: WireProxy) -> None:
    watch = Watch(postgres_proxy)

    async def work() -> list[int]:
        async with asyncpg.create_pool(postgres_proxy.url, min_size=1, max_size=2) as pool:
            async with pool.acquire() as connection:
                await connection.copy_records_to_table("counters", records=[("c", 3), ("d", 4)])
            async with pool.acquire() as connection, connection.transaction():
                found = [r["n"] async for r in connection.cursor("SELECT n FROM counters ORDER BY n", prefetch=3)]
            many = [("e", 5), ("f", 6)]
            await pool.executemany("INSERT INTO counters VALUES ($1, $2)", many)
            return found

    assert run(work()) == [1, 2, 3, 4]
    texts = [s.fingerprint for s in watch.steps()]
    assert texts[0].startswith('COPY "counters" FROM STDIN')
    assert texts[1:] == [
        "BEGIN",
        "SELECT n FROM counters ORDER BY n",
        "SELECT n FROM counters ORDER BY n",
        "COMMIT",
        "INSERT INTO counters VALUES ($1, $2); INSERT INTO counters VALUES ($1, $2)",
    ]


def test_asyncpg_time_limits_cancel_through_the_proxy(postgres_proxy: WireProxy, postgres_database: Database) -> None:
    watch = Watch(postgres_proxy)

    async def work() -> int:
        connection = await asyncpg.connect(postgres_proxy.url)
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(60)", timeout=0.2))
        await asyncio.sleep(0)  # the statement is sent
        until_asleep(postgres_database, connection.get_server_pid())  # meanwhile no time limit of this loop comes to its end
        with pytest.raises(TimeoutError):
            await sleeping
        found: int = await connection.fetchval("SELECT n FROM counters WHERE id = 'a'")
        await connection.close()
        return found

    assert run(work()) == 1
    assert len(watch.of(CancelSent)) == 1


# SQLAlchemy


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_sqlalchemy_pools_give_back_with_a_real_rollback_and_nothing_else(postgres_proxy: WireProxy, driver: str) -> None:
    if driver == "asyncpg":
        pytest.importorskip("greenlet", reason="SQLAlchemy's asyncio needs greenlet")
        run(_sqlalchemy_async(postgres_proxy))
        return
    url = postgres_proxy.url.replace("postgresql://", "postgresql+psycopg://")
    engine = sa.create_engine(url, pool_size=2, max_overflow=0, pool_pre_ping=True)
    with engine.connect():  # the dialect asks its questions before anybody watches
        pass
    watch = Watch(postgres_proxy)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE counters SET n = n + 1 WHERE id = :id"), {"id": "a"})
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT n FROM counters WHERE id = 'a'")) == 2
    engine.dispose()
    assert [(s.text, s.kind) for s in watch.steps()] == [
        ("BEGIN", StepKind.BEGIN),
        ("UPDATE counters SET n = n + 1 WHERE id = $1", StepKind.WRITE),
        ("COMMIT", StepKind.COMMIT),
        ("BEGIN", StepKind.BEGIN),
        ("SELECT n FROM counters WHERE id = 'a'", StepKind.READ),
        ("ROLLBACK", StepKind.ROLLBACK),
    ]


async def _sqlalchemy_async(proxy: WireProxy) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(proxy.url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=1)
    async with engine.connect():
        pass
    watch = Watch(proxy)
    async with engine.begin() as connection:
        await connection.execute(sa.text("UPDATE counters SET n = n + 1 WHERE id = :id"), {"id": "a"})
    await engine.dispose()
    assert [s.kind for s in watch.steps()] == [StepKind.BEGIN, StepKind.WRITE, StepKind.COMMIT]
