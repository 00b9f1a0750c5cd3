"""Each way to get term payments wrong on MongoDB, in its shortest interleaving, and the correct twin in the same one."""

from __future__ import annotations

from typing import Any

import pymongo
import pytest

from harness.model import Fault, Outcome
from harness.stores import Database
from reference_impl.base.refusal import Refused
from tests.reference_impl.payments.test_requests import GOOD, bad
from tests.reference_impl.stepping import Actor, Play, play

RIGHT = "mongo.approve_in_transaction"
INDEX = {"unique_index": True}
ALONE = {"transaction": False}
TOGETHER = {"transaction": True}
JUDGES = (
    "P-ONCE",
    "P-KEYMATCH",
    "P-TERM1",
    "P-PEND1",
    "P-CONS",
    "P-NOOVER",
    "P-REFUND",
    "P-EXACT",
    "P-SPLIT",
    "A-MATCH",
    "L-RETRY",
)

Case = tuple[str, dict[str, Any], set[str]]


def cases(*several: Case) -> Any:
    """Parametrise with the broken ones and the twins."""
    everything = [*several, (RIGHT, {}, set()), (RIGHT, INDEX, set())]
    names = [f"{v.removeprefix('mongo.')}-{'-'.join(map(str, s.values())) or 'default'}" for v, s, _ in everything]
    return pytest.mark.parametrize(("variant", "settings", "spoke"), everything, ids=names)


def account(stage: Play, *payments: str) -> Actor:
    """Open account a and submit payments, each for a term of its own."""
    actor = stage.actor()
    assert actor.does("open_account", "open", subject="a", assessment=1_000_000).outcome is Outcome.OK
    for n, payment in enumerate(payments, start=1):
        done = actor.does("submit", payment, subject=payment, term=f"a/{n}", amount=30_000)
        assert done.outcome is Outcome.OK
    return actor


def race(stage: Play, point: str, first: tuple[str, dict[str, Any]], second: tuple[str, dict[str, Any]]) -> None:
    """Let A come to the point, B go as far as it gets, A end, B end."""
    a, b = stage.actor(), stage.actor()
    a.begins(first[0], "A", until=point, **first[1])
    b.begins(second[0], "B", **second[1])
    a.ends()
    b.ends()


def verdict(stage: Play) -> set[str]:
    """Return the invariants that have something to say."""
    return {f.invariant for f in stage.findings(*JUDGES)}


@cases(
    ("mongo.guard_then_insert", {}, {"P-PEND1"}),
    ("mongo.guard_then_insert", INDEX, set()),
    ("mongo.guard_then_insert", ALONE, {"P-PEND1"}),
    ("mongo.guard_then_insert", ALONE | INDEX, {"L-RETRY"}),
)
def test_of_two_submissions_for_one_term_one_is_refused(
    mongo_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, mongo_database, **settings) as stage:
        account(stage)
        submit = {"term": "a/1", "amount": 30_000}
        point = "reserved" if variant == RIGHT else "guard_passed"
        race(stage, point, ("submit", submit | {"subject": "p1"}), ("submit", submit | {"subject": "p2"}))
        assert verdict(stage) == spoke


@pytest.mark.parametrize("second", ["approve", "reject", "cancel"])
@cases(
    ("mongo.blind_status", ALONE, {"P-CONS"}),
    ("mongo.blind_status", TOGETHER, set()),
)
def test_a_payment_is_decided_upon_once(
    mongo_database: Database, variant: str, settings: dict[str, Any], spoke: set[str], second: str
) -> None:
    with play(variant, mongo_database, **settings) as stage:
        account(stage, "p1")
        point = {RIGHT: "decided"}.get(variant, "status_read")
        b, a = stage.actor(), stage.actor()
        b.begins(second, "B", until="marked_paid" if variant == RIGHT and second == "approve" else point, subject="p1")
        a.begins("approve", "A", subject="p1")
        b.ends()
        a.ends()
        expected = spoke | ({"P-ONCE"} if second == "approve" else {"P-TERM1"}) if spoke else spoke
        assert verdict(stage) == expected


