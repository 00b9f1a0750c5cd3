"""Orders on PostgreSQL, done right: `BalanceFromOneRow`.

- **One source of truth.** The advance stands in the order and nowhere else. The balance is a generated column: the
  database computes it from the order's own columns. Two of these, ``paid`` and ``installments``, sum up and count the
  installments; each changes in the transaction that adds one, and `verify` compares them.
- **Everything meets on the order's row.** A payment, a discount, a refund and a cancellation each change that row by one
  statement whose WHERE clause says what must hold (``balance >= amount``, ``status = 'open'``). Of two at once the second
  waits and looks again. A refusal is explained by the row as it stands under a lock (`change_order`).
- **Numbers come from the row as well.** ``installments + 1`` is taken by the statement that counts the payment.

The migration removes installments in which an old version repeated the advance. It knows them by the note that the old
version wrote, not by their amount: a first payment that happens to equal the advance is a payment. It locks one order at
a time, so payments may go on while it runs, and it may be stopped and started again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from reference_impl.base import outbox
from reference_impl.base.business import PostgresBusiness, Settings, change_or_refuse
from reference_impl.base.outbox import own_token, record
from reference_impl.base.postgres import Transaction
from reference_impl.base.refusal import Refused, unknown
from reference_impl.orders import rules
from reference_impl.orders.requests import Ask, understand

SCHEMA = """
CREATE TABLE orders (
    id            text PRIMARY KEY,
    company       text NOT NULL,
    total         bigint NOT NULL,
    advance       bigint NOT NULL,
    discount      bigint NOT NULL DEFAULT 0,
    paid          bigint NOT NULL DEFAULT 0,
    refunded      bigint NOT NULL DEFAULT 0,
    installments  int NOT NULL DEFAULT 0,
    status        text NOT NULL DEFAULT 'open',
    balance       bigint {balance}
);
CREATE TABLE installments (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "order"  text NOT NULL REFERENCES orders,
    number   int NOT NULL,
    amount   bigint NOT NULL,
    note     text,
    token    text NOT NULL
);
CREATE INDEX installments_of_order ON installments ("order", number);
"""
GENERATED = "GENERATED ALWAYS AS (total - advance - discount - paid + refunded) STORED"
ONE_NUMBER = """
ALTER TABLE installments ADD CONSTRAINT installments_number UNIQUE ("order", number) DEFERRABLE INITIALLY IMMEDIATE;
"""
"""Deferrable, so that it is checked when a statement ends: the migration moves a whole row of numbers down."""

STATUS = "CASE WHEN status = 'open' AND balance = 0 THEN 'paid' ELSE status END AS status"
"""An order is paid when nothing is due. That is not stored, because a refund would have to take it back."""

SUMMARY = f"""
SELECT total, advance, discount, refunded, balance, {STATUS}, (
    SELECT coalesce(json_agg(json_build_object('number', number, 'amount', amount) ORDER BY number, id), '[]')
    FROM installments i WHERE i."order" = orders.id AND note IS DISTINCT FROM :note
) AS installments
FROM orders WHERE id = :id AND company = :company
"""
"""One statement, which sees the order and its installments as they are at one moment: after a second statement a payment
might be among the installments and not yet in the balance."""

DOUBLED = """
EXISTS (SELECT FROM installments i WHERE i."order" = orders.id AND i.note = :note AND i.amount = orders.advance)
"""
"""The document's second query, corrected: an advance is stored twice if a row is noted as the advance, whatever its
number; an equal first payment is not."""

CLOSE_GAPS = """
UPDATE installments SET number = placed.position
FROM (SELECT id, row_number() OVER (ORDER BY number, id) AS position FROM installments WHERE "order" = :order) AS placed
WHERE installments.id = placed.id AND installments.number <> placed.position
"""
COUNT_ANEW = """
UPDATE orders SET installments = (SELECT count(*) FROM installments WHERE "order" = :order) WHERE id = :order
"""
"""What is left of an order's installments keeps its order and is numbered from 1, however many were removed; the next one's
number follows from their count. Under the order's lock, which every payment needs."""

