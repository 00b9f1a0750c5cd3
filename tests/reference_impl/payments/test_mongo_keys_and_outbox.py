"""Each way to get idempotency keys, audit log and outbox wrong on MongoDB, step by step, and the twin beside it."""

from __future__ import annotations

import pytest

from harness.model import Fault, Outcome
from harness.stores import Database
from tests.reference_impl.stepping import Actor, Play, play

RIGHT = "mongo.approve_in_transaction"
JUDGES = ("P-ONCE", "P-KEYMATCH", "P-CONS", "P-REFUND", "A-MATCH", "A-DELIVER", "L-RETRY")
REFUND = {"subject": "p1", "amount": 100}

both = pytest.mark.parametrize


def paid(stage: Play) -> Actor:
    """Open an account with one paid payment, deliver what waits, and return the client that did."""
    opening = stage.actor()
    opening.does("open_account", "open", subject="a", assessment=1_000_000)
    opening.does("submit", "submit", subject="p1", term="a/1", amount=30_000)
    opening.does("approve", "approve", subject="p1")
    opening.does("deliver", "deliver")
    return opening


def verdict(stage: Play, *but: str) -> set[str]:
    """Return the invariants that have something to say, except some; waiting events are no concern of these tests."""
    return {f.invariant for f in stage.findings(*JUDGES) if f.finding_class != "cost"} - set(but)


@both(("variant", "spoke"), [("mongo.forgotten_with_key", {"P-ONCE", "A-MATCH"}), (RIGHT, set())])
def test_a_refund_repeated_when_its_key_is_forgotten_is_still_made_once(
    mongo_database: Database, variant: str, spoke: set[str]
) -> None:
    with play(variant, mongo_database) as stage:
        a = paid(stage)
        a.does("refund", "k", at="2026-11-20T08:00:00+00:00", **REFUND)
        early = a.does("refund", "k", at="2026-11-21T07:59:00+00:00", **REFUND)
        late = a.does("refund", "k", at="2026-11-21T08:01:00+00:00", **REFUND)
        assert (early.outcome, late.outcome) == (Outcome.OK, Outcome.OK)
        assert early.result is not None
        assert early.result["replayed"], "its window is not over"
        assert verdict(stage) == spoke


@both(("variant", "spoke"), [("mongo.key_taken_over", {"P-ONCE", "A-MATCH"}), (RIGHT, set())])
def test_a_request_that_takes_longer_than_its_lock_is_not_run_twice(
    mongo_database: Database, variant: str, spoke: set[str]
) -> None:
    with play(variant, mongo_database) as stage:
        paid(stage)
        a, b = stage.actor(), stage.actor()
        a.begins("refund", "k", until="refund_counted", at="2026-11-20T08:00:00Z", **REFUND)
        b.begins("refund", "k", at="2026-11-20T08:01:31Z", **REFUND)
        a.ends()
        b.ends()
        assert verdict(stage) == spoke


def test_a_lock_that_has_not_run_out_is_not_taken_over(mongo_database: Database) -> None:
    with play("mongo.key_taken_over", mongo_database) as stage:
        paid(stage)
        a, b = stage.actor(), stage.actor()
        a.begins("refund", "k", until="lock_taken", at="2026-11-20T08:00:00Z", **REFUND)
        early = b.does("refund", "k", at="2026-11-20T08:01:29Z", **REFUND)
        assert early.failure is not None
        assert (early.failure.code, early.failure.refusal) == ("key_in_progress", True)
        a.ends()
        assert verdict(stage) == set()


@both(("variant", "spoke"), [("mongo.key_committed_first", {"P-ONCE", "A-MATCH"}), (RIGHT, set())])
def test_a_crash_between_key_and_effect_does_not_lose_the_effect(mongo_database: Database, variant: str, spoke: set[str]) -> None:
    with play(variant, mongo_database) as stage:
        paid(stage)
        stage.actor().does("refund", "k", Fault(kind="vanish", point="before_commit"), **REFUND)
        assert stage.actor().does("refund", "k", **REFUND).outcome is Outcome.OK
        assert verdict(stage, "L-RETRY") == spoke


@both(
    ("variant", "codes"),
    [("mongo.key_stores_any_failure", ["mongo:112"] * 3), (RIGHT, [None] * 3)],
)
def test_a_failure_that_a_retry_mends_is_not_kept_as_the_answer(
    mongo_database: Database, variant: str, codes: list[str | None]
) -> None:
    with play(variant, mongo_database) as stage:
        paid(stage)
        a, b = stage.actor(), stage.actor()
        a.begins("refund", "A", until="refund_counted", **REFUND)
        b.begins("refund", "B", **REFUND)
        a.ends()
        tries = [b.ends(), b.does("refund", "B", **REFUND), b.does("refund", "B", **REFUND)]
        assert [t.failure.code if t.failure else None for t in tries] == codes
        found = stage.findings("P-ONCE")
        assert [f.finding_class.value for f in found] == (["liveness"] if codes[0] else [])


