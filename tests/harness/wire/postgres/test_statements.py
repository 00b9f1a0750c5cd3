from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.wire.base import StepKind
from harness.wire.postgres.statements import facts_of


@pytest.mark.parametrize(
    ("sql", "fingerprint"),
    [
        ("SELECT  a\n FROM t WHERE id = 17 AND b='x''y'", "SELECT a FROM t WHERE id = ? AND b=?"),
        ("SELECT a FROM t WHERE id = $1", "SELECT a FROM t WHERE id = $1"),
        ("SELECT E'a\\'b', U&'\\0041', B'01', $tag$ a ; b $tag$", "SELECT ?, ?, ?, ?"),
        ("SELECT 1.5e10, .5, 0x1F, 1_000", "SELECT ?, ?, ?, ?"),
        ("SELECT a /* x /* y */ z */ FROM t -- end", "SELECT a FROM t"),
        ("SELECT a FROM t WHERE id IN (1, 2, 3)", "SELECT a FROM t WHERE id IN (?, ...)"),
        ("SELECT a FROM t WHERE id IN (1, 2)", "SELECT a FROM t WHERE id IN (?, ...)"),
        ("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')", "INSERT INTO t VALUES (?, ...), ..."),
        ('SELECT "Weird 1" FROM "T2"', 'SELECT "Weird 1" FROM "T2"'),
        ("SAVEPOINT sa_savepoint_12", "SAVEPOINT sa_savepoint_#"),
        ("ROLLBACK TO SAVEPOINT sa_savepoint_3", "ROLLBACK TO SAVEPOINT sa_savepoint_#"),
        ("BEGIN; INSERT INTO t VALUES (1); COMMIT;", "BEGIN; INSERT INTO t VALUES (?); COMMIT"),
        ("SELECT 'never closed", "SELECT ?"),
        ("", ""),
    ],
)
def test_a_fingerprint_has_no_literals_and_no_blanks_that_differ(sql: str, fingerprint: str) -> None:
    assert facts_of(sql.encode()).fingerprint == fingerprint


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("begin", StepKind.BEGIN),
        ("START TRANSACTION ISOLATION LEVEL SERIALIZABLE", StepKind.BEGIN),
        ("/* who */ select 1 from t for update", StepKind.READ),
        ("(SELECT 1)", StepKind.READ),
        ("WITH x AS (SELECT 1) SELECT * FROM x", StepKind.READ),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", StepKind.WRITE),
        ("Update t set a = 1", StepKind.WRITE),
        ("COMMIT", StepKind.COMMIT),
        ("END", StepKind.COMMIT),
        ("ROLLBACK", StepKind.ROLLBACK),
        ("ROLLBACK TO SAVEPOINT a", StepKind.OTHER),
        ("CREATE TABLE t (a int)", StepKind.OTHER),
        ("BEGIN; INSERT INTO t VALUES (1)", StepKind.WRITE),
        ("BEGIN; INSERT INTO t VALUES (1); COMMIT", StepKind.COMMIT),
    ],
)
def test_a_kind_is_what_the_first_word_says(sql: str, kind: StepKind) -> None:
    assert facts_of(sql.encode()).kind is kind


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "select 1;",
        "SELECT 1 AS ping",
        "SELECT version()",
        "select pg_catalog.version()",
        "SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new",
        "SHOW standard_conforming_strings",
        "SET search_path TO app",
        "RESET ALL",
        "DISCARD ALL",
        "DEALLOCATE ALL",
        "ROLLBACK",
        "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
        "SELECT t.oid FROM pg_type t JOIN pg_namespace ns ON ns.oid = t.typnamespace WHERE t.oid = ANY($1)",
        "WITH RECURSIVE a(x) AS (SELECT oid FROM pg_catalog.pg_type) SELECT * FROM a",
        "",
        "-- ping",
    ],
)
def test_what_pools_and_drivers_say_by_themselves_is_housekeeping(sql: str) -> None:
    assert facts_of(sql.encode()).housekeeping


