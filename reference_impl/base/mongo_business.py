"""What every business on MongoDB has in common: a connection that reads requests and carries each out in one transaction.

A token counts once for an operation because the audit log has a unique index over both: the audit document is written in
the operation's own transaction with the answer, and a repeated token is answered from it. A duplicate key inside a transaction
aborts it, so what it means is looked up afterwards, in another. A failover may have taken back what was in the way: then nothing
is done yet, and the operation is tried again.

As long as its window lasts a key belongs to one operation: the audit document holds it in ``key``, which has a unique index of
its own. What needs no key, such as a webhook, holds none, and its token is nobody else's business.

What was read may never reach a majority of the nodes, and a failover would take it back. A change waits for its majority when it
commits, and so does a refusal: a transaction that has written nothing is committed all the same. A refusal after a first write
(too high a price, told when the stock has been taken) must roll back, and is told even where nobody knows whether that was heard.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import pymongo
import pymongo.errors
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from reference_impl.base.keys import WINDOW, key_reused
from reference_impl.base.mongo import Checkpoint, MongoSession, Where, violated
from reference_impl.base.refusal import Refused

Settings = Mapping[str, Any]
Answer = dict[str, Any]
Found = TypeVar("Found")
Books = Mapping[str, tuple[str, list[dict[str, Any]]]]

AUDIT_BOOKS: Books = {
    "audit": (
        "audit",
        [{"$project": {"_id": 0, "id": "$event", "subject": 1, "action": 1, "token": 1, "delivered": 1}}],
    ),
    "deliveries": ("deliveries", [{"$project": {"_id": 0, "id": {"$toString": "$_id"}, "event": 1}}]),
}

ONCE, HELD = "token,action", "key"
"""The audit log's unique indexes: each operation once for its token, and each key with one operation."""


class Conflict(NamedTuple):
    """What an operation runs into on a unique index: where that is found, and the refusal if it is there."""

    collection: str
    query: Mapping[str, Any]
    refusal: Refused


