"""What migrate, verify and order answer: counts that are counted, everything that is wrong, figures of one moment."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from harness.model import Outcome
from harness.stores import Database
from reference_impl.orders import postgres as orders
from reference_impl.orders import rules
from tests.reference_impl.stepping import Actor, Play, play

RIGHT = "pg.balance_from_one_row"
LOCKING = "pg.lock_order_then_sum"
BY_AMOUNT = "pg.migration_by_amount"

correct = pytest.mark.parametrize("variant", [RIGHT, LOCKING])


def answer(actor: Actor, f: str, token: str, **arguments: Any) -> Any:
    """Carry out an operation that goes well, and return its answer."""
    done = actor.does(f, token, **arguments)
    assert done.outcome is Outcome.OK, done.failure
    return done.result


def open_order(actor: Actor, order: str = "o", *, advance: int = 500_000) -> None:
    """Open an order of 20,000.00."""
    answer(actor, "open_order", f"open {order}", subject=order, total=2_000_000, advance=advance)


def import_order(actor: Actor, order: str, *, twice: bool = True) -> None:
    """Take over an old order of 20,000.00 with 5,000.00 in advance."""
    arguments = {"total": 2_000_000, "advance": 500_000, "discount": 0, "twice": twice}
    answer(actor, "import_order", f"import {order}", subject=order, **arguments)


def by_hand(stage: Play, sql: str) -> None:
    """Change the tables past the implementation."""
    with psycopg.connect(stage.database.url) as connection:
        connection.execute(sql.encode())


@pytest.mark.parametrize("variant", [RIGHT, LOCKING, BY_AMOUNT])
@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
def test_a_migration_counts_the_orders_that_still_hold_their_advance_twice(
    postgres_database: Database, variant: str, isolation: str
) -> None:
    with play(variant, postgres_database, isolation=isolation) as stage:
        a = stage.actor()
        for n in range(5):
            import_order(a, f"old{n}")
        import_order(a, "once", twice=False)
        batches = [answer(a, "migrate", f"m{n}", most=2) for n in range(4)]
        assert [(b["migrated"], b["left"]) for b in batches] == [(2, 3), (2, 1), (1, 0), (0, 0)]


@correct
@pytest.mark.parametrize("same_row", [False, True], ids=["by an old server", "by a restore"])
def test_an_order_that_repeats_its_advance_again_keeps_no_other_from_being_migrated(
    postgres_database: Database, variant: str, same_row: bool
) -> None:
    with play(variant, postgres_database) as stage:
        a = stage.actor()
        import_order(a, "first")
        by_hand(stage, "CREATE TABLE before AS SELECT * FROM installments")
        columns = '"order", number, amount, note, token'
        for again in range(3):
            import_order(a, f"later {again}")
            migrated = answer(a, "migrate", "m" if same_row else f"m{again}", most=10)
            assert (migrated["migrated"], migrated["left"]) == (2, 0)
            restore = "OVERRIDING SYSTEM VALUE SELECT *" if same_row else f"({columns}) SELECT {columns}"
            by_hand(stage, f"INSERT INTO installments {restore} FROM before")
        assert stage.books().table("audit").filter(action="migrate").height == 6
        assert not stage.findings("A-MATCH")


@correct
def test_a_token_that_another_row_of_the_audit_log_has_is_not_taken_for_the_clients_key(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    with play(variant, postgres_database) as stage:
        a = stage.actor()
        import_order(a, "one")
        import_order(a, "two")
        monkeypatch.setattr(orders, "own_token", lambda tx, what: "the same for all")
        failure = a.does("migrate", "m").failure
        assert failure is not None
        assert (failure.refusal, failure.code) == (False, "23505")


@correct
def test_a_repair_tells_of_what_it_changes(postgres_database: Database, variant: str) -> None:
    with play(variant, postgres_database) as stage:
        a = stage.actor()
        open_order(a)
        answer(a, "pay_installment", "p", subject="o", amount=800_000)
        wrong = 2 if variant == LOCKING else 0  # the other one's balance cannot be wrong
        for n in range(3):
            if n < wrong:
                by_hand(stage, "UPDATE orders SET balance = balance + 100")
            assert answer(a, "repair", "r", subject="o")["balance"] == 700_000
        told = stage.books().table("audit").filter(action="repair")
        assert told.select("subject", "delivered").rows() == [("o", False)] * wrong
        assert told["token"].n_unique() == wrong
        assert not stage.findings("A-MATCH", "O-DRIFT", "P-ONCE")


@correct
def test_verify_tells_how_many_orders_are_wrong_beyond_those_it_names(postgres_database: Database, variant: str) -> None:
    with play(variant, postgres_database) as stage:
        a = stage.actor()
        open_order(a, "right")
        for n in range(23):
            open_order(a, f"o{n:02}")
            answer(a, "pay_installment", f"p{n}", subject=f"o{n:02}", amount=800_000)
        assert answer(a, "verify", "v1")["totals"]["wrong"] == 0
        by_hand(stage, "UPDATE installments SET amount = amount - 1")
        found = answer(a, "verify", "v2")
        assert found["totals"]["wrong"] == 23
        assert len(found["wrong"]) == 20
        assert found["wrong"][0] == {"order": "o00", "balance": 700_000, "derived": 700_001}


def test_verify_reports_a_cancelled_order_that_was_paid(postgres_database: Database) -> None:
    with play("pg.cancel_by_look", postgres_database) as stage:
        a, b = stage.actor(), stage.actor()
        open_order(a, advance=0)
        a.begins("cancel_order", "c", until="kept_known", subject="o")
        answer(b, "pay_installment", "p", subject="o", amount=800_000)
        assert a.ends().outcome is Outcome.OK
        found = answer(b, "verify", "v")
        assert stage.findings("O-CANCEL")
        assert found["cancelled"] == [{"order": "o", "kept": 800_000}]
        assert found["totals"]["cancelled"] == 1


@correct
def test_verify_reports_a_cancelled_order_of_which_too_much_was_given_back(postgres_database: Database, variant: str) -> None:
    with play(variant, postgres_database) as stage:
        a = stage.actor()
        open_order(a, "o")
        open_order(a, "unpaid", advance=0)
        import_order(a, "old")
        for order in ("o", "old"):
            answer(a, "refund_order", f"refund {order}", subject=order, amount=500_000)
        for order in ("o", "old", "unpaid"):
            answer(a, "cancel_order", f"cancel {order}", subject=order)
        assert answer(a, "verify", "v1")["cancelled"] == []
        by_hand(stage, "UPDATE orders SET refunded = refunded + 100 WHERE id = 'o'")
        assert answer(a, "verify", "v2")["cancelled"] == [{"order": "o", "kept": -100}]


@correct
def test_verify_reports_an_installment_noted_as_another_advance_than_the_orders(
    postgres_database: Database, variant: str
) -> None:
    with play(variant, postgres_database) as stage:
        a = stage.actor()
        import_order(a, "old")
        import_order(a, "odd")
        by_hand(stage, "UPDATE installments SET amount = 400000 WHERE \"order\" = 'odd'")
        odd = {"order": "odd", "number": 1, "noted": 400_000, "advance": 500_000}
        before = answer(a, "verify", "v1")
        assert (before["noted"], before["totals"]["noted"], before["twice"]) == ([odd], 1, 1)
        assert answer(a, "migrate", "m")["left"] == 0
        after = answer(a, "verify", "v2")
        assert (after["noted"], after["totals"]["noted"], after["twice"]) == ([odd], 1, 0)


@correct
def test_an_order_is_shown_as_it_is_at_one_moment(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    with play(variant, postgres_database) as stage:
        looking, paying = stage.actor(), stage.actor()
        open_order(paying)
        answer(paying, "discount", "d", subject="o", amount=100_000)
        answer(paying, "pay_installment", "p", subject="o", amount=800_000)
        answer(paying, "refund_order", "r", subject="o", amount=50_000)
        statements: list[str] = []
        run = looking.connection.session._wire.run

        def run_and_be_paid(sql: str, values: Any) -> Any:
            """Run a statement of the view; then a payment is recorded."""
            found = run(sql, values)
            answer(paying, "pay_installment", f"meanwhile {len(statements)}", subject="o", amount=1_000)
            statements.append(sql)
            return found

        with monkeypatch.context() as patched:
            patched.setattr(looking.connection.session._wire, "run", run_and_be_paid)
            shown = answer(looking, "order", "look", subject="o")
        assert statements
        assert shown["balance_paid"] == sum(i["amount"] for i in shown["installments"])
        assert shown["balance"] == rules.balance(
            total=shown["total"],
            advance=shown["advance"],
            discount=shown["discount"],
            paid=shown["balance_paid"],
            refunded=shown["refunded"],
        )


@correct
def test_an_order_is_shown_with_the_status_that_its_books_have(postgres_database: Database, variant: str) -> None:
    with play(variant, postgres_database) as stage:
        a = stage.actor()
        seen = []
        open_order(a)
        for f, amount in (
            ("pay_installment", 1_500_000),
            ("refund_order", 1),
            ("refund_order", 1_999_999),
            ("cancel_order", None),
        ):
            answer(a, f, f"{f} {amount}", subject="o", **({"amount": amount} if amount else {}))
            seen.append(answer(a, "order", f"look {len(seen)}", subject="o")["status"])
            assert seen[-1] == stage.books().table("orders")["status"][0]
        assert seen == ["paid", "open", "open", "cancelled"]


def test_an_order_is_shown_with_the_numbers_that_are_stored(postgres_database: Database) -> None:
    with play("pg.installment_count_plus_one", postgres_database) as stage:
        a, b = stage.actor(), stage.actor()
        open_order(a)
        a.begins("pay_installment", "A", until="counted", subject="o", amount=100)
        answer(b, "pay_installment", "B", subject="o", amount=200)
        a.ends()
        assert stage.findings("O-INST")
        shown = answer(a, "order", "look", subject="o")
        assert shown["installments"] == [{"number": 1, "amount": 200}, {"number": 1, "amount": 100}]


@correct
def test_an_order_of_another_company_is_not_shown(postgres_database: Database, variant: str) -> None:
    with play(variant, postgres_database) as stage:
        a = stage.actor()
        open_order(a)
        assert answer(a, "order", "unpaid", subject="o")["installments"] == []
        refused = a.does("order", "look", subject="o", company="another").failure
        assert refused is not None
        assert refused.code == "unknown_order"
