"""Term payments on MongoDB, done right: `ApproveInTransaction`.

The same three habits as on PostgreSQL, and one that MongoDB asks for:

- **Decide in the filter.** ``find_one_and_update({"_id": id, "status": "awaiting_approval"}, ...)`` returns the document or
  None; there is nothing between looking and writing.
- **Fight over one document.** What awaits approval is kept on the term (``pending``). MongoDB's transactions are snapshots:
  two of them may each count no pending payment and each insert one. Two that write the same term cannot.
- **One transaction, run again from its beginning** on a write conflict (112), which comes at once instead of waiting.
- **No store error is caught inside the transaction.** A duplicate key has aborted it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pymongo.database import Database

from reference_impl.base.keys import key_reused
from reference_impl.base.mongo_business import AUDIT_BOOKS, Books, Conflict, MongoBusiness, Settings, Work
from reference_impl.base.refusal import Refused, unknown
from reference_impl.payments import rules
from reference_impl.payments.requests import Ask, understand

_PAYMENT = {"_id": 0, "id": "$_id", **dict.fromkeys(("term", "account", "amount", "refunded", "status", "token"), 1)}
_TERM = {"_id": 0, "id": "$_id", **dict.fromkeys(("account", "opening", "balance", "assessment"), 1)}
_REFUND = {"_id": 0, "id": {"$toString": "$_id"}, "payment": 1, "amount": 1, "token": 1}


class ApproveInTransaction(MongoBusiness):
    """Every change says what it needs in its filter, and all changes of an operation are one transaction."""

    collections: ClassVar[tuple[str, ...]] = ("accounts", "terms", "payments", "refunds", "events")
    without_key = frozenset({"webhook", "account", "history", "deliver"})
    conflicts: ClassVar[Mapping[str, Callable[[Ask], Conflict]]] = {
        "_id": lambda ask: exists_already("account" if ask.f == "open_account" else "payment", ask.subject),
        "term": lambda ask: Conflict("payments", {"term": ask.term, "status": rules.AWAITING}, rules.already_awaiting()),
    }

    @classmethod
    def indexes(cls, database: Database[Any], settings: Settings) -> None:
        """Make the indexes. ``unique_index`` adds the second line of defence: one pending payment a term."""
        database.terms.create_index([("account", 1), ("position", 1)])
        database.payments.create_index([("account", 1), ("status", 1)])
        if settings["unique_index"]:
            database.payments.create_index(
                [("term", 1)], unique=True, partialFilterExpression={"status": rules.AWAITING}, name="one_pending"
            )

    @classmethod
    def books(cls, settings: Settings) -> Books:
        """Return how each canonical table is read."""
        return {
            "payments": ("payments", [{"$project": _PAYMENT}]),
            "terms": ("terms", [{"$project": _TERM}]),
            "refunds": ("refunds", [{"$project": _REFUND}]),
            **AUDIT_BOOKS,
        }

    def understand(self, f: str, arguments: Mapping[str, Any], token: str) -> Ask:
        """Read the request, or refuse it."""
        return understand(f, arguments, token)

    # The operations -------------------------------------------------------------------------------------------------

    def open_account(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Open an account with its five terms; their amounts sum to the assessment exactly."""
        amounts = self.split(ask.amount)
        terms = rules.opening_terms(ask.subject, amounts)
        work.insert("accounts", {"_id": ask.subject, "company": ask.company, "assessment": ask.amount})
        for term in terms:
            stored = {**term, "_id": term["id"], "company": ask.company, "pending": 0, "assessment": ask.amount}
            del stored["id"]
            work.insert("terms", stored)
        return self.record(work, ask, {"subject": ask.subject, "amount": ask.amount, "terms": terms})

    def split(self, assessment: int) -> list[int]:
        """Split an assessment into the five terms."""
        return rules.split(assessment, [share for _, share in rules.TERMS])

    def submit(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Record a payment that awaits approval, if its term owes that much and nothing else awaits approval for it."""
        term = self.reserve(work, ask)
        work.at("reserved")
        work.insert("payments", self.new_payment(ask, term))
        return self.record(work, ask, {"subject": ask.subject, "term": ask.term, "amount": ask.amount, "status": rules.AWAITING})

    def approve(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Take a payment off its term, once."""
        payment = self.decide(work, ask, rules.PAID)
        work.at("marked_paid")
        self.reduce(work, payment)
        told = {"subject": ask.subject, "term": payment["term"], "amount": payment["amount"], "status": rules.PAID}
        return self.record(work, ask, told)

    def reject(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Accounting turns a payment down; the term is free for another."""
        return self.release(work, ask, rules.REJECTED)

    def cancel(self, work: Work, ask: Ask) -> dict[str, Any]:
        """The student takes a payment back before it was decided upon."""
        return self.release(work, ask, rules.CANCELLED)

    def release(self, work: Work, ask: Ask, status: str) -> dict[str, Any]:
        """End a payment without money moving."""
        payment = self.decide(work, ask, status)
        work.at("decided")
        self.unreserve(work, payment)
        told = {"subject": ask.subject, "term": payment["term"], "amount": payment["amount"], "status": status}
        return self.record(work, ask, told)

    def refund(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Give money back: in parts, never more than was paid. The term owes it again."""
        within = {"$lte": [{"$add": ["$refunded", ask.amount]}, "$amount"]}
        payment = work.change(
            "payments",
            {"_id": ask.subject, "company": ask.company, "status": rules.PAID, "$expr": within},
            {"$inc": {"refunded": ask.amount}},
        )
        if payment is None:
            stands = self.payment(work, ask)
            if stands["status"] != rules.PAID:
                raise rules.not_paid(ask.subject, stands["status"])
            raise rules.exceeds_captured(amount=stands["amount"], refunded=stands["refunded"])
        work.at("refund_counted")
        work.insert("refunds", {"payment": ask.subject, "amount": ask.amount, "token": ask.key})
        self.add_back(work, payment["term"], ask.amount)
        return self.record(work, ask, {"subject": ask.subject, "amount": ask.amount})

    def webhook(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Approve a payment because the gateway says so. The gateway repeats itself; the event's identity does not.

        A payment that somebody else has approved meanwhile is what the gateway wants: a refusal would be delivered for ever.
        """
        known = work.find("events", {"_id": ask.event})
        work.at("event_read")
        if known is not None:
            return self.told_before(work, ask, known)
        event = {"_id": ask.event, "payment": ask.subject}
        work.insert("events", event)
        if self.payment(work, ask)["status"] == rules.PAID:
            return self.told_before(work, ask, event)
        return self.approve(work, ask)

    def told_before(self, work: Work, ask: Ask, event: Mapping[str, Any]) -> dict[str, Any]:
        """Answer an event that was delivered before."""
        if event["payment"] != ask.subject:
            raise key_reused(ask.event)
        payment = self.payment(work, ask)
        told = {"subject": ask.subject, "term": payment["term"], "amount": payment["amount"], "status": payment["status"]}
        return {**told, "replayed": True}

    def account(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Show an account: what each term owes, what awaits approval, what may be chosen."""
        account = work.find("accounts", {"_id": ask.subject, "company": ask.company})
        if account is None:
            raise unknown("account", ask.subject)
        terms = work.database.terms.find({"account": ask.subject}, session=work.session).sort("position", 1)
        return rules.overview(ask.subject, account["assessment"], [{**t, "id": t["_id"]} for t in terms])

    def history(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Show an account's payments, the newest first, whatever became of them."""
        if work.find("accounts", {"_id": ask.subject, "company": ask.company}) is None:
            raise unknown("account", ask.subject)
        terms = work.database.terms.find({"account": ask.subject}, session=work.session)
        names = {t["_id"]: t["name"] for t in terms}
        stages: list[dict[str, Any]] = [
            {"$match": {"account": ask.subject}},
            {"$set": {"awaits": {"$eq": ["$status", rules.AWAITING]}}},
            {"$sort": {"awaits": -1, "submitted": -1, "_id": -1}},
            {"$limit": rules.SHOWN},
        ]
        payments = work.database.payments.aggregate(stages, session=work.session)
        told = [{**p, "id": p["_id"], "term_name": names.get(p["term"], "no term")} for p in payments]
        return rules.history(ask.subject, told)

    def deliver(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Publish what waits in the outbox."""
        return self.publish(work, ask.amount)

    # Steps ----------------------------------------------------------------------------------------------------------

    def reserve(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Reserve the term for this payment, if nothing awaits approval for it and it owes that much."""
        term = work.change(
            "terms",
            {**self.term_query(ask), "pending": 0, "balance": {"$gte": ask.amount}},
            {"$set": {"pending": ask.amount}},
        )
        if term is None:
            raise self.why_not(work, ask)
        return term

    def unreserve(self, work: Work, payment: Mapping[str, Any]) -> None:
        """Free the term of a payment."""
        work.change("terms", {"_id": payment["term"]}, {"$inc": {"pending": -payment["amount"]}})

    def decide(self, work: Work, ask: Ask, status: str) -> dict[str, Any]:
        """Move a payment out of awaiting approval: of all who try at once exactly one finds it there."""
        payment = work.change(
            "payments",
            {"_id": ask.subject, "company": ask.company, "status": rules.AWAITING},
            {"$set": {"status": status, "reason": ask.reason}},
        )
        if payment is None:
            raise rules.not_awaiting(ask.subject, self.payment(work, ask)["status"])
        return payment

    def reduce(self, work: Work, payment: Mapping[str, Any]) -> None:
        """Take a payment off its term, if the term still owes it."""
        amount = payment["amount"]
        reduced = work.change(
            "terms",
            {"_id": payment["term"], "balance": {"$gte": amount}},
            {"$inc": {"balance": -amount, "pending": -amount}},
        )
        if reduced is None:
            raise self.owes_less(work, payment)

    def add_back(self, work: Work, term: str, amount: int) -> None:
        """Put a refund back on its term."""
        work.change("terms", {"_id": term}, {"$inc": {"balance": amount}})

    def payment(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Read a payment of this company, for an explanation. Never to decide."""
        payment = work.find("payments", {"_id": ask.subject, "company": ask.company})
        if payment is None:
            raise unknown("payment", ask.subject)
        return payment

    def term_query(self, ask: Ask) -> dict[str, Any]:
        """Return what finds the term that is to be paid."""
        query = {"_id": ask.term, "company": ask.company}
        return query if ask.account is None else {**query, "account": ask.account}

    def why_not(self, work: Work, ask: Ask) -> Refused:
        """Explain a refused submission: what its term has left, and what awaits approval on the account."""
        term = work.find("terms", self.term_query(ask))
        if term is None:
            return unknown("term", ask.term or "")
        if term["pending"] == 0 and ask.amount > term["balance"]:
            return rules.exceeds_available(available=term["balance"], pending=self.awaiting(work, term["account"]))
        return rules.already_awaiting()

    def owes_less(self, work: Work, payment: Mapping[str, Any]) -> Refused:
        """Explain a refused approval: what the term owes, and what awaited approval."""
        term = work.find("terms", {"_id": payment["term"]})
        return rules.exceeds_available(available=term["balance"] if term else 0, pending=payment["amount"])

    def awaiting(self, work: Work, account: str) -> int:
        """Sum what awaits approval on an account."""
        return work.total("payments", {"account": account, "status": rules.AWAITING}, "amount")

    def new_payment(self, ask: Ask, term: Mapping[str, Any]) -> dict[str, Any]:
        """Return a payment that awaits approval."""
        return {
            "_id": ask.subject,
            "company": ask.company,
            "account": term["account"],
            "term": ask.term,
            "amount": ask.amount,
            "refunded": 0,
            "status": rules.AWAITING,
            "reason": "",
            "token": ask.key,
            "submitted": ask.at,
        }


def exists_already(kind: str, name: str) -> Conflict:
    """Return the conflict over an identity that is used for different things."""
    return Conflict(f"{kind}s", {"_id": name}, rules.exists_already(kind, name))
