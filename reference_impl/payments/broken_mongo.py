"""Ways to get term payments wrong on MongoDB.

Each class differs from `ApproveInTransaction` in the lines that are shown and in nothing else. The docstring gives the
shortest interleaving: A and B are two clients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pymongo.database import Database

from reference_impl.base.mongo_business import Conflict, Settings, Work
from reference_impl.base.refusal import unknown
from reference_impl.payments import rules
from reference_impl.payments.mongo import ApproveInTransaction
from reference_impl.payments.requests import Ask


class GuardThenInsert(ApproveInTransaction):
    """The guard counts pending payments before it inserts one (P02, P27); a transaction does not help.

    A counts 0; B counts 0; both insert; both commit: a snapshot does not see what another one adds. With a partial unique
    index the second gets a write conflict in a transaction, whose retry counts 1; without one it gets an error.
    """

    conflicts: ClassVar[Mapping[str, Callable[[Ask], Conflict]]] = {
        index: told for index, told in ApproveInTransaction.conflicts.items() if index != "term"
    }

    def reserve(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Count, and compare the amount with what was read."""
        term = work.find("terms", self.term_query(ask))
        if term is None:
            raise unknown("term", ask.term or "")
        if self.pending_exists(work, ask, term):
            raise rules.already_awaiting()
        work.at("guard_passed")
        if ask.amount > term["balance"]:
            raise rules.exceeds_available(available=term["balance"], pending=self.awaiting(work, term["account"]))
        return term

    def pending_exists(self, work: Work, ask: Ask, term: Mapping[str, Any]) -> bool:
        """Tell whether a payment for this term awaits approval."""
        return bool(work.count("payments", {"term": ask.term, "status": rules.AWAITING}))

    def unreserve(self, work: Work, payment: Mapping[str, Any]) -> None:
        """Nothing was reserved."""

    def reduce(self, work: Work, payment: Mapping[str, Any]) -> None:
        """Take a payment off its term, if the term still owes it."""
        owes = {"_id": payment["term"], "balance": {"$gte": payment["amount"]}}
        if work.change("terms", owes, {"$inc": {"balance": -payment["amount"]}}) is None:
            raise self.owes_less(work, payment)


class GuardByJsonNumber(GuardThenInsert):
    """The guard compares a number with the text that was stored (P04). No race is needed.

    A submits for term 2, and ``{"selected_term_id": "2"}`` is stored; B submits for it too: the guard asks for ``2``, finds
    nothing, and two payments await approval.
    """

    def pending_exists(self, work: Work, ask: Ask, term: Mapping[str, Any]) -> bool:
        """Ask for a number."""
        query = {"account": term["account"], "status": rules.AWAITING, "meta.selected_term_id": term["position"]}
        return bool(work.count("payments", query))

    def new_payment(self, ask: Ask, term: Mapping[str, Any]) -> dict[str, Any]:
        """Store a text, as the form sent it."""
        return {**super().new_payment(ask, term), "meta": {"selected_term_id": str(term["position"])}}


class ApproveWithoutRecheck(GuardThenInsert):
    """Each payment is approved once, and that is all that is looked at (P06).

    Two different payments of 300 await approval for a term of 300; A approves one, B the other: 600 paid of 300.
    """

    def pending_exists(self, work: Work, ask: Ask, term: Mapping[str, Any]) -> bool:
        """There is no guard."""
        return False

    def reduce(self, work: Work, payment: Mapping[str, Any]) -> None:
        """Take a payment off whatever the term owes."""
        work.change("terms", {"_id": payment["term"]}, {"$inc": {"balance": -payment["amount"]}})


