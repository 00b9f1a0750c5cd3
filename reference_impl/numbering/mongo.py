"""Numbering on MongoDB, done right. Copy `CounterDocument` for unique numbers, `CounterInTransaction` for gapless ones.

- **The scope is the counter's ``_id``.** An upsert is safe only under a unique index, and ``_id`` always has one; with the scope
  in an ordinary field sixteen first documents make two counters.
- **``find_one_and_update`` returns what it wrote.** To increment and then read is to read somebody else's number.
- **``w: majority``.** What only the primary has is gone when the primary is, and the number is issued again.
- **A duplicate key says which index it hit.** Only a conflict on the number may draw another. One on the client's token means
  that the document exists: it is looked up, and if a failover has just taken it back, the create is tried again.
- **A repeated request waits like the first, and so does a refusal.** What either tells of is looked up inside a transaction,
  whose commit waits until a majority of the nodes has what was read. A plain read may tell of a write that no majority has yet,
  and that a failover takes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import bson
import pymongo
import pymongo.errors
from pymongo.client_session import ClientSession

from reference_impl.base.keys import key_reused
from reference_impl.base.mongo import Checkpoint, MongoSession, Where, looked, violated
from reference_impl.base.refusal import Refused, invalid
from reference_impl.numbering.series import (
    Ask,
    no_operation,
    not_one,
    number_taken,
    print_of,
    series_begun,
    surplus_of,
    understand,
    validate,
)

Settings = Mapping[str, Any]
Drawn = tuple[int, str | None]
Done = tuple[dict[str, Any], int]
"""An answer, and the tries that it took."""

MOST = 1000
"""Duplicates that one report names."""

MOST_AT_ONCE = 20_000
"""Documents that are taken over in one transaction. The server keeps what is not committed in its cache, and not for long."""

JOBS = frozenset({"seed", "import_document", "introduce", "void", "delete", "cleanup"})
"""What can be asked for besides ``create``."""

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
    jobs: ClassVar[frozenset[str]] = JOBS

    def __init__(self, session: MongoSession, settings: Settings) -> None:
        self.session = session
        self.settings = settings
        self.database = session.database
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
            database.create_collection("deletions")
            documents.create_index([("scope", 1), ("period", 1), ("number", -1)], name="place")
            documents.create_index([("scope", 1), ("period", 1), ("text", -1)], name="text")
            documents.create_index([("scope", 1), ("text", 1)], name="print")
            if cls.token_once:
                documents.create_index(
                    [("token", 1)], unique=True, partialFilterExpression={"token": {"$exists": True}}, name="token"
                )
            documents.create_index(
                [("voided.token", 1)], unique=True, partialFilterExpression={"voided.token": {"$exists": True}}, name="voided"
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
        if f != "create" and f not in self.jobs:
            raise no_operation(f)
        work: Callable[[Ask, Checkpoint], Done] = getattr(self, f)
        return self.session.settle(lambda: work(ask, checkpoint), lambda error: self.meaning_of(error, ask))

    def meaning_of(self, error: pymongo.errors.DuplicateKeyError, ask: Ask) -> tuple[dict[str, Any] | None, int]:
        """Answer or refuse what ran into a unique index; None if what was in the way is gone. Raises any other error again."""
        looks = {"token": self.recall, "voided.token": self.voided_before}
        if ask.f == "delete":
            looks["_id"] = self.deleted_before
        if ask.f == "import_document":
            looks["number,period,scope"] = self.imported_before
        look = looks.get(violated(error) or "")
        if look is None:
            raise error
        return self.session.transaction(lambda session: looked(look, ask, session), lambda point: None)

    def vanish(self) -> None:
        """Cut the connection without a goodbye."""
        self.session.vanish()

    def close(self) -> None:
        """Close the connection."""
        self.session.close()

    # The operations -------------------------------------------------------------------------------------------------

    def create(self, ask: Ask, at: Checkpoint) -> Done:
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

    def recall(self, ask: Ask, session: ClientSession) -> dict[str, Any] | None:
        """Answer a repeated token with its document, refuse it for another request; None if there is no document."""
        found = self.document_of(ask, session)
        if found is None:
            return None
        self.same_request(found["request"], ask)
        answer = {name: found[name] for name in ("scope", "period", "number", "text")}
        return {**answer, "document": str(found["_id"]), "replayed": True}

    def document_of(self, ask: Ask, session: ClientSession) -> dict[str, Any] | None:
        """Return the document that was made under the request's token, or None."""
        found: dict[str, Any] | None = self.documents.find_one({"token": ask.key}, session=session)
        return found

    def same_request(self, stored: str, ask: Ask) -> None:
        """Refuse another request under a used token."""
        if stored != ask.request:
            raise key_reused(ask.key)

    def import_document(self, ask: Ask, at: Checkpoint) -> Done:
        """Take over one document under the number that it was issued with, right or wrong.

        The counter is moved in the same transaction and never lies below what is stored: it would come to that number some day.
        """

        def work(session: ClientSession) -> dict[str, Any]:
            self.start_counter(ask, session)
            return self.store(ask, ask.number, None, session)

        return self.session.transaction(work, at)

    def imported_before(self, ask: Ask, session: ClientSession) -> dict[str, Any] | None:
        """Answer what was sent before; refuse the number if it is another document's, and None if nobody has it any more."""
        done = self.recall(ask, session)
        where = {"scope": ask.place.scope, "period": ask.place.period, "number": ask.number}
        if done is None and self.documents.find_one(where, session=session):
            raise number_taken(ask.number)
        return done

    def introduce(self, ask: Ask, at: Checkpoint) -> Done:
        """Introduce the counters for documents that exist. ``$max`` never moves one back, however many instances start.

        Each period of the series has its own, also one that is over: a document may come late. Look and move are one
        transaction: what the look found on a primary that is lost would otherwise move the counter on the next one.
        """

        def work(session: ClientSession) -> dict[str, Any]:
            found = self.documents.distinct("period", {"scope": ask.place.scope}, session=session)
            for period in sorted({ask.place.period, *found}):
                self.start_counter(replace(ask, place=replace(ask.place, period=period)), session)
            return {"scope": ask.place.scope, "period": ask.place.period}

        return self.session.transaction(work, at)

    def start_counter(self, ask: Ask, session: ClientSession) -> None:
        """Start the counter at the highest number that exists or is taken over. It is moved up if need be, and never back."""
        if self.keeps_counter:
            self.move_counter(ask, {"$max": {"value": max(highest_number(self, ask, session), ask.number)}}, session)

    def seed(self, ask: Ask, at: Checkpoint) -> Done:
        """Take over the documents of an empty series, and start the counter where they end, both in one transaction.

        They bear no key, so a request that is sent again is refused: the series has begun.
        """
        if ask.through > MOST_AT_ONCE:
            raise invalid(f"through must be at most {MOST_AT_ONCE} here: more do not fit into one transaction of MongoDB.")
        place = ask.place

        def work(session: ClientSession) -> dict[str, Any] | Refused:
            if self.begun(ask, session):
                return series_begun(place.scope)
            if self.keeps_counter:  # another seed or a create then conflicts with this; to add nothing would write nothing
                self.move_counter(ask, {"$inc": {"value": 0, "looked": 1}}, session)
            self.fill(ask, session)
            if self.keeps_counter and ask.counter:
                self.move_counter(ask, {"$inc": {"value": ask.through}}, session)
            return {"scope": place.scope, "period": place.period, "through": ask.through}

        return self.session.transaction(work, at)

    def begun(self, ask: Ask, session: ClientSession) -> bool:
        """Tell whether a number of the series was ever given, also to a document that is gone."""
        where = {"scope": ask.place.scope, "period": ask.place.period}
        if self.documents.find_one(where, session=session):
            return True
        return self.keeps_counter and self.counters.find_one({**where, "value": {"$gt": 0}}, session=session) is not None

    def fill(self, ask: Ask, session: ClientSession) -> None:
        """Insert the documents that are taken over. They were made under no token."""
        rows = [{**self.document(ask, number), "amount": 100} for number in range(1, ask.through + 1)]
        for row in rows:
            del row["token"]
        self.documents.insert_many(rows, session=session)

    def move_counter(self, ask: Ask, how: Mapping[str, Any], session: ClientSession | None) -> None:
        """Move the counter; make it if it is not there. One that is at 0 is as good as none."""
        place = ask.place
        self.counters.update_one(
            {"_id": f"{place.scope}/{place.period}"} if self.scope_is_id else {"scope": place.scope, "period": place.period},
            {**how, "$setOnInsert": {"scope": place.scope, "period": place.period}},
            upsert=True,
            session=session,
        )

    def void(self, ask: Ask, at: Checkpoint) -> Done:
        """Void an issued document, with its reason. Its number stays taken for ever."""

        def work(session: ClientSession) -> dict[str, Any] | Refused:
            if done := looked(self.voided_before, ask, session):
                return done
            issued = self.issued(ask, session)
            if len(issued) != 1:
                return not_one(ask.text, len(issued))
            self.mark_void(ask, issued[0]["_id"], session)
            return {"scope": ask.place.scope, "text": ask.text, "number": issued[0]["number"], "status": "void"}

        return self.session.transaction(work, at)

    def issued(self, ask: Ask, session: ClientSession) -> list[dict[str, Any]]:
        """Return the issued documents with this number: one, or none, or several if it was issued more than once."""
        return list(self.documents.find(issued_with(ask), {"period": 1, "number": 1}, session=session).sort("_id"))

    def mark_void(self, ask: Ask, document: bson.ObjectId, session: ClientSession) -> None:
        """Note in the document that it is void, why, since when, and by whose request."""
        void = {"status": "void", "reason": ask.reason, "voided": {"token": ask.key, "at": ask.at}}
        self.documents.update_one({"_id": document}, {"$set": void}, session=session)

    def voided_before(self, ask: Ask, session: ClientSession) -> dict[str, Any] | None:
        """Answer a void that was sent again, refuse its key for another one; None if nothing was voided with it."""
        found = self.documents.find_one({"voided.token": ask.key}, session=session)
        if found is None:
            return None
        asked = (ask.company, ask.place.scope, ask.text, ask.reason)
        if tuple(found[name] for name in ("company", "scope", "text", "reason")) != asked:
            raise key_reused(ask.key)
        answer = {"scope": found["scope"], "text": found["text"], "status": "void", "replayed": True}
        if ask.f != "cleanup":
            return {**answer, "number": found["number"]}
        if str(found["_id"]) != ask.document:
            raise key_reused(ask.key)
        return {**answer, "document": ask.document, "applied": True}

    def cleanup(self, ask: Ask, at: Checkpoint) -> Done:
        """Report numbers that several documents bear; if asked to, void one of these documents. No number ever changes.

        All documents with the number are written to, so that of two who void a copy each at the same time one has a write
        conflict, and looks again. A snapshot alone would let both through; but it makes no difference that the look is first.
        """
        if not ask.apply:
            return self.duplicates(ask), 1

        def work(session: ClientSession) -> dict[str, Any] | Refused:
            if done := looked(self.voided_before, ask, session):
                return done
            if no := looked(surplus_of, ask, [str(document["_id"]) for document in self.issued(ask, session)]):
                return no
            self.documents.update_many(issued_with(ask), {"$inc": {"looked": 1}}, session=session)
            at("copies_locked")
            return {**self.resolve_duplicate(ask, session), "applied": True}

        return self.session.transaction(work, at)

    def duplicates(self, ask: Ask) -> dict[str, Any]:
        """Report each number that several issued documents bear, the document that may keep it, and those that may not."""
        place = ask.place
        found = self.documents.aggregate(
            [
                {"$match": {"company": ask.company, "scope": place.scope, "period": place.period, "status": "issued"}},
                {"$sort": {"_id": 1}},
                {"$group": {"_id": "$text", "documents": {"$push": {"$toString": "$_id"}}}},
                {"$match": {"documents.1": {"$exists": True}}},
                {"$sort": {"_id": 1}},
                {"$limit": MOST},
            ]
        )
        duplicates = [{"text": d["_id"], "keep": d["documents"][0], "surplus": d["documents"][1:]} for d in found]
        return {"scope": place.scope, "period": place.period, "duplicates": duplicates, "applied": False}

    def resolve_duplicate(self, ask: Ask, session: ClientSession) -> dict[str, Any]:
        """Void one document of several with its number, with its reason.

        Its customer needs another document: an ordinary create, by whoever cleans up.
        """
        self.mark_void(ask, bson.ObjectId(ask.document), session)
        return {"scope": ask.place.scope, "text": ask.text, "document": ask.document, "status": "void"}

    def delete(self, ask: Ask, at: Checkpoint) -> Done:
        """Delete an issued document, for businesses that will not void.

        No counter goes back for it. Where there is none, the highest number may be this one, and is then given again: so the
        register of deletions knows each by its key, or one that is sent again would delete whoever has the number by then.
        """

        def work(session: ClientSession) -> dict[str, Any] | Refused:
            if done := looked(self.deleted_before, ask, session):
                return done
            issued = self.issued(ask, session)
            if len(issued) != 1:
                return not_one(ask.text, len(issued))
            self.documents.delete_one({"_id": issued[0]["_id"]}, session=session)
            gone = {"scope": ask.place.scope, "period": issued[0]["period"], "text": ask.text, "number": issued[0]["number"]}
            register = {**gone, "_id": ask.key, "company": ask.company, "at": ask.at}
            self.database.deletions.insert_one(register, session=session)
            return gone

        return self.session.transaction(work, at)

    def deleted_before(self, ask: Ask, session: ClientSession) -> dict[str, Any] | None:
        """Answer a delete that was sent again, refuse its key for another one; None if nothing was deleted with it."""
        found = self.database.deletions.find_one({"_id": ask.key}, session=session)
        if found is None:
            return None
        if (found["company"], found["scope"], found["text"]) != (ask.company, ask.place.scope, ask.text):
            raise key_reused(ask.key)
        return {**{name: found[name] for name in ("scope", "period", "text", "number")}, "replayed": True}


