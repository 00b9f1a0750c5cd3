"""Whoever asks MongoDB again is told what was said first, and what is in the way is a reason only while it is there."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pymongo
import pymongo.errors
import pytest

from harness.model import Operation, Outcome
from harness.stores import Database
from tests.reference_impl.stepping import Actor, Play, play

PAYMENTS, ORDERS, SALES = "mongo.approve_in_transaction", "mongo.number_from_order", "mongo.take_from_stock"
RESOLUTIONS = "mongo.resolution_document"

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


# What is in the way


@dataclass(frozen=True, kw_only=True)
class Way:
    """An operation that runs into what another client did, which may be taken back before anybody looks at it."""

    variant: str
    settings: dict[str, Any] = field(default_factory=dict)
    before: list[Step] = field(default_factory=list)
    asked: Step
    until: str | None = None
    """Where the operation waits for the other one; without it the other one is done before."""
    other: Step
    arrange: Callable[[Any], object] = lambda database: None
    """What puts aside whatever would notice before the unique index does."""
    take_back: Callable[[Any], object]
    code: str
    attempts: int = 2


ACCOUNT = LIVES[PAYMENTS][:1]


def forget_account(database: Any) -> None:
    database.accounts.delete_one({"_id": "a"})
    database.terms.delete_many({"account": "a"})


def forget_p1(database: Any) -> None:
    database.payments.delete_one({"_id": "p1"})
    database.terms.update_one({"_id": "a/2"}, {"$set": {"pending": 0}})


WAYS = {
    "account": Way(
        variant=PAYMENTS,
        asked=("open_account", {"subject": "a", "assessment": 500}),
        other=ACCOUNT[0],
        take_back=forget_account,
        code="account_exists",
    ),
    "payment": Way(
        variant=PAYMENTS,
        before=ACCOUNT,
        asked=("submit", {"subject": "p1", "term": "a/1", "amount": 300}),
        until="reserved",  # so that it has a write conflict first, and the duplicate key when it is run again
        other=("submit", {"subject": "p1", "term": "a/2", "amount": 300}),
        take_back=forget_p1,
        code="payment_exists",
        attempts=3,
    ),
    "pending": Way(
        variant=PAYMENTS,
        settings={"unique_index": True},
        before=ACCOUNT,
        asked=("submit", {"subject": "p2", "term": "a/1", "amount": 300}),
        other=("submit", {"subject": "p1", "term": "a/1", "amount": 300}),
        arrange=lambda database: database.terms.update_one({"_id": "a/1"}, {"$set": {"pending": 0}}),
        take_back=lambda database: database.payments.update_one({"_id": "p1"}, {"$set": {"status": "rejected"}}),
        code="already_awaiting_approval",
    ),
    "resolution": Way(
        variant=RESOLUTIONS,
        settings={"unique_index": True},
        before=[*ACCOUNT, ("submit", {"subject": "p1", "term": "a/1", "amount": 300})],
        asked=("approve", {"subject": "p1"}),
        until="status_read",
        other=("cancel", {"subject": "p1"}),
        arrange=lambda database: database.terms.update_one({"_id": "a/1"}, {"$set": {"pending": 300}}),
        take_back=lambda database: (
            database.resolutions.delete_one({"payment": "p1"}),
            database.payments.update_one({"_id": "p1"}, {"$set": {"status": "awaiting_approval"}}),
        ),
        code="not_awaiting_approval",
    ),
    "order": Way(
        variant=ORDERS,
        asked=("open_order", {"subject": "o", "total": 500}),
        other=("open_order", {"subject": "o", "total": 1000}),
        take_back=lambda database: database.orders.delete_one({"_id": "o"}),
        code="order_exists",
    ),
    "item": Way(
        variant=SALES,
        asked=("stock_item", {"subject": "i", "quantity": 7, "price": 100}),
        other=("stock_item", {"subject": "i", "quantity": 5, "price": 8_000}),
        take_back=lambda database: database["items"].delete_one({"_id": "i"}),
        code="item_exists",
    ),
}


def run_into(stage: Play, way: Way, a: Actor, patch: pytest.MonkeyPatch, *, taken_back: bool) -> Operation:
    """Let the client run into what is in the way; it may be gone between the index that says no and the look at it."""
    b = stage.actor()
    carry_out(b, way.before)
    really = a.connection.meaning_of
    with pymongo.MongoClient[Any](stage.database.url) as client:
        database = client.get_default_database()

        def meaning_of(*asked: Any) -> Any:
            if taken_back:
                way.take_back(database)
            return really(*asked)

        patch.setattr(a.connection, "meaning_of", meaning_of)
        f, arguments = way.asked
        if way.until:
            a.begins(f, "k", until=way.until, **arguments)
        other, others = way.other
        done(b.does(other, "other", **others))
        way.arrange(database)
        return a.ends() if way.until else a.does(f, "k", **arguments)


@pytest.mark.parametrize("name", WAYS)
def test_what_was_in_the_way_and_is_gone_is_no_reason(
    mongo_database: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    way = WAYS[name]
    with play(way.variant, mongo_database, **way.settings) as stage:
        answer = done(run_into(stage, way, stage.actor(), monkeypatch, taken_back=True))
        assert (answer["subject"], answer["attempts"]) == (way.asked[1]["subject"], way.attempts)
        assert "replayed" not in answer
        assert "k" in stage.books().table("audit")["token"].to_list()


@pytest.mark.parametrize("name", WAYS)
def test_what_is_in_the_way_and_stays_is_told(mongo_database: Database, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    way = WAYS[name]
    with play(way.variant, mongo_database, **way.settings) as stage:
        failure = run_into(stage, way, stage.actor(), monkeypatch, taken_back=False).failure
        assert failure is not None
        assert (failure.code, failure.refusal) == (way.code, True)
        assert "k" not in stage.books().table("audit")["token"].to_list()


KEY = Way(
    variant=PAYMENTS,
    before=ACCOUNT,
    asked=("open_account", {"subject": "b", "assessment": 500}),
    other=("submit", {"subject": "p1", "term": "a/1", "amount": 300}),
    arrange=lambda database: database.audit.update_one({"token": "other"}, {"$set": {"token": "k", "key": "k"}}),
    take_back=lambda database: database.audit.delete_one({"key": "k"}),
    code="key_reused",
)


@pytest.mark.parametrize("gone", [True, False])
def test_a_key_that_another_operation_held_is_free_when_that_is_gone(
    mongo_database: Database, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    with play(KEY.variant, mongo_database) as stage:
        a = stage.actor()
        really, looks = a.connection.claim, itertools.count()

        def claim(*asked: Any) -> None:  # sees nothing at first, so that the index has to say it
            if next(looks) > 0:
                really(*asked)

        monkeypatch.setattr(a.connection, "claim", claim)
        operation = run_into(stage, KEY, a, monkeypatch, taken_back=gone)
        if gone:
            assert done(operation)["attempts"] == KEY.attempts
        else:
            assert operation.failure is not None
            assert (operation.failure.code, operation.failure.refusal) == (KEY.code, True)


def test_the_tries_are_counted_when_the_index_says_that_it_was_done_before(mongo_database: Database) -> None:
    with play(PAYMENTS, mongo_database, transaction=False) as stage:
        opening, a, b = stage.actor(), stage.actor(), stage.actor()
        carry_out(opening, LIVES[PAYMENTS][:3])
        refund: dict[str, Any] = {"subject": "p1", "amount": 100}
        a.begins("refund", "k", until="before_audit", **refund)
        first = done(b.does("refund", "k", **refund))
        assert done(a.ends()) == {**first, "replayed": True, "attempts": 2}


def test_who_has_no_patience_is_told_of_the_index_and_of_the_tries(
    mongo_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with play(PAYMENTS, mongo_database) as stage:
        a, raised = stage.actor(), []
        really = a.connection.call

        def call(*asked: Any) -> Any:
            try:
                return really(*asked)
            except pymongo.errors.DuplicateKeyError as e:
                raised.append(e.attempts)  # type: ignore[attr-defined]
                raise

        monkeypatch.setattr(a.connection, "call", call)
        a.connection.session.patience = -1.0
        failure = run_into(stage, WAYS["account"], a, monkeypatch, taken_back=True).failure
        assert failure is not None
        assert (failure.code, raised) == ("mongo:11000", [1])