WRONG_BALANCE = """
SELECT "order", balance, derived, count(*) OVER () AS total FROM (
    SELECT o.id AS "order", o.balance,
           (o.total - o.advance - o.discount + o.refunded - coalesce(sum(i.amount), 0))::bigint AS derived
    FROM orders o LEFT JOIN installments i ON i."order" = o.id AND i.note IS DISTINCT FROM :note
    WHERE o.company = :company AND o.status <> 'cancelled'
    GROUP BY o.id
) compared WHERE balance <> derived ORDER BY "order" LIMIT 20
"""
"""The document's verification query, corrected: exact rather than within 0.02, refunds counted, and valid SQL.

Like the queries below it names the first twenty, and tells with each how many there are in all.
"""

KEPT_THOUGH_CANCELLED = """
SELECT "order", kept, count(*) OVER () AS total FROM (
    SELECT o.id AS "order", (o.advance + coalesce(sum(i.amount), 0) - o.refunded)::bigint AS kept
    FROM orders o LEFT JOIN installments i ON i."order" = o.id AND i.note IS DISTINCT FROM :note
    WHERE o.company = :company AND o.status = 'cancelled'
    GROUP BY o.id
) summed WHERE kept <> 0 ORDER BY "order" LIMIT 20
"""
"""Cancelled orders of which money is kept; below zero, more was given back than was paid."""

NOTED_OTHERWISE = """
SELECT o.id AS "order", i.number, i.amount AS noted, o.advance, count(*) OVER () AS total
FROM orders o JOIN installments i ON i."order" = o.id AND i.note = :note AND i.amount <> o.advance
WHERE o.company = :company ORDER BY o.id, i.number LIMIT 20
"""
"""Installments noted as the advance with another amount than the order's. No sum counts them and no migration removes
them: which of the two amounts was paid, nobody but a person can tell."""

CHECKS = {"wrong": WRONG_BALANCE, "cancelled": KEPT_THOUGH_CANCELLED, "noted": NOTED_OTHERWISE}
"""What `verify` looks for, by the name under which it answers."""


