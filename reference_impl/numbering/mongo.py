"""Numbering on MongoDB, done right. Copy `CounterDocument` for unique numbers, `CounterInTransaction` for gapless ones.

- **The scope is the counter's ``_id``.** An upsert is safe only under a unique index, and ``_id`` always has one; with the scope
  in an ordinary field sixteen first documents make two counters.
- **``find_one_and_update`` returns what it wrote.** To increment and then read is to read somebody else's number.
- **``w: majority``.** What only the primary has is gone when the primary is, and the number is issued again.
- **A duplicate key says which index it hit.** Only a conflict on the number may draw another; one on the client's token means
  that the document exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pymongo
import pymongo.errors
from pymongo.client_session import ClientSession

from reference_impl.base.keys import key_reused
from reference_impl.base.mongo import Checkpoint, MongoSession, Where, violated
from reference_impl.base.refusal import Refused, unknown
from reference_impl.numbering.series import Ask, understand, validate

Settings = Mapping[str, Any]
Drawn = tuple[int, str | None]

_DOCUMENT = {
    "_id": 0,
    "id": {"$toString": "$_id"},
    **dict.fromkeys(("scope", "period", "number", "text", "token", "status", "dated", "amount", "reason"), 1),
}


class CounterDocument:
    """A counter document with the scope as its _id, incremented and read in one step: unique, with gaps where a create fails."""

    token_once: ClassVar[bool] = True
    scope_is_id: ClassVar[bool] = True
    keeps_counter: ClassVar[bool] = True

    def __init__(self, session: MongoSession, settings: Settings) -> None:
        self.session = session
        self.settings = settings
        self.documents = session.database.documents
        self.counters = session.database.counters

    # What a target offers -------------------------------------------------------------------------------------------

    @classmethod
    def install(cls, url: str, settings: Settings) -> None:
        """Make collections and indexes in an empty database."""
        client: pymongo.MongoClient[Any] = pymongo.MongoClient(url)
        with client:
            database = client.get_default_database()
            documents = database.create_collection("documents")
            database.create_collection("counters")
            documents.create_index([("scope", 1), ("period", 1), ("number", -1)], name="place")
            documents.create_index([("scope", 1), ("period", 1), ("text", -1)], name="text")
            if cls.token_once:
                documents.create_index(
                    [("token", 1)], unique=True, partialFilterExpression={"token": {"$exists": True}}, name="token"
                )
            if settings["unique_index"]:
                documents.create_index([("number", 1), ("period", 1), ("scope", 1)], unique=True, name="number")

    @classmethod
    def connect(cls, where: Where, settings: Settings) -> CounterDocument:
        """Open one client's connection."""
        return cls(MongoSession(where, write_concern=settings["write_concern"]), settings)

    @classmethod
    def books(cls, settings: Settings) -> Mapping[str, tuple[str, list[dict[str, Any]]]]:
        """Return how each canonical table is read."""
        found: dict[str, tuple[str, list[dict[str, Any]]]] = {"documents": ("documents", [{"$project": _DOCUMENT}])}
        if cls.keeps_counter:
            found["counters"] = ("counters", [{"$project": {"_id": 0, "scope": 1, "period": 1, "value": 1}}])
        return found

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Carry out one operation. Raises Refused, or the driver's error where the store failed."""
        ask = understand(f, arguments, token)
        if f == "seed":
            return self.seed(ask)
        if f == "void":
            return self.void(ask)
        if f == "delete":
            return self.delete(ask)
        try:
            answer, attempts = self.create(ask, checkpoint)
        except pymongo.errors.DuplicateKeyError as e:
            if violated(e) != "token":
                raise
            answer, attempts = self.recall(ask), getattr(e, "attempts", 1) + 1
        return {**answer, "attempts": attempts}

    def vanish(self) -> None:
        """Cut the connection without a goodbye."""
        self.session.vanish()

    def close(self) -> None:
        """Close the connection."""
        self.session.close()

    # The operations -------------------------------------------------------------------------------------------------

    def create(self, ask: Ask, at: Checkpoint) -> tuple[dict[str, Any], int]:
        """Create a document with the next number; return the answer and the tries that it took."""
        number, basis = self.draw(ask)
        at("number_taken")
        validate(ask)
        answer = self.store(ask, number, basis)
        at("before_commit")
        return answer, 1

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Increment the counter and take what it says: one step."""
        place = ask.place
        counter = self.counters.find_one_and_update(
            {"_id": f"{place.scope}/{place.period}"},
            {"$inc": {"value": 1}, "$setOnInsert": {"scope": place.scope, "period": place.period}},
            upsert=True,
            return_document=pymongo.ReturnDocument.AFTER,
            session=session,
        )
        assert counter is not None  # an upsert that returns what it wrote has written something
        return int(counter["value"]), None

    def store(self, ask: Ask, number: int, basis: str | None, session: ClientSession | None = None) -> dict[str, Any]:
        """Insert the document."""
        document = self.document(ask, number)
        self.documents.insert_one(document, session=session)
        answer = {name: document[name] for name in ("scope", "period", "number", "text")}
        answer["document"] = str(document["_id"])
        return answer if basis is None else {**answer, "basis": basis}

    def document(self, ask: Ask, number: int) -> dict[str, Any]:
        """Return the document to be stored."""
        place = ask.place
        return {
            "company": ask.company,
            "document_type": ask.document_type,
            "branch": ask.branch,
            "scope": place.scope,
            "period": place.period,
            "number": number,
            "text": place.text(number),
            "status": "issued",
            "dated": ask.at,
            "amount": ask.amount,
            "token": ask.key,
            "request": ask.request,
        }

    def recall(self, ask: Ask) -> dict[str, Any]:
        """Answer a repeated token with its document; refuse it for another request."""
        found = self.documents.find_one({"token": ask.key})
        if found is None:
            raise unknown("token", ask.key)
        self.same_request(found["request"], ask)
        answer = {name: found[name] for name in ("scope", "period", "number", "text")}
        return {**answer, "document": str(found["_id"]), "replayed": True}

    def same_request(self, stored: str, ask: Ask) -> None:
        """Refuse another request under a used token."""
        if stored != ask.request:
            raise key_reused(ask.key)

    def seed(self, ask: Ask) -> dict[str, Any]:
        """Take over documents that exist already, and start the counter where they end."""
        rows = []
        for number in range(1, ask.through + 1):
            row = {**self.document(ask, number), "amount": 100}
            del row["token"]
            rows.append(row)
        self.documents.insert_many(rows)
        if self.keeps_counter:
            self.start_counter(ask)
        return {"scope": ask.place.scope, "period": ask.place.period, "through": ask.through}

    def start_counter(self, ask: Ask) -> None:
        """Start the counter at the highest number that exists."""
        place = ask.place
        self.counters.insert_one(
            {
                **({"_id": f"{place.scope}/{place.period}"} if self.scope_is_id else {}),
                "scope": place.scope,
                "period": place.period,
                "value": ask.through,
            }
        )

    def void(self, ask: Ask) -> dict[str, Any]:
        """Void an issued document, with its reason. Its number stays taken for ever."""
        found = self.documents.find_one_and_update(
            {"scope": ask.place.scope, "text": ask.text, "status": "issued"},
            {"$set": {"status": "void", "reason": ask.reason}},
        )
        if found is None:
            raise Refused("not_issued", f"There is no issued document {ask.text!r} to void.")
        return {"scope": ask.place.scope, "text": ask.text, "number": found["number"], "status": "void"}

    def delete(self, ask: Ask) -> dict[str, Any]:
        """Delete an issued document, for businesses that will not void. Its number is not given again: no counter goes back."""
        found = self.documents.find_one_and_delete({"scope": ask.place.scope, "text": ask.text, "status": "issued"})
        if found is None:
            raise Refused("not_issued", f"There is no issued document {ask.text!r} to delete.")
        return {name: found[name] for name in ("scope", "period", "text", "number")}


class CounterInTransaction(CounterDocument):
    """Document and counter in one transaction, run again on a write conflict: gapless, and slower the more clients there are."""

    def create(self, ask: Ask, at: Checkpoint) -> tuple[dict[str, Any], int]:
        """Draw and store in one transaction."""

        def work(session: ClientSession) -> dict[str, Any]:
            number, basis = self.draw(ask, session)
            at("number_taken")
            validate(ask)
            return self.store(ask, number, basis, session)

        return self.session.transaction(work, at)


class OptimisticInsert(CounterDocument):
    """max + 1 under a unique index, the next number on a conflict with that index alone: gapless without a counter."""

    keeps_counter = False
    tries: ClassVar[int] = 1000

    @classmethod
    def install(cls, url: str, settings: Settings) -> None:
        """Make collections and indexes; the unique index is what the method stands on."""
        super().install(url, {**settings, "unique_index": True})

    def create(self, ask: Ask, at: Checkpoint) -> tuple[dict[str, Any], int]:
        """Try until a number is free. One document is one atomic write: no number is ever taken without it."""
        validate(ask)
        for attempt in range(1, self.tries + 1):
            number, basis = self.draw(ask)
            at("number_taken")
            try:
                return self.store(ask, number, basis), attempt
            except pymongo.errors.DuplicateKeyError as e:
                e.attempts = attempt  # type: ignore[attr-defined]  # read by whoever records the operation
                if violated(e) != "number,period,scope" or attempt == self.tries:
                    raise
        raise AssertionError("the last try returns or raises")

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Look for the highest number."""
        highest = highest_number(self, ask, session)
        return highest + 1, f"the highest number {highest}"


def highest_number(numbering: CounterDocument, ask: Ask, session: ClientSession | None = None) -> int:
    """Return the highest number of the scope, 0 if there is none."""
    last = numbering.documents.find_one(
        {"scope": ask.place.scope, "period": ask.place.period}, sort=[("number", -1)], session=session
    )
    return last["number"] if last else 0
