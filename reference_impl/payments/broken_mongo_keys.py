"""Ways to get idempotency keys, audit log and outbox wrong on MongoDB.

The payments themselves are right (`ApproveInTransaction`); what remembers and tells of them is not. The docstring gives the
shortest interleaving: A and B are two clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pymongo.errors
from pymongo.collection import Collection
from pymongo.database import Database

from reference_impl.base.keys import WINDOW
from reference_impl.base.mongo import Checkpoint, MongoSession
from reference_impl.base.mongo_business import HELD, ONCE, Answer, Settings, Work
from reference_impl.base.refusal import Refused
from reference_impl.payments.mongo import ApproveInTransaction
from reference_impl.payments.requests import Ask


class ForgottenWithKey(ApproveInTransaction):
    """The key is all that is known of an intent, and it is forgotten after 24 hours, as a TTL index does (P19).

    A pays under k1; 24 hours and a minute later the retry of k1 pays again.
    """

    @classmethod
    def indexes(cls, database: Database[Any], settings: Settings) -> None:
        """Make the indexes; a token may take effect again once its key is gone."""
        super().indexes(database, settings)
        database.audit.drop_index([(field, 1) for field in ONCE.split(",")])

    def done_before(self, work: Work, ask: Any) -> dict[str, Any] | None:
        """Forget the key whose window is over, and what was done under it."""
        over = {HELD: ask.key, "action": ask.f, "at": {"$lte": ask.at - WINDOW}}
        if work.change("audit", over, {"$unset": {HELD: ""}}) is not None:
            return None
        return super().done_before(work, ask)


class KeyTakenOver(ApproveInTransaction):
    """A key in flight is locked for 90 seconds; after them whoever asks takes it over (P20).

    A locks k1 and runs for 100 s; B comes after 91 s and takes the lock; both do the work.
    """

    collections = (*ApproveInTransaction.collections, "locks")
    token_once = False
    patience = timedelta(seconds=90)

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Lock, look, and run if nothing was done."""
        if f not in self.without_key:
            ask = self.understand(f, arguments, token)
            locked = self.lock(ask)
            done = super().done_before(Work(self.session.database, None, checkpoint), ask)
            if done is not None:
                return {**done, "attempts": 1}
            if not locked:
                raise Refused("key_in_progress", f"A request with the key {ask.key} is being processed.")
            checkpoint("lock_taken")
        return super().call(f, arguments, token, checkpoint)

    def lock(self, ask: Ask) -> bool:
        """Take the key, if nobody holds it or its lock has run out."""
        free = {"_id": ask.key, "until": {"$lte": ask.at}}
        try:
            self.session.database.locks.update_one(free, {"$set": {"until": ask.at + self.patience}}, upsert=True)
        except pymongo.errors.DuplicateKeyError:
            return False
        return True

    def done_before(self, work: Work, ask: Any) -> dict[str, Any] | None:
        """Whoever holds the lock has looked."""
        return None


class KeyCommittedFirst(ApproveInTransaction):
    """The key says "done" before anything is (P21).

    A stores k1 and dies; A's retry of k1 is told that all is well.
    """

    collections = (*ApproveInTransaction.collections, "keys")

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Store the key by itself, then run; take it back after a failure."""
        if f in self.without_key:
            return super().call(f, arguments, token, checkpoint)
        ask, keys = self.understand(f, arguments, token), self.session.database.keys
        known = keys.find_one_and_update({"_id": ask.key}, {"$setOnInsert": {"request": ask.request}}, upsert=True)
        if known is not None:
            self.same_request(known["request"], ask)
            return {"subject": ask.subject, "amount": ask.amount, "replayed": True, "attempts": 1}
        checkpoint("key_stored")
        try:
            return super().call(f, arguments, token, checkpoint)
        except (pymongo.errors.PyMongoError, Refused):
            keys.delete_one({"_id": ask.key})
            raise


class KeyStoresAnyFailure(ApproveInTransaction):
    """Whatever happened is stored, also what a retry would mend (P22), and the transaction is run once.

    A and B refund one payment; B gets a write conflict, which is stored under its key: B can never succeed.
    """

    collections = (*ApproveInTransaction.collections, "failures")

    def __init__(self, session: MongoSession, settings: Settings) -> None:
        super().__init__(session, settings)
        session.patience = 0.0

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Store the failure, and fail the same way again."""
        failures = self.session.database.failures
        failed = failures.find_one({"_id": token})
        if failed is not None:
            raise pymongo.errors.OperationFailure("the first attempt failed, and so does this one", failed["code"])
        try:
            return super().call(f, arguments, token, checkpoint)
        except pymongo.errors.OperationFailure as e:
            failures.update_one({"_id": token}, {"$setOnInsert": {"code": e.code}}, upsert=True)
            raise


class AuditAfterwards(ApproveInTransaction):
    """The change commits, then the audit document is written (A01).

    A approves and commits; crash; nothing tells of it, and nothing will be published.
    """

    def record(self, work: Work, ask: Any, answer: Answer) -> Answer:
        """Nothing yet."""
        return answer

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Carry out the operation, and log it when it is done."""
        answer = super().call(f, arguments, token, checkpoint)
        if f not in ("account", "history", "deliver") and not answer.get("replayed"):
            checkpoint("committed")
            ask = self.understand(f, arguments, token)
            super().record(Work(self.session.database, None, checkpoint), ask, answer)
        return answer


class AuditWithoutSession(ApproveInTransaction):
    """The insert into the audit log does without ``session=``, and so without the transaction (A01).

    A writes the audit document; crash before the commit: it tells of a change that is not there, and A's retry is told that
    all is well.
    """

    def record(self, work: Work, ask: Any, answer: Answer) -> Answer:
        """Write at once."""
        return super().record(Work(work.database, None, work.at), ask, answer)


class SideEffectFirst(ApproveInTransaction):
    """The ledger is told before the status changes, outside of the transaction (P26).

    A tells the ledger; crash; A's retry tells it again, and so does each retry of the transaction.
    """

    token_once = False

    def approve(self, work: Work, ask: Ask) -> dict[str, Any]:
        """Tell first, change afterwards."""
        amount = self.payment(work, ask)["amount"]
        super().record(Work(work.database, None, work.at), ask, {"amount": amount})
        work.at("ledger_told")
        return super().approve(work, ask)

    def record(self, work: Work, ask: Any, answer: Answer) -> Answer:
        """Approvals have been told of."""
        return answer if ask.f == "approve" else super().record(work, ask, answer)

    def done_before(self, work: Work, ask: Any) -> dict[str, Any] | None:
        """What the ledger was told of an approval proves nothing."""
        return None if ask.f == "approve" else super().done_before(work, ask)


class ConsumerWithoutDedup(ApproveInTransaction):
    """The consumer does not keep the event's identity (A03).

    A publishes e and dies before it marks it; B publishes e: it is done twice. Two publishers at once do the same.
    """

    @classmethod
    def indexes(cls, database: Database[Any], settings: Settings) -> None:
        """Make the indexes without the consumer's."""
        super().indexes(database, settings)
        database.deliveries.drop_index([("event", 1)])

    def consume(self, deliveries: Collection[Any], event: str) -> None:
        """Do whatever arrives."""
        deliveries.insert_one({"event": event})