class BalanceFromOneRow(PostgresBusiness):
    """Every change of an order is one conditional update of its row, from which the database derives the balance."""

    without_key = frozenset({"verify", "order", "migrate", "repair"})  # they only look, or do what is left to do
    balance: ClassVar[str] = GENERATED
    """How the balance column comes by its value."""
    doubled: ClassVar[str] = DOUBLED
    """What is true of an order whose advance is stored twice."""
    refusals: ClassVar[Mapping[str, Callable[[Ask], Refused]]] = {
        "orders_pkey": lambda ask: rules.exists_already(ask.subject),
    }

    @classmethod
    def tables(cls, settings: Settings) -> str:
        """Return the DDL. ``unique_index`` adds the second line of defence: an order has each installment number once."""
        parts = [SCHEMA.format(balance=cls.balance)]
        if settings["unique_index"]:
            parts.append(ONE_NUMBER)
        return "\n".join(parts)

    @classmethod
    def books(cls, settings: Settings) -> Mapping[str, str]:
        """Return how each canonical table is read."""
        return {
            "orders": f"SELECT id, total, advance, discount, balance, refunded, {STATUS} FROM orders",
            "installments": 'SELECT id, "order", number, amount, token FROM installments',
            **outbox.BOOKS,
        }

    def understand(self, f: str, arguments: Mapping[str, Any], token: str) -> Ask:
        """Read the request, or refuse it."""
        return understand(f, arguments, token)

    # The operations -------------------------------------------------------------------------------------------------

    def open_order(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Open an order. Its advance is stored in the order, and not as an installment."""
        self.insert_order(tx, ask)
        self.record(tx, ask, ask.advance)
        return {"subject": ask.subject, "amount": ask.advance, "balance": self.shown(tx, ask).balance}

    def import_order(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take over an order of the old version, which may have stored the advance a second time as installment #1."""
        self.insert_order(tx, ask)
        if ask.twice and ask.advance:
            self.insert_installment(tx, ask, number=1, amount=ask.advance, note=rules.ADVANCE_NOTE)
            tx.change("UPDATE orders SET installments = 1 WHERE id = :id", id=ask.subject)
        self.record(tx, ask, ask.advance)
        return {"subject": ask.subject, "amount": ask.advance}

    def pay_installment(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Record a payment of the balance, never more than is due."""
        order = self.change_order(
            tx,
            ask,
            lambda: tx.row(
                "UPDATE orders SET paid = paid + :amount, installments = installments + 1"
                " WHERE id = :id AND company = :company AND status = 'open' AND balance >= :amount"
                " RETURNING installments, balance",
                id=ask.subject,
                company=ask.company,
                amount=ask.amount,
            ),
            lambda stands: rules.exceeds_balance("Payment", amount=ask.amount, balance=stands.balance),
        )
        tx.at("payment_counted")
        self.insert_installment(tx, ask, number=order.installments, amount=ask.amount)
        self.record(tx, ask, ask.amount)
        return {"subject": ask.subject, "amount": ask.amount, "installment": order.installments, "balance": order.balance}

    def discount(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take something off what is due."""
        order = self.change_order(
            tx,
            ask,
            lambda: tx.row(
                "UPDATE orders SET discount = discount + :amount"
                " WHERE id = :id AND company = :company AND status = 'open' AND balance >= :amount RETURNING balance",
                id=ask.subject,
                company=ask.company,
                amount=ask.amount,
            ),
            lambda stands: rules.exceeds_balance("Discount", amount=ask.amount, balance=stands.balance),
        )
        tx.at("discount_given")
        self.record(tx, ask, ask.amount)
        return {"subject": ask.subject, "amount": ask.amount, "balance": order.balance}

    def refund_order(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Give money back, never more than was paid."""
        order = self.change_order(
            tx,
            ask,
            lambda: tx.row(
                "UPDATE orders SET refunded = refunded + :amount"
                " WHERE id = :id AND company = :company AND status = 'open' AND advance + paid - refunded >= :amount"
                " RETURNING balance",
                id=ask.subject,
                company=ask.company,
                amount=ask.amount,
            ),
            lambda stands: rules.exceeds_paid(amount=ask.amount, paid=stands.paid, refunded=stands.refunded),
        )
        self.record(tx, ask, ask.amount)
        return {"subject": ask.subject, "amount": ask.amount, "balance": order.balance}

    def cancel_order(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Cancel an order of which no money is kept."""
        self.change_order(
            tx,
            ask,
            lambda: tx.change(
                "UPDATE orders SET status = 'cancelled'"
                " WHERE id = :id AND company = :company AND status = 'open' AND advance + paid - refunded = 0",
                id=ask.subject,
                company=ask.company,
            ),
            lambda stands: rules.refund_first(ask.subject, stands.paid - stands.refunded),
        )
        tx.at("cancelled")
        self.record(tx, ask, 0)
        return {"subject": ask.subject, "amount": 0}

    def migrate(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Remove installments that repeat an advance, one order after another; tell how many orders are left."""
        orders = tx.rows(
            f"SELECT id FROM orders WHERE company = :company AND {self.doubled} ORDER BY id LIMIT :most",
            company=ask.company,
            note=rules.ADVANCE_NOTE,
            most=ask.amount,
        )
        tx.at("orders_found")
        removed = sum(self.session.aside(lambda own, id=order.id: self.clean(own, id), tx.at) for order in orders)  # type: ignore[misc]
        # Each order was cleaned in a transaction of its own, which a snapshot of this one may not see.
        return {"migrated": removed, "left": self.session.aside(lambda own: self.holding_twice(own, ask))}

    def holding_twice(self, tx: Transaction, ask: Ask) -> int:
        """Count the orders whose advance is stored twice."""
        query = f"SELECT count(*) FROM orders WHERE company = :company AND {self.doubled}"
        return int(tx.value(query, company=ask.company, note=rules.ADVANCE_NOTE))

    def clean(self, tx: Transaction, order: str) -> int:
        """Remove what repeats the advance of one order and close the gaps in its numbers; a transaction of its own."""
        tx.row("SELECT FROM orders WHERE id = :id FOR UPDATE", id=order)
        tx.at("order_locked")
        removed = self.remove_advance(tx, order)
        if not removed:
            return 0
        tx.change(CLOSE_GAPS, order=order)
        tx.change(COUNT_ANEW, order=order)
        token = own_token(tx, f"migration of {order}, installment {removed[0].id}")
        record(tx, subject=order, action="migrate", amount=0, token=token, request="")
        return 1

    def remove_advance(self, tx: Transaction, order: str) -> list[Any]:
        """Delete the rows that are noted as the advance, of which there may be several; return them."""
        return tx.rows(
            'DELETE FROM installments WHERE "order" = :order AND note = :note'
            " AND amount = (SELECT advance FROM orders WHERE id = :order) RETURNING id",
            order=order,
            note=rules.ADVANCE_NOTE,
        )

    def repair(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Set a stored balance right. Here there is nothing to set: the database computes it anew with every change."""
        return {"subject": ask.subject, "balance": self.shown(tx, ask).balance}

    def verify(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Look for wrong balances, money of cancelled orders, advances noted with another amount, and repeated advances."""
        answer: dict[str, Any] = {"totals": {}, "twice": self.holding_twice(tx, ask)}
        for name, query in CHECKS.items():
            found = tx.rows(query, company=ask.company, note=rules.ADVANCE_NOTE)
            answer["totals"][name] = found[0].total if found else 0
            answer[name] = [{column: value for column, value in row._mapping.items() if column != "total"} for row in found]
        return answer

    def order(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Show an order as its summary and its invoice do: the advance by itself, then the balance payments."""
        order = tx.row(SUMMARY, id=ask.subject, company=ask.company, note=rules.ADVANCE_NOTE)
        if order is None:
            raise unknown("order", ask.subject)
        paid = sum(i["amount"] for i in order.installments)
        figures = {"total": order.total, "advance": order.advance, "discount": order.discount, "refunded": order.refunded}
        return {
            "subject": ask.subject,
            **figures,
            "balance_paid": paid,
            "balance": order.balance,
            "status": order.status,
            "installments": order.installments,
            "invoice": rules.invoice(**figures, paid=paid, due=order.balance, cancelled=order.status == rules.CANCELLED),
        }

    # Steps ----------------------------------------------------------------------------------------------------------

    def insert_order(self, tx: Transaction, ask: Ask) -> None:
        """Store an order."""
        tx.change(
            "INSERT INTO orders (id, company, total, advance, discount) VALUES (:id, :company, :total, :advance, :discount)",
            id=ask.subject,
            company=ask.company,
            total=ask.total,
            advance=ask.advance,
            discount=ask.discount,
        )

    def insert_installment(self, tx: Transaction, ask: Ask, *, number: int, amount: int, note: str | None = None) -> None:
        """Store an installment."""
        tx.change(
            'INSERT INTO installments ("order", number, amount, note, token) VALUES (:order, :number, :amount, :note, :token)',
            order=ask.subject,
            number=number,
            amount=amount,
            note=note,
            token=ask.key,
        )

    def change_order(self, tx: Transaction, ask: Ask, update: Callable[[], Any], why_not: Callable[[Any], Refused]) -> Any:
        """Return what a conditional update of the order returns; where it finds nothing, refuse as the locked order says."""
        return change_or_refuse(
            update,
            lambda: self.shown(tx, ask, lock=" FOR UPDATE"),
            lambda stands: rules.is_cancelled(ask.subject) if stands.status == rules.CANCELLED else why_not(stands),
        )

    def shown(self, tx: Transaction, ask: Ask, *, lock: str = "") -> Any:
        """Read an order of this company, to show it or to explain. Never to decide."""
        order = tx.row(
            f"SELECT status, balance, advance + paid AS paid, refunded FROM orders WHERE id = :id AND company = :company{lock}",
            id=ask.subject,
            company=ask.company,
        )
        if order is None:
            raise unknown("order", ask.subject)
        return order