class ValidatesAccountBalance(ApproveInTransaction):
    """The amount is compared with what all terms owe together (P25). No race is needed.

    A submits 5,000 for a term that owes 3,000 of 10,000: accepted.
    """

    def reserve(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Compare with the effective balance of the account, clamped at zero as the page does."""
        term = work.find("terms", self.term_query(ask))
        if term is None:
            raise unknown("term", ask.term or "")
        awaiting = self.awaiting(work, term["account"])
        available = max(0, work.total("terms", {"account": term["account"]}, "balance") - awaiting)
        if ask.amount > available:
            raise rules.exceeds_available(available=available, pending=awaiting)
        if work.change("terms", {"_id": term["_id"], "pending": 0}, {"$set": {"pending": ask.amount}}) is None:
            raise rules.already_awaiting()
        return term


class ReplaceDocument(ApproveInTransaction):
    """The term is read, changed in the application and replaced (P09): what ``save()`` of an object mapper does.

    A and B read 1000; A replaces with 700; B replaces with 700. In a transaction the second gets a write conflict, and
    the retry is right.
    """

    def reduce(self, work: Work, payment: Mapping[str, Any]) -> None:
        """Read, subtract, replace."""
        self.save(work, payment["term"], balance=-payment["amount"], pending=-payment["amount"])

    def add_back(self, work: Work, term: str, amount: int) -> None:
        """Read, add, replace."""
        self.save(work, term, balance=amount, pending=0)

    def save(self, work: Work, term: str, *, balance: int, pending: int) -> None:
        """Load the document, change it, write it back whole."""
        document = work.find("terms", {"_id": term})
        assert document is not None  # a payment names a term that exists
        work.at("balance_read")
        document["balance"] += balance
        document["pending"] += pending
        work.database.terms.replace_one({"_id": term}, document, session=work.session)


class BlindStatus(ApproveInTransaction):
    """The status is read, and later overwritten whatever it is by then (P01, P10, P11).

    A (approve) and B (approve, reject or cancel) read "awaiting"; A takes the money; B writes over it, or takes it again. In
    a transaction the second gets a write conflict, and the retry is right.
    """

    def decide(self, work: Work, ask: Ask, status: str) -> dict[str, Any]:
        """Look, then write."""
        payment = self.payment(work, ask)
        work.at("status_read")
        if payment["status"] != rules.AWAITING:
            raise rules.not_awaiting(ask.subject, payment["status"])
        work.change("payments", {"_id": ask.subject}, {"$set": {"status": status, "reason": ask.reason}})
        return payment


class ResolutionDocument(ApproveInTransaction):
    """A payment is decided by inserting a document that says how (P15): right with a unique index, and nothing without it.

    A looks: undecided; B looks: undecided; A inserts "paid"; B inserts "cancelled". In a transaction the second gets a write
    conflict on the payment that both copy it to, and the retry is right.
    """

    collections = (*ApproveInTransaction.collections, "resolutions")
    conflicts: ClassVar[Mapping[str, Callable[[Ask], Conflict]]] = {
        **ApproveInTransaction.conflicts,
        "payment": lambda ask: Conflict("resolutions", {"payment": ask.subject}, rules.not_awaiting(ask.subject, "decided")),
    }

    @classmethod
    def indexes(cls, database: Database[Any], settings: Settings) -> None:
        """Make the indexes; with ``unique_index`` a payment has one resolution at most."""
        super().indexes(database, settings)
        database.resolutions.create_index("payment", unique=settings["unique_index"])

    def decide(self, work: Work, ask: Ask, status: str) -> dict[str, Any]:
        """Look for a resolution, insert one, and copy it to the payment for whoever reads that."""
        payment = self.payment(work, ask)
        decided = work.find("resolutions", {"payment": ask.subject})
        work.at("status_read")
        if decided is not None:
            raise rules.not_awaiting(ask.subject, decided["status"])
        work.insert("resolutions", {"payment": ask.subject, "status": status})
        work.change("payments", {"_id": ask.subject}, {"$set": {"status": status, "reason": ask.reason}})
        return payment


class WebhookWithoutDedup(ApproveInTransaction):
    """The handler believes that an event arrives once (P16): delivered again, it takes the money again."""

    token_once = False

    def webhook(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Apply whatever arrives."""
        payment = self.payment(work, ask)
        work.at("payment_read")
        work.change("payments", {"_id": ask.subject}, {"$set": {"status": rules.PAID}})
        work.change("terms", {"_id": payment["term"]}, {"$inc": {"balance": -payment["amount"], "pending": -payment["amount"]}})
        told = {"subject": ask.subject, "term": payment["term"], "amount": payment["amount"], "status": rules.PAID}
        return self.record(work, ask, told)


class TokenLookedUpFirst(ApproveInTransaction):
    """The token is looked up before the work and has no unique index (P17); every refund is a transaction by itself.

    A: no such token; B: no such token; both refund. Two refunds of one payment conflict on it, but the retry does not look
    the token up again.
    """

    token_once = False

    def done_before(self, work: Work, ask: Ask) -> dict[str, Any] | None:
        """Look outside the transaction, once."""
        if getattr(self, "looked_up", None) is not work.at:
            self.looked_up = work.at
            return super().done_before(Work(work.database, None, work.at), ask)
        return None


class FingerprintIgnored(ApproveInTransaction):
    """Nobody remembers what was asked (P18): 2.50 under the token of 1.00 is answered "ok, 1.00"."""

    def same_request(self, stored: str, ask: Any) -> None:
        """Take every request under a token for the same one."""


class RoundedSplit(ApproveInTransaction):
    """Each term is its percentage of the assessment, rounded (P24). No race is needed.

    A opens an account of 15,540.00; its terms make 15,539.99.
    """

    def split(self, assessment: int) -> list[int]:
        """Round each part by itself."""
        return [round(assessment * share / 10_000) for _, share in rules.TERMS]