class CounterInTransaction(CounterDocument):
    """Document and counter in one transaction, run again on a write conflict: gapless, and slower the more clients there are."""

    def create(self, ask: Ask, at: Checkpoint) -> Done:
        """Draw and store in one transaction. The token is looked up in it, too: what it answers has been committed."""

        def work(session: ClientSession) -> dict[str, Any] | Refused:
            if done := looked(self.recall, ask, session):
                return done
            number, basis = self.draw(ask, session)
            at("number_taken")
            validate(ask)
            return self.store(ask, number, basis, session)

        return self.session.transaction(work, at)


class OptimisticInsert(CounterDocument):
    """max + 1 under a unique index, the next number on a conflict with that index alone: gapless without a counter.

    As long as no primary is lost: what the look found may be gone from the next one, where the number after it is then stored.
    `CounterInTransaction` looks and stores on the same one, or not at all.
    """

    keeps_counter = False
    tries: ClassVar[int] = 1000

    @classmethod
    def install(cls, url: str, settings: Settings) -> None:
        """Make collections and indexes; the unique index is what the method stands on."""
        super().install(url, {**settings, "unique_index": True})

    def create(self, ask: Ask, at: Checkpoint) -> Done:
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


class OptimisticInsertOnShards(OptimisticInsert):
    """Documents spread over two shards, and a collection keyed by the number, written first and in the same transaction.

    A unique index holds within a shard. What must be unique over all of them needs one place that every insert passes
    through: here it is the ``_id`` of a small document that is sharded by nothing else. The number has one, and the client's
    token has another: sent again with another amount, it would go to the other shard. (On one node two collections stand for
    the two shards.)

    What would void, delete or import had to go by these places as well. Here documents are created and taken over.
    """

    jobs = frozenset({"seed"})

    @classmethod
    def install(cls, url: str, settings: Settings) -> None:
        """Make both shards and the collections of numbers and tokens."""
        super().install(url, settings)
        client: pymongo.MongoClient[Any] = pymongo.MongoClient(url)
        with client:
            database = client.get_default_database()
            database.create_collection("numbers")
            database.create_collection("tokens")
            other = database.create_collection("documents_2")
            other.create_index([("scope", 1), ("period", 1), ("number", -1)], name="place")
            other.create_index([("number", 1), ("period", 1), ("scope", 1)], unique=True, name="number")
            other.create_index([("token", 1)], name="token")

    @classmethod
    def books(cls, settings: Settings) -> Mapping[str, tuple[str, list[dict[str, Any]]]]:
        """Return how each canonical table is read: both shards."""
        both: list[dict[str, Any]] = [{"$unionWith": "documents_2"}, {"$project": _DOCUMENT}]
        return {**super().books(settings), "documents": ("documents", both)}

    def create(self, ask: Ask, at: Checkpoint) -> Done:
        """Claim the token and the number, then insert, in one transaction; a conflict means another try, a number higher.

        The highest number cannot be trusted to move on: what is claimed stays so, also when its document is gone.
        """
        validate(ask)
        spent = lowest = 0
        for attempt in range(1, self.tries + 1):
            number, basis = self.draw(ask)
            number = max(number, lowest)
            at("number_taken")
            try:
                answer, tries = self.session.transaction(partial(self.claim, ask, number, basis), at)
                return answer, spent + tries
            except pymongo.errors.DuplicateKeyError as e:
                spent += getattr(e, "attempts", 1)
                if attempt == self.tries:
                    e.attempts = spent  # type: ignore[attr-defined]  # read by whoever records the operation
                    raise
                if (e.details or {}).get("keyValue") == {"_id": number_id(ask, number)}:
                    lowest = number + 1
        raise AssertionError("the last try returns or raises")

    def claim(self, ask: Ask, number: int, basis: str | None, session: ClientSession) -> dict[str, Any] | Refused:
        """Insert token and number where all shards meet, then the document on its shard."""
        if done := looked(self.recall, ask, session):
            return done
        self.database.tokens.insert_one({"_id": ask.key}, session=session)
        self.claim_number(ask, number, session)
        return self.store_on_shard(ask, number, basis, session)

    def claim_number(self, ask: Ask, number: int, session: ClientSession) -> None:
        """Insert the number where all shards meet."""
        self.database.numbers.insert_one({"_id": number_id(ask, number)}, session=session)

    def store_on_shard(self, ask: Ask, number: int, basis: str | None, session: ClientSession | None) -> dict[str, Any]:
        """Insert the document on the shard that its amount falls to."""
        shard = self.documents if ask.amount % 2 else self.database.documents_2
        document = self.document(ask, number)
        shard.insert_one(document, session=session)
        answer = {name: document[name] for name in ("scope", "period", "number", "text")}
        return {**answer, "document": str(document["_id"]), "basis": basis}

    def document_of(self, ask: Ask, session: ClientSession) -> dict[str, Any] | None:
        """Look for the token's document on both shards."""
        return super().document_of(ask, session) or self.database.documents_2.find_one({"token": ask.key}, session=session)

    def begun(self, ask: Ask, session: ClientSession) -> bool:
        """Look at both shards."""
        where = {"scope": ask.place.scope, "period": ask.place.period}
        return super().begun(ask, session) or self.database.documents_2.find_one(where, session=session) is not None

    def fill(self, ask: Ask, session: ClientSession) -> None:
        """Claim the numbers, then insert the documents: all on one shard, as they have one amount."""
        numbers = [{"_id": number_id(ask, number)} for number in range(1, ask.through + 1)]
        self.database.numbers.insert_many(numbers, session=session)
        super().fill(ask, session)

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Look for the highest number on both shards."""
        here = highest_number(self, ask)
        last = self.database.documents_2.find_one({"scope": ask.place.scope, "period": ask.place.period}, sort=[("number", -1)])
        highest = max(here, last["number"] if last else 0)
        return highest + 1, f"the highest number {highest}"


def issued_with(ask: Ask) -> dict[str, Any]:
    """Return the query of the issued documents with this number."""
    return {**print_of(ask), "status": "issued"}


def number_id(ask: Ask, number: int) -> dict[str, Any]:
    """Return the number as an ``_id``, with the series that it belongs to."""
    return {"scope": ask.place.scope, "period": ask.place.period, "number": number}


def highest_number(numbering: CounterDocument, ask: Ask, session: ClientSession | None = None) -> int:
    """Return the highest number of the scope, 0 if there is none."""
    last = numbering.documents.find_one(
        {"scope": ask.place.scope, "period": ask.place.period}, sort=[("number", -1)], session=session
    )
    return last["number"] if last else 0