@both(("variant", "spoke"), [("mongo.audit_afterwards", {"A-MATCH"}), (RIGHT, set())])
def test_a_crash_after_the_commit_leaves_no_change_unlogged(mongo_database: Database, variant: str, spoke: set[str]) -> None:
    with play(variant, mongo_database) as stage:
        a = paid(stage)
        a.does("submit", "s2", subject="p2", term="a/2", amount=100)
        # Where the audit document is part of the transaction there is nothing behind the commit to be cut off from.
        a.does("approve", "a2", Fault(kind="vanish", point="committed"), subject="p2")
        [status] = stage.books().table("payments").filter(id="p2")["status"]
        assert status == "paid"
        assert verdict(stage, "L-RETRY") == spoke


@both(
    ("variant", "spoke"),
    [("mongo.audit_without_session", {"A-MATCH"}), ("mongo.side_effect_first", {"A-MATCH"}), (RIGHT, set())],
)
def test_nothing_is_logged_for_a_change_that_did_not_commit(mongo_database: Database, variant: str, spoke: set[str]) -> None:
    with play(variant, mongo_database) as stage:
        a = paid(stage)
        a.does("submit", "s2", subject="p2", term="a/2", amount=100)
        a.does("approve", "a2", Fault(kind="refuse", point="before_commit"), subject="p2")
        assert verdict(stage) == spoke


@both(("variant", "spoke"), [("mongo.audit_without_session", {"P-ONCE"}), (RIGHT, set())])
def test_a_crash_before_the_commit_leaves_nothing_that_a_retry_is_answered_from(
    mongo_database: Database, variant: str, spoke: set[str]
) -> None:
    with play(variant, mongo_database) as stage:
        a = paid(stage)
        a.does("submit", "s2", subject="p2", term="a/2", amount=100)
        a.does("approve", "a2", Fault(kind="kill", point="before_commit"), subject="p2")
        assert a.does("approve", "a2", subject="p2").outcome is Outcome.OK
        assert verdict(stage, "L-RETRY") == spoke


@both(("variant", "spoke"), [("mongo.side_effect_first", {"P-ONCE", "A-MATCH"}), (RIGHT, set())])
def test_a_crash_after_the_ledger_was_told_does_not_tell_it_twice(
    mongo_database: Database, variant: str, spoke: set[str]
) -> None:
    with play(variant, mongo_database) as stage:
        a = paid(stage)
        a.does("submit", "s2", subject="p2", term="a/2", amount=100)
        stage.actor().does("approve", "a2", Fault(kind="kill", point="before_commit"), subject="p2")
        assert stage.actor().does("approve", "a2", subject="p2").outcome is Outcome.OK
        assert verdict(stage, "L-RETRY") == spoke


@both(("variant", "spoke"), [("mongo.side_effect_first", {"P-ONCE", "A-MATCH"}), (RIGHT, set())])
def test_a_transaction_that_is_run_again_does_not_tell_the_ledger_again(
    mongo_database: Database, variant: str, spoke: set[str]
) -> None:
    with play(variant, mongo_database) as stage:
        opening = paid(stage)
        opening.does("submit", "s2", subject="p2", term="a/1", amount=100)
        a, b = stage.actor(), stage.actor()
        a.begins("refund", "A", until="before_commit", **REFUND)
        b.begins("approve", "B", subject="p2")
        assert b.waits
        a.ends()
        assert b.ends().outcome is Outcome.OK
        assert verdict(stage) == spoke


@both(("variant", "spoke"), [("mongo.consumer_without_dedup", {"P-ONCE"}), (RIGHT, set())])
def test_a_publisher_that_dies_before_it_marks_delivers_once(mongo_database: Database, variant: str, spoke: set[str]) -> None:
    with play(variant, mongo_database) as stage:
        a = paid(stage)
        a.does("refund", "k", **REFUND)
        stage.actor().does("deliver", "d1", Fault(kind="vanish", point="published"))
        done = stage.actor().does("deliver", "d2")
        assert done.result is not None
        assert (done.result["delivered"], done.result["left"]) == (1, 0)
        assert verdict(stage, "L-RETRY") == spoke
