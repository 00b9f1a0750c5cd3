"""Ways to get numbering wrong on MongoDB.

Each class differs from a correct one of `reference_impl.numbering.mongo` in the lines that are shown and in nothing else. The
docstring gives the shortest interleaving: A and B are two clients.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import bson
import pymongo
import pymongo.errors
from pymongo.client_session import ClientSession

from reference_impl.base.mongo import Checkpoint, violated
from reference_impl.numbering.mongo import (
    CounterDocument,
    CounterInTransaction,
    Drawn,
    OptimisticInsertOnShards,
    Settings,
    highest_number,
)
from reference_impl.numbering.series import Ask, place_of, validate

CLOCK = "the clock"
MANILA = timedelta(hours=8)


class CountPlusOne(CounterDocument):
    """Count the documents and add one (N01). A counts 3; B counts 3; both insert 4.

    It takes no race where documents are deleted (N02): of 1 to 5 the second goes; A counts 4, and inserts 5 again.
    """

    keeps_counter = False

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Count."""
        count = self.documents.count_documents({"scope": ask.place.scope, "period": ask.place.period}, session=session)
        return count + 1, f"the count {count}"


class LatestTextPlusOne(CounterDocument):
    """Take the last number by its text and add one (N01, N03).

    Two read the same; and once the padding is outgrown the text maximum stays 9999, so 10000 is issued for ever.
    """

    keeps_counter = False

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Sort texts."""
        last = latest_text(self, ask)
        return (ask.place.number(last) or 0) + 1 if last else 1, f"the latest {last}"


class IncrementThenFind(CounterDocument):
    """Increment, then find (N05). A increments to 5; B increments to 6; A finds 6; B finds 6."""

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Read somebody's number."""
        key = {"_id": f"{ask.place.scope}/{ask.place.period}"}
        self.counters.update_one(
            key,
            {"$inc": {"value": 1}, "$setOnInsert": {"scope": ask.place.scope, "period": ask.place.period}},
            upsert=True,
        )
        counter = self.counters.find_one(key)
        assert counter is not None
        return int(counter["value"]), None


class LoadAddSave(CounterDocument):
    """Load the counter, add one in the application, save it (N06). A loads 4; B loads 4; both save 5."""

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Write what was read, plus one."""
        key = f"{ask.place.scope}/{ask.place.period}"
        loaded = self.counters.find_one({"_id": key}) or {"value": 0}
        self.counters.replace_one(
            {"_id": key},
            {"scope": ask.place.scope, "period": ask.place.period, "value": loaded["value"] + 1},
            upsert=True,
        )
        return loaded["value"] + 1, f"the counter {loaded['value']}"


class CheckNextRetryFallback(CounterDocument):
    """The fix that a payment system published: check, try the next, retry on conflict, fall back to the clock (N07, N08, N10).

    A: does 6 exist? No. B: does 6 exist? No. Both insert 6. With the index B starts over, up to three times, and then prints
    the last six digits of the clock: ``PAY2026542069``, which every later number follows. Any E11000 counts as "number taken", so
    a double submit that an index had stopped becomes a second payment (N10).
    """

    keeps_counter = False
    candidates = 5
    retries = 3

    def create(self, ask: Ask, at: Checkpoint) -> tuple[dict[str, Any], int]:
        """Generate and insert; on any duplicate key generate and insert again; at last, fall back."""
        for attempt in range(1, self.retries + 2):
            try:
                return super().create(ask, at)[0], attempt
            except pymongo.errors.DuplicateKeyError as e:
                if violated(e) == "token":
                    ask = replace(ask, key=f"{ask.key} again {attempt}")
        return self.store(ask, clock_digits(), CLOCK), self.retries + 2

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Take the latest by text, then look for one that is free; after five, take the clock."""
        last = latest_text(self, ask)
        number = (ask.place.number(last) or 0) + 1 if last else 1
        for candidate in range(number, number + self.candidates):
            if self.documents.find_one({"scope": ask.place.scope, "text": ask.place.text(candidate)}) is None:
                return candidate, f"the latest {last}"
        return clock_digits(), CLOCK

    def store(self, ask: Ask, number: int, basis: str | None, session: ClientSession | None = None) -> dict[str, Any]:
        """Print what the clock says with six digits."""
        place = replace(ask.place, width=6) if basis == CLOCK else ask.place
        return super().store(replace(ask, place=place), number, basis, session)