class Work:
    """The steps of one operation: the database, the session that makes them one transaction, and the named points."""

    def __init__(self, database: Database[Any], session: ClientSession | None, at: Checkpoint) -> None:
        self.database = database
        self.session = session
        self.at = at
        self.wrote = False
        """Whether there is anything to roll back."""

    def find(self, collection: str, query: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the first document that matches, or None."""
        found: dict[str, Any] | None = self.database[collection].find_one(query, session=self.session)
        return found

    def count(self, collection: str, query: Mapping[str, Any]) -> int:
        """Count the documents that match."""
        return self.database[collection].count_documents(query, session=self.session)

    def total(self, collection: str, query: Mapping[str, Any], field: str) -> int:
        """Sum a field over the documents that match."""
        stages: list[dict[str, Any]] = [{"$match": query}, {"$group": {"_id": None, "sum": {"$sum": f"${field}"}}}]
        return next((int(row["sum"]) for row in self.database[collection].aggregate(stages, session=self.session)), 0)

    def insert(self, collection: str, document: Mapping[str, Any]) -> None:
        """Insert a document."""
        self.wrote = True
        self.database[collection].insert_one(dict(document), session=self.session)

    def change(
        self, collection: str, query: Mapping[str, Any], update: Mapping[str, Any], *, upsert: bool = False
    ) -> dict[str, Any] | None:
        """Update the one document that matches and return it as it is then; None says that there was none."""
        changed: dict[str, Any] | None = self.database[collection].find_one_and_update(
            query, update, upsert=upsert, return_document=pymongo.ReturnDocument.AFTER, session=self.session
        )
        self.wrote = self.wrote or changed is not None
        return changed


class MongoBusiness(ABC):
    """A client's connection to one business; each operation is a method of its own name."""

    collections: ClassVar[tuple[str, ...]] = ()
    without_key: ClassVar[frozenset[str]] = frozenset()
    """Operations that need no key: they change nothing, or nothing twice."""
    token_once: ClassVar[bool] = True
    """Whether indexes make each token count once in the audit log."""
    conflicts: ClassVar[Mapping[str, Callable[[Any], Conflict]]] = {}
    """What a request runs into on each unique index, by the index's fields."""

    def __init__(self, session: MongoSession, settings: Settings) -> None:
        self.session = session
        self.settings = settings

    @classmethod
    @abstractmethod
    def books(cls, settings: Settings) -> Books:
        """Return how each canonical table is read."""

    @abstractmethod
    def understand(self, f: str, arguments: Mapping[str, Any], token: str) -> Any:
        """Read a request, or refuse it."""

    @classmethod
    def indexes(cls, database: Database[Any], settings: Settings) -> None:
        """Make the business's own indexes; none unless a subclass has some."""
        return

    @classmethod
    def install(cls, url: str, settings: Settings) -> None:
        """Make collections and indexes in an empty database."""
        with pymongo.MongoClient[Any](url) as client:
            database = client.get_default_database()
            for name in (*cls.collections, "audit", "deliveries"):
                database.create_collection(name)
            database.audit.create_index([("token", 1), ("action", 1)], unique=cls.token_once)
            held = {HELD: {"$exists": True}}
            database.audit.create_index(HELD, unique=cls.token_once, partialFilterExpression=held)
            database.audit.create_index([("delivered", 1)])
            database.deliveries.create_index([("event", 1)], unique=True)
            cls.indexes(database, settings)

    @classmethod
    def connect(cls, where: Where, settings: Settings) -> MongoBusiness:
        """Open one client's connection."""
        return cls(MongoSession(where), settings)

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> Answer:
        """Carry out one operation. Raises Refused, or the driver's error where the store failed."""
        ask = self.understand(f, arguments, token)
        operation: Callable[[Work, Any], Answer] = getattr(self, f)

        def steps(work: Work) -> Answer:
            if f not in self.without_key:
                if done := self.done_before(work, ask):
                    return done
                self.claim(work, ask)
            return operation(work, ask)

        def work() -> tuple[Answer, int]:
            if self.settings.get("transaction", True):
                return self.together(steps, checkpoint)
            return steps(Work(self.session.database, None, checkpoint)), 1

        return self.session.settle(work, lambda error: self.meaning_of(error, ask))

    def together(self, steps: Callable[[Work], Found], at: Checkpoint) -> tuple[Found, int]:
        """Run the steps in one transaction; return what they return and the tries. A refusal before any write is made certain."""

        def work(session: ClientSession) -> Found | Refused:
            work = Work(self.session.database, session, at)
            try:
                return steps(work)
            except Refused as e:
                if work.wrote:
                    raise
                return e

        return self.session.transaction(work, at)

    def meaning_of(self, error: pymongo.errors.DuplicateKeyError, ask: Any) -> tuple[Answer | None, int]:
        """Answer or refuse what ran into a unique index; None if what was in the way is gone.

        Raises the error where nobody knows what it means.
        """
        index = violated(error) or ""
        conflict = self.conflicts[index](ask) if index in self.conflicts else None

        def look(work: Work) -> Answer | None:
            mine = index == ONCE or ask.f not in self.without_key  # whatever it ran into may be what it did itself
            if mine and (done := self.done_before(work, ask)):
                return done
            if index == HELD:
                self.claim(work, ask)
            if conflict and work.find(conflict.collection, conflict.query):
                raise conflict.refusal
            return None

        done, attempts = self.together(look, _on)
        if done is None and conflict is None and index not in (ONCE, HELD):
            raise error
        return done, attempts

    def done_before(self, work: Work, ask: Any) -> Answer | None:
        """Return the answer that a repeated token had for this operation; refuse it for another request."""
        done = work.find("audit", {"token": ask.key, "action": ask.f})
        if done is None:
            return None
        self.same_request(done["request"], ask)
        return {**done["answer"], "replayed": True}

    def claim(self, work: Work, ask: Any) -> None:
        """Refuse the key of another operation, or take it from there when its window is over."""
        holder = work.find("audit", {HELD: ask.key, "action": {"$ne": ask.f}})
        if holder is None:
            return
        if ask.at < holder["at"] + WINDOW:
            raise key_reused(ask.key)
        work.change("audit", {"_id": holder["_id"]}, {"$unset": {HELD: ""}})

    def same_request(self, stored: str, ask: Any) -> None:
        """Refuse another request under a used token."""
        if stored != ask.request:
            raise key_reused(ask.key)

    def record(self, work: Work, ask: Any, answer: Answer) -> Answer:
        """Tell audit log and outbox, which are one document here: ``delivered`` says whether it was published.

        The event is known by what happened and not by the document: if a failover takes that back and the client sends it
        again, it is the same event. The answer is kept for a repeated token, and returned.
        """
        work.at("before_audit")
        told = {
            "event": f"{ask.f} {ask.key}",
            "subject": ask.subject,
            "action": ask.f,
            "amount": answer["amount"],
            "answer": answer,
            "token": ask.key,
            "request": ask.request,
            "at": ask.at,
            "delivered": False,
        }
        work.insert("audit", told if ask.f in self.without_key else {**told, HELD: ask.key})
        return answer

    def publish(self, work: Work, most: int) -> dict[str, Any]:
        """Publish up to ``most`` waiting events, mark them, and tell how many are left.

        Only what a majority of the nodes has is seen: nothing else is certain to have happened, and nobody can take back
        what was published. The consumer keeps each event's identity and does it once, so two publishers may take the same
        events.
        """
        audit = work.database.audit
        certain = audit.with_options(read_concern=ReadConcern("majority"))
        waiting = list(certain.find({"delivered": False}, {"event": 1}).limit(most))
        work.at("events_read")
        for event in waiting:
            self.consume(work.database.deliveries, event["event"])
        work.at("published")
        if waiting:
            audit.update_many({"_id": {"$in": [event["_id"] for event in waiting]}}, {"$set": {"delivered": True}})
        return {"delivered": len(waiting), "left": certain.count_documents({"delivered": False})}

    def consume(self, deliveries: Collection[Any], event: str) -> None:
        """The consumer's side: keep each event's identity with its effect, and do it once."""
        deliveries.update_one({"event": event}, {"$setOnInsert": {"event": event}}, upsert=True)

    def vanish(self) -> None:
        """Cut the connection without a goodbye."""
        self.session.vanish()

    def close(self) -> None:
        """Close the connection."""
        self.session.close()


def _on(point: str) -> None:
    """Go on, at every point."""