@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN",
        "SELECT 1 FROM invoices",
        "SELECT next_number(7)",
        'SELECT "Next"(7)',
        "SELECT nextval('s')",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_advisory_lock(1) FROM pg_class",
        "SELECT issue(x) FROM unnest($1::int[]) AS x",
        "SELECT issue(x) FROM generate_series(1, 3) AS x",
        "SELECT issue(1) FROM (VALUES (1)) AS v",
        "COMMIT PREPARED 'x'",
        "ROLLBACK PREPARED 'x'",
        "SELECT 1 INTO t",
        "SELECT * FROM pg_type, invoices",
        "SELECT * FROM pg_type t JOIN invoices i ON true",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM invoices)",
        "SET CONSTRAINTS ALL IMMEDIATE; SELECT a FROM t",
        "SELECT 1; DELETE FROM t",
        "VALUES (1)",
        "LISTEN x",
        "DO $$ BEGIN PERFORM 1; END $$",
        "CALL numbers()",
        "EXECUTE prepared(1)",
    ],
)
def test_what_may_touch_a_row_or_a_lock_is_not_housekeeping(sql: str) -> None:
    assert not facts_of(sql.encode()).housekeeping


def test_inside_a_transaction_only_what_takes_no_snapshot_and_drops_no_lock_is_harmless() -> None:
    harmless = {"SET LOCAL lock_timeout = 5", "SHOW timezone", "RESET x", "DEALLOCATE p1"}
    real = {"SELECT 1", "ROLLBACK", "SET CONSTRAINTS ALL DEFERRED", "SET TRANSACTION READ ONLY", "CLOSE ALL", "COMMIT"}
    assert {s for s in harmless | real if facts_of(s.encode()).harmless} == harmless


def test_a_comment_carries_tags() -> None:
    tags = facts_of(b"SELECT a FROM t /*client='2',route='%2Fpay',note='it\\'s'*/").tags
    assert tags == {"client": "2", "route": "/pay", "note": "it's"}


def test_statements_are_counted_and_semicolons_in_strings_are_not() -> None:
    assert facts_of(b"SELECT ';' ; SELECT $$;$$;").statements == 2
    assert facts_of(b"").statements == 1


@pytest.mark.parametrize(
    ("sql", "level"),
    [
        ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", "serializable"),
        ("set session characteristics as transaction read write, isolation level repeatable  read", "repeatable read"),
        ("SET default_transaction_isolation = 'serializable'", "serializable"),
        ("SET SESSION default_transaction_isolation TO DEFAULT", ""),
        ("RESET default_transaction_isolation", ""),
        ("RESET ALL", ""),
        ("DISCARD ALL", ""),
        ("SELECT set_config('default_transaction_isolation', 'serializable', false)", "serializable"),
        ("SET default_transaction_isolation = 'serializable'; RESET ALL", ""),
        ("RESET ALL; SET default_transaction_isolation = 'read committed'", "read committed"),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", None),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", None),
        ("SHOW default_transaction_isolation", None),
        ("INSERT INTO notes VALUES ('reset all')", None),
    ],
)
def test_the_isolation_that_later_transactions_have_is_noticed(sql: str, level: str | None) -> None:
    assert facts_of(sql.encode()).isolation == level


def test_taking_and_dropping_session_locks_is_noticed_and_transaction_locks_are_not() -> None:
    texts = ["SELECT pg_try_advisory_lock(1)", "SELECT pg_advisory_unlock(1)", "DISCARD ALL", "SELECT pg_advisory_xact_lock(1)"]
    facts = [facts_of(t.encode()) for t in texts]
    assert [f.takes_session_locks for f in facts] == [True, False, False, False]
    assert [f.drops_session_locks for f in facts] == [False, True, True, False]


@given(st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")) | st.binary(max_size=200))
@settings(deadline=None)
def test_no_text_is_too_odd(sql: bytes) -> None:
    facts_of(sql)


@pytest.mark.parametrize("piece", ["'", '"', "(", "/*", "$a$", "from ", "with x as (", "E'\\", "(?,", "-- ", "select ((("])
def test_long_odd_texts_are_read_in_reasonable_time(piece: str) -> None:
    began = time.process_time()
    facts_of((piece * 20_000).encode())
    assert time.process_time() - began < 5
