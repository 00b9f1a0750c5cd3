"""Stock on MongoDB: `TakeFromStock` is the one to copy, `ReadThenSell` the way to get it wrong.

The number comes from a counter document in the sale's transaction, drawn last, with the branch's day as its ``_id``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pymongo.database import Database

from reference_impl.base.mongo import Checkpoint
from reference_impl.base.mongo_business import AUDIT_BOOKS, Books, Conflict, MongoBusiness, Settings, Work
from reference_impl.base.refusal import Refused, unknown
from reference_impl.sales import rules
from reference_impl.sales.requests import Ask, understand

OPERATIONS = frozenset({"stock_item", "sell", "deliver"})

_SALE = {
    "_id": 0,
    "id": {"$toString": "$_id"},
    **dict.fromkeys(("scope", "period", "number", "text", "token", "dated", "amount"), 1),
}
_SOLD = {"from": "sales", "localField": "_id", "foreignField": "item", "as": "sales"}
_STOCK = {"_id": 0, "item": "$_id", "opening": 1, "quantity": 1, "sold": {"$sum": "$sales.quantity"}}


class TakeFromStock(MongoBusiness):
    """Stock is taken by a conditional update, the number drawn last, and all of it is one transaction."""

    collections = ("items", "sales", "counters")
    without_key = frozenset({"deliver"})
    conflicts: ClassVar[Mapping[str, Callable[[Ask], Conflict]]] = {
        "_id": lambda ask: Conflict("items", {"_id": ask.subject}, rules.exists_already("item", ask.subject))
    }

    @classmethod
    def indexes(cls, database: Database[Any], settings: Settings) -> None:
        """Make the indexes. ``unique_index`` adds the second line of defence: a branch's day has each number once."""
        database.sales.create_index([("scope", 1), ("period", 1), ("number", 1)], unique=settings["unique_index"])
        database.sales.create_index([("item", 1)])
        database.sales.create_index([("token", 1)], unique=True)

    @classmethod
    def books(cls, settings: Settings) -> Books:
        """Return how each canonical table is read."""
        return {
            "documents": ("sales", [{"$project": _SALE}]),
            "counters": ("counters", [{"$project": {"_id": 0, "scope": 1, "period": 1, "value": 1}}]),
            "stock": ("items", [{"$lookup": _SOLD}, {"$project": _STOCK}]),
            **AUDIT_BOOKS,
        }

    def understand(self, f: str, arguments: Mapping[str, Any], token: str) -> Ask:
        """Read the request, or refuse it; sales on credit are not offered here."""
        if f not in OPERATIONS:
            raise Refused("unknown_operation", f"There is no operation {f!r} here.", status=404)
        ask = understand(f, arguments, token)
        if ask.customer is not None:
            raise unknown("customer", ask.customer)
        return ask

    def stock_item(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Take an item into stock."""
        stock = {"price": ask.price, "opening": ask.quantity, "quantity": ask.quantity}
        work.insert("items", {"_id": ask.subject, "company": ask.company, **stock})
        return self.record(work, ask, {"subject": ask.subject, "amount": ask.price})

    def sell(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Sell, and return the invoice's number."""
        item = self.take_stock(work, ask)
        work.at("stock_taken")
        if ask.price != item["price"]:
            raise rules.price_mismatch(asked=ask.price, price=item["price"])
        if ask.discount_bp > rules.DISCOUNT_WITHOUT_PERMISSION and not ask.discount_permitted:
            raise rules.discount_not_permitted(ask.discount_bp)
        amount = rules.amount_of(price=item["price"], quantity=ask.quantity, discount_bp=ask.discount_bp)
        scope, period, prefix = rules.series(ask.branch, ask.at)
        number = self.draw(work, scope, period)
        work.at("number_taken")
        place = {"scope": scope, "period": period, "number": number, "text": f"{prefix}{number:04d}"}
        sold = {"company": ask.company, "item": ask.item, "quantity": ask.quantity, "amount": amount}
        work.insert("sales", {**place, **sold, "dated": ask.at, "token": ask.key})
        return self.record(work, ask, {"subject": ask.subject, "amount": amount, **place})

    def deliver(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Publish what waits in the outbox."""
        return self.publish(work, ask.most)

    def take_stock(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Take the quantity out of stock if it is there; return the item."""
        item = work.change(
            "items",
            {"_id": ask.item, "company": ask.company, "quantity": {"$gte": ask.quantity}},
            {"$inc": {"quantity": -ask.quantity}},
        )
        if item is None:
            raise rules.insufficient_stock(ask.item, wanted=ask.quantity, left=self.item(work, ask)["quantity"])
        return item

    def item(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Read an item of this company."""
        item = work.find("items", {"_id": ask.item, "company": ask.company})
        if item is None:
            raise unknown("item", ask.item)
        return item

    def draw(self, work: Work, scope: str, period: str) -> int:
        """Draw the next number of the branch's day."""
        counter: Any = work.change(
            "counters",
            {"_id": f"{scope}/{period}"},
            {"$inc": {"value": 1}, "$setOnInsert": {"scope": scope, "period": period}},
            upsert=True,
        )
        return int(counter["value"])


class DocumentThenCounter(TakeFromStock):
    """The sale is stored with counter + 1, and the counter follows in a write of its own (S05).

    A stores sale 5; before the counter follows, or because A crashes and it never does, B stores sale 5.
    """

    def draw(self, work: Work, scope: str, period: str) -> int:
        """Read the counter."""
        counter = work.find("counters", {"_id": f"{scope}/{period}"})
        return int(counter["value"]) + 1 if counter else 1

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Carry out the operation, and let the counter follow."""
        answer = super().call(f, arguments, token, checkpoint)
        if f == "sell" and not answer.get("replayed"):
            checkpoint("document_committed")
            scope, period = answer["scope"], answer["period"]
            self.session.database.counters.update_one(
                {"_id": f"{scope}/{period}"},
                {"$max": {"value": answer["number"]}, "$setOnInsert": {"scope": scope, "period": period}},
                upsert=True,
            )
        return answer


class ReadThenSell(TakeFromStock):
    """The stock is looked at, and then reduced (S01). One left: A reads 1; B reads 1; both sell it: -1.

    In a transaction the second gets a write conflict, and the retry reads 0.
    """

    def take_stock(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Look, then reduce."""
        item = self.item(work, ask)
        work.at("stock_read")
        if item["quantity"] < ask.quantity:
            raise rules.insufficient_stock(ask.item, wanted=ask.quantity, left=item["quantity"])
        work.change("items", {"_id": ask.item}, {"$inc": {"quantity": -ask.quantity}})
        return item