class NumberFromTheClock(CounterDocument):
    """Print the last six digits of the clock, as that fix does when all else failed (N09).

    A and B fall back in the same millisecond: both insert 542069. And the digits begin again every 1,000 seconds.
    """

    keeps_counter = False

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Look at the clock."""
        return clock_digits(), CLOCK


class CounterWithoutScopeAsId(CounterDocument):
    """The right step on a counter whose scope is an ordinary field, without a unique index (N20).

    Sixteen first documents at once: two upserts find nothing, and both insert a counter.
    """

    scope_is_id = False

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Upsert by a field."""
        counter = self.counters.find_one_and_update(
            {"scope": ask.place.scope, "period": ask.place.period},
            {"$inc": {"value": 1}},
            upsert=True,
            return_document=pymongo.ReturnDocument.AFTER,
        )
        assert counter is not None
        return int(counter["value"]), None


class CounterInTransactionWithoutRetry(CounterInTransaction):
    """The right transaction, run once (N45).

    A increments the counter; before A commits B increments it, is told WriteConflict at once, and so is its client.
    """

    def __init__(self, session: Any, settings: Settings) -> None:
        super().__init__(session, settings)
        session.patience = 0.0


class CountInTransaction(CounterInTransaction):
    """Look for the highest number and insert, in one transaction (N01, P27): a snapshot does not stop a second insert.

    A and B read 6 in their snapshots; both insert 7; both commit.
    """

    keeps_counter = False

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Look for the highest number in the snapshot."""
        highest = highest_number(self, ask, session)
        return highest + 1, f"the highest number {highest}"


class UnacknowledgedInsert(CountPlusOne):
    """Count and insert without waiting for an answer (N35): a duplicate is dropped by the index, and nobody is told.

    A and B count 6; A's insert of 7 is stored; B's is not; both customers hold 7.
    """


class RetryInsertOnly(CounterInTransactionWithoutRetry):
    """max + 1, and a transaction in which nothing but the insert is tried again, with the next number (N23).

    A and B read 6; A inserts 7; B's insert fails, which has ended B's transaction: its next insert is told NoSuchTransaction.
    """

    keeps_counter = False

    def create(self, ask: Ask, at: Checkpoint) -> tuple[dict[str, Any], int]:
        """Take the highest number plus one; insert, and insert again."""
        highest = highest_number(self, ask)
        at("number_taken")
        validate(ask)

        def work(session: ClientSession) -> dict[str, Any]:
            try:
                return self.store(ask, highest + 1, f"the highest number {highest}", session)
            except pymongo.errors.DuplicateKeyError:
                return self.store(ask, highest + 2, f"the highest number {highest}", session)

        return self.session.transaction(work, at)


class PeriodFromTheClock(CounterDocument):
    """The right counter for the document's period, and the year in print from the server's clock (N31).

    In January A enters a payment of last December: it draws that year's 17, and prints this year's 17, which B has.
    """

    def document(self, ask: Ask, number: int) -> dict[str, Any]:
        """Print this year, whatever the document's date."""
        document = super().document(ask, number)
        return {**document, "text": document["text"].replace(f"{ask.at:%Y}", time.strftime("%Y"), 1)}


