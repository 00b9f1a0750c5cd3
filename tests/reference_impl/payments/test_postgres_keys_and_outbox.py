"""Each way to get idempotency keys, audit log and outbox wrong on PostgreSQL, step by step, and the twin beside it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.model import Fault, Outcome
from harness.stores import Database
from reference_impl.payments import rules
from tests.reference_impl.stepping import Actor, Play, play

RIGHT = "pg.approve_in_one_transaction"
INDEX = {"unique_index": True}
JUDGES = ("P-ONCE", "P-KEYMATCH", "P-CONS", "P-REFUND", "A-MATCH", "A-DELIVER", "L-RETRY")
REFUND = {"subject": "p1", "amount": 100}


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


both = pytest.mark.parametrize


@both(
    ("variant", "settings", "spoke", "refunds"),
    [
        ("pg.key_inserted_last", {}, {"P-ONCE", "A-MATCH"}, 2),
        ("pg.key_inserted_last", INDEX, {"L-RETRY"}, 1),
        (RIGHT, {}, set(), 1),
        (RIGHT, {"isolation": "repeatable_read"}, set(), 1),
        (RIGHT, {"isolation": "serializable"}, set(), 1),
    ],
)
def test_the_same_refund_sent_twice_at_once_is_made_once(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str], refunds: int
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        paid(stage)
        a, b = stage.actor(), stage.actor()
        a.begins("refund", "k", until="key_read" if variant != RIGHT else "key_claimed", **REFUND)
        b.begins("refund", "k", **REFUND)
        a.ends()
        b.ends()
        assert stage.books().table("refunds").height == refunds
        assert verdict(stage) == spoke


@both(("variant", "spoke"), [("pg.key_without_fingerprint", {"P-KEYMATCH"}), (RIGHT, set())])
def test_a_used_key_with_another_amount_is_refused(postgres_database: Database, variant: str, spoke: set[str]) -> None:
    with play(variant, postgres_database) as stage:
        a = paid(stage)
        a.does("refund", "k", **REFUND)
        other = a.does("refund", "k", subject="p1", amount=250)
        assert verdict(stage) == spoke
        if variant == RIGHT:
            assert other.failure is not None
            assert (other.failure.code, other.failure.refusal) == ("key_reused", True)


@both(
    ("variant", "settings", "spoke"),
    [
        ("pg.key_is_all_that_is_known", {}, {"P-ONCE", "A-MATCH"}),
        ("pg.key_is_all_that_is_known", INDEX, set()),
        (RIGHT, {}, set()),
    ],
)
def test_a_refund_repeated_when_its_key_is_forgotten_is_still_made_once(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        a = paid(stage)
        a.does("refund", "k", at="2026-11-20T08:00:00+00:00", **REFUND)
        late = a.does("refund", "k", at="2026-11-21T08:01:00+00:00", **REFUND)
        assert late.outcome is Outcome.OK
        assert verdict(stage) == spoke
        if not spoke:
            assert late.result is not None
            assert (late.result["replayed"], late.result["amount"]) == (True, 100)


@both(
    ("variant", "settings", "spoke"),
    [
        ("pg.key_lock_taken_over", {}, {"P-ONCE", "A-MATCH"}),
        ("pg.key_lock_taken_over", INDEX, set()),
        (RIGHT, {}, set()),
    ],
)
def test_a_request_that_takes_longer_than_its_lock_is_not_run_twice(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        paid(stage)
        a, b = stage.actor(), stage.actor()
        a.begins("refund", "k", until="key_claimed" if variant == RIGHT else "lock_taken", at="2026-11-20T08:00:00Z", **REFUND)
        b.begins("refund", "k", at="2026-11-20T08:01:31Z", **REFUND)
        a.ends()
        b.ends()
        assert verdict(stage) == spoke


@both(("variant", "spoke"), [("pg.key_committed_first", {"P-ONCE", "A-MATCH"}), (RIGHT, set())])
def test_a_crash_between_key_and_effect_does_not_lose_the_effect(
    postgres_database: Database, variant: str, spoke: set[str]
) -> None:
    with play(variant, postgres_database) as stage:
        paid(stage)
        point = "key_claimed" if variant == RIGHT else "key_stored"
        stage.actor().does("refund", "k", Fault(kind="vanish", point=point), **REFUND)
        assert stage.actor().does("refund", "k", **REFUND).outcome is Outcome.OK
        assert verdict(stage, "L-RETRY") == spoke


@both(
    ("variant", "outcomes"),
    [("pg.key_stores_any_failure", ["40001", "40001", "40001"]), (RIGHT, [None, None, None])],
)
def test_a_failure_that_a_retry_mends_is_not_kept_as_the_answer(
    postgres_database: Database, variant: str, outcomes: list[str | None]
) -> None:
    with play(variant, postgres_database, isolation="repeatable_read") as stage:
        paid(stage)
        a, b = stage.actor(), stage.actor()
        a.begins("refund", "A", until="refund_counted", **REFUND)
        b.begins("refund", "B", **REFUND)
        assert b.waits
        a.ends()
        tries = [b.ends(), b.does("refund", "B", **REFUND), b.does("refund", "B", **REFUND)]
        assert [t.failure.code if t.failure else None for t in tries] == outcomes
        found = stage.findings("P-ONCE")
        assert [f.finding_class.value for f in found] == (["liveness"] if outcomes[0] else [])


@both(("variant", "spoke"), [("pg.audit_afterwards", {"A-MATCH"}), (RIGHT, set())])
def test_a_crash_after_the_commit_leaves_no_change_unlogged(postgres_database: Database, variant: str, spoke: set[str]) -> None:
    with play(variant, postgres_database) as stage:
        a = paid(stage)
        a.does("submit", "s2", subject="p2", term="a/2", amount=100)
        cut = Fault(kind="vanish", point="before_commit" if variant == RIGHT else "committed")
        stage.actor().does("approve", "a2", cut, subject="p2")
        assert verdict(stage, "L-RETRY") == spoke
        [status] = stage.books().table("payments").filter(id="p2")["status"]
        assert status == ("awaiting_approval" if variant == RIGHT else "paid")


@both(("variant", "spoke"), [("pg.side_effect_first", {"P-ONCE", "A-MATCH"}), (RIGHT, set())])
def test_a_crash_after_the_ledger_was_told_does_not_tell_it_twice(
    postgres_database: Database, variant: str, spoke: set[str]
) -> None:
    with play(variant, postgres_database) as stage:
        a = paid(stage)
        a.does("submit", "s2", subject="p2", term="a/2", amount=100)
        cut = Fault(kind="vanish", point="before_commit" if variant == RIGHT else "ledger_told")
        stage.actor().does("approve", "a2", cut, subject="p2")
        stage.actor().does("approve", "a2", subject="p2")
        assert verdict(stage, "L-RETRY") == spoke


@both(("variant", "spoke"), [("pg.side_effect_first", {"A-MATCH"}), (RIGHT, set())])
def test_nothing_is_logged_for_a_change_that_did_not_commit(postgres_database: Database, variant: str, spoke: set[str]) -> None:
    with play(variant, postgres_database) as stage:
        a = paid(stage)
        again = a.does("approve", "again", subject="p1")
        assert again.failure is not None
        assert again.failure.message == "Payment p1 is not awaiting approval: it is paid."
        assert verdict(stage) == spoke


@both(("variant", "spoke"), [("pg.consumer_without_dedup", {"P-ONCE"}), (RIGHT, set())])
def test_a_publisher_that_dies_before_it_marks_delivers_once(postgres_database: Database, variant: str, spoke: set[str]) -> None:
    with play(variant, postgres_database) as stage:
        a = paid(stage)
        a.does("refund", "k", **REFUND)
        stage.actor().does("deliver", "d1", Fault(kind="vanish", point="published"))
        done = stage.actor().does("deliver", "d2")
        assert done.result is not None
        assert (done.result["delivered"], done.result["left"]) == (1, 0)
        assert verdict(stage, "L-RETRY") == spoke


@both(("variant", "spoke"), [("pg.poll_by_cursor", {"A-DELIVER"}), (RIGHT, set())])
def test_an_event_that_commits_late_is_not_passed_over(postgres_database: Database, variant: str, spoke: set[str]) -> None:
    with play(variant, postgres_database) as stage:
        a, b, publisher = paid(stage), stage.actor(), stage.actor()
        for payment, term in (("p2", "a/2"), ("p3", "a/3")):
            a.does("submit", payment, subject=payment, term=term, amount=100)
        a.begins("approve", "A", until="before_commit", subject="p2")
        b.does("approve", "B", subject="p3")
        publisher.does("deliver", "first")
        a.ends()
        last = publisher.does("deliver", "second")
        assert last.result is not None
        assert last.result["left"] == 0
        assert verdict(stage) == spoke


LATE = "2026-11-25T08:00:00+00:00"
"""Days after every key of these tests has been forgotten."""


@both(
    ("f", "before", "arguments"),
    [
        ("open_account", [], {"subject": "b", "assessment": 1000}),
        ("submit", [], {"subject": "p2", "term": "a/2", "amount": 100}),
        ("approve", ["submit"], {"subject": "p2"}),
        ("reject", ["submit"], {"subject": "p2"}),
        ("cancel", ["submit"], {"subject": "p2"}),
        ("refund", ["submit", "approve"], {"subject": "p2", "amount": 100}),
    ],
)
@both("variant", [RIGHT, "pg.lock_the_term", "mongo.approve_in_transaction"])
def test_a_late_retry_is_told_what_happened_though_it_could_not_happen_again(
    request: pytest.FixtureRequest, variant: str, f: str, before: list[str], arguments: dict[str, Any]
) -> None:
    database = request.getfixturevalue("postgres_database" if variant.startswith("pg.") else "mongo_database")
    early = "2026-11-20T08:00:00+00:00"
    with play(variant, database) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_000_000)
        for earlier in before:
            more = {"term": "a/2", "amount": 100} if earlier == "submit" else {}
            assert a.does(earlier, earlier, subject="p2", at=early, **more).outcome is Outcome.OK
        first = a.does(f, "k", at=early, **arguments)
        late = a.does(f, "k", at=LATE, **arguments)
        assert (first.outcome, late.outcome) == (Outcome.OK, Outcome.OK), late.failure
        assert first.result is not None
        assert late.result is not None
        assert (late.result["replayed"], late.result["amount"]) == (True, first.result["amount"])
        other = a.does(f, "new", at=LATE, **arguments)
        assert other.failure is not None, "another intent is refused as before"
        assert other.failure.refusal


@both("variant", [RIGHT, "mongo.approve_in_transaction"])
def test_a_key_belongs_to_one_operation(request: pytest.FixtureRequest, variant: str) -> None:
    database = request.getfixturevalue("postgres_database" if variant.startswith("pg.") else "mongo_database")
    with play(variant, database) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_000_000)
        a.does("submit", "k", subject="p1", term="a/1", amount=100)
        other = a.does("approve", "k", subject="p1")
        assert other.failure is not None
        assert (other.failure.code, other.failure.refusal) == ("key_reused", True)


@both("variant", [RIGHT, "mongo.approve_in_transaction"])
def test_a_webhook_under_the_key_of_another_is_refused(request: pytest.FixtureRequest, variant: str) -> None:
    database = request.getfixturevalue("postgres_database" if variant.startswith("pg.") else "mongo_database")
    with play(variant, database) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_000_000)
        for n in (1, 2):
            a.does("submit", f"s{n}", subject=f"p{n}", term=f"a/{n}", amount=100)
        assert a.does("webhook", "k", subject="p1", event="e1").outcome is Outcome.OK
        other = a.does("webhook", "k", subject="p2", event="e2")
        assert other.failure is not None
        assert (other.failure.code, other.failure.refusal) == ("key_reused", True)


@both("variant", [RIGHT, "mongo.approve_in_transaction"])
def test_a_key_belongs_to_one_operation_also_if_two_come_at_once(request: pytest.FixtureRequest, variant: str) -> None:
    database = request.getfixturevalue("postgres_database" if variant.startswith("pg.") else "mongo_database")
    with play(variant, database) as stage:
        opening, a, b = stage.actor(), stage.actor(), stage.actor()
        opening.does("open_account", "open", subject="a", assessment=1_000_000)
        opening.does("submit", "s1", subject="p1", term="a/1", amount=100)
        a.begins("submit", "k", until="before_audit", subject="p2", term="a/2", amount=100)
        b.begins("approve", "k", subject="p1")
        done = [a.ends(), b.ends()]
        assert sorted(d.failure.code if d.failure else "" for d in done) == ["", "key_reused"]
        assert stage.books().table("audit").filter(token="k").height == 1


@both("variant", [RIGHT, "mongo.approve_in_transaction"])
def test_a_key_whose_window_is_over_may_be_used_by_another_operation(request: pytest.FixtureRequest, variant: str) -> None:
    database = request.getfixturevalue("postgres_database" if variant.startswith("pg.") else "mongo_database")
    submit = {"subject": "p1", "term": "a/1", "amount": 100}
    with play(variant, database) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_000_000)
        a.does("submit", "k", at="2026-11-20T08:00:00+00:00", **submit)
        early = a.does("approve", "k", at="2026-11-21T07:59:59+00:00", subject="p1")
        assert early.failure is not None
        assert early.failure.code == "key_reused"
        for again in (False, True):
            approved = a.does("approve", "k", at="2026-11-21T08:00:00+00:00", subject="p1")
            assert approved.outcome is Outcome.OK, approved.failure
            assert approved.result is not None
            assert ("replayed" in approved.result) is again
        late = a.does("submit", "k", at="2026-11-21T08:00:01+00:00", **submit)
        assert late.result is not None, "its intent is not forgotten"
        assert late.result["replayed"]
        third = a.does("refund", "k", at="2026-11-21T08:00:02+00:00", subject="p1", amount=10)
        assert third.failure is not None, "the window of the approval has begun"
        assert third.failure.code == "key_reused"


@both("variant", [RIGHT, "pg.lock_the_term", "mongo.approve_in_transaction"])
def test_a_webhook_is_known_by_its_event_and_takes_no_key_and_needs_none(request: pytest.FixtureRequest, variant: str) -> None:
    database = request.getfixturevalue("postgres_database" if variant.startswith("pg.") else "mongo_database")
    with play(variant, database) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_000_000)
        a.does("submit", "k", subject="p1", term="a/1", amount=100)
        for again in (False, True):
            told = a.does("webhook", "k", subject="p1", event="e1")
            assert told.outcome is Outcome.OK, told.failure
            assert told.result is not None
            assert ("replayed" in told.result) is again
            said = {name: value for name, value in told.result.items() if name in ("subject", "term", "amount", "status")}
            assert said == {"subject": "p1", "term": "a/1", "amount": 100, "status": "paid"}
        a.does("submit", "s2", subject="p2", term="a/2", amount=100)
        a.does("webhook", "w", subject="p2", event="e2")
        assert a.does("refund", "w", subject="p2", amount=10).outcome is Outcome.OK
        assert not stage.findings("P-ONCE", "P-CONS", "P-REFUND", "A-MATCH")
        assert set(stage.books().table("payments")["status"]) == {"paid"}


@both("variant", [RIGHT, "pg.lock_the_term", "mongo.approve_in_transaction"])
def test_a_webhook_for_a_payment_that_is_paid_is_answered_so_that_the_gateway_stops(
    request: pytest.FixtureRequest, variant: str
) -> None:
    database = request.getfixturevalue("postgres_database" if variant.startswith("pg.") else "mongo_database")
    with play(variant, database) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_000_000)
        for n in (1, 2):
            a.does("submit", f"s{n}", subject=f"p{n}", term=f"a/{n}", amount=100)
        a.does("approve", "by hand", subject="p1")
        a.does("cancel", "not any more", subject="p2")
        before = stage.books().table("terms").rows()
        for token in ("e1", "e1", "e2"):
            answer = a.does("webhook", token, subject="p1", event=token)
            assert answer.outcome is Outcome.OK, answer.failure
            assert answer.result is not None
            assert (answer.result["status"], answer.result["replayed"]) == ("paid", True)
        assert stage.books().table("terms").rows() == before, "no money moves a second time"
        never = a.does("webhook", "e3", subject="p2", event="e3")
        assert never.failure is not None
        assert (never.failure.code, never.failure.refusal) == ("not_awaiting_approval", True), (
            "paid for nothing: somebody has to look"
        )


@both(
    ("variant", "settings"),
    [
        (RIGHT, {}),
        (RIGHT, {"isolation": "repeatable_read"}),
        (RIGHT, {"isolation": "serializable"}),
        ("pg.lock_the_term", {}),
        ("mongo.approve_in_transaction", {}),
    ],
)
@both("decision", ["approve", "reject"])
def test_a_webhook_that_waits_for_a_decision_by_hand_is_answered_by_what_was_decided(
    request: pytest.FixtureRequest, variant: str, settings: dict[str, Any], decision: str
) -> None:
    database = request.getfixturevalue("postgres_database" if variant.startswith("pg.") else "mongo_database")
    with play(variant, database, **settings) as stage:
        opening, a, b = stage.actor(), stage.actor(), stage.actor()
        opening.does("open_account", "open", subject="a", assessment=1_000_000)
        opening.does("submit", "s1", subject="p1", term="a/1", amount=100)
        a.begins(decision, "by hand", until="before_commit", subject="p1")
        b.begins("webhook", "e1", subject="p1", event="e1")
        assert b.waits, "it has seen a payment that awaits approval, and A has its row"
        assert a.ends().outcome is Outcome.OK
        told = b.ends()
        if decision == "approve":
            assert told.outcome is Outcome.OK, told.failure
            assert told.result is not None
            assert (told.result["status"], told.result["replayed"]) == ("paid", True)
        else:
            assert told.failure is not None
            assert (told.failure.code, told.failure.refusal) == ("not_awaiting_approval", True)
        again = b.does("webhook", "e1", subject="p1", event="e1")
        assert again.outcome is told.outcome, "the gateway repeats itself"
        assert stage.books().table("audit").filter(subject="p1")["action"].to_list() == ["submit", decision]
        assert not stage.findings("P-CONS", "P-TERM1", "P-ONCE", "A-MATCH")


@both("variant", [RIGHT, "mongo.approve_in_transaction"])
def test_a_history_that_is_cut_off_keeps_what_awaits_approval(
    request: pytest.FixtureRequest, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "SHOWN", 3)
    database = request.getfixturevalue("postgres_database" if variant.startswith("pg.") else "mongo_database")
    with play(variant, database) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_554_000)
        a.does("submit", "s0", subject="old", term="a/1", amount=100, at="2026-11-20T10:00:00+00:00")
        for n in range(1, 5):
            a.does("submit", f"s{n}", subject=f"p{n}", term="a/2", amount=100, at=f"2026-11-20T10:00:{n:02d}+00:00")
            a.does("cancel", f"c{n}", subject=f"p{n}")
        told = a.does("history", "h", subject="a").result
        assert told is not None
        assert [payment["id"] for payment in told["payments"]] == ["p4", "p3", "old"]


@both("variant", [RIGHT, "pg.lock_the_term", "mongo.approve_in_transaction"])
def test_the_history_says_why_a_payment_was_rejected(request: pytest.FixtureRequest, variant: str) -> None:
    database = request.getfixturevalue("postgres_database" if variant.startswith("pg.") else "mongo_database")
    with play(variant, database) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_000_000)
        for n in (1, 2, 3):
            a.does("submit", f"s{n}", subject=f"p{n}", term=f"a/{n}", amount=100)
        a.does("reject", "r1", subject="p1", reason="The slip cannot be read.")
        a.does("reject", "r2", subject="p2")
        told = a.does("history", "h", subject="a").result
        assert told is not None
        assert {p["id"]: p["reason"] for p in told["payments"]} == {
            "p1": "The slip cannot be read.",
            "p2": "not stated",
            "p3": "",
        }
