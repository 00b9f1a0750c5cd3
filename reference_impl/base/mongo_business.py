"""What every business on MongoDB has in common: a connection that reads requests and carries each out in one transaction.

A token counts once because the audit log has a unique index over it: the audit document is written in the
operation's own transaction, and a repeated token is answered from it. A duplicate key inside a transaction aborts it,
so the answer is looked up afterwards, outside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pymongo
import pymongo.errors
from pymongo.client_session import ClientSession
from pymongo.database import Database

from reference_impl.base.keys import key_reused
from reference_impl.base.mongo import Checkpoint, MongoSession, Where, violated
from reference_impl.base.refusal import Refused

Settings = Mapping[str, Any]
Books = Mapping[str, tuple[str, list[dict[str, Any]]]]

AUDIT_BOOKS: Books = {
    "audit": (
        "audit",
        [{"$project": {"_id": 0, "id": {"$toString": "$_id"}, "subject": 1, "action": 1, "token": 1, "delivered": 1}}],
    ),
    "deliveries": (
        "deliveries",
        [{"$project": {"_id": 0, "id": {"$toString": "$_id"}, "event": {"$toString": "$event"}}}],
    ),
}


class Work:
    """The steps of one operation: the database, the session that makes them one transaction, and the named points."""

    def __init__(self, database: Database[Any], session: ClientSession | None, at: Checkpoint) -> None:
        self.database = database
        self.session = session
        self.at = at

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
        self.database[collection].insert_one(dict(document), session=self.session)

    def change(self, collection: str, query: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any] | None:
        """Update the one document that matches and return it as it is then; None says that there was none."""
        changed: dict[str, Any] | None = self.database[collection].find_one_and_update(
            query, update, return_document=pymongo.ReturnDocument.AFTER, session=self.session
        )
        return changed


class MongoBusiness(ABC):
    """A client's connection to one business; each operation is a method of its own name."""

    collections: ClassVar[tuple[str, ...]] = ()
    without_key: ClassVar[frozenset[str]] = frozenset()
    """Operations that need no key: they change nothing, or nothing twice."""
    token_once: ClassVar[bool] = True
    refusals: ClassVar[Mapping[str, Callable[[Any], Refused]]] = {}
    """What a conflict on each unique index means to the client, by the index's fields."""

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
            database.audit.create_index("token", unique=cls.token_once)
            database.audit.create_index([("delivered", 1)])
            database.deliveries.create_index([("event", 1)], unique=True)
            cls.indexes(database, settings)

    @classmethod
    def connect(cls, where: Where, settings: Settings) -> MongoBusiness:
        """Open one client's connection."""
        return cls(MongoSession(where), settings)

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Carry out one operation. Raises Refused, or the driver's error where the store failed."""
        ask = self.understand(f, arguments, token)
        operation: Callable[[Work, Any], dict[str, Any]] = getattr(self, f)

        def work(session: ClientSession | None) -> dict[str, Any]:
            work = Work(self.session.database, session, checkpoint)
            if f not in self.without_key and (done := self.done_before(work, ask)):
                return done
            return operation(work, ask)

        try:
            if self.settings.get("transaction", True):
                answer, attempts = self.session.transaction(work, checkpoint)
            else:
                answer, attempts = work(None), 1
        except pymongo.errors.DuplicateKeyError as e:
            answer, attempts = self.meaning_of(e, ask), 1
        return {**answer, "attempts": attempts}

    def meaning_of(self, error: pymongo.errors.DuplicateKeyError, ask: Any) -> dict[str, Any]:
        """Answer or refuse what ran into a unique index. Raises the error where nobody knows what it means."""
        index = violated(error) or ""
        if index == "token" and (done := self.done_before(Work(self.session.database, None, lambda point: None), ask)):
            return done
        if index in self.refusals:
            raise self.refusals[index](ask) from error
        raise error

    def done_before(self, work: Work, ask: Any) -> dict[str, Any] | None:
        """Return the answer that a repeated token had; refuse it for another request."""
        done = work.find("audit", {"token": ask.key})
        if done is None:
            return None
        self.same_request(done["request"], ask)
        return {"subject": done["subject"], "amount": done["amount"], "replayed": True}

    def same_request(self, stored: str, ask: Any) -> None:
        """Refuse another request under a used token."""
        if stored != ask.request:
            raise key_reused(ask.key)

    def record(self, work: Work, ask: Any, amount: int) -> None:
        """Tell audit log and outbox, which are one document here: ``delivered`` says whether it was published."""
        work.at("before_audit")
        work.insert(
            "audit",
            {
                "subject": ask.subject,
                "action": ask.f,
                "amount": amount,
                "token": ask.key,
                "request": ask.request,
                "delivered": False,
            },
        )

    def publish(self, work: Work, most: int) -> dict[str, Any]:
        """Publish up to ``most`` waiting events, mark them, and tell how many are left.

        The consumer keeps each event's identity and does it once, so two publishers may take the same events.
        """
        database = work.database
        events = [e["_id"] for e in database.audit.find({"delivered": False}, {"_id": 1}).limit(most)]
        work.at("events_read")
        for event in events:
            database.deliveries.update_one({"event": event}, {"$setOnInsert": {"event": event}}, upsert=True)
        work.at("published")
        database.audit.update_many({"_id": {"$in": events}}, {"$set": {"delivered": True}})
        return {"delivered": len(events), "left": database.audit.count_documents({"delivered": False})}

    def vanish(self) -> None:
        """Cut the connection without a goodbye."""
        self.session.vanish()

    def close(self) -> None:
        """Close the connection."""
        self.session.close()