class TwoTimeZones(CounterDocument):
    """The right counter, its period from the day in Manila and the print from the day in UTC (N32).

    At 16:00 UTC the counter of the next day begins, and its numbers go to documents of this one.
    """

    def create(self, ask: Ask, at: Checkpoint) -> tuple[dict[str, Any], int]:
        """Count where the server stands."""
        local = place_of(ask.company, ask.document_type, ask.branch, ask.at + MANILA)
        return super().create(replace(ask, place=replace(ask.place, period=local.period)), at)


class StripedCounter(CounterDocument):
    """One counter for odd and one for even numbers, so that clients conflict less (N33).

    A, A and A draw 1, 3 and 5; B draws 2: lower than what was issued before it, and 4 is missing as long as nobody draws it.
    """

    keeps_counter = False
    stripes = 2

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Draw from the stripe that the document's amount falls into."""
        stripe = ask.amount % self.stripes
        own = replace(ask, place=replace(ask.place, scope=f"{ask.place.scope}#{stripe}"))
        value, _ = super().draw(own, session)
        return (value - 1) * self.stripes + stripe + 1, None


class CounterStartsAtZero(CounterDocument):
    """The right counter, introduced at zero although documents exist (N42).

    Forty documents exist; A introduces the counter; B creates one and is given 1, which a customer holds already.
    """

    def move_counter(self, ask: Ask, how: Mapping[str, Any], session: ClientSession | None) -> None:
        """Leave the counter to its first use."""


class TwoAllocators(CounterDocument):
    """The right counter, asked by the controller and again by the hook before saving (N44): a number burnt per document.

    A's controller draws 1, its hook draws 2 and stores that; B stores 4.
    """

    def draw(self, ask: Ask, session: ClientSession | None = None) -> Drawn:
        """Draw in the controller, and once more in the hook."""
        super().draw(ask, session)
        return super().draw(ask, session)


class TokenIgnored(CounterDocument):
    """The right counter, and every request is a new one (N38): a lost reply sent again makes two documents."""

    token_once = False


class UniqueOnEachShard(OptimisticInsertOnShards):
    """max + 1 under a unique index on every shard (N34).

    A on one shard and B on the other read 6; both insert 7; each index holds, and 7 is there twice.
    """

    def claim_number(self, ask: Ask, number: int, session: ClientSession) -> None:
        """Trust the shard's own index."""


class IndexWithoutScope(CounterDocument):
    """The right counter for each company, and a unique index over the number alone (N11).

    INV-00001 of the first company is in the way of INV-00001 of the second.
    """

    @classmethod
    def install(cls, url: str, settings: Settings) -> None:
        """Make the index of one company's business."""
        super().install(url, {**settings, "unique_index": False})
        client: pymongo.MongoClient[Any] = pymongo.MongoClient(url)
        with client:
            client.get_default_database().documents.create_index([("text", 1)], unique=True, name="number")


class CleanupRenumbers(CounterDocument):
    """The right counter, and the cleanup that a payment system published: the surplus document gets the next number (N46).

    A customer holds PAY20260006; the job makes it PAY20260009, which the counter gives to somebody else soon after.
    """

    def resolve_duplicate(self, ask: Ask, session: ClientSession) -> dict[str, Any]:
        """Look for the highest number, and take the next."""
        number = highest_number(self, ask, session) + 1
        text = ask.place.text(number)
        renumbered = {"number": number, "text": text}
        self.documents.update_one({"_id": bson.ObjectId(ask.document)}, {"$set": renumbered}, session=session)
        return {"scope": ask.place.scope, "text": text, "document": ask.document, "status": "renumbered"}


def clock_digits() -> int:
    """Return the last six digits of the milliseconds since 1970."""
    return time.time_ns() // 1_000_000 % 1_000_000


def latest_text(numbering: CounterDocument, ask: Ask) -> str | None:
    """Return the last number by its text."""
    last = numbering.documents.find_one({"scope": ask.place.scope, "period": ask.place.period}, sort=[("text", -1)])
    return str(last["text"]) if last is not None else None
