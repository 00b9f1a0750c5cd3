"""A live database is audited: nothing that is wrong is missed, nothing that is right is blamed, nothing is written."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pymongo
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import main
from harness.config.sections import BooksSection
from harness.invariants import judge
from harness.invariants.numbering.columns import stored
from harness.invariants.numbering.gaps import extents, missing
from harness.model import Books, Continuity, History, Policy
from harness.run.audit_numbers import Tally, still_missing
from harness.run.repairs import origin_of
from harness.stores import Database

SHOP = """
    CREATE TABLE invoices (id int PRIMARY KEY, company text, no bigint, printed text, state text DEFAULT 'issued', why text,
                           made timestamptz DEFAULT now(), cents numeric DEFAULT 100, token text);
    CREATE TABLE counters (company text, value bigint);
    CREATE TABLE terms (id text, account text, opening bigint, balance bigint);
    CREATE TABLE payments (id text, term text, amount bigint, state text);
    CREATE TABLE log (subject text, action text);
    CREATE TABLE orders (id text, total bigint, advance bigint, discount bigint, balance bigint, state text);
    CREATE TABLE parts (id text, order_id text, no int, amount bigint);
"""
GOOD = """
    INSERT INTO invoices (id, company, no, printed) SELECT n, 'acme', n, 'INV-' || lpad(n::text, 5, '0')
        FROM generate_series(1, 9) n;
    INSERT INTO invoices (id, company, no, printed) SELECT 100 + n, 'beta', n, 'INV-' || lpad(n::text, 5, '0')
        FROM generate_series(1, 5) n;
    INSERT INTO counters VALUES ('acme', 9), ('beta', 5);
    INSERT INTO terms VALUES ('t1', 'a', 1000, 400), ('t2', 'a', 500, 500);
    INSERT INTO payments VALUES ('p1', 't1', 600, 'paid'), ('p2', 't2', 100, 'awaiting_approval');
    INSERT INTO log VALUES ('p1', 'approve');
    INSERT INTO orders VALUES ('o1', 1000, 200, 0, 500, 'open');
    INSERT INTO parts VALUES ('x1', 'o1', 1, 300);