@cases(
    ("mongo.replace_document", ALONE, {"P-CONS"}),
    ("mongo.replace_document", TOGETHER, set()),
)
def test_an_approval_and_a_refund_both_reach_the_balance(
    mongo_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, mongo_database, **settings) as stage:
        opening = account(stage, "p1")
        opening.does("approve", "approve p1", subject="p1")
        opening.does("submit", "p2", subject="p2", term="a/1", amount=30_000)
        point = "marked_paid" if variant == RIGHT else "balance_read"
        race(stage, point, ("approve", {"subject": "p2"}), ("refund", {"subject": "p1", "amount": 10_000}))
        assert verdict(stage) == spoke


@cases(
    ("mongo.approve_without_recheck", {}, {"P-PEND1", "P-NOOVER"}),
)
def test_two_payments_of_one_term_do_not_pay_it_twice(
    mongo_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, mongo_database, **settings) as stage:
        a = account(stage)
        for payment in ("p1", "p2"):
            a.does("submit", f"submit {payment}", subject=payment, term="a/1", amount=421_500)
        for payment in ("p1", "p2"):
            a.does("approve", f"approve {payment}", subject=payment)
        assert verdict(stage) == spoke


@cases(
    ("mongo.guard_by_json_number", {}, {"P-PEND1"}),
)
def test_a_second_submission_is_refused_without_any_race(
    mongo_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, mongo_database, **settings) as stage:
        a = account(stage, "p1")
        a.does("submit", "again", subject="p2", term="a/1", amount=30_000)
        assert verdict(stage) == spoke


@cases(
    ("mongo.resolution_document", {}, {"P-TERM1", "P-CONS"}),
    ("mongo.resolution_document", INDEX, set()),
    ("mongo.resolution_document", TOGETHER, set()),
)
def test_a_payment_has_one_resolution(mongo_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]) -> None:
    with play(variant, mongo_database, **settings) as stage:
        account(stage, "p1")
        point = "decided" if variant == RIGHT else "status_read"
        race(stage, point, ("cancel", {"subject": "p1"}), ("approve", {"subject": "p1"}))
        assert verdict(stage) == spoke


@cases(
    ("mongo.validates_account_balance", {}, {"P-NOOVER"}),
)
def test_a_payment_larger_than_its_term_is_refused(
    mongo_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, mongo_database, **settings) as stage:
        a = account(stage)
        large = a.does("submit", "large", subject="p1", term="a/2", amount=500_000)
        assert (large.outcome is Outcome.OK) is bool(spoke)
        assert verdict(stage) == spoke


@cases()
def test_a_balance_is_exact(mongo_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]) -> None:
    with play(variant, mongo_database, **settings) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_554_000)
        for n in range(1, 6):
            a.does("submit", f"s{n}", subject=f"p{n}", term=f"a/{n}", amount=n)
            assert a.does("approve", f"a{n}", subject=f"p{n}").outcome is Outcome.OK
        shown = a.does("account", "show", subject="a").result
        assert shown is not None
        assert shown["balance"] == 1_554_000 - 15
        assert verdict(stage) == spoke


@cases(
    ("mongo.rounded_split", {}, {"P-SPLIT"}),
)
def test_the_terms_make_the_assessment(mongo_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]) -> None:
    with play(variant, mongo_database, **settings) as stage:
        stage.actor().does("open_account", "open", subject="a", assessment=1_554_000)
        assert verdict(stage) == spoke


@pytest.mark.parametrize("variant", [RIGHT, "mongo.guard_then_insert"])
def test_a_refusal_names_what_the_term_owes_and_what_awaits_approval(mongo_database: Database, variant: str) -> None:
    with play(variant, mongo_database) as stage:
        a = account(stage, "p1")
        large = a.does("submit", "large", subject="p2", term="a/2", amount=300_000).failure
        assert large is not None
        assert large.message.endswith("Available: ₱1,786.00, Pending approval: ₱300.00.")
        with pymongo.MongoClient[Any](mongo_database.url) as client:  # nobody but somebody else's program can do that
            client.get_default_database().terms.update_one({"_id": "a/1"}, {"$set": {"balance": 12345}})
        refused = a.does("approve", "a1", subject="p1").failure
        assert refused is not None
        assert refused.message.endswith("Available: ₱123.45, Pending approval: ₱300.00.")


