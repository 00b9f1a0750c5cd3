"""What an exploration leaves out is left out rightly: each of these races hides behind what a statement does not say.

In each case one order of the clients breaks the rule, and a reduction that takes two steps for unrelated misses it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest

from harness.model import Verdict
from harness.run.coded import Seen, explore
from harness.stores.base import Database
from tests.harness.run.test_coded import COUNT, INVOICES, STORE, numbers_are_unique, with_psycopg

Act = Callable[[str], None]


def says(*statements: str) -> Act:
    """Say these on one connection, in autocommit; whatever is refused is passed over."""

    def client(url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                try:
                    connection.execute(statement.encode())
                except psycopg.Error:
                    continue

    return client


def notes(query: str, note: str = "INSERT INTO noted VALUES ({})") -> Act:
    """Ask, and write down the answer."""

    def client(url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            answer = connection.execute(query.encode()).fetchone()
            connection.execute(note.format("NULL" if answer is None or answer[0] is None else answer[0]).encode())

    return client


def keeps_a_savepoint(url: str) -> None:
    """What Django's nested atomic and the driver's nested transaction do."""
    with psycopg.connect(url) as connection:
        connection.execute(NUMBER)
        try:
            with connection.transaction():
                connection.execute("INSERT INTO tags VALUES (1)")
        except psycopg.Error:
            pass


def uses_two_connections(url: str) -> None:
    with psycopg.connect(url) as connection, psycopg.connect(url, autocommit=True) as other:
        connection.execute(NUMBER)
        other.execute("INSERT INTO tags VALUES (2)")


def tries_a_lock(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("SELECT pg_try_advisory_lock(1)").fetchone() == (True,):
            connection.execute("UPDATE one SET v = v + 1")
            connection.execute("SELECT pg_advisory_unlock(1)")


BASE = [
    "CREATE TABLE one (v int)",
    "INSERT INTO one VALUES (0)",
    "CREATE TABLE other (v int)",
    "INSERT INTO other VALUES (0)",
    "CREATE TABLE noted (v int)",
    "CREATE TABLE invoices (number int)",
    "CREATE TABLE tags (tag int PRIMARY KEY)",
    "INSERT INTO tags VALUES (1)",
    "CREATE TABLE things (id int PRIMARY KEY, parent int REFERENCES things, v int NOT NULL DEFAULT 0)",
    "INSERT INTO things VALUES (1), (2)",
]
NUMBER = "INSERT INTO invoices SELECT count(*) + 1 FROM invoices"
ONCE = "SELECT count(*) = count(DISTINCT number) FROM invoices"
NOTED_NOTHING = "SELECT coalesce(max(v), 0) = 0 FROM noted"
SKIPPING = "UPDATE things SET v = 5 WHERE id = (SELECT id FROM things WHERE id = 1 FOR UPDATE SKIP LOCKED)"
AT_FIVE = "SELECT v = 5 FROM things WHERE id = 1"
LATE = ("SELECT v FROM one", "INSERT INTO noted SELECT v FROM other", "COMMIT")
READS_THE_PAST = "SELECT v = 1 FROM noted"
PEEK = "CREATE FUNCTION peek() RETURNS int {} LANGUAGE sql AS 'SELECT v FROM other'"
BUMP = "CREATE FUNCTION nextval_gapless() RETURNS int LANGUAGE sql AS 'UPDATE one SET v = v + 1 RETURNING v'"
BY_A = "SELECT who = 'a' FROM keyed"


def keyed(column: str, one: str, other: str, *, before: str = "") -> Any:
    """Two inserts of one key that is written in two ways: only one of them can be in the table."""
    setup = [*filter(None, [before]), f"CREATE TABLE keyed ({column}, who text)"]
    return setup, says(f"INSERT INTO keyed {one}"), says(f"INSERT INTO keyed {other}"), BY_A


def row(kind: str, stored: str, one: str, other: str) -> Any:
    """Two updates of one row whose key is written in two ways."""
    setup = [f"CREATE TABLE rows (k {kind} PRIMARY KEY, v int)", f"INSERT INTO rows VALUES ('{stored}', 0)"]
    update = "UPDATE rows SET v = {} WHERE k = '{}'"
    return setup, says(update.format(1, one)), says(update.format(2, other)), "SELECT v = 2 FROM rows"


CASES: dict[str, Any] = {
    "a savepoint that was rolled back after an error": ([], keeps_a_savepoint, says(NUMBER), ONCE),
    "another connection of the client commits meanwhile": ([], uses_two_connections, says(NUMBER), ONCE),
    "advisory locks by other names": ([], tries_a_lock, tries_a_lock, "SELECT v = 2 FROM one"),
    "nextval and setval": (
        ["CREATE SEQUENCE q"],
        says("INSERT INTO noted SELECT nextval('q')"),
        says("SELECT setval('q', 100)"),
        "SELECT v = 1 FROM noted",
    ),
    "a sequence that is read": (
        ["CREATE SEQUENCE q"],
        notes("SELECT last_value FROM q"),
        says("SELECT nextval('q')", "SELECT nextval('q')"),
        "SELECT v = 1 FROM noted",
    ),
    "a function named like one of the server's": (
        [BUMP],
        notes("SELECT v FROM one", "UPDATE one SET v = {} + 1"),
        says("SELECT nextval_gapless()"),
        "SELECT v = 2 FROM one",
    ),
    "a rollback to a savepoint lets go of a row": (
        [],
        says("BEGIN", "SAVEPOINT s", "UPDATE things SET v = 1 WHERE id = 1", "ROLLBACK TO SAVEPOINT s", "COMMIT"),
        says(SKIPPING),
        AT_FIVE,
    ),
    "a statement that fails lets go of a row": (
        [],
        says("BEGIN", "UPDATE things SET v = 1 WHERE id = 1", "INSERT INTO tags VALUES (1)", "ROLLBACK"),
        says(SKIPPING),
        AT_FIVE,
    ),
    "an isolation level that is set in the BEGIN's round trip": (
        [],
        says("BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", *LATE),
        says("UPDATE other SET v = 1"),
        NOTED_NOTHING,
    ),
    "an isolation level in two lines": (
        [],
        says("BEGIN ISOLATION LEVEL REPEATABLE\n  READ", *LATE),
        says("UPDATE other SET v = 1"),
        NOTED_NOTHING,
    ),
    "a commit that keeps the isolation level": (
        [],
        says("BEGIN ISOLATION LEVEL REPEATABLE READ", "COMMIT AND CHAIN", *LATE),
        says("UPDATE other SET v = 1"),
        NOTED_NOTHING,
    ),
    "constraints that are checked early": (
        ["CREATE TABLE children (id int REFERENCES tags DEFERRABLE INITIALLY DEFERRED)"],
        says("BEGIN", "INSERT INTO children VALUES (7)", *LATE[1:2], "SET CONSTRAINTS ALL IMMEDIATE", "COMMIT"),
        says("UPDATE other SET v = 1", "INSERT INTO tags VALUES (7)"),
        "SELECT coalesce(max(v), 1) = 1 FROM noted",
    ),
    "a key's name for what a subquery computes": (
        [],
        notes("SELECT r FROM (SELECT id, rank() OVER (ORDER BY v DESC, id) AS r FROM things) AS s WHERE id = 1"),
        says("UPDATE things SET v = 9 WHERE id = 2"),
        "SELECT v = 1 FROM noted",
    ),
    "a key's name for another source's column": (
        [],
        notes("SELECT v FROM things WHERE id = 2", "UPDATE things SET v = {} + 1 WHERE id = 2"),
        says("UPDATE things SET v = v + 1 FROM unnest(ARRAY[1]) AS x (id) WHERE x.id = 1"),
        "SELECT v = 2 FROM things WHERE id = 2",
    ),
    "a row that refers to another of its table": (
        [],
        says("BEGIN", "UPDATE things SET parent = 1 WHERE id = 2", "COMMIT"),
        says(SKIPPING),
        AT_FIVE,
    ),
    "a unique column that is computed": (
        [
            "CREATE TABLE people (id int PRIMARY KEY, email text, low text GENERATED ALWAYS AS (lower(email)) STORED UNIQUE)",
            "INSERT INTO people VALUES (1, 'x'), (2, 'y')",
        ],
        says("UPDATE people SET email = 'Bob' WHERE id = 1"),
        says("UPDATE people SET email = 'bob' WHERE id = 2"),
        "SELECT id = 1 FROM people WHERE low = 'bob'",
    ),
    "an upsert that changes a key to which others refer": (
        [
            "CREATE TABLE parents (id int PRIMARY KEY, code text UNIQUE)",
            "INSERT INTO parents VALUES (1, 'x')",
            "CREATE TABLE children (parent int REFERENCES parents ON UPDATE CASCADE)",
            "INSERT INTO children VALUES (1)",
        ],
        says("INSERT INTO parents VALUES (2, 'x') ON CONFLICT (code) DO UPDATE SET id = excluded.id"),
        says("INSERT INTO noted SELECT parent FROM children"),
        "SELECT v = 2 FROM noted",
    ),
    "a date with a time": keyed(
        "day date UNIQUE", "(day, who) VALUES ('2024-01-01 10:00', 'a')", "(day, who) VALUES ('2024-01-01 11:00', 'b')"
    ),
    "a number with a scale": keyed("n numeric(6, 2) UNIQUE", "(n, who) VALUES (1.001, 'a')", "(n, who) VALUES (1, 'b')"),
    "text that is padded": keyed("c char(4) UNIQUE", "(c, who) VALUES ('a ', 'a')", "(c, who) VALUES ('a', 'b')"),
    "a text that says NULL": keyed("c text UNIQUE", "(c, who) VALUES ('NULL', 'a')", "(c, who) VALUES ('NULL', 'b')"),
    "nothing, of which there may be one": keyed("c text UNIQUE NULLS NOT DISTINCT", "(who) VALUES ('a')", "(who) VALUES ('b')"),
    "a domain's default": keyed(
        "n five UNIQUE", "(who) VALUES ('a')", "(who) VALUES ('b')", before="CREATE DOMAIN five AS int DEFAULT 5"
    ),
    "an exclusion constraint": keyed(
        "n int, EXCLUDE USING btree (n WITH =)", "(n, who) VALUES (1, 'a')", "(n, who) VALUES (1, 'b')"
    ),
    "the row of a date": row("date", "2024-01-01", "2024-01-01", "20240101"),
    "the row of a moment": row("timestamptz", "2024-01-01 00:00+00", "2024-01-01 00:00+00", "2024-01-01 01:00+01"),
    "the row of a UUID": row(
        "uuid",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
    ),
    "a default that is said to be immutable": (
        [PEEK.format("IMMUTABLE"), "CREATE TABLE drawn (id int, n int DEFAULT peek())"],
        says("INSERT INTO drawn (id) VALUES (1)"),
        says("UPDATE other SET v = 1"),
        "SELECT n = 0 FROM drawn",
    ),
    "a check in a domain": (
        [
            "CREATE FUNCTION fine(x int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT v = 0 FROM other); END'",
            "CREATE DOMAIN checked AS int CHECK (fine(VALUE))",
            "CREATE TABLE drawn (id checked)",
        ],
        says("INSERT INTO drawn (id) VALUES (1)"),
        says("UPDATE other SET v = 1"),
        "SELECT count(*) = 1 FROM drawn",
    ),
    "a function that looks like a column": (
        ["CREATE FUNCTION total(t things) RETURNS int STABLE LANGUAGE sql AS 'SELECT v FROM other'"],
        notes("SELECT t.total FROM things AS t WHERE t.id = 1"),
        says("UPDATE other SET v = 1"),
        NOTED_NOTHING,
    ),
    "a function behind an operator": (
        [
            "CREATE FUNCTION seen(a int, b int) RETURNS int STABLE LANGUAGE sql AS 'SELECT v FROM other'",
            "CREATE OPERATOR && (leftarg = int, rightarg = int, function = seen)",
        ],
        notes("SELECT v && v FROM one"),
        says("UPDATE other SET v = 1"),
        NOTED_NOTHING,
    ),
    "a function over no table": (
        [PEEK.format("STABLE")],
        notes("SELECT peek() FROM generate_series(1, 1) AS g"),
        says("UPDATE other SET v = 1"),
        NOTED_NOTHING,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_order_that_breaks_the_rule_is_tried(postgres_database: Database, case: Any) -> None:
    setup, one, other, rule = case

    def holds(seen: Seen) -> bool:
        return seen.rows(rule) in ([(True,)], [[True]])

    found = explore(database=postgres_database, clients=[one, other], invariants=[holds], setup=[*BASE, *setup])

    assert found.verdict is Verdict.FAIL


def reads_late(url: str) -> None:
    says("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT v FROM one", "INSERT INTO noted SELECT v FROM other", "COMMIT")(url)


def test_clients_that_do_the_same_differ_by_what_they_can_see(postgres_database: Database) -> None:
    """One of them began before the change that another one saw, and writes its row after that one."""

    def in_order(seen: Seen) -> bool:
        return not seen.rows("SELECT 1 FROM noted AS a, noted AS b WHERE a.at < b.at AND a.v > b.v")

    found = explore(
        database=postgres_database,
        clients=[reads_late] * 3 + [says("UPDATE other SET v = 1")],
        invariants=[in_order],
        setup=[*BASE, "ALTER TABLE noted ADD at serial PRIMARY KEY"],
    )

    assert found.verdict is Verdict.FAIL


ONE_NUMBER = "CREATE FUNCTION next_one() RETURNS int LANGUAGE sql AS 'SELECT (count(*) + 1)::int FROM invoices'"


@pytest.mark.parametrize(
    ("setup", "count", "store"),
    [
        pytest.param([*INVOICES, "CREATE VIEW v AS SELECT * FROM invoices"], COUNT.replace("invoices", "v"), STORE, id="view"),
        pytest.param(
            [*INVOICES, "CREATE VIEW v AS SELECT * FROM invoices", "CREATE VIEW w AS SELECT * FROM v"],
            COUNT.replace("invoices", "w"),
            STORE,
            id="view of a view",
        ),
        pytest.param(
            [*INVOICES, "CREATE VIEW v AS SELECT * FROM invoices"], COUNT, STORE.replace("invoices", "v"), id="through a view"
        ),
        pytest.param(
            [
                "CREATE TABLE invoices (number int) PARTITION BY RANGE (number)",
                "CREATE TABLE first PARTITION OF invoices FOR VALUES FROM (0) TO (9)",
                *INVOICES[1:],
            ],
            COUNT,
            STORE.replace("invoices", "first"),
            id="partition",
        ),
        pytest.param(
            [*INVOICES, "CREATE TABLE late () INHERITS (invoices)"], COUNT, STORE.replace("invoices", "late"), id="inheritance"
        ),
        pytest.param(
            [
                *INVOICES,
                "CREATE TABLE inbox (number int)",
                "CREATE RULE file AS ON INSERT TO inbox DO INSTEAD INSERT INTO invoices VALUES (new.number)",
            ],
            COUNT,
            STORE.replace("invoices", "inbox"),
            id="rule",
        ),
        pytest.param(
            [*INVOICES, ONE_NUMBER, "ALTER TABLE invoices ALTER number SET DEFAULT next_one()"],
            "SELECT 1",
            "INSERT INTO invoices DEFAULT VALUES",
            id="default",
        ),
        pytest.param(
            [*INVOICES, ONE_NUMBER, "CREATE VIEW v AS SELECT next_one() AS number"], "SELECT number FROM v", STORE, id="function"
        ),
    ],
)
def test_a_race_is_found_behind_what_a_statement_does_not_name(
    postgres_database: Database, setup: list[str], count: str, store: str
) -> None:
    create = partial(with_psycopg, count=count, store=store)

    found = explore(database=postgres_database, clients=[create, create], invariants=[numbers_are_unique], setup=setup)

    assert found.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("chosen", "options", "verdict"),
    [
        ("SELECT 1", "", Verdict.PASS),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ", "", Verdict.FAIL),
        ("SET default_transaction_isolation TO 'repeatable read'", "", Verdict.FAIL),
        ("SELECT set_config('default_transaction_isolation', 'repeatable read', false)", "", Verdict.FAIL),
        ("SELECT 1", r"-c default_transaction_isolation=repeatable\ read", Verdict.FAIL),
    ],
)
def test_a_session_that_chose_its_isolation_is_explored_at_it(
    postgres_database: Database, chosen: str, options: str, verdict: Verdict
) -> None:
    """Whoever looks before the lock is there reads the past at REPEATABLE READ, and only there."""

    def create(url: str) -> None:
        with psycopg.connect(url, autocommit=True, options=options) as connection:
            connection.execute(chosen)
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM settings")
            connection.execute("SELECT pg_advisory_xact_lock(1)")
            number = connection.execute(COUNT).fetchone()
            connection.execute(STORE.format(number[0]))  # type: ignore[index]
            connection.execute("COMMIT")

    setup = [*INVOICES, "CREATE TABLE settings (id int)"]
    found = explore(database=postgres_database, clients=[create, create], invariants=[numbers_are_unique], setup=setup)

    assert found.verdict is verdict


PARTS = [
    "CREATE TABLE parts (k int, v int) PARTITION BY RANGE (k)",
    "CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE high PARTITION OF parts FOR VALUES FROM (10) TO (20)",
    "INSERT INTO parts VALUES (1, 0), (11, 0)",
]
FAMILY = ["CREATE TABLE parts (v int)", "CREATE TABLE low () INHERITS (parts)", "INSERT INTO low VALUES (0), (0)"]


@pytest.mark.parametrize(
    ("setup", "statement"),
    [
        (PARTS, "UPDATE low SET v = v + 1"),
        (PARTS, "UPDATE parts SET v = v + 1 WHERE k = 1"),
        (FAMILY, "UPDATE low SET v = v + 1"),
        (FAMILY, "UPDATE parts SET v = v + 1"),
    ],
)
def test_tables_of_one_tree_are_put_back_between_runs(postgres_database: Database, setup: list[str], statement: str) -> None:
    def added(seen: Seen) -> bool:
        return seen.rows("SELECT max(v), count(*) FROM parts")[0] in ((2, 2), [2, 2])

    clients = [says(statement)] * 2
    found = explore(database=postgres_database, clients=clients, invariants=[added], setup=setup, reduce=False)

    assert (found.verdict, found.explored) == (Verdict.PASS, 2)
