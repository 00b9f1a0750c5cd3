"""Ways to get orders wrong on PostgreSQL.

Each class differs from `LockOrderThenSum` in the lines that are shown and in nothing else. The docstring gives the
shortest interleaving: A and B are two clients.
"""

from __future__ import annotations

from typing import Any

from reference_impl.base.postgres import Transaction
from reference_impl.orders import rules
from reference_impl.orders.postgres_locking import LockOrderThenSum
from reference_impl.orders.requests import Ask


class AdvanceStoredTwice(LockOrderThenSum):
    """The advance stands in the order and as installment #1, and the balance subtracts both (O01).

    20,000 with an advance of 5,000 and nothing else paid owes 10,000 instead of 15,000.
    """

    def open_order(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Open an order and record its advance as if it were a payment of the balance."""
        self.insert_order(tx, ask)
        if ask.advance:
            self.insert_installment(tx, ask, number=1, amount=ask.advance)
        _, due = self.compute_and_store(tx, ask)
        self.record(tx, ask, ask.advance)
        return {"subject": ask.subject, "amount": ask.advance, "balance": due}


class AdvanceForgotten(LockOrderThenSum):
    """The balance counts on finding the advance among the installments, where it is not (O02).

    14,631.68 less a discount of 1,754.79 and an advance of 6,876.89 owes 12,876.89 instead of 6,000.00.
    """

    def balance_of(self, order: Any, paid: int) -> int:
        """Subtract discount and installments."""
        return int(order.total - order.discount - paid + order.refunded)


class MigrationByAmount(LockOrderThenSum):
    """The migration takes a first installment that equals the advance for a repeated advance (O03).

    50 % in advance, 50 % on delivery: the second half is deleted.
    """

    doubled = """
EXISTS (
    SELECT FROM installments i
    WHERE i."order" = orders.id AND i.number = 1 AND orders.advance > 0 AND abs(orders.advance - i.amount) < 1
)
"""
    """An installment #1 within 0.01 of the advance, as the document's script has it."""

    def remove_advance(self, tx: Transaction, order: str) -> list[Any]:
        """Delete installment #1."""
        return tx.rows(
            'DELETE FROM installments WHERE "order" = :order AND number = 1'
            " AND abs((SELECT advance FROM orders WHERE id = :order) - amount) < 1 RETURNING id",
            order=order,
        )


class CountPlusOne(LockOrderThenSum):
    """The number is counted before the order is locked (O04). A counts 1; B counts 1; both insert #2."""

    def pay_installment(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Count, then do the rest."""
        count = tx.value('SELECT count(*) FROM installments WHERE "order" = :id', id=ask.subject)
        tx.at("counted")
        order = self.lock_order(tx, ask)
        paid, _ = self.installments(tx, ask, order)
        due = self.balance_of(order, paid)
        if ask.amount > due:
            raise rules.exceeds_balance("Payment", amount=ask.amount, balance=due)
        self.insert_installment(tx, ask, number=count + 1, amount=ask.amount)
        self.store_balance(tx, ask, due, -ask.amount)
        self.record(tx, ask, ask.amount)
        return {"subject": ask.subject, "amount": ask.amount, "installment": count + 1, "balance": due - ask.amount}


class StaleBalance(LockOrderThenSum):
    """The balance is computed in the application from an order read without a lock, and stored (O05).

    A (pays 8,000) and B (discount of 2,000) read 20,000; A stores 12,000; B stores 18,000. At REPEATABLE READ PostgreSQL
    refuses the second write, and the retry of the whole transaction is right.
    """

    def lock_order(self, tx: Transaction, ask: Ask) -> Any:
        """Read the order without locking it."""
        order = tx.row(
            "SELECT total, advance, discount, refunded, status, balance FROM orders WHERE id = :id AND company = :company",
            id=ask.subject,
            company=ask.company,
        )
        return self.still_open(order, ask)


class PayWithinReadBalance(StaleBalance):
    """Each of two payments is within the balance that it read (O06). 7,000 due; A pays 7,000; B pays 7,000."""

    def store_balance(self, tx: Transaction, ask: Ask, due: int, change: int) -> None:
        """Change the balance rather than writing it whole: no drift, and below zero all the same."""
        tx.change("UPDATE orders SET balance = balance + :change WHERE id = :id", id=ask.subject, change=change)


class LockAndSumInOneStatement(LockOrderThenSum):
    """One statement locks the order and sums its installments (READ COMMITTED sums what was there before it waited).

    100 due; A locks, inserts 80, commits; B waited, and its sum still says 0: B inserts 80.
    """

    def lock_order(self, tx: Transaction, ask: Ask) -> Any:
        """Lock and sum at once."""
        order = tx.row(
            "SELECT total, advance, discount, refunded, status, balance,"
            " (SELECT coalesce(sum(amount) FILTER (WHERE note IS DISTINCT FROM :note), 0)"
            '  FROM installments WHERE "order" = orders.id)::bigint AS paid,'
            ' (SELECT count(*) FROM installments WHERE "order" = orders.id) AS count'
            " FROM orders WHERE id = :id AND company = :company FOR UPDATE",
            id=ask.subject,
            company=ask.company,
            note=rules.ADVANCE_NOTE,
        )
        return self.still_open(order, ask)

    def installments(self, tx: Transaction, ask: Ask, order: Any) -> tuple[int, int]:
        """Use what was summed."""
        return order.paid, order.count


class CancelByLook(LockOrderThenSum):
    """Cancelling looks whether anything was paid, and then writes whatever happened since.

    A looks: nothing paid; B pays 8,000; A cancels: a cancelled order with 8,000 of the customer's money.
    """

    def order_to_cancel(self, tx: Transaction, ask: Ask) -> Any:
        """Read the order without locking it."""
        order = tx.row(
            "SELECT total, advance, discount, refunded, status, balance FROM orders WHERE id = :id AND company = :company",
            id=ask.subject,
            company=ask.company,
        )
        return self.still_open(order, ask)


class RepairWithoutInstallments(LockOrderThenSum):
    """The repair sets the balance to total less advance and discount, as if nothing else had been paid.

    The document's one-row repair: right for the one order that it was written for, and told nobody.
    """

    def repair(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Overwrite the balance."""
        due = tx.value(
            "UPDATE orders SET balance = total - advance - discount WHERE id = :id AND company = :company RETURNING balance",
            id=ask.subject,
            company=ask.company,
        )
        return {"subject": ask.subject, "balance": due}
