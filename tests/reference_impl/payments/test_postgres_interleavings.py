"""Each way to get term payments wrong, in its shortest interleaving, and its correct twins in the same one.

The parameters of a test are the broken variant first, then variants and settings that must survive what broke it.
"""

from __future__ import annotations

from typing import Any

import pytest

from harness.model import Fault, Outcome
from harness.stores import Database
from tests.reference_impl.stepping import Actor, Play, play

RIGHT = "pg.approve_in_one_transaction"
LOCKING = "pg.lock_the_term"
INDEX = {"unique_index": True}
RR = {"isolation": "repeatable_read"}
SERIALIZABLE = {"isolation": "serializable"}

Case = tuple[str, dict[str, Any], set[str]]
Asked = tuple[str, dict[str, Any]]


def right_everywhere() -> list[Case]:
    """The correct variants with the settings at which they are correct."""
    quiet: set[str] = set()
    return [
        (RIGHT, {}, quiet),
        (RIGHT, INDEX, quiet),
        (RIGHT, RR, quiet),
        (RIGHT, SERIALIZABLE, quiet),
        (LOCKING, {}, quiet),
        (LOCKING, INDEX, quiet),
        (LOCKING, INDEX | RR, quiet),
        (LOCKING, SERIALIZABLE, quiet),
    ]


def broken(variant: str, *spoke: str, **settings: Any) -> Case:
    """A variant that must be found out, with the invariants that speak."""
    return (f"pg.{variant}", settings, set(spoke))


def cases(*several: Case) -> Any:
    """Parametrise with the broken ones and the twins."""
    everything = [*several, *right_everywhere()]
    names = [f"{v.removeprefix('pg.')}-{'-'.join(map(str, s.values())) or 'default'}" for v, s, _ in everything]
    return pytest.mark.parametrize(("variant", "settings", "spoke"), everything, ids=names)


JUDGES = ("P-ONCE", "P-TERM1", "P-PEND1", "P-CONS", "P-NOOVER", "P-REFUND", "P-EXACT", "P-SPLIT", "A-MATCH", "L-RETRY")


def account(actor: Actor, assessment: int = 1_000_000) -> None:
    """Open account a, whose first term owes 4,215.00."""
    assert actor.does("open_account", "open", subject="a", assessment=assessment).outcome is Outcome.OK


def pending(actor: Actor, payment: str = "p1", amount: int = 30_000, term: str = "a/1") -> None:
    """Submit a payment."""
    done = actor.does("submit", f"submit {payment}", subject=payment, term=term, amount=amount)
    assert done.outcome is Outcome.OK


def verdict(stage: Play) -> set[str]:
    """Return the invariants that have something to say."""
    return {f.invariant for f in stage.findings(*JUDGES)}


def race(stage: Play, point: str, first: tuple[str, dict[str, Any]], second: tuple[str, dict[str, Any]]) -> None:
    """Let A come to the point, B go as far as it gets, A end, B end."""
    a, b = stage.actor(), stage.actor()
    a.begins(first[0], "A", until=point, **first[1])
    b.begins(second[0], "B", **second[1])
    a.ends()
    b.ends()


