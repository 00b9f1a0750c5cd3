"""Installments on MongoDB: `NumberFromOrder` is the one to copy, `CountPlusOne` the way to get it wrong.

What is fought over stands on the order's document: ``find_one_and_update`` takes the payment off the balance, counts it and
returns the installment's number in one step, under a filter that says what must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pymongo.database import Database

from reference_impl.base.mongo_business import AUDIT_BOOKS, Books, Conflict, MongoBusiness, Settings, Work
from reference_impl.base.refusal import Refused, unknown
from reference_impl.orders import rules
from reference_impl.orders.requests import Ask, understand

OPERATIONS = frozenset({"open_order", "pay_installment"})

_PAID = {"$and": [{"$eq": ["$status", rules.OPEN]}, {"$eq": ["$balance", 0]}]}
"""When an order is paid: nothing is due. That is not stored, because a refund would have to take it back."""

_ORDER = {
    "_id": 0,
    "id": "$_id",
    **dict.fromkeys(("total", "advance", "discount", "balance", "refunded"), 1),
    "status": {"$cond": [_PAID, "paid", "$status"]},
}
_INSTALLMENT = {
    "_id": 0,
    "id": {"$toString": "$_id"},
    **dict.fromkeys(("order", "number", "amount", "token"), 1),
}


class NumberFromOrder(MongoBusiness):
    """The order's own document counts its installments: balance, count and number change in one step."""

    collections = ("orders", "installments")
    conflicts: ClassVar[Mapping[str, Callable[[Ask], Conflict]]] = {
        "_id": lambda ask: Conflict("orders", {"_id": ask.subject}, rules.exists_already(ask.subject))
    }

    @classmethod
    def indexes(cls, database: Database[Any], settings: Settings) -> None:
        """Make the indexes. ``unique_index`` adds the second line of defence: an order has each number once."""
        database.installments.create_index([("order", 1), ("number", 1)], unique=settings["unique_index"])

    @classmethod
    def books(cls, settings: Settings) -> Books:
        """Return how each canonical table is read."""
        return {
            "orders": ("orders", [{"$project": _ORDER}]),
            "installments": ("installments", [{"$project": _INSTALLMENT}]),
            **AUDIT_BOOKS,
        }

    def understand(self, f: str, arguments: Mapping[str, Any], token: str) -> Ask:
        """Read the request, or refuse it."""
        if f not in OPERATIONS:
            raise Refused("unknown_operation", f"There is no operation {f!r} here.", status=404)
        return understand(f, arguments, token)

    def open_order(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Open an order. Its advance is stored in the order, and not as an installment."""
        due = ask.total - ask.advance
        order = {"_id": ask.subject, "company": ask.company, "total": ask.total, "advance": ask.advance, "discount": 0}
        work.insert("orders", {**order, "refunded": 0, "installments": 0, "status": rules.OPEN, "balance": due})
        return self.record(work, ask, {"subject": ask.subject, "amount": ask.advance, "balance": due})

    def pay_installment(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Record a payment of the balance, never more than is due."""
        number = self.next_number(work, ask)
        work.at("counted")
        order = work.change(
            "orders",
            {"_id": ask.subject, "company": ask.company, "status": rules.OPEN, "balance": {"$gte": ask.amount}},
            {"$inc": {"balance": -ask.amount, "installments": 1}},
        )
        if order is None:
            raise self.why_not(work, ask)
        number = order["installments"] if number is None else number
        work.insert("installments", {"order": ask.subject, "number": number, "amount": ask.amount, "token": ask.key})
        told = {"subject": ask.subject, "amount": ask.amount, "installment": number, "balance": order["balance"]}
        return self.record(work, ask, told)

    def next_number(self, work: Work, ask: Ask) -> int | None:
        """Leave the number to the step that counts the payment."""
        return None

    def why_not(self, work: Work, ask: Ask) -> Refused:
        """Explain a payment that was refused."""
        order = work.find("orders", {"_id": ask.subject, "company": ask.company})
        if order is None:
            return unknown("order", ask.subject)
        return rules.exceeds_balance("Payment", amount=ask.amount, balance=order["balance"])


class CountPlusOne(NumberFromOrder):
    """The installments are counted, and the next one gets count + 1 (O04). A counts 1; B counts 1; both insert #2.

    In a transaction the two conflict on the order, and the retry counts again: right by accident of the balance.
    """

    def next_number(self, work: Work, ask: Ask) -> int | None:
        """Count."""
        return work.count("installments", {"order": ask.subject}) + 1
