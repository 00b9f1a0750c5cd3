"""Ways to get sales wrong on PostgreSQL.

Each class differs from `SellInOneTransaction` in the lines that are shown and in nothing else. The docstring gives the
shortest interleaving: A and B are two clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reference_impl.base.postgres import Checkpoint, Transaction
from reference_impl.base.refusal import unknown
from reference_impl.sales import rules
from reference_impl.sales.postgres import OWED, TAKE, SellInOneTransaction
from reference_impl.sales.requests import Ask

FOLLOW = """
INSERT INTO counters (scope, period, value) VALUES (:scope, :period, :number)
ON CONFLICT (scope, period) DO UPDATE SET value = greatest(counters.value, excluded.value)
"""


class ReadThenSell(SellInOneTransaction):
    """The stock is looked at, and then reduced (S01). One left: A reads 1; B reads 1; both sell it: -1."""

    def take_stock(self, tx: Transaction, ask: Ask) -> int:
        """Look, then reduce."""
        item = self.item(tx, ask)
        tx.at("stock_read")
        if item.quantity < ask.quantity:
            raise rules.insufficient_stock(ask.item, wanted=ask.quantity, left=item.quantity)
        tx.change("UPDATE items SET quantity = quantity - :quantity WHERE id = :item", item=ask.item, quantity=ask.quantity)
        return int(item.price)


class CreditBySum(SellInOneTransaction):
    """What a customer owes is summed from the sales, and no row is fought over (S02): write skew.

    A sums 0 of 100; B sums 0 of 100; both sell 80 on credit. Only SERIALIZABLE stops it.
    """

    customers_books = f'SELECT c.id, c.credit AS "limit", ({OWED}) AS open_amount FROM customers c'

    def take_credit(self, tx: Transaction, ask: Ask, amount: int) -> None:
        """Sum, and compare."""
        customer = self.customer(tx, ask)
        owed = tx.value(f"SELECT ({OWED}) FROM customers c WHERE id = :id", id=ask.customer)
        tx.at("credit_read")
        if owed + amount > customer.credit:
            raise rules.credit_exceeded(amount=amount, limit=customer.credit, open_amount=owed)

    def return_credit(self, tx: Transaction, sale: Any) -> None:
        """Nothing need be taken off: what is void is not summed."""


class VoidWritesBack(SellInOneTransaction):
    """What a void gives back is added to what was read before (S01's shape). A reads 2; B sells one: 1; A writes 3."""

    def return_stock(self, tx: Transaction, sale: Any) -> None:
        """Read, add, write."""
        quantity = tx.value("SELECT quantity FROM items WHERE id = :item", item=sale.item)
        tx.at("stock_read")
        tx.change("UPDATE items SET quantity = :quantity WHERE id = :item", item=sale.item, quantity=quantity + sale.quantity)

    def return_credit(self, tx: Transaction, sale: Any) -> None:
        """Read, subtract, write."""
        owed = tx.value("SELECT open_amount FROM customers WHERE id = :id", id=sale.customer)
        tx.at("credit_read")
        tx.change("UPDATE customers SET open_amount = :owed WHERE id = :id", id=sale.customer, owed=owed - sale.amount)


class VoidByLook(SellInOneTransaction):
    """The sale is looked at, and then marked void (S01's shape). A sees it issued; B sees it issued; both put its stock back."""

    def mark_void(self, tx: Transaction, ask: Ask) -> Any:
        """Look, then mark."""
        seen = tx.row(
            "SELECT id, status, item, quantity, customer, amount FROM sales WHERE company = :company AND text = :text",
            company=ask.company,
            text=ask.subject,
        )
        if seen is None:
            raise unknown("sale", ask.subject)
        tx.at("sale_read")
        if seen.status != "issued":
            raise rules.not_one(ask.subject, 0)
        tx.change("UPDATE sales SET status = 'void', reason = :reason WHERE id = :id", id=seen.id, reason=ask.reason)
        return seen


class VoidInTwoTransactions(SellInOneTransaction):
    """The sale is marked void in a transaction of its own, and what it took goes back in the next (S04's shape).

    A marks it and crashes: nothing went back, and whoever voids it again is told that it is void.
    """

    def mark_void(self, tx: Transaction, ask: Ask) -> Any:
        """Mark, and commit."""
        mark = super().mark_void
        return self.session.aside(lambda own: mark(own, ask))


class NumberBeforeValidation(SellInOneTransaction):
    """The number is drawn first, on a connection of its own, and everything that may fail comes after it (N27, S04).

    A draws 5, committed; its sale is refused, or A crashes; B draws 6: 5 is gone. The document's gaps: it is not that a
    counter's row does not roll back, but that it was drawn in another transaction.
    """

    def sell(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Draw, then sell with what was drawn."""
        scope, period, _ = rules.series(ask.branch, ask.at)
        self.drawn: int = self.session.aside(lambda own: int(own.value(TAKE, scope=scope, period=period)))
        tx.at("number_drawn")
        return super().sell(tx, ask)

    def draw(self, tx: Transaction, scope: str, period: str) -> int:
        """Use what was drawn."""
        return self.drawn


class ValidateBeforeTransaction(NumberBeforeValidation):
    """The document's prevention: "check stock before generating the invoice", with the sale in a later transaction (S03).

    One left: A validates, B validates; A sells; B draws 6 and sells it again, or with ``stock_check`` fails and 6 is gone.
    """

    def sell(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Validate in a transaction of its own, then sell."""
        item = self.session.aside(lambda own: self.item(own, ask))
        if item.quantity < ask.quantity:
            raise rules.insufficient_stock(ask.item, wanted=ask.quantity, left=item.quantity)
        tx.at("stock_read")
        return super().sell(tx, ask)

    def take_stock(self, tx: Transaction, ask: Ask) -> int:
        """Reduce what was validated."""
        price: int = tx.value(
            "UPDATE items SET quantity = quantity - :quantity WHERE id = :item RETURNING price",
            item=ask.item,
            quantity=ask.quantity,
        )
        return price


class DocumentThenCounter(SellInOneTransaction):
    """The sale is stored with counter + 1, and the counter follows in a transaction of its own (S05).

    A stores sale 5; before the counter follows, or because A crashes and it never does, B stores sale 5.
    """

    def draw(self, tx: Transaction, scope: str, period: str) -> int:
        """Read the counter."""
        value = tx.value("SELECT value FROM counters WHERE scope = :scope AND period = :period", scope=scope, period=period)
        return int(value or 0) + 1

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Carry out the operation, and let the counter follow."""
        answer = super().call(f, arguments, token, checkpoint)
        if f == "sell" and not answer.get("replayed"):
            checkpoint("document_committed")
            place = {"scope": answer["scope"], "period": answer["period"], "number": answer["number"]}
            self.session.aside(lambda tx: tx.change(FOLLOW, **place))
        return answer


class NumberEarly(SellInOneTransaction):
    """The number is drawn first, in the sale's transaction: right, and everybody waits for everybody's slow part (S06)."""

    def sell(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Draw, then do the rest while the counter's row is held."""
        scope, period, _ = rules.series(ask.branch, ask.at)
        self.drawn = super().draw(tx, scope, period)
        return super().sell(tx, ask)

    def draw(self, tx: Transaction, scope: str, period: str) -> int:
        """Use what was drawn."""
        return self.drawn
