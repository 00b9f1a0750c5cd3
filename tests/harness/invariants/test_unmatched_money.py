"""Rows of payments, refunds, installments and the audit log that no request made, or that cannot be matched with one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.config.policy import load_policy
from harness.invariants.judge import Judgement, judge
from harness.invariants.numbering.columns import FEWEST
from harness.model import Books, History, Operation, Outcome

MANY = range(FEWEST)


def done(f: str, token: str, at: int = 1, **arguments: Any) -> Operation:
    return Operation(
        process=at, client=at, f=f, token=token, arguments=arguments, invoked=at, completed=at + 9, outcome=Outcome.OK, result={}
    )


def judged(rule: str, operations: list[Operation], books: Books) -> Judgement:
    return judge(History.of(operations), books, load_policy("unique"), [rule])


def said(rule: str, operations: list[Operation], books: Books) -> list[str]:
    """Return what a rule itself says."""
    return [f.message for f in judged(rule, operations, books).findings if f.invariant == rule]


@pytest.mark.parametrize(
    ("rule", "f", "table"),
    [
        ("P-ONCE", "submit", "payments"),
        ("P-ONCE", "refund", "refunds"),
        ("O-CONS", "pay_installment", "installments"),
        ("A-MATCH", "approve", "audit"),
    ],
)
def test_rows_with_tokens_of_their_own_accuse_nobody_and_prove_nothing(rule: str, f: str, table: str) -> None:
    asked = [done(f, f"t{n}", n, subject="x", amount=1) for n in MANY]
    own = judged(rule, asked, Books.of(**{table: [{"id": f"{n}", "token": f"own-{n}"} for n in MANY]}))
    assert own.verdict.value == "unknown"
    assert not [finding for finding in own.findings if finding.invariant == rule]
    theirs = [{"id": f"{n}", "token": f"t{n}"} for n in MANY[:-1]]
    lost = judged(rule, asked, Books.of(**{table: [*theirs, {"id": "own", "token": "own"}]}))
    assert lost.verdict.value == "fail"


@pytest.mark.parametrize(("table", "f"), [("payments", "submit"), ("refunds", "refund")])
def test_only_rows_that_the_race_added_tell_whether_an_acknowledged_row_is_lost(table: str, f: str) -> None:
    rows = [{"id": "1", "token": "old"}, {"id": "2"}]
    asked = [done(f, "a", subject="p")]
    books = Books.of(**{table: rows})
    assert said("P-ONCE", asked, replace(books, earlier={table: frozenset({"1"})})) == []
    (lost,) = said("P-ONCE", asked, replace(books, earlier={table: frozenset({"1", "2"})}))
    assert "acknowledged to client 1" in lost


def test_a_token_of_no_characters_is_no_intent() -> None:
    rows = [{"id": "1", "token": ""}, {"id": "2", "token": ""}, {"id": "3", "token": "a"}]
    books = Books.of(refunds=rows, documents=rows, audit=[{**row, "action": "refund"} for row in rows])
    for rule in ("P-ONCE", "A-MATCH"):
        assert said(rule, [done("refund", "a")], books) == []


def test_without_a_history_the_audit_log_is_compared_with_itself() -> None:
    twice = [{"id": "1", "token": "a", "action": "refund", "subject": "p"}, {"id": "2", "token": "a", "action": "refund"}]
    assert len(said("A-MATCH", [], Books.of(audit=twice))) == 1
    assert said("A-MATCH", [done("refund", "b")], Books.of(audit=[*twice, {"id": "3", "token": "b", "action": "refund"}])) == []


PAID = [{"id": "old", "status": "paid"}, {"id": "new", "status": "paid", "token": "s"}]
TOLD = [{"id": "1", "action": "submit", "token": "s", "subject": "new"}, {"id": "2", "action": "approve", "subject": "else"}]


def test_what_was_paid_before_the_race_may_be_older_than_the_audit_log() -> None:
    asked = [done("submit", "s", subject="new")]
    books = Books.of(payments=PAID, audit=TOLD)
    known = replace(books, earlier={"payments": frozenset({"old"})})
    assert said("A-MATCH", asked, known) == ["payment new is paid and no audit row tells who approved it"]
    told = [*TOLD, {"id": "3", "action": "approve", "subject": "new"}]
    assert said("A-MATCH", asked, replace(known, tables=Books.of(payments=PAID, audit=told).tables)) == []


def test_what_was_stored_before_the_race_may_be_older_than_the_audit_log() -> None:
    refunds = [{"id": "old", "token": "long ago"}, {"id": "new", "token": "lately"}]
    books = Books.of(refunds=refunds, audit=[{"id": "1", "token": "z", "action": "submit"}])
    known = replace(books, earlier={"refunds": frozenset({"old"})})
    assert said("A-MATCH", [], known) == ["refund new of the intent lately is stored and no audit row tells of it"]
    assert said("A-MATCH", [], replace(known, earlier={"refunds": frozenset({"old", "new"})})) == []


@pytest.mark.parametrize("rule", ["P-ONCE", "A-MATCH"])
def test_an_approval_that_found_the_payment_paid_is_no_second_one(rule: str) -> None:
    by_hand, webhook = done("approve", "a", 1, subject="new"), done("webhook", "w", 2, subject="new")
    told = [*TOLD, {"id": "3", "action": "approve", "token": "a", "subject": "new"}]
    books = Books.of(payments=PAID[1:], audit=told)
    assert len(said(rule, [by_hand, webhook], books)) == 1
    assert len(said(rule, [by_hand, replace(webhook, result={"replayed": False})], books)) == 1
    assert said(rule, [by_hand, replace(webhook, result={"replayed": True})], books) == []
