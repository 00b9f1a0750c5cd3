"""What a step touches: read from its statement, its parameters and the schema."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.engines.explore.footprints import Footprints, Schema, independent
from harness.wire.base import Status, Step, StepKind
from harness.wire.postgres.statements import facts_of, joined_kind

SCHEMA = Schema(
    unique={"documents": (("by_number", ("scope", "number")), ("by_token", ("token",))), "expressed": (("by_lower", ()),)},
    defaults=frozenset({("documents", "number")}),
    triggered=frozenset({"watched", "unpaid"}),
    parents={"payments": frozenset({"accounts"})},
    referred={"accounts": frozenset({"id"})},
    stands_for={"unpaid": frozenset({"documents", "payments"}), "log_2026": frozenset({"log"}), "log": frozenset({"log"})},
    opaque=frozenset({"secret"}),
    functions=frozenset({"lower", "next_number"}),
    primary={"terms": ("account", "position"), "documents": ("id",), "expressed": ("id",)},
    conditional=frozenset({"expressed"}),
)
INSERT = "INSERT INTO documents (scope, number, token) VALUES ($1, $2, $3)"


def step(text: str, *parameters: Any, status: Status = Status.IN_TRANSACTION) -> Step:
    kind = StepKind.COMMIT if text == "COMMIT" else StepKind.BEGIN if text.startswith("BEGIN") else StepKind.OTHER
    return Step(connection=1, index=0, text=text, fingerprint=text, parameters=parameters, kind=kind, status=status)


def swappable(one: Step, other: Step, *, isolation: str = "") -> bool:
    footprints = Footprints(SCHEMA)
    for client in (0, 1):
        if isolation:
            begin = step(f"BEGIN ISOLATION LEVEL {isolation}")
            footprints.did(client, begin, footprints.of(client, begin))
    return independent(footprints.of(0, one), footprints.of(1, other))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (step(INSERT, "a", 1, "t1"), step(INSERT, "a", 2, "t2"), True),
        (step(INSERT, "a", 1, "t1"), step(INSERT, "a", 1, "t2"), False),
        (step(INSERT, "a", 1, "t1"), step(INSERT, "b", 1, "t1"), False),
        (step(INSERT, "a", b"\x01", "t1"), step(INSERT, "a", 2, "t2"), False),
        (step("INSERT INTO documents (scope, token) VALUES ('a', 'x')"), step(INSERT, "a", 1, "t2"), False),
        (step("INSERT INTO documents (scope, number) VALUES ('a', 1)"), step(INSERT, "a", 2, "t2"), True),
        (step("INSERT INTO documents (scope, number) VALUES ('a', now())"), step(INSERT, "a", 2, "t2"), False),
        (step("INSERT INTO documents (scope, number) VALUES ('a', 1), ('a', 2)"), step(INSERT, "a", 2, "t2"), False),
        (step("INSERT INTO documents SELECT * FROM old"), step(INSERT, "a", 2, "t2"), False),
        (step("INSERT INTO log SELECT count(*) FROM log"), step("INSERT INTO log VALUES (1)", status=Status.IDLE), False),
        (
            step("WITH new AS (INSERT INTO log VALUES (1) RETURNING 1) SELECT count(*) FROM log, new"),
            step("INSERT INTO log VALUES (1)", status=Status.IDLE),
            False,
        ),
        (step("INSERT INTO expressed (name) VALUES ('a')"), step("INSERT INTO expressed (name) VALUES ('b')"), False),
        (step("INSERT INTO log (line) VALUES ('a')"), step("INSERT INTO log (line) VALUES ('a')"), True),
        (step("INSERT INTO watched (n) VALUES (1)"), step("SELECT 1 FROM other"), False),
        (step("INSERT INTO payments (id) VALUES (1)"), step("UPDATE accounts SET balance = 0"), False),
        (step("DELETE FROM accounts"), step("SELECT 1 FROM payments"), False),
        (step("SELECT count(*) FROM documents"), step(INSERT, "a", 1, "t1"), True),
        (step("SELECT count(*) FROM documents"), step(INSERT, "a", 1, "t1", status=Status.IDLE), False),
        (step("SELECT 1 FROM counters FOR UPDATE"), step("UPDATE counters SET n = 1"), False),
        (step("SELECT 1 FROM counters"), step("UPDATE counters SET n = 1"), True),
        (step("SELECT mystery()"), step("SELECT 1 FROM counters"), False),
        (step("SELECT pg_advisory_xact_lock(1)"), step("SELECT pg_advisory_xact_lock(1)"), False),
        (step("SELECT nextval('n')"), step("SELECT nextval('n')"), False),
        (step("this is not SQL"), step("SELECT 1 FROM counters"), False),
        (step("LOCK TABLE counters"), step("SELECT 1 FROM counters"), False),
        (step("TRUNCATE counters"), step("SELECT 1 FROM counters"), False),
        (step("SAVEPOINT a"), step("this is not SQL"), True),
        (step("SELECT 1 FROM unpaid"), step(INSERT, "a", 1, "t1", status=Status.IDLE), False),
        (step("SELECT 1 FROM unpaid"), step("UPDATE counters SET n = 1", status=Status.IDLE), True),
        (step("INSERT INTO unpaid VALUES (1)"), step("SELECT 1 FROM terms"), False),
        (step("SELECT 1 FROM log"), step("INSERT INTO log_2026 VALUES (1)", status=Status.IDLE), False),
        (step("SELECT 1 FROM secret"), step("SELECT 1 FROM terms"), False),
        (step("SELECT lower(name) FROM terms"), step("SELECT 1 FROM counters"), False),
        (step("SELECT upper(name) FROM terms"), step("SELECT 1 FROM counters"), True),
        (step("SELECT 1 AS n INTO copies FROM terms"), step("SELECT 1 FROM counters"), False),
        (step("UPDATE accounts SET id = 2"), step("SELECT 1 FROM payments"), False),
        (step("UPDATE accounts SET (id, balance) = (2, 0)"), step("SELECT 1 FROM payments"), False),
        (step("UPDATE accounts SET balance = 0"), step("SELECT 1 FROM payments"), True),
        (
            step("WITH log AS (SELECT * FROM log) SELECT 1 FROM log"),
            step("INSERT INTO log VALUES (1)", status=Status.IDLE),
            False,
        ),
    ],
)
def test_which_statements_may_be_swapped(one: Step, other: Step, expected: bool) -> None:
    assert swappable(one, other) is swappable(other, one) is expected


def test_under_serializable_reads_meet_writes() -> None:
    read, write = step("SELECT 1 FROM counters"), step("UPDATE counters SET n = 1")

    assert swappable(read, write)
    assert not swappable(read, write, isolation="SERIALIZABLE")


@pytest.mark.parametrize(
    ("begin", "session", "swapped"),
    [
        ("BEGIN", "", True),
        ("BEGIN", "serializable", False),
        ("BEGIN ISOLATION LEVEL READ COMMITTED", "serializable", True),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "read committed", False),
    ],
)
def test_a_transaction_that_names_no_level_has_that_of_its_session(begin: str, session: str, swapped: bool) -> None:
    footprints = Footprints(SCHEMA)
    for client in (0, 1):
        opening = replace(step(begin), isolation=session)
        footprints.did(client, opening, footprints.of(client, opening))
    read = replace(step("SELECT 1 FROM counters"), isolation=session)
    write = replace(step("UPDATE counters SET n = 1"), isolation=session)

    assert independent(footprints.of(0, read), footprints.of(1, write)) is swapped


def test_a_commit_stands_for_all_that_its_transaction_touched() -> None:
    footprints = Footprints(SCHEMA)
    for text in ("BEGIN", "UPDATE counters SET n = 1"):
        footprints.did(0, step(text), footprints.of(0, step(text)))

    commit = footprints.of(0, step("COMMIT"))

    assert not independent(commit, footprints.of(1, step("SELECT n FROM counters")))
    assert independent(commit, footprints.of(1, step("SELECT n FROM documents")))


def together(*texts: str, parameters: tuple[Any, ...] = (), status: Status = Status.IDLE) -> Step:
    """Return statements that came in one round trip, as the wire shows them."""
    kinds = {facts_of(text.encode()).kind for text in texts}
    text = "; ".join(texts)
    kind = joined_kind(kinds)
    return Step(
        connection=1,
        index=0,
        text=text,
        fingerprint=text,
        parameters=parameters,
        kind=kind,
        status=status,
        statements=len(texts),
    )


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_a_begin_in_the_round_trip_of_its_first_statement_is_as_good_as_one_before_it(isolation: str) -> None:
    begin, first, second = f"BEGIN ISOLATION LEVEL {isolation}", "UPDATE counters SET n = $1", "SELECT n FROM documents"
    one, other = Footprints(SCHEMA), Footprints(SCHEMA)
    for n, text in enumerate((begin, first)):
        apart = step(text, *(7,) * n, status=Status.IN_TRANSACTION if n else Status.IDLE)
        one.did(0, apart, one.of(0, apart))
    merged = together(begin, first, parameters=(7,))
    other.did(0, merged, other.of(0, merged))

    assert one.undone(0) == other.undone(0)
    for after in (step(second), step("COMMIT")):
        assert one.of(0, after) == other.of(0, after)


def test_a_setting_in_the_round_trip_of_the_begin_takes_no_snapshot() -> None:
    footprints = Footprints(SCHEMA)
    merged = together("BEGIN ISOLATION LEVEL REPEATABLE READ", "SET LOCAL lock_timeout = 5")
    footprints.did(0, merged, footprints.of(0, merged))

    assert not independent(
        footprints.of(0, step("SELECT 1 FROM a")), footprints.of(1, step("INSERT INTO log VALUES (1)", status=Status.IDLE))
    )


@pytest.mark.parametrize(
    "texts",
    [
        ("BEGIN", "UPDATE counters SET n = 1", "COMMIT"),
        ("BEGIN", "COMMIT"),
        ("UPDATE counters SET n = 1", "COMMIT"),
        ("UPDATE counters SET n = 1", "SELECT 1 FROM a"),
    ],
)
def test_what_else_comes_in_one_round_trip_meets_everything_and_so_does_the_end_of_its_transaction(
    texts: tuple[str, ...],
) -> None:
    footprints = Footprints(SCHEMA)
    several = together(*texts, status=Status.IDLE if texts[0] == "BEGIN" else Status.IN_TRANSACTION)
    elsewhere = footprints.of(1, step("SELECT n FROM terms"))
    touched = footprints.of(0, several)
    footprints.did(0, several, touched)

    assert not independent(touched, elsewhere)
    assert not independent(footprints.of(0, step("COMMIT")), elsewhere)


def test_what_was_undone_is_forgotten() -> None:
    footprints = Footprints(SCHEMA)
    for text in ("BEGIN", "UPDATE counters SET n = 1"):
        footprints.did(0, step(text), footprints.of(0, step(text)))

    footprints.forget(0, "")

    assert independent(footprints.of(0, step("COMMIT")), footprints.of(1, step("SELECT n FROM counters")))


TERM = "UPDATE terms SET balance = balance - $3 WHERE account = $1 AND position = $2"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (step(TERM, "a0", 1, 100), step(TERM, "a0", 2, 100), True),
        (step(TERM, "a0", 1, 100), step(TERM, "a0", 1, 200), False),
        (step(TERM, "a0", 1, 100), step(TERM, "A0 ", "1.0", 200), False),
        (step(TERM, "a0", b"\x01", 100), step(TERM, "a0", 2, 100), False),
        (step(TERM, "a0", 1, 100), step("UPDATE terms SET balance = 0"), False),
        (step(TERM, "a0", 1, 100), step("UPDATE terms SET balance = 0 WHERE account = 'a1'"), False),
        (step(TERM, "a0", 1, 100), step("UPDATE terms SET balance = 0 WHERE account = 'a1' AND position = 2"), True),
        (step(TERM, "a0", 1, 100), step("UPDATE terms SET balance = 0 WHERE account = 'a1' OR position = 2"), False),
        (step(TERM, "a0", 1, 100), step("SELECT 1 FROM terms WHERE account = 'a0' AND position = 2 FOR UPDATE"), True),
        (step(TERM, "a0", 1, 100), step("SELECT 1 FROM terms WHERE account = 'a0' AND position = 1 FOR UPDATE"), False),
        (step(TERM, "a0", 1, 100), step("INSERT INTO terms (account, position) VALUES ('a9', 9)"), False),
        (step("UPDATE documents SET amount = 1 WHERE id = 1"), step("UPDATE documents SET amount = 1 WHERE id = 2"), True),
        (step("UPDATE documents SET number = 1 WHERE id = 1"), step("UPDATE documents SET number = 1 WHERE id = 2"), False),
        (step("UPDATE expressed SET name = 'a' WHERE id = 1"), step("UPDATE expressed SET name = 'A' WHERE id = 2"), False),
    ],
)
def test_rows_are_told_apart_where_they_are_named_by_their_whole_key(one: Step, other: Step, expected: bool) -> None:
    assert swappable(one, other) is expected
    assert swappable(other, one) is expected


def test_the_first_statement_of_a_repeatable_read_takes_the_snapshot_and_the_next_sees_nothing_new() -> None:
    footprints = Footprints(SCHEMA)
    published = footprints.of(1, step(INSERT, "a", 1, "t1", status=Status.IDLE))
    read = step("SELECT count(*) FROM documents")
    met = []
    for one in (step("BEGIN ISOLATION LEVEL REPEATABLE READ"), step("SET LOCAL lock_timeout = 1"), step("SELECT 1"), read):
        met.append(not independent(footprints.of(0, one), published))
        footprints.did(0, one, footprints.of(0, one))

    assert met == [False, False, True, False]
    assert not independent(footprints.of(0, step(INSERT, "a", 1, "t2")), published), "its insert still collides"


def test_a_level_that_is_set_after_the_beginning_counts() -> None:
    footprints = Footprints(SCHEMA)
    for one in (step("BEGIN"), step("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")):
        footprints.did(0, one, footprints.of(0, one))

    assert footprints.of(0, step("SELECT 1 FROM terms")).serializable


def command(name: str, collection: str, /, **body: Any) -> Step:
    return replace(step(name, status=Status.IDLE), body={name: collection, **body})


def changed(collection: str, query: dict[str, Any]) -> Step:
    return command("findAndModify", collection, query=query, update={"$inc": {"n": 1}})


IN_TRANSACTION = {"autocommit": False}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (changed("terms", {"_id": "a0/1"}), changed("terms", {"_id": "a0/2"}), True),
        (changed("terms", {"_id": "a0/1"}), changed("terms", {"_id": "a0/1", "n": 3}), False),
        (changed("terms", {"_id": {"$ne": "a0/1"}}), changed("terms", {"_id": "a0/2"}), False),
        (changed("terms", {"_id": "a0/1"}), changed("terms", {}), False),
        (changed("terms", {"_id": "a0/1"}), command("insert", "terms", documents=[{"_id": "a0/3"}]), False),
        (changed("expressed", {"_id": 1}), changed("expressed", {"_id": 2}), False),
        (command("find", "terms", filter={"_id": "a0/1"}), changed("terms", {"_id": "a0/2"}), True),
        (command("find", "terms", filter={"_id": "a0/1"}), changed("terms", {"_id": "a0/1"}), False),
        (command("find", "terms", filter={}, startTransaction=True, **IN_TRANSACTION), changed("other", {"_id": 1}), False),
        (command("find", "terms", filter={}, **IN_TRANSACTION), changed("terms", {"_id": 1}), True),
    ],
)
def test_documents_are_told_apart_by_their_ids(one: Step, other: Step, expected: bool) -> None:
    footprints = Footprints(SCHEMA)

    assert independent(footprints.of(0, one), footprints.of(1, other)) is expected


LOOKUP = {"$lookup": {"from": "counters", "localField": "a", "foreignField": "b", "as": "c"}}


@pytest.mark.parametrize(
    ("pipeline", "meets"),
    [
        ([{"$match": {"a": 1}}], False),
        ([LOOKUP], True),
        ([{"$facet": {"both": [LOOKUP]}}], True),
        ([{"$lookup": {"from": "terms", "pipeline": [{"$unionWith": "counters"}], "as": "c"}}], True),
        ([{"$unionWith": {"coll": "counters"}}], True),
        ([{"$unionWith": {"coll": "secret"}}], True),
        ([{"$graphLookup": {"from": "counters", "startWith": 1}}], True),
        ([{"$merge": "anything"}], True),
        ([{"$out": {"db": "x", "coll": "y"}}], True),
        ([{"$lookup": {"from": "terms", "as": "c"}}], False),
    ],
)
def test_an_aggregation_reads_what_it_looks_up_and_may_write(pipeline: list[Any], meets: bool) -> None:
    footprints = Footprints(SCHEMA)
    aggregation = command("aggregate", "documents", pipeline=pipeline)

    assert independent(footprints.of(0, aggregation), footprints.of(1, changed("counters", {"_id": 1}))) is not meets


def test_a_write_of_mongo_that_may_abort_lets_go_of_what_was_written_before() -> None:
    footprints = Footprints(SCHEMA)
    first = replace(changed("terms", {"_id": 1}), body={**changed("terms", {"_id": 1}).body, **IN_TRANSACTION})
    footprints.did(0, first, footprints.of(0, first))
    then = command("insert", "other", documents=[{"_id": 1}], **IN_TRANSACTION)

    assert not independent(footprints.of(0, then), footprints.of(1, changed("terms", {"_id": 1})))
    assert independent(footprints.of(0, then), footprints.of(1, changed("terms", {"_id": 2})))


def test_what_another_session_does_does_not_end_a_transaction_of_mongo() -> None:
    footprints = Footprints(SCHEMA)
    within = replace(command("insert", "terms", documents=[{"a": 1}], **IN_TRANSACTION), session="one")
    without = replace(command("insert", "other", documents=[{"a": 1}]), session="two")
    for said in (within, without):
        footprints.did(0, said, footprints.of(0, said))
    commit = replace(command("commitTransaction", "admin", **IN_TRANSACTION), session="one")

    assert not independent(footprints.of(0, commit), footprints.of(1, command("find", "terms", filter={})))


def test_a_session_of_mongo_that_reads_one_past_may_meet_anything() -> None:
    footprints = Footprints(SCHEMA)
    read = command("find", "terms", filter={"_id": 1}, readConcern={"level": "snapshot"})

    assert not independent(footprints.of(0, read), footprints.of(1, changed("other", {"_id": 1})))


def test_a_view_of_mongo_may_be_anything() -> None:
    footprints = Footprints(SCHEMA)
    assert not independent(footprints.of(0, command("find", "secret", filter={})), footprints.of(1, changed("terms", {"_id": 1})))


@pytest.mark.parametrize(
    ("change", "swappable_with_another_row"),
    [("balance = 0", True), ("position = 3", False), ("(balance, position) = (0, 3)", False)],
)
def test_a_row_is_told_apart_only_where_its_key_stays(change: str, swappable_with_another_row: bool) -> None:
    first = step(f"UPDATE terms SET {change} WHERE account = $1 AND position = $2", "a", 1)
    other = step("UPDATE terms SET balance = 0 WHERE account = $1 AND position = $2", "a", 3)

    assert swappable(first, other) is swappable_with_another_row


def test_a_statement_is_read_anew_for_every_schema() -> None:
    """Also where a schema of an earlier exploration is gone and another one stands in its place in memory."""
    keyed = []
    for n in range(50):
        unique = (("by_number", ("scope",)),) if n % 2 else ()
        keyed.append(bool(Footprints(Schema(unique={"documents": unique})).of(0, step(INSERT, "a", 1, "t")).keys))

    assert keyed == [bool(n % 2) for n in range(50)]
