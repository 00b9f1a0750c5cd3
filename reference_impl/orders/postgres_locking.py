"""Orders on PostgreSQL with an explicit lock: lock the order, read what belongs to it, compute, store.

The shape of the document's code, made right. The sum over the installments is a **second** statement, after the lock was
granted: READ COMMITTED takes a statement's snapshot before the statement waits, so one that locks the order and sums
its installments at once sums what was there before it waited. The balance is stored, and right because whoever changes
one of its parts holds the order's lock and computes it anew.
"""

from __future__ import annotations

from typing import Any

from reference_impl.base.outbox import own_token, record
from reference_impl.base.postgres import Transaction
from reference_impl.base.refusal import unknown
from reference_impl.orders import rules
from reference_impl.orders.postgres import BalanceFromOneRow
from reference_impl.orders.requests import Ask


class LockOrderThenSum(BalanceFromOneRow):
    """The order is locked, its installments are summed by a second statement, and the balance is stored."""

    balance = "NOT NULL DEFAULT 0"

    def open_order(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Open an order."""
        self.insert_order(tx, ask)
        _, due = self.compute_and_store(tx, ask)
        self.record(tx, ask, ask.advance)
        return {"subject": ask.subject, "amount": ask.advance, "balance": due}

    def import_order(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take over an order of the old version."""
        answer = super().import_order(tx, ask)
        self.compute_and_store(tx, ask)
        return answer

    def pay_installment(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Record a payment of the balance."""
        order = self.lock_order(tx, ask)
        tx.at("order_read")
        paid, count = self.installments(tx, ask, order)
        due = self.balance_of(order, paid)
        tx.at("balance_known")
        if ask.amount > due:
            raise rules.exceeds_balance("Payment", amount=ask.amount, balance=due)
        self.insert_installment(tx, ask, number=count + 1, amount=ask.amount)
        self.store_balance(tx, ask, due, -ask.amount)
        self.record(tx, ask, ask.amount)
        return {"subject": ask.subject, "amount": ask.amount, "installment": count + 1, "balance": due - ask.amount}

    def discount(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take something off what is due."""
        order = self.lock_order(tx, ask)
        tx.at("order_read")
        paid, _ = self.installments(tx, ask, order)
        due = self.balance_of(order, paid)
        tx.at("balance_known")
        if ask.amount > due:
            raise rules.exceeds_balance("Discount", amount=ask.amount, balance=due)
        tx.change("UPDATE orders SET discount = discount + :amount WHERE id = :id", id=ask.subject, amount=ask.amount)
        self.store_balance(tx, ask, due, -ask.amount)
        self.record(tx, ask, ask.amount)
        return {"subject": ask.subject, "amount": ask.amount, "balance": due - ask.amount}

    def refund_order(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Give money back, never more than was paid."""
        order = self.lock_order(tx, ask)
        paid, _ = self.installments(tx, ask, order)
        received = order.advance + paid
        tx.at("balance_known")
        if ask.amount > received - order.refunded:
            raise rules.exceeds_paid(amount=ask.amount, paid=received, refunded=order.refunded)
        tx.change("UPDATE orders SET refunded = refunded + :amount WHERE id = :id", id=ask.subject, amount=ask.amount)
        due = self.balance_of(order, paid)
        self.store_balance(tx, ask, due, ask.amount)
        self.record(tx, ask, ask.amount)
        return {"subject": ask.subject, "amount": ask.amount, "balance": due + ask.amount}

    def cancel_order(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Cancel an order of which no money is kept."""
        order = self.order_to_cancel(tx, ask)
        paid, _ = self.installments(tx, ask, order)
        kept = order.advance + paid - order.refunded
        tx.at("kept_known")
        if kept:
            raise rules.refund_first(ask.subject, kept)
        tx.change("UPDATE orders SET status = 'cancelled' WHERE id = :id", id=ask.subject)
        self.record(tx, ask, 0)
        return {"subject": ask.subject, "amount": 0}

    def repair(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Compute a stored balance anew, under the lock and from all of its parts. What was wrong is told like any change."""
        before, due = self.compute_and_store(tx, ask)
        if due != before:
            token = own_token(tx, f"repair of {ask.subject}")
            record(tx, subject=ask.subject, action="repair", amount=due - before, token=token, request="")
        return {"subject": ask.subject, "balance": due}

    # Steps ----------------------------------------------------------------------------------------------------------

    def lock_order(self, tx: Transaction, ask: Ask) -> Any:
        """Lock an open order and read it."""
        order = tx.row(
            "SELECT total, advance, discount, refunded, status, balance FROM orders"
            " WHERE id = :id AND company = :company FOR UPDATE",
            id=ask.subject,
            company=ask.company,
        )
        return self.still_open(order, ask)

    def still_open(self, order: Any, ask: Ask) -> Any:
        """Refuse an order that is not there or is cancelled."""
        if order is None:
            raise unknown("order", ask.subject)
        if order.status == rules.CANCELLED:
            raise rules.is_cancelled(ask.subject)
        return order

    def order_to_cancel(self, tx: Transaction, ask: Ask) -> Any:
        """Lock the order that is to be cancelled."""
        return self.lock_order(tx, ask)

    def installments(self, tx: Transaction, ask: Ask, order: Any) -> tuple[int, int]:
        """Return the sum of an order's payments, and how many installments there are."""
        found = tx.row(
            "SELECT coalesce(sum(amount) FILTER (WHERE note IS DISTINCT FROM :note), 0)::bigint AS paid, count(*) AS count"
            ' FROM installments WHERE "order" = :id',
            id=ask.subject,
            note=rules.ADVANCE_NOTE,
        )
        return found.paid, found.count

    def balance_of(self, order: Any, paid: int) -> int:
        """Return what is due."""
        return rules.balance(
            total=order.total, advance=order.advance, discount=order.discount, paid=paid, refunded=order.refunded
        )

    def store_balance(self, tx: Transaction, ask: Ask, due: int, change: int) -> None:
        """Store the balance that was computed."""
        tx.change("UPDATE orders SET balance = :balance WHERE id = :id", id=ask.subject, balance=due + change)

    def compute_and_store(self, tx: Transaction, ask: Ask) -> tuple[int, int]:
        """Lock, sum, store; return the balance that stood there and the one that stands there now."""
        order = self.lock_order(tx, ask)
        due = self.balance_of(order, self.installments(tx, ask, order)[0])
        tx.change("UPDATE orders SET balance = :balance WHERE id = :id", id=ask.subject, balance=due)
        return order.balance, due
