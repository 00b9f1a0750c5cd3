"""Bad input to every operation is refused with a typed error and changes nothing."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from harness.model import Outcome
from harness.stores import Database
from harness.targets.classify import classify_error
from reference_impl.base.arguments import MAX_MONEY, pesos
from reference_impl.base.libpq import NAME, Wire
from reference_impl.base.refusal import Refused
from reference_impl.payments import rules
from reference_impl.payments.requests import OPERATIONS, understand
from tests.reference_impl.stepping import play

GOOD: dict[str, dict[str, Any]] = {
    "open_account": {"subject": "b", "assessment": 1_554_000},
    "submit": {"subject": "p2", "term": "a/2", "amount": 100},
    "approve": {"subject": "p1"},
    "reject": {"subject": "p1"},
    "cancel": {"subject": "p1"},
    "refund": {"subject": "p0", "amount": 100},
    "webhook": {"subject": "p1", "event": "e1"},
    "account": {"subject": "a"},
    "history": {"subject": "a"},
    "deliver": {"most": 10},
}

AMOUNTS = [-1, 0, 0.5, 100.0, MAX_MONEY + 1, 10**30, "100", "1e3", True, None, [100], {"PHP": 100}, float("nan")]
TEXTS = [None, "", 7, 7.5, True, ["p1"], {}, "x" * 300, "a\nb", "a\x00b"]


def bad() -> list[tuple[str, dict[str, Any]]]:
    """Return operations with one thing wrong each."""
    wrong: list[tuple[str, dict[str, Any]]] = []
    for f, good in GOOD.items():
        for name in good:
            values = AMOUNTS if name in ("amount", "assessment") else TEXTS
            if name == "most":
                values = [-1, 0, 1.5, "10", True, 10**9]
            wrong += [(f, {**good, name: value}) for value in values]
        wrong += [
            (f, {**good, "amuont": 100}),
            (f, {**good, "currency": "USD"}),
            (f, {**good, "currency": None}),
            (f, {**good, "at": "yesterday"}),
            (f, {**good, "at": "2026-11-20T10:00:00"}),
            (f, {**good, "at": 5}),
            (f, {**good, "company": 5}),
        ]
    wrong += [
        ("submit", {**GOOD["submit"], "term": "a/6"}),
        ("submit", {**GOOD["submit"], "term": "a/2", "account": "b"}),
        ("pay", {"subject": "p1"}),
        ("__init__", {"subject": "p1"}),
        ("session", {}),
    ]
    for f in ("approve", "reject", "cancel", "refund", "webhook", "account", "history"):
        wrong.append((f, {**GOOD[f], "subject": "nobody"}))
    for f in ("submit", "approve", "reject", "cancel", "refund", "webhook", "account"):
        wrong.append((f, {**GOOD[f], "company": "another"}))
    return wrong


@pytest.mark.parametrize("variant", ["pg.approve_in_one_transaction", "pg.lock_the_term"])
def test_every_bad_request_is_refused_and_changes_nothing(postgres_database: Database, variant: str) -> None:
    with play(variant, postgres_database) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_554_000)
        for payment, term in (("p0", "a/5"), ("p1", "a/1")):
            a.does("submit", payment, subject=payment, term=term, amount=30_000)
        a.does("approve", "p0 paid", subject="p0")
        before = {name: frame.rows() for name, frame in stage.books().tables.items()}
        for n, (f, arguments) in enumerate(bad()):
            with pytest.raises(Refused) as refused:
                a.connection.call(f, arguments, f"bad-{n}", lambda point: None)
            outcome, failure = classify_error(refused.value)
            assert (outcome, failure is not None and failure.refusal) == (Outcome.FAIL, True), (f, arguments)
            assert len(str(refused.value)) < 400
        assert {name: frame.rows() for name, frame in stage.books().tables.items()} == before
        assert all(a.does(f, f"good-{f}", **GOOD[f]).outcome is Outcome.OK for f in ("submit", "approve", "refund"))


def test_the_good_requests_are_all_understood() -> None:
    assert set(GOOD) == set(OPERATIONS)
    for f, arguments in GOOD.items():
        assert understand(f, arguments, "t").f == f


@pytest.mark.parametrize("token", ["", "x" * 201])
def test_a_token_must_have_a_sensible_length(token: str) -> None:
    with pytest.raises(Refused, match="The token must have 1 to 200 characters"):
        understand("approve", {"subject": "p1"}, token)


def test_the_documents_assessment_is_split_to_the_last_centavo() -> None:
    parts = rules.split(1_554_000, [share for _, share in rules.TERMS])
    assert parts == [655_011, 277_545, 277_544, 231_235, 112_665]
    assert sum(parts) == 1_554_000


@pytest.mark.parametrize("whole", [1, 4, 99, 100, 9_999, 1_000_003, MAX_MONEY])
def test_a_split_always_makes_the_whole(whole: int) -> None:
    parts = rules.split(whole, [share for _, share in rules.TERMS])
    assert sum(parts) == whole
    assert all(abs(part - whole * share / 10_000) < 1 for part, (_, share) in zip(parts, rules.TERMS, strict=True))


def test_refusals_speak_the_words_that_students_know_with_both_figures() -> None:
    assert str(rules.already_awaiting()) == (
        "A payment for this term is already awaiting accounting approval. "
        "Please wait for approval to complete before submitting another payment."
    )
    assert str(rules.exceeds_available(available=187_555, pending=123_456)) == (
        "Payment amount exceeds available balance. Available: ₱1,875.55, Pending approval: ₱1,234.56."
    )
    assert pesos(-5) == "-₱0.05"


def test_the_account_shows_what_may_be_chosen(postgres_database: Database) -> None:
    with play("pg.approve_in_one_transaction", postgres_database) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_554_000)
        a.does("submit", "s1", subject="p1", term="a/1", amount=100_000)
        a.does("submit", "s2", subject="p2", term="a/5", amount=112_665)
        a.does("approve", "a2", subject="p2")
        shown = a.does("account", "show", subject="a").result
        assert shown is not None
        assert (shown["balance"], shown["pending"], shown["available"]) == (1_441_335, 100_000, 1_341_335)
        assert [t["selectable"] for t in shown["terms"]] == [False, True, True, True, False]
        assert [t["available"] for t in shown["terms"]] == [555_011, 277_545, 277_544, 231_235, 0]


def test_a_refusal_names_what_awaits_approval_on_the_account(postgres_database: Database) -> None:
    with play("pg.approve_in_one_transaction", postgres_database) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_554_000)
        a.does("submit", "s1", subject="p1", term="a/1", amount=123_456)
        refused = a.does("submit", "s2", subject="p2", term="a/2", amount=300_000).failure
        assert refused is not None
        assert refused.code == "exceeds_available_balance"
        assert refused.message.endswith("Available: ₱2,775.45, Pending approval: ₱1,234.56.")


def test_an_approval_of_more_than_the_term_owes_is_told_what_it_owes(postgres_database: Database) -> None:
    with play("pg.approve_in_one_transaction", postgres_database) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_554_000)
        a.does("submit", "s1", subject="p1", term="a/1", amount=30_000)
        with psycopg.connect(postgres_database.url) as connection:  # nobody but somebody else's program can do that
            connection.execute("UPDATE terms SET balance = 12345 WHERE id = 'a/1'")
        refused = a.does("approve", "a1", subject="p1").failure
        assert refused is not None
        assert refused.message == "Payment amount exceeds available balance. Available: ₱123.45, Pending approval: ₱300.00."


@pytest.mark.parametrize("unique_index", [False, True])
@pytest.mark.parametrize("variant", ["pg.approve_in_one_transaction", "pg.lock_the_term"])
def test_no_statement_has_to_read_a_whole_table(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch, variant: str, unique_index: bool
) -> None:
    asked: dict[str, dict[str, Any]] = {}
    run = Wire.run

    def listening(wire: Wire, sql: str, values: dict[str, Any]) -> Any:
        asked.setdefault(sql, values)
        return run(wire, sql, values)

    monkeypatch.setattr(Wire, "run", listening)
    with play(variant, postgres_database, unique_index=unique_index) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_554_000)
        for payment, amount in (("p1", 30_000), ("p2", 100), ("too large", 10_000_000)):
            a.does("submit", payment, subject=payment, term="a/1", amount=amount)
            a.does("approve", f"approve {payment}", subject=payment)
        for f in ("refund", "webhook", "reject", "account", "history", "deliver"):
            a.does(f, f, **GOOD[f] | ({"subject": "p1"} if f == "refund" else {}))
    with psycopg.connect(postgres_database.url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("SET enable_seqscan = off")
        for sql, values in asked.items():
            plan = connection.execute("EXPLAIN " + NAME.sub(r"%(\1)s", sql), values).fetchall()
            assert not [line for (line,) in plan if "Seq Scan" in line], sql