@cases(
    ("mongo.webhook_without_dedup", {}, {"P-ONCE", "P-CONS", "A-MATCH"}),
)
def test_a_redelivered_event_takes_effect_once(
    mongo_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, mongo_database, **settings) as stage:
        a = account(stage, "p1")
        for _ in range(2):
            assert a.does("webhook", "e1", subject="p1", event="e1").outcome is Outcome.OK
        assert verdict(stage) == spoke


@cases(
    ("mongo.token_looked_up_first", {}, {"P-ONCE", "A-MATCH"}),
)
def test_the_same_refund_sent_twice_at_once_is_made_once(
    mongo_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, mongo_database, **settings) as stage:
        opening = account(stage, "p1")
        opening.does("approve", "approve p1", subject="p1")
        a, b = stage.actor(), stage.actor()
        a.begins("refund", "k", until="refund_counted", subject="p1", amount=100)
        b.begins("refund", "k", subject="p1", amount=100)
        a.ends()
        b.ends()
        assert verdict(stage) == spoke


@cases(
    ("mongo.fingerprint_ignored", {}, {"P-KEYMATCH"}),
)
def test_a_used_token_with_another_amount_is_refused(
    mongo_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, mongo_database, **settings) as stage:
        a = account(stage, "p1")
        a.does("approve", "approve p1", subject="p1")
        a.does("refund", "k", subject="p1", amount=100)
        a.does("refund", "k", subject="p1", amount=250)
        assert verdict(stage) == spoke


def test_a_client_that_vanishes_half_way_leaves_nothing_behind(mongo_database: Database) -> None:
    with play(RIGHT, mongo_database) as stage:
        account(stage, "p1")
        lost = stage.actor().does("approve", "A", Fault(kind="vanish", point="before_commit"), subject="p1")
        assert lost.outcome is Outcome.INFO
        assert stage.actor().does("approve", "A", subject="p1").outcome is Outcome.OK  # when the server has given up waiting
        assert stage.books().table("terms")["balance"].sum() == 1_000_000 - 30_000


def test_a_publisher_that_dies_before_it_marks_delivers_once(mongo_database: Database) -> None:
    with play(RIGHT, mongo_database) as stage:
        account(stage, "p1")
        stage.actor().does("deliver", "d1", Fault(kind="kill", point="published"))
        done = stage.actor().does("deliver", "d2").result
        assert done is not None
        assert done["left"] == 0
        assert stage.books().table("deliveries").height == 2
        assert not stage.findings("P-ONCE", "A-DELIVER")


def test_an_event_that_was_published_and_taken_back_is_the_same_when_it_happens_again(mongo_database: Database) -> None:
    with play(RIGHT, mongo_database) as stage:
        a = account(stage, "p1")
        with pymongo.MongoClient[Any](mongo_database.url) as client:
            database = client.get_default_database()
            before = {name: list(database[name].find()) for name in ("payments", "terms", "audit")}
            a.does("approve", "k", subject="p1")
            a.does("deliver", "d1")
            for name, documents in before.items():  # what a rollback leaves, where the consumer is another system
                database[name].delete_many({})
                database[name].insert_many(documents)
        a.does("approve", "k", subject="p1")
        a.does("deliver", "d2")
        books = stage.books()
        assert sorted(books.table("deliveries")["event"]) == sorted(books.table("audit")["id"])


def test_every_bad_request_is_refused_and_changes_nothing(mongo_database: Database) -> None:
    with play(RIGHT, mongo_database) as stage:
        a = stage.actor()
        a.does("open_account", "open", subject="a", assessment=1_554_000)
        for payment, term in (("p0", "a/5"), ("p1", "a/1")):
            a.does("submit", payment, subject=payment, term=term, amount=30_000)
        a.does("approve", "p0 paid", subject="p0")
        before = {name: frame.rows() for name, frame in stage.books().tables.items()}
        for n, (f, arguments) in enumerate(bad()):
            with pytest.raises(Refused):
                a.connection.call(f, arguments, f"bad-{n}", lambda point: None)
        assert {name: frame.rows() for name, frame in stage.books().tables.items()} == before
        assert all(a.does(f, f"good-{f}", **GOOD[f]).outcome is Outcome.OK for f in ("submit", "approve", "refund"))
