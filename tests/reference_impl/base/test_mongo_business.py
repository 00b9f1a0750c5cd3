"""Whoever asks MongoDB again is told what was said first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.model import Operation, Outcome
from harness.stores import Database
from tests.reference_impl.stepping import Actor, play

PAYMENTS, ORDERS, SALES = "mongo.approve_in_transaction", "mongo.number_from_order", "mongo.take_from_stock"

Step = tuple[str, dict[str, Any]]

ASSESSMENT = 10**13
"""More than 32 bits hold."""

LIVES: dict[str, list[Step]] = {
    PAYMENTS: [
        ("open_account", {"subject": "a", "assessment": ASSESSMENT}),
        ("submit", {"subject": "p1", "term": "a/1", "amount": 300}),
        ("approve", {"subject": "p1"}),
        ("refund", {"subject": "p1", "amount": 100}),
        ("submit", {"subject": "p2", "term": "a/2", "amount": 300}),
        ("reject", {"subject": "p2", "reason": "unreadable"}),
        ("submit", {"subject": "p3", "term": "a/3", "amount": 300}),
        ("cancel", {"subject": "p3"}),
        ("submit", {"subject": "p4", "term": "a/4", "amount": 300}),
        ("webhook", {"subject": "p4", "event": "e"}),
    ],
    ORDERS: [
        ("open_order", {"subject": "o", "total": 1000, "advance": 10}),
        ("pay_installment", {"subject": "o", "amount": 100}),
        ("pay_installment", {"subject": "o", "amount": 200}),
    ],
    SALES: [
        ("stock_item", {"subject": "i", "quantity": 5, "price": 8_000}),
        ("sell", {"branch": "Bambang", "item": "i", "quantity": 2, "price": 8_000, "at": "2025-11-22T10:00:00+00:00"}),
    ],
}
"""Every operation that changes something, in an order in which each succeeds."""

LOOKS = {"account", "history", "deliver"}
"""Operations that are answered anew each time."""


def done(operation: Operation) -> dict[str, Any]:
    assert operation.outcome is Outcome.OK, operation.failure
    return dict(operation.result or {})


def carry_out(actor: Actor, steps: list[Step]) -> list[dict[str, Any]]:
    return [done(actor.does(f, f"{f} {n}", **arguments)) for n, (f, arguments) in enumerate(steps)]


@pytest.mark.parametrize("variant", LIVES)
def test_every_operation_that_changes_something_is_sent_again_below(mongo_database: Database, variant: str) -> None:
    with play(variant, mongo_database) as stage:
        assert {f for f, _ in LIVES[variant]} == set(stage.target.operations) - LOOKS


@pytest.mark.parametrize(
    ("variant", "n"),
    [
        pytest.param(variant, n, id=f"{variant.removeprefix('mongo.')}-{f}")
        for variant, steps in LIVES.items()
        for n, (f, _) in enumerate(steps)
    ],
)
def test_what_is_sent_again_is_answered_as_it_was_first(mongo_database: Database, variant: str, n: int) -> None:
    with play(variant, mongo_database) as stage:
        first = carry_out(stage.actor(), LIVES[variant][: n + 1])[n]
        f, arguments = LIVES[variant][n]
        again = done(stage.actor().does(f, f"{f} {n}", **arguments))
        assert again == {**first, "replayed": True}
        assert json.dumps(again, sort_keys=True) == json.dumps({**first, "replayed": True}, sort_keys=True)
