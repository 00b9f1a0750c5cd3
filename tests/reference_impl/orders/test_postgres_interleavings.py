"""Each way to get orders wrong, in its shortest interleaving, and its correct twins in the same one."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from harness.model import Outcome
from harness.stores import Database
from reference_impl.orders import rules
from tests.reference_impl.stepping import Actor, Play, play

RIGHT = "pg.balance_from_one_row"
LOCKING = "pg.lock_order_then_sum"
INDEX = {"unique_index": True}
RR = {"isolation": "repeatable_read"}
SERIALIZABLE = {"isolation": "serializable"}
JUDGES = ("O-BAL", "O-DRIFT", "O-INST", "O-CANCEL", "O-CONS", "P-NOOVER", "P-ONCE", "A-MATCH", "L-RETRY")

Case = tuple[str, dict[str, Any], set[str]]


def cases(*several: Case) -> Any:
    """Parametrise with the broken ones and the twins."""
    twins: list[Case] = [(v, s, set()) for v in (RIGHT, LOCKING) for s in ({}, INDEX, INDEX | RR, SERIALIZABLE)]
    everything = [*several, *twins]
    names = [f"{v.removeprefix('pg.')}-{'-'.join(map(str, s.values())) or 'default'}" for v, s, _ in everything]
    return pytest.mark.parametrize(("variant", "settings", "spoke"), everything, ids=names)


def opened(stage: Play, advance: int = 500_000) -> Actor:
    """Open an order of 20,000.00."""
    actor = stage.actor()
    done = actor.does("open_order", "open", subject="o", total=2_000_000, advance=advance)
    assert done.outcome is Outcome.OK
    return actor


def verdict(stage: Play) -> set[str]:
    """Return the invariants that have something to say."""
    return {f.invariant for f in stage.findings(*JUDGES)}


def race(stage: Play, points: dict[str, str], first: tuple[str, int], second: tuple[str, int]) -> None:
    """Let A come to the point that its variant names, B go as far as it gets, A end, B end."""
    variant = stage.target.variant
    a, b = stage.actor(), stage.actor()
    arguments = [{"subject": "o"} | ({"amount": amount} if amount else {}) for _, amount in (first, second)]
    a.begins(first[0], "A", until=points.get(variant, "balance_known"), **arguments[0])
    b.begins(second[0], "B", **arguments[1])
    a.ends()
    b.ends()


@cases(
    ("pg.stale_balance", {}, {"O-BAL", "O-DRIFT"}),
    ("pg.stale_balance", RR, set()),
)
def test_a_payment_and_a_discount_both_reach_the_balance(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        opened(stage)
        race(stage, {RIGHT: "payment_counted"}, ("pay_installment", 800_000), ("discount", 200_000))
        assert verdict(stage) == spoke


@cases(
    ("pg.pay_within_read_balance", {}, {"P-NOOVER", "O-INST"}),
    ("pg.pay_within_read_balance", RR, set()),
    ("pg.lock_and_sum_in_one_statement", {}, {"P-NOOVER", "O-INST", "O-BAL", "O-DRIFT"}),
    ("pg.lock_and_sum_in_one_statement", RR, set()),
)
def test_of_two_payments_of_the_whole_balance_one_is_refused(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        opened(stage)
        race(stage, {RIGHT: "payment_counted"}, ("pay_installment", 1_500_000), ("pay_installment", 1_500_000))
        assert verdict(stage) == spoke


@cases(
    ("pg.installment_count_plus_one", {}, {"O-INST"}),
    ("pg.installment_count_plus_one", INDEX, {"L-RETRY"}),
)
def test_two_payments_get_two_numbers(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    points = {RIGHT: "payment_counted", "pg.installment_count_plus_one": "counted"}
    with play(variant, postgres_database, **settings) as stage:
        opened(stage)
        race(stage, points, ("pay_installment", 100), ("pay_installment", 200))
        assert verdict(stage) == spoke


@cases(
    ("pg.cancel_by_look", {}, {"O-CANCEL"}),
    ("pg.cancel_by_look", RR, set()),
)
def test_an_order_is_paid_or_cancelled_but_not_both(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        opened(stage, advance=0)
        points = {RIGHT: "cancelled", LOCKING: "kept_known", "pg.cancel_by_look": "kept_known"}
        race(stage, points, ("cancel_order", 0), ("pay_installment", 800_000))
        assert verdict(stage) == spoke


@cases(
    ("pg.advance_stored_twice", {}, {"O-BAL"}),
    ("pg.advance_forgotten", {}, {"O-BAL", "O-DRIFT"}),
)
def test_the_documents_order_owes_6000(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        a = stage.actor()
        a.does("open_order", "open", subject="o", total=1_463_168, advance=687_689)
        a.does("discount", "less", subject="o", amount=175_479)
        shown = a.does("order", "look", subject="o").result
        assert shown is not None
        # With the advance subtracted twice 877.90 are left, and the discount is refused.
        owed = {"pg.advance_stored_twice": 87_790, "pg.advance_forgotten": 1_287_689}
        assert shown["balance"] == owed.get(variant, 600_000)
        assert verdict(stage) >= spoke
        assert bool(verdict(stage)) == bool(spoke)


@cases(
    ("pg.repair_without_installments", {}, {"O-BAL", "O-DRIFT"}),
)
def test_a_repair_counts_what_was_paid(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str]
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        a = opened(stage)
        a.does("pay_installment", "p", subject="o", amount=800_000)
        a.does("repair", "r", subject="o")
        assert verdict(stage) == spoke


@cases(
    ("pg.migration_by_amount", {}, {"O-CONS", "O-BAL", "O-DRIFT"}),
)
@pytest.mark.parametrize("meanwhile", [False, True], ids=["alone", "while a payment is recorded"])
def test_the_migration_removes_repeated_advances_and_nothing_else(
    postgres_database: Database, variant: str, settings: dict[str, Any], spoke: set[str], meanwhile: bool
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        a, b = stage.actor(), stage.actor()
        for order, twice in (("half", False), ("old", True), ("both", True)):
            a.does("import_order", order, subject=order, total=2_000_000, advance=1_000_000, discount=0, twice=twice)
        a.does("pay_installment", "half paid", subject="half", amount=1_000_000)
        a.does("pay_installment", "both paid", subject="both", amount=900_000)
        a.does("pay_installment", "old paid", subject="old", amount=300_000)
        before = a.does("verify", "v1").result
        if meanwhile:
            b.begins("migrate", "m", until="order_locked")
            a.begins("pay_installment", "meanwhile", subject="both", amount=100_000)
            assert a.waits
            b.ends()
            a.ends()
        else:
            b.does("migrate", "m")
        again = b.does("migrate", "m2").result
        after = a.does("verify", "v2").result
        assert before is not None
        assert again is not None
        assert after is not None
        assert verdict(stage) == spoke
        if not spoke:
            assert (before["twice"], before["wrong"]) == (2, [])
            assert again == {"migrated": 0, "left": 0, "attempts": 1}
            assert (after["twice"], after["wrong"]) == (0, [])


@pytest.mark.parametrize("variant", [RIGHT, LOCKING])
def test_an_order_is_shown_with_its_advance_by_itself(postgres_database: Database, variant: str) -> None:
    with play(variant, postgres_database) as stage:
        a = opened(stage)
        a.does("pay_installment", "one", subject="o", amount=800_000)
        a.does("pay_installment", "two", subject="o", amount=700_000)
        shown = a.does("order", "look", subject="o").result
        assert shown is not None
        assert (shown["total"], shown["advance"], shown["balance_paid"], shown["balance"]) == (2_000_000, 500_000, 1_500_000, 0)
        assert shown["installments"] == [{"number": 1, "amount": 800_000}, {"number": 2, "amount": 700_000}]
        assert [(line["label"], line["amount"]) for line in shown["invoice"]] == [
            ("Item Total", 2_000_000),
            ("Less: Advance Paid", -500_000),
            ("Less: Additional Payments", -1_500_000),
            ("Balance Due", 0),
        ]


@pytest.mark.parametrize(
    ("figures", "lines"),
    [
        ({"due": 100}, [("Item Total", 100), ("Balance Due", 100)]),
        (
            {"advance": 20, "discount": 5, "paid": 30, "refunded": 10, "due": 55},
            [
                ("Item Total", 100),
                ("Less: Advance Paid", -20),
                ("Less: Discount", -5),
                ("Less: Additional Payments", -30),
                ("Add: Refunds", 10),
                ("Balance Due", 55),
            ],
        ),
        (
            {"advance": 20, "refunded": 20, "due": 100, "cancelled": True},
            [
                ("Item Total", 100),
                ("Less: Advance Paid", -20),
                ("Add: Refunds", 20),
                ("Less: Cancelled", -100),
                ("Balance Due", 0),
            ],
        ),
    ],
)
def test_an_invoice_names_what_happened_and_ends_with_the_sum(figures: dict[str, Any], lines: list[tuple[str, int]]) -> None:
    none = {"total": 100, "advance": 0, "discount": 0, "paid": 0, "refunded": 0, "cancelled": False}
    invoice = [(line["label"], line["amount"]) for line in rules.invoice(**{**none, **figures})]
    assert invoice == lines
    assert sum(amount for _, amount in lines[:-1]) == lines[-1][1]


@pytest.mark.parametrize("variant", [RIGHT, LOCKING])
def test_a_paid_order_is_cancelled_only_when_it_was_refunded(postgres_database: Database, variant: str) -> None:
    with play(variant, postgres_database) as stage:
        a = opened(stage)
        a.does("pay_installment", "one", subject="o", amount=800_000)
        refused = a.does("cancel_order", "c1", subject="o").failure
        assert refused is not None
        assert refused.message == "Order o cannot be cancelled: ₱13,000.00 was paid. Refund it first."
        too_much = a.does("refund_order", "r1", subject="o", amount=1_300_001).failure
        assert too_much is not None
        assert too_much.message == (
            "Refund exceeds what was paid. Amount: ₱13,000.01, paid: ₱13,000.00, already refunded: ₱0.00."
        )
        assert a.does("refund_order", "r2", subject="o", amount=600_000).outcome is Outcome.OK
        more = a.does("refund_order", "r3", subject="o", amount=1_000_000).failure
        assert more is not None
        assert more.message == (
            "Refund exceeds what was paid. Amount: ₱10,000.00, paid: ₱13,000.00, already refunded: ₱6,000.00."
        )
        assert a.does("refund_order", "r4", subject="o", amount=700_000).outcome is Outcome.OK
        assert a.does("cancel_order", "c2", subject="o").outcome is Outcome.OK
        late = a.does("pay_installment", "late", subject="o", amount=1).failure
        assert late is not None
        assert late.code == "order_cancelled"
        assert verdict(stage) == set()


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
@pytest.mark.parametrize(
    ("advance", "asked", "meanwhile"),
    [
        (500_000, ("cancel_order", 0), ("refund_order", 500_000)),
        (2_000_000, ("pay_installment", 100), ("refund_order", 1_000)),
        (2_000_000, ("discount", 100), ("refund_order", 1_000)),
        (0, ("refund_order", 500_000), ("pay_installment", 500_000)),
    ],
    ids=["cancellation", "payment", "discount", "refund"],
)
def test_what_another_client_makes_possible_is_not_refused_for_it(
    postgres_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    isolation: str,
    advance: int,
    asked: tuple[str, int],
    meanwhile: tuple[str, int],
) -> None:
    """The update finds nothing, then another client commits: what is read to explain the refusal would allow the request."""
    with play(RIGHT, postgres_database, isolation=isolation) as stage:
        b = opened(stage, advance)
        a = stage.actor()
        run = a.connection.session._wire.run
        others: list[Any] = []

        def run_and_be_overtaken(sql: str, values: Any) -> Any:
            found = run(sql, values)
            if sql.startswith("UPDATE orders") and not found[1] and not others:
                others.append(b.does(meanwhile[0], "B", subject="o", amount=meanwhile[1]))
            return found

        monkeypatch.setattr(a.connection.session._wire, "run", run_and_be_overtaken)
        done = a.does(asked[0], "A", subject="o", **({"amount": asked[1]} if asked[1] else {}))
        assert [other.outcome for other in others] == [Outcome.OK]
        assert done.outcome is Outcome.OK, done.failure
        assert done.result is not None
        assert done.result["attempts"] == (1 if isolation == "read_committed" else 2)
        assert verdict(stage) == set()


@pytest.mark.parametrize(
    "settings", [{}, INDEX, INDEX | RR, SERIALIZABLE], ids=["default", "indexed", "indexed-rr", "serializable"]
)
@pytest.mark.parametrize("variant", [RIGHT, LOCKING])
@pytest.mark.parametrize("meanwhile", [False, True], ids=["alone", "while a payment is recorded"])
def test_an_order_that_repeats_its_advance_several_times_is_numbered_from_one(
    postgres_database: Database, variant: str, settings: dict[str, Any], meanwhile: bool
) -> None:
    with play(variant, postgres_database, **settings) as stage:
        a, b = stage.actor(), stage.actor()
        a.does("import_order", "old", subject="o", total=2_000_000, advance=500_000, discount=0, twice=True)
        with psycopg.connect(postgres_database.url) as connection:
            connection.execute(
                'INSERT INTO installments ("order", number, amount, note, token)'
                ' SELECT "order", 2, amount, note, token FROM installments'
            )
            connection.execute("UPDATE orders SET installments = 2")
        numbers = [a.does("pay_installment", f"p{n}", subject="o", amount=amount) for n, amount in enumerate((500_000, 300))]
        assert [n.result and n.result["installment"] for n in numbers] == [3, 4]
        if meanwhile:
            b.begins("migrate", "m", until="order_locked")
            a.begins("pay_installment", "next", subject="o", amount=200)
            assert a.waits
            migrated, paid = b.ends().result, a.ends().result
        else:
            migrated = b.does("migrate", "m").result
            paid = a.does("pay_installment", "next", subject="o", amount=200).result
        assert migrated is not None
        assert paid is not None
        assert (migrated["migrated"], migrated["left"], paid["installment"]) == (1, 0, 3)
        shown = a.does("order", "look", subject="o").result
        assert shown is not None
        assert [(i["number"], i["amount"]) for i in shown["installments"]] == [(1, 500_000), (2, 300), (3, 200)]
        assert shown["balance"] == 999_500
        assert verdict(stage) == set()
