"""What a step touches: read from its statement, its parameters and the schema."""

from __future__ import annotations

from typing import Any

import pytest

from harness.engines.explore.footprints import Footprints, Schema, independent
from harness.wire.base import Status, Step, StepKind

SCHEMA = Schema(
    unique={"documents": (("by_number", ("scope", "number")), ("by_token", ("token",))), "expressed": (("by_lower", ()),)},
    defaults=frozenset({("documents", "number")}),
    triggered=frozenset({"watched"}),
    parents={"payments": frozenset({"accounts"})},
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
    ],
)
def test_which_statements_may_be_swapped(one: Step, other: Step, expected: bool) -> None:
    assert swappable(one, other) is swappable(other, one) is expected


def test_under_serializable_reads_meet_writes() -> None:
    read, write = step("SELECT 1 FROM counters"), step("UPDATE counters SET n = 1")

    assert swappable(read, write)
    assert not swappable(read, write, isolation="SERIALIZABLE")


def test_a_commit_stands_for_all_that_its_transaction_touched() -> None:
    footprints = Footprints(SCHEMA)
    for text in ("BEGIN", "UPDATE counters SET n = 1"):
        footprints.did(0, step(text), footprints.of(0, step(text)))

    commit = footprints.of(0, step("COMMIT"))

    assert not independent(commit, footprints.of(1, step("SELECT n FROM counters")))
    assert independent(commit, footprints.of(1, step("SELECT n FROM documents")))


def test_what_was_undone_is_forgotten() -> None:
    footprints = Footprints(SCHEMA)
    for text in ("BEGIN", "UPDATE counters SET n = 1"):
        footprints.did(0, step(text), footprints.of(0, step(text)))

    footprints.forget(0)

    assert independent(footprints.of(0, step("COMMIT")), footprints.of(1, step("SELECT n FROM counters")))
