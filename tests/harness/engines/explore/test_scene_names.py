"""Tables with capital letters in their names, as ORMs make them, are put back and compared like any other."""

from __future__ import annotations

import psycopg

from harness.engines.explore.footprints import read_schema
from harness.engines.explore.scene import BEFORE, PostgresScene
from harness.stores import Database


def test_a_table_with_capitals_is_put_back_when_a_statement_touched_it(postgres_database: Database) -> None:
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute('CREATE TABLE "OrderLine" ("Id" int PRIMARY KEY)')
        connection.execute('INSERT INTO "OrderLine" VALUES (1)')
        scene = PostgresScene(postgres_database.url)
        scene.remember()
        connection.execute('INSERT INTO "OrderLine" VALUES (2)')
        scene.restore(frozenset({"orderline"}))
        assert connection.execute('SELECT * FROM "OrderLine"').fetchall() == [(1,)]
        assert read_schema(connection).unique["orderline"] == (('"OrderLine_pkey"', ("id",)),)
        scene.close()


def test_the_rows_of_before_survive_a_scene_that_is_played_on_them(postgres_database: Database) -> None:
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (n int)")
        before = PostgresScene(postgres_database.url, copies=BEFORE)
        before.remember()
        connection.execute("INSERT INTO t VALUES (1)")
        played = PostgresScene(postgres_database.url)
        played.remember()
        connection.execute("INSERT INTO t VALUES (2)")
        played.close()
        assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]
        assert before.left_over()
        before.close()
        assert connection.execute("SELECT n FROM t").fetchall() == []
        assert not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'racegate%'").fetchall()