@cases(
    broken("exists_then_insert", "P-PEND1"),
    broken("exists_then_insert", "L-RETRY", unique_index=True),
    broken("exists_then_insert", "P-PEND1", isolation="repeatable_read"),
    broken("exists_then_insert", isolation="serializable"),
    broken("lock_without_transaction", "P-PEND1"),
    broken("lock_the_term", "P-PEND1", isolation="repeatable_read"),
)
def test_of_two_submissions_for_one_term_one_is_refused(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        account(stage.actor())
        point = "reserved" if variant == RIGHT else "guard_passed"
        race(
            stage,
            point,
            ("submit", {"subject": "p1", "term": "a/1", "amount": 30_000}),
            ("submit", {"subject": "p2", "term": "a/1", "amount": 30_000}),
        )
        assert verdict(stage) == spoke


@cases(
    broken("lock_without_transaction", "P-ONCE", "P-CONS"),
    broken("lock_without_transaction", transaction=True),
)
def test_of_two_approvals_of_one_payment_one_is_refused(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        opening = stage.actor()
        account(opening)
        pending(opening)
        point = "marked_paid" if variant == RIGHT else "status_read"
        race(stage, point, ("approve", {"subject": "p1"}), ("approve", {"subject": "p1"}))
        assert verdict(stage) == spoke


def test_the_sentence_of_a_double_approval_names_payment_clients_and_term(postgres_database: Database) -> None:
    with play("pg.lock_without_transaction", postgres_database) as stage:
        opening = stage.actor()
        account(opening)
        pending(opening)
        race(stage, "status_read", ("approve", {"subject": "p1"}), ("approve", {"subject": "p1"}))
        [found] = stage.findings("P-ONCE")
        assert found.message.startswith("payment p1 of 300.00 was approved twice: by client 2 at +")
        assert found.message.endswith("; term a/1 went from 4,215.00 to 3,615.00")


@pytest.mark.parametrize("second", ["reject", "cancel"])
@cases(
    broken("blind_status", "P-TERM1", "P-CONS"),
    broken("resolution_row", "P-TERM1", "P-CONS"),
    broken("resolution_row", unique_index=True),
    broken("blind_status", isolation="repeatable_read"),
)
def test_a_payment_is_approved_or_ended_otherwise_but_not_both(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str], second: str
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        opening = stage.actor()
        account(opening)
        pending(opening)
        first, b = stage.actor(), stage.actor()
        # B reads, A decides and commits, B writes what it had decided.
        b.begins(second, "B", until="decided" if variant == RIGHT else "status_read", subject="p1")
        first.begins("approve", "A", subject="p1")
        b.ends()
        first.ends()
        assert verdict(stage) == spoke


@cases(
    broken("approve_without_recheck", "P-NOOVER"),
)
def test_two_payments_of_one_term_do_not_pay_it_twice(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        a, b = stage.actor(), stage.actor()
        account(a)
        for actor, payment in ((a, "p1"), (b, "p2")):
            actor.does("submit", f"submit {payment}", subject=payment, term="a/1", amount=421_500)
        a.does("approve", "A", subject="p1")
        b.does("approve", "B", subject="p2")
        assert verdict(stage) == spoke | ({"P-PEND1"} if spoke else set())


@cases(
    broken("absolute_balance", "P-CONS"),
    broken("absolute_balance", isolation="repeatable_read"),
)
def test_an_approval_and_a_refund_both_reach_the_balance(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        opening = stage.actor()
        account(opening)
        pending(opening, "p1")
        opening.does("approve", "approve p1", subject="p1")
        pending(opening, "p2")
        point = {"pg.absolute_balance": "balance_read", RIGHT: "marked_paid"}.get(variant, "status_read")
        race(stage, point, ("approve", {"subject": "p2"}), ("refund", {"subject": "p1", "amount": 10_000}))
        assert verdict(stage) == spoke


@cases(
    broken("refund_by_sum", "P-REFUND"),
    broken("refund_by_sum", isolation="repeatable_read"),
)
def test_a_payment_is_refunded_once(postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]) -> None:
    with play(variant, postgres_database, **settings) as stage:
        opening = stage.actor()
        account(opening)
        pending(opening)
        opening.does("approve", "approve p1", subject="p1")
        point = {"pg.refund_by_sum": "refund_inserted", RIGHT: "refund_counted"}.get(variant, "status_read")
        whole = {"subject": "p1", "amount": 30_000}
        race(stage, point, ("refund", whole), ("refund", whole))
        assert verdict(stage) == spoke


@cases(
    broken("webhook_without_dedup", "P-ONCE", "P-CONS", "A-MATCH"),
)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
def test_a_redelivered_event_takes_effect_once(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str], at_once: bool
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        opening = stage.actor()
        account(opening)
        pending(opening)
        a, b = stage.actor(), stage.actor()
        event = {"subject": "p1", "event": "e1"}
        point = "payment_read" if variant == "pg.webhook_without_dedup" else "event_claimed"
        a.begins("webhook", "e1", until=point if at_once else None, **event)
        if not at_once:
            a.ends()
        b.begins("webhook", "e1", **event)
        if at_once:
            a.ends()
        assert b.ends().outcome is Outcome.OK
        assert verdict(stage) == spoke


@cases(
    broken("guard_by_json_number", "P-PEND1"),
)
def test_a_second_submission_is_refused_without_any_race(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        a = stage.actor()
        account(a)
        pending(a)
        a.does("submit", "again", subject="p2", term="a/1", amount=30_000)
        assert verdict(stage) == spoke


@cases(
    broken("guard_with_null_term", "P-PEND1"),
)
def test_a_payment_without_a_term_does_not_slip_past_the_guard(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        a = stage.actor()
        account(a)
        for payment in ("p1", "p2"):
            a.does("submit", payment, subject=payment, account="a", term=None, amount=100)
        assert verdict(stage) == spoke


@cases(
    broken("validates_account_balance", "P-NOOVER"),
)
def test_a_payment_larger_than_its_term_is_refused(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        a = stage.actor()
        account(a)
        a.does("submit", "large", subject="p1", term="a/1", amount=500_000)
        assert verdict(stage) == spoke


@cases(
    broken("float_balance", "P-EXACT"),
    broken("rounded_split", "P-SPLIT"),
)
def test_money_is_exact_to_the_centavo(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        a = stage.actor()
        account(a, assessment=1_554_000)
        for n in range(3):
            pending(a, f"p{n}", amount=7)
            a.does("approve", f"approve {n}", subject=f"p{n}")
        assert verdict(stage) == spoke


def test_a_locked_sum_at_repeatable_read_needs_the_index_and_says_why(postgres_database: Database) -> None:
    with play(LOCKING, postgres_database, isolation="repeatable_read") as stage:
        account(stage.actor())
        submit = ("submit", {"term": "a/1", "amount": 30_000})
        race(stage, "guard_passed", (submit[0], submit[1] | {"subject": "p1"}), (submit[0], submit[1] | {"subject": "p2"}))
        [found] = stage.findings("P-PEND1")
        assert found.message.startswith("2 payments await approval for term a/1: p1 of 300.00 and p2 of 300.00, submitted by")


def test_a_client_that_vanishes_half_way_leaves_nothing_behind(postgres_database: Database) -> None:
    with play(RIGHT, postgres_database) as stage:
        opening = stage.actor()
        account(opening)
        pending(opening)
        lost = stage.actor().does("approve", "A", Fault(kind="vanish", point="before_commit"), subject="p1")
        assert lost.outcome is Outcome.INFO
        assert stage.actor().does("approve", "A", subject="p1").outcome is Outcome.OK
        assert stage.books().table("terms")["balance"].sum() == 1_000_000 - 30_000


SUBMIT: Asked = ("submit", {"subject": "p1", "term": "a/1", "amount": 30_000})
APPROVE: Asked = ("approve", {"subject": "p1"})
OTHER: Asked = ("submit", {"subject": "p2", "term": "a/1", "amount": 10_000})


@pytest.mark.parametrize("settings", [{}, RR, SERIALIZABLE], ids=["read_committed", "repeatable_read", "serializable"])
@pytest.mark.parametrize(
    ("before", "asked", "meanwhile"),
    [
        ([SUBMIT], ("refund", {"subject": "p1", "amount": 100}), APPROVE),
        ([SUBMIT], OTHER, ("cancel", {"subject": "p1"})),
        ([], APPROVE, SUBMIT),
        ([], ("cancel", {"subject": "p1"}), SUBMIT),
    ],
    ids=["refund", "submit", "approve", "cancel"],
)
def test_nobody_is_refused_by_a_reason_that_does_not_hold(
    postgres_database: Database, before: list[Asked], asked: Asked, meanwhile: Asked, settings: dict[str, Any]
) -> None:
    with play(RIGHT, postgres_database, **settings) as stage:
        a, b = stage.actor(), stage.actor()
        account(a)
        for f, arguments in before:
            assert a.does(f, f, **arguments).outcome is Outcome.OK
        b.begins(asked[0], "B", until="found_none", **asked[1])
        assert b.waits, "its change has found nothing, and it will ask why"
        assert a.does(meanwhile[0], "A", **meanwhile[1]).outcome is Outcome.OK
        done = b.ends()
        if settings and not before:  # B's snapshot is of the moment before: there was no such payment
            assert done.failure is not None
            assert done.failure.code == "unknown_payment"
        else:
            assert done.outcome is Outcome.OK, done.failure
        assert not verdict(stage)


def test_a_refused_submission_is_told_figures_of_one_moment(postgres_database: Database) -> None:
    with play(RIGHT, postgres_database) as stage:
        a, b = stage.actor(), stage.actor()
        account(a)
        pending(a)
        a.begins("cancel", "A", until="before_commit", subject="p1")
        b.begins("submit", "B", subject="p2", term="a/1", amount=500_000)
        assert b.waits, "what A has not committed decides what B is told"
        a.ends()
        refused = b.ends().failure
        assert refused is not None
        assert refused.message.endswith("Available: ₱4,215.00, Pending approval: ₱0.00.")