"""
BOOKS = '''
policy = { name = "ours", format = "INV-{00000}", continuity = "gapless", scope_keys = ["company"] }
[books.documents]
sql = """SELECT id, company AS scope, no AS number, printed AS text, state AS status, why AS reason, made AS dated,
                cents AS amount, token FROM invoices"""
[books.counters]
sql = "SELECT company AS scope, value FROM counters"
[books.terms]
sql = "SELECT id, account, opening, balance FROM terms"
[books.payments]
sql = "SELECT id, term, amount, state AS status FROM payments"
[books.audit]
sql = "SELECT subject, action FROM log"
[books.orders]
sql = "SELECT id, total, advance, discount, balance, state AS status FROM orders"
[books.installments]
sql = 'SELECT id, order_id AS "order", no AS number, amount FROM parts'
'''


@pytest.fixture
def shop(postgres_database: Database) -> Database:
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute(SHOP)
        connection.execute(GOOD)
    return postgres_database


def execute(database: Database, statement: str) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(statement.encode())


def audited(folder: Path, url: str, *more: str, books: str = BOOKS) -> tuple[int, dict[str, Any]]:
    (folder / "books.toml").write_text(books)
    option = "--mongo" if url.startswith("mongodb") else "--postgres"
    status = main(["audit", option, url, "--config", str(folder / "books.toml"), "--json", str(folder / "found.json"), *more])
    return status, json.loads((folder / "found.json").read_text())


def test_books_that_are_right_pass(shop: Database, tmp_path: Path) -> None:
    status, found = audited(tmp_path, shop.url)
    assert (status, found["findings"], found["repairs"]) == (0, [], [])
    assert found["rows"]["documents"] == 14
    assert {"N-UNIQ", "N-GAPLESS", "N-FMT", "P-CONS", "P-NOOVER", "P-TERM1", "O-DRIFT", "A-MATCH"} <= set(found["checked"])
    assert found["skipped"]["N-EXPLAINED"] == "a database does not tell which attempts failed"


@pytest.mark.parametrize(
    ("damage", "invariant", "says", "repaired"),
    [
        (
            "INSERT INTO invoices (id, company, no, printed) VALUES (50, 'acme', 4, 'INV-00004')",
            "N-UNIQ",
            "INV-00004 was issued twice",
            "UPDATE invoices SET no = 10, printed = 'INV-00010' WHERE id = '50' AND no = 4 AND printed = 'INV-00004';",
        ),
        ("DELETE FROM invoices WHERE id = 5", "N-GAPLESS", "INV-00005 of acme is neither issued nor void", "-- acme: 5"),
        ("UPDATE invoices SET printed = 'INV-7' WHERE id = 7", "N-FMT", "INV-7", ""),
        (
            "UPDATE invoices SET state = 'void' WHERE id = 7",
            "N-VOID",
            "INV-00007",
            "",
        ),
        (
            "UPDATE counters SET value = 3 WHERE company = 'acme'",
            "N-COUNTER>=MAX",
            "stands at 3, below INV-00009",
            "UPDATE counters SET value = 9 WHERE company = 'acme' AND value = 3;",
        ),
        ("INSERT INTO counters VALUES ('beta', 9)", "N-COUNTER1", "beta has 2 counters", ""),
        ("UPDATE invoices SET cents = 1.5 WHERE id = 3", "P-EXACT", "is 1.5 minor units", ""),
        (
            "UPDATE invoices SET token = 'same' WHERE id IN (2, 3)",
            "P-ONCE",
            "the intent same is stored twice in documents: 2, 3",
            "",
        ),
        (
            "UPDATE terms SET balance = 300 WHERE id = 't1'",
            "P-CONS",
            "term t1 went from 10.00 to 3.00",
            "UPDATE terms SET balance = 400 WHERE id = 't1' AND balance = 300;",
        ),
        (
            "INSERT INTO payments VALUES ('p3', 't2', 450, 'awaiting_approval')",
            "P-PEND1",
            "2 payments await approval for term t2",
            "UPDATE payments SET state = 'cancelled' WHERE id = 'p3' AND state = 'awaiting_approval';",
        ),
        ("INSERT INTO payments VALUES ('p3', 't2', 450, 'awaiting_approval')", "P-NOOVER", "term t2 owed 5.00", ""),
        ("INSERT INTO log VALUES ('p1', 'approve')", "P-TERM1", "payment p1 was approved twice", ""),
        (
            "INSERT INTO payments VALUES ('p4', 't1', 0, 'paid')",
            "A-MATCH",
            "payment p4 is paid and no audit row",
            "INSERT INTO log (subject, action) VALUES ('p4', 'approve');",
        ),
        (
            "UPDATE orders SET balance = 450",
            "O-DRIFT",
            "stores the balance 4.50",
            "UPDATE orders SET balance = 500 WHERE id = 'o1' AND balance = 450;",
        ),
        ("INSERT INTO parts VALUES ('x0', 'o1', 2, 200)", "O-DRIFT", "stores the balance 5.00", "-- order o1: the difference is"),
        (
            "UPDATE parts SET amount = 200; UPDATE orders SET balance = 800",
            "O-BAL",
            "the advance of order o1, 2.00, is stored in the order and again as installment #1",
            "-- order o1: the difference is",
        ),
        ("INSERT INTO parts VALUES ('x2', 'o1', 1, 0)", "O-INST", "more than one installment #1", ""),
    ],
)  # fmt: skip
def test_each_damage_is_named_with_its_repair(
    shop: Database, tmp_path: Path, damage: str, invariant: str, says: str, repaired: str
) -> None:
    execute(shop, damage)
    status, found = audited(tmp_path, shop.url)
    assert status == 1
    assert says in next(f["message"] for f in found["findings"] if f["invariant"] == invariant)
    commands = [c for r in found["repairs"] for c in r["commands"]]
    assert any(c.startswith(repaired) for c in commands) if repaired else True


@pytest.mark.parametrize("damage", ["DELETE FROM counters WHERE company = 'acme'", "DELETE FROM counters"])
def test_documents_whose_scope_has_no_counter_are_told(shop: Database, tmp_path: Path, damage: str) -> None:
    execute(shop, damage)
    status, found = audited(tmp_path, shop.url)
    [finding] = found["findings"]
    assert (status, finding["class"], finding["invariant"]) == (0, "cost", "N-COUNTER>=MAX")
    assert finding["message"].startswith("acme has documents up to INV-00009 and no counter")


def test_counters_that_are_kept_by_other_scopes_than_documents_are_not_blamed(shop: Database, tmp_path: Path) -> None:
    execute(shop, "UPDATE counters SET company = company || '/invoice'")
    assert audited(tmp_path, shop.url)[1]["findings"] == []


def test_only_the_last_period_of_a_scope_needs_its_counter(shop: Database, tmp_path: Path) -> None:
    execute(shop, "ALTER TABLE invoices ADD y text DEFAULT '2026'; ALTER TABLE counters ADD y text DEFAULT '2026'")
    execute(shop, "UPDATE invoices SET y = '2025', made = '2025-06-01' WHERE company = 'acme'")
    execute(shop, "UPDATE invoices SET made = '2026-06-01' WHERE company = 'beta'; DELETE FROM counters WHERE company = 'acme'")
    execute(
        shop, "INSERT INTO invoices (id, company, no, printed, y, made) VALUES (90, 'acme', 1, 'INV-00001', '2026', '2026-06-01')"
    )
    execute(shop, "INSERT INTO counters VALUES ('acme', 1)")
    yearly = BOOKS.replace("scope_keys", 'period = "year", unique_per = "period", scope_keys').replace(
        "AS scope,", "AS scope, y AS period,"
    )
    assert audited(tmp_path, shop.url, books=yearly)[1]["findings"] == []
    execute(shop, "DELETE FROM counters WHERE company = 'acme'")
    [finding] = audited(tmp_path, shop.url, books=yearly)[1]["findings"]
    assert finding["message"].startswith("acme in 2026 has documents up to INV-00001 and no counter")


def test_with_very_many_documents_each_hash_gets_a_pass_of_its_own_and_finds_the_same(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(shop, "UPDATE invoices SET token = 'same' WHERE id IN (2, 3); UPDATE invoices SET printed = 'INV-00001' WHERE id = 5")
    together = audited(tmp_path, shop.url)[1]["findings"]
    monkeypatch.setattr("harness.run.audit_numbers.TOGETHER", 5)
    assert audited(tmp_path, shop.url)[1]["findings"] == together
    assert {"N-UNIQ", "P-ONCE"} <= {f["invariant"] for f in together}


def test_an_audit_needs_no_secret_of_the_service(shop: Database, tmp_path: Path) -> None:
    service = '[target]\nurl = "http://h"\nheaders = { A = "${NOT_SET_HERE}" }\n[operations.create]\npath = "/"\n'
    policy, _, books = BOOKS.partition("[books.documents]")
    assert audited(tmp_path, shop.url, books=f"{policy}{service}[books.documents]{books}")[0] == 0


def test_the_proposed_repair_repairs_when_somebody_runs_it(shop: Database, tmp_path: Path) -> None:
    execute(shop, "UPDATE terms SET balance = 300 WHERE id = 't1'; UPDATE counters SET value = 3 WHERE company = 'acme'")
    assert audited(tmp_path, shop.url, "--repair", str(tmp_path / "repair.sql"))[0] == 1
    assert audited(tmp_path, shop.url)[0] == 1, "nothing was run by the audit"
    execute(shop, (tmp_path / "repair.sql").read_text())
    assert audited(tmp_path, shop.url)[0] == 0


def test_a_document_that_gets_another_number_is_printed_with_it(shop: Database, tmp_path: Path) -> None:
    execute(shop, "INSERT INTO invoices (id, company, no, printed) VALUES (50, 'acme', 4, 'INV-00004')")
    assert audited(tmp_path, shop.url, "--repair", str(tmp_path / "repair.sql"))[0] == 1
    commands = (tmp_path / "repair.sql").read_text()
    execute(shop, "\n".join(line for line in commands.splitlines() if line.startswith("UPDATE")))
    assert [f["invariant"] for f in audited(tmp_path, shop.url)[1]["findings"]] == ["N-COUNTER>=MAX"]


@pytest.mark.parametrize(
    ("project", "text"),
    [
        ("$printed", "printed"),
        ({"$toString": "$printed"}, "printed"),
        (1, "text"),
        ({"$toUpper": "$printed"}, None),
        ({"$concat": ["INV-", "$printed"]}, None),
    ],
)
def test_the_printed_number_of_a_collection_is_traced_to_its_field(project: Any, text: str | None) -> None:
    stages: list[dict[str, Any]] = [{"$project": {"id": "$_id", "number": "$no", "text": project}}]
    origin = origin_of("documents", BooksSection(collection="invoices", pipeline=tuple(stages)))
    assert ("text" in origin.computed) == (text is None)
    assert text is None or origin.column("text") == text
    assert "number" not in origin.computed


@pytest.mark.parametrize(
    ("written_as", "replaced", "says"),
    [
        ("printed AS text", "upper(printed) AS text", "it is not a plain column of the query"),
        ('format = "INV-{00000}", ', "", "no format of the policy tells how"),
    ],
)
def test_a_printed_number_that_a_repair_cannot_set_is_told(
    shop: Database, tmp_path: Path, written_as: str, replaced: str, says: str
) -> None:
    execute(shop, "INSERT INTO invoices (id, company, no, printed) VALUES (50, 'acme', 4, 'INV-00004')")
    found = audited(tmp_path, shop.url, books=BOOKS.replace(written_as, replaced))[1]
    [repair] = [r for r in found["repairs"] if r["invariant"] == "N-UNIQ"]
    assert repair["commands"][0].startswith(f"-- the printed number is not changed here: {says}")
    assert repair["commands"][1] == "UPDATE invoices SET no = 10 WHERE id = '50' AND no = 4;"


def test_a_role_that_may_only_read_is_enough_and_the_transaction_could_not_write(shop: Database, tmp_path: Path) -> None:
    execute(shop, "CREATE ROLE auditor LOGIN PASSWORD 'aud1tor-pw'; GRANT pg_read_all_data TO auditor")
    url = "postgresql://auditor:aud1tor-pw@" + shop.url.split("@")[1]
    try:
        assert audited(tmp_path, url)[0] == 0
        writes = BOOKS.replace("SELECT subject, action FROM log", "SELECT nextval('s')::text AS subject, 'x' AS action")
        execute(shop, "CREATE SEQUENCE s")
        assert main(["audit", "--postgres", shop.url, "--config", str(written(tmp_path, writes))]) == 2
    finally:
        execute(shop, "DROP OWNED BY auditor; DROP ROLE auditor")


def written(folder: Path, text: str) -> Path:
    path = folder / "other.toml"
    path.write_text(text)
    return path


def test_a_hole_that_a_transaction_is_about_to_fill_is_no_gap(shop: Database, tmp_path: Path) -> None:
    with psycopg.connect(shop.url) as busy:
        busy.execute("INSERT INTO invoices (id, company, no, printed) VALUES (200, 'acme', 10, 'INV-00010')")
        execute(shop, "INSERT INTO invoices (id, company, no, printed) VALUES (201, 'acme', 11, 'INV-00011')")
        execute(shop, "UPDATE counters SET value = 11 WHERE company = 'acme'")
        status, found = audited(tmp_path, shop.url, "--patience", "500ms")
        assert (status, [f["class"] for f in found["findings"]]) == (4, ["indeterminate"])
        threading.Timer(1.5, busy.commit).start()
        assert audited(tmp_path, shop.url)[0] == 0


def test_under_concurrent_writes_there_is_no_false_gap(shop: Database, tmp_path: Path) -> None:
    stop = threading.Event()

    def write(worker: int) -> None:
        with psycopg.connect(shop.url) as connection:
            while not stop.is_set():
                with connection.transaction():
                    row = connection.execute(
                        "UPDATE counters SET value = value + 1 WHERE company = 'acme' RETURNING value"
                    ).fetchone()
                    assert row is not None
                    connection.execute(
                        "INSERT INTO invoices (id, company, no, printed) "
                        "VALUES (1000 + %s, 'acme', %s, 'INV-' || lpad(%s, 5, '0'))",
                        (row[0], row[0], str(row[0])),
                    )

    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for writer in writers:
        writer.start()
    try:
        results = [audited(tmp_path, shop.url) for _ in range(4)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert [status for status, _ in results] == [0, 0, 0, 0], [r["findings"] for _, r in results]


def test_since_looks_at_recent_documents_and_still_sees_that_they_repeat_old_ones(shop: Database, tmp_path: Path) -> None:
    execute(shop, "UPDATE invoices SET made = '2020-01-01'; DELETE FROM invoices WHERE id = 3")
    execute(shop, "INSERT INTO invoices (id, company, no, printed) VALUES (10, 'acme', 10, 'INV-00010')")
    execute(shop, "UPDATE counters SET value = 10 WHERE company = 'acme'")
    status, found = audited(tmp_path, shop.url, "--since", "24h")
    assert (status, found["rows"]["documents"]) == (0, 1)
    execute(shop, "INSERT INTO invoices (id, company, no, printed) VALUES (11, 'acme', 4, 'INV-00004')")
    status, found = audited(tmp_path, shop.url, "--since", "24h")
    assert next(f["invariant"] for f in found["findings"] if f["class"] == "violation") == "N-UNIQ"


def test_what_is_wrong_with_the_call_is_one_line(shop: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = written(tmp_path, BOOKS)
    for words, says in (
        (["--postgres", shop.url, "--since", "soon"], "--since 'soon' is neither a date"),
        (["--mongo", "mongodb://h/x"], "reads its books from PostgreSQL"),
        ([], "name the database that is to be looked at"),
        (["--postgres", "postgresql://u:pw-hidden@127.0.0.1:1/x"], "cannot connect to postgresql://u:***@127.0.0.1:1/x"),
    ):
        assert main(["audit", "--config", str(good), *words]) in (2, 3)
        said = capsys.readouterr().err
        assert says in said
        assert "pw-hidden" not in said
    wrong = written(tmp_path, BOOKS.replace("FROM orders", "FROM ordres"))
    assert main(["audit", "--postgres", shop.url, "--config", str(wrong)]) == 2
    assert (
        'books.orders is not a SELECT that this database understands: relation "ordres" does not exist' in capsys.readouterr().err
    )


MONGO = """
policy = { name = "ours", continuity = "gapless", scope_keys = ["company"] }
[books.documents]
collection = "invoices"
pipeline = [{ "$project" = { id = { "$toString" = "$_id" }, scope = "$company", number = "$no", dated = "$made" } }]
"""


def test_a_mongodb_is_audited_from_a_snapshot(mongo_database: Database, tmp_path: Path) -> None:
    client: pymongo.MongoClient[Any] = pymongo.MongoClient(mongo_database.url)
    with client:
        invoices = client[mongo_database.name].invoices
        invoices.insert_many({"company": "acme", "no": n} for n in range(1, 6))
        assert audited(tmp_path, mongo_database.url, books=MONGO)[0] == 0
        invoices.insert_one({"_id": "again", "company": "acme", "no": 3})
        invoices.delete_one({"no": 4})
        status, found = audited(tmp_path, mongo_database.url, books=MONGO)
    assert status == 1
    assert {f["invariant"] for f in found["findings"]} == {"N-UNIQ", "N-GAPLESS"}
    [repair] = [r for r in found["repairs"] if r["invariant"] == "N-UNIQ"]
    assert repair["commands"][0].startswith("db.invoices.updateOne({ ")
    assert repair["commands"][-1] == 'db.invoices.createIndex({ "company": 1, "no": 1 }, { unique: true })'


def test_a_million_documents_are_audited_in_bounded_time(postgres_database: Database, tmp_path: Path) -> None:
    execute(
        postgres_database,
        "CREATE TABLE d AS SELECT n AS id, 'c' || n % 10 AS scope, n / 10 + 1 AS number FROM generate_series(0, 999999) n",
    )
    execute(postgres_database, "DELETE FROM d WHERE id IN (500000, 777777)")
    books = 'policy = "gapless"\n[books.documents]\nsql = "SELECT id, scope, number FROM d"\n'
    began = time.monotonic()
    status, found = audited(tmp_path, postgres_database.url, books=books)
    assert (status, found["rows"]["documents"]) == (1, 999_998)
    assert {f["total"] for f in found["findings"]} == {1}
    assert time.monotonic() - began < 60


rows_of_documents = st.lists(
    st.fixed_dictionaries(
        {
            "scope": st.sampled_from([None, "a", "b"]),
            "period": st.sampled_from([None, "2026"]),
            "number": st.integers(0, 12) | st.none(),
            "status": st.sampled_from([None, "issued", "void", "reserved"]),
        }
    ),
    max_size=25,
)


@given(rows_of_documents, st.integers(1, 4))
def test_holes_and_spans_of_a_stream_are_those_of_the_whole(items: list[dict[str, Any]], piece: int) -> None:
    policy = Policy(name="p", continuity=Continuity.GAPLESS)
    documents = stored(Books.of(documents=[{**row, "id": str(n)} for n, row in enumerate(items)]), policy)
    tally = Tally(policy)
    for at in range(0, documents.height, piece):
        tally.add(documents[at : at + piece])
    numbers = tally.finish()
    columns = ["scope", "period", "first", "last", "size"]
    assert sorted(numbers.holes.select(columns).rows()) == sorted(missing(documents, policy).select(columns).rows())
    whole = extents(documents, policy)
    assert sorted(numbers.spans.rows()) == sorted(whole.select(numbers.spans.columns).rows())
    twice = judge(History.of([]), Books(tables={"documents": documents.drop("row")}), policy, ["N-UNIQ"]).findings
    assert bool(numbers.repeats) == bool(twice)


@given(st.sets(st.integers(1, 20)), st.integers(1, 10), st.integers(10, 20))
def test_what_was_filled_since_is_no_hole(there: set[int], first: int, last: int) -> None:
    schema = {"scope": pl.String(), "period": pl.String(), "first": pl.Int64(), "last": pl.Int64(), "size": pl.Int64()}
    holes = pl.DataFrame([("a", "", first, last, last - first + 1)], schema=schema, orient="row")
    later = pl.DataFrame({"scope": ["a"] * len(there), "period": [""] * len(there), "number": list(there)})
    later = later.cast({"scope": pl.String(), "period": pl.String(), "number": pl.Int64()})
    left = still_missing(holes, later)
    assert {n for a, b in left.select("first", "last").iter_rows() for n in range(a, b + 1)} == set(
        range(first, last + 1)
    ) - there
