"""Ways to get numbering wrong on PostgreSQL.

Each class differs from a correct one of `reference_impl.numbering.postgres` in the lines that are shown and in nothing else. The
docstring gives the shortest interleaving: A and B are two clients.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import DBAPIError

from reference_impl.base.postgres import Checkpoint, Transaction, violated
from reference_impl.numbering.postgres import STORE, CounterRow, Drawn, key_of, row_of, told
from reference_impl.numbering.postgres_others import (
    IncrementThenRefreshInTransaction,
    MaxSerializable,
    NativeSequence,
    highest_number,
    highest_plus_one,
)
from reference_impl.numbering.series import Ask, place_of, validate

IGNORE = STORE.replace("RETURNING", "ON CONFLICT (token) DO NOTHING RETURNING")
MANILA = timedelta(hours=8)
CLOCK = "the clock"


class CountPlusOne(CounterRow):
    """Count the documents and add one (N01).

    A counts 3; B counts 3; A inserts 4; B inserts 4. A deleted document makes it wrong without any race (N02).
    """

    keeps_counter = False

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Count."""
        count = tx.value("SELECT count(*) FROM documents WHERE scope = :scope AND period = :period", **key_of(ask))
        return count + 1, f"the count {count}"


class LatestTextPlusOne(CounterRow):
    """Take the last number by its text and add one (N01, N03).

    A reads INV-00004; B reads INV-00004; both insert 5. And as text 9999 comes after 10000: once the padding is outgrown,
    10000 is issued for ever.
    """

    keeps_counter = False

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Sort texts."""
        latest = tx.value(
            "SELECT text FROM documents WHERE scope = :scope AND period = :period ORDER BY text DESC LIMIT 1",
            **key_of(ask),
        )
        number = ask.place.number(latest) if latest is not None else 0
        return (number or 0) + 1, f"the latest {latest}"


class LockLastRow(CounterRow):
    """Lock the last document's row, then add one to its number (N12).

    A locks 2; B waits; A inserts 3 and commits; B is given the row it waited for, which still says 2, and inserts 3.
    """

    keeps_counter = False

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Lock what was the last row when the statement began."""
        last = tx.value(
            "SELECT number FROM documents WHERE scope = :scope AND period = :period ORDER BY number DESC LIMIT 1 FOR UPDATE",
            **key_of(ask),
        )
        return (last or 0) + 1, f"the last number {last}"


class IncrementThenRefresh(IncrementThenRefreshInTransaction):
    """Increment, then read back, each committed by itself (N04).

    A increments to 5; B increments to 6; A reads 6; B reads 6: 6 twice, 5 never. The same two statements are right in one
    transaction.
    """

    transaction = False


class LoadAddSave(CounterRow):
    """Load the counter, add one in the application, save it (N06).

    A loads 4; B loads 4; A saves 5; B saves 5.
    """

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Write what was read, plus one."""
        loaded = tx.value("SELECT value FROM counters WHERE scope = :scope AND period = :period", **key_of(ask)) or 0
        tx.at("loaded")
        tx.change(
            "INSERT INTO counters (scope, period, value) VALUES (:scope, :period, :value)"
            " ON CONFLICT (scope, period) DO UPDATE SET value = :value",
            **key_of(ask),
            value=loaded + 1,
        )
        return loaded + 1, f"the counter {loaded}"


class CheckNextRetryFallback(CounterRow):
    """The fix that a payment system published: check, try the next, retry on conflict, fall back to the clock (N07, N08, N10).

    A: does 6 exist? No. B: does 6 exist? No. A inserts 6; B inserts 6. With the index B starts over, up to three times, and
    then prints the last six digits of the clock: ``PAY2026542069``, which every later number follows. And a conflict on the
    client's token counts as "number taken": a double submit becomes a second document (N10).
    """

    keeps_counter = False
    candidates = 5
    retries = 3

    def create(self, ask: Ask, checkpoint: Checkpoint) -> tuple[dict[str, Any], int]:
        """Generate and insert; on any duplicate key generate and insert again; at last, fall back."""
        for attempt in range(1, self.retries + 2):
            try:
                answer, _ = super().create(ask, checkpoint)
                return answer, attempt
            except DBAPIError as e:
                if violated(e) is None:
                    raise
                if violated(e) == "documents_token_key":
                    ask = self.without_token(ask)
        answer, _ = self.session.run(lambda tx: self.store(tx, ask, clock_digits(), CLOCK), checkpoint)
        return answer, self.retries + 2

    def without_token(self, ask: Ask) -> Ask:
        """Drop the reference that was in the way."""
        return replace(ask, key=None)  # type: ignore[arg-type]  # that it has none is the bug

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Take the latest by text, then look for one that is free; after five, take the clock."""
        latest = tx.value(
            "SELECT text FROM documents WHERE scope = :scope AND period = :period ORDER BY text DESC LIMIT 1",
            **key_of(ask),
        )
        number = (ask.place.number(latest) or 0) + 1 if latest is not None else 1
        for candidate in range(number, number + self.candidates):
            if not tx.value("SELECT EXISTS (SELECT FROM documents WHERE text = :text)", text=ask.place.text(candidate)):
                return candidate, f"the latest {latest}"
        return clock_digits(), CLOCK

    def store(self, tx: Transaction, ask: Ask, number: int, basis: str | None = None) -> dict[str, Any]:
        """Print what the clock says with six digits."""
        place = replace(ask.place, width=6) if basis == CLOCK else ask.place
        return super().store(tx, replace(ask, place=place), number, basis)


class CounterOnOtherConnection(CounterRow):
    """The right counter on another connection: its increment stays when the document's transaction fails (N27).

    A draws 5, committed; its sale is refused; B draws 6: number 5 belongs to nobody. Never a duplicate.
    """

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Draw where the document's rollback does not reach."""
        return self.session.aside(lambda other: super(CounterOnOtherConnection, self).draw(other, ask))


class NativeSequenceCached(NativeSequence):
    """A native sequence with CACHE 10: each session takes ten numbers ahead (N29).

    A takes 1; B takes 11; A takes 2: out of order, and what a session has left is lost when it ends.
    """

    cache = 10


class SerializableWithoutRetry(MaxSerializable):
    """max + 1 at SERIALIZABLE, and nobody runs the transaction again: right data, and errors under any contention (N22).

    A and B read 6; A commits 7; B is told 40001, and so is its client.
    """

    tries = 1


class CounterRowWithoutRetry(CounterRow):
    """The right counter at REPEATABLE READ without running the transaction again (N22).

    A increments; B waits; A commits; B is told 40001, and so is its client.
    """

    tries = 1
    isolation = "repeatable_read"


class SelectThenInsertCounter(CounterRow):
    """Look for the counter, make it if it is not there, with no key on the table (N18, and N21 where each period has its own).

    A finds none; B finds none; A inserts one; B inserts another: two counters, and both say 1 for ever.
    """

    counter_key = False

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Select for update, or insert."""
        value = tx.value("SELECT value FROM counters WHERE scope = :scope AND period = :period LIMIT 1 FOR UPDATE", **key_of(ask))
        if value is None:
            tx.at("no_counter")
            tx.change("INSERT INTO counters (scope, period, value) VALUES (:scope, :period, 1)", **key_of(ask))
            return 1, "no counter"
        tx.change(
            "UPDATE counters SET value = value + 1 WHERE ctid = (SELECT ctid FROM counters"
            " WHERE scope = :scope AND period = :period LIMIT 1)",
            **key_of(ask),
        )
        return value + 1, f"the counter {value}"

    def start_counter(self, tx: Transaction, ask: Ask) -> None:
        """Update, or insert: without a key there is no conflict."""
        start = {**key_of(ask), "value": max(highest_number(tx, ask), ask.number)}
        moved_up = "UPDATE counters SET value = greatest(value, :value) WHERE scope = :scope AND period = :period"
        if not tx.change(moved_up, **start):
            tx.change("INSERT INTO counters (scope, period, value) VALUES (:scope, :period, :value)", **start)


class SwallowedError(CounterRow):
    """Take the highest number plus one under a unique index, and swallow the error (N25).

    A and B read 6; A inserts 7; B's insert fails, and B carries on: COMMIT of the failed transaction says nothing (the server
    rolls back, the driver raises nothing), and B's client is told a number that is stored for A.
    """

    keeps_counter = False

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Take the highest, plus one."""
        return highest_plus_one(tx, ask)

    def store(self, tx: Transaction, ask: Ask, number: int, basis: str | None = None) -> dict[str, Any]:
        """Insert, and carry on whatever happens."""
        try:
            return super().store(tx, ask, number, basis)
        except DBAPIError:
            place = ask.place
            return {"scope": place.scope, "period": place.period, "number": number, "text": place.text(number)}


class RetryInsertOnly(CounterRow):
    """On a conflict, insert again with the next number, in the transaction that has failed already (N23).

    B's insert fails with 23505; every statement after it with 25P02.
    """

    keeps_counter = False

    def draw_and_store(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Try twice, without a savepoint."""
        number, basis = highest_plus_one(tx, ask)
        tx.at("number_taken")
        validate(ask)
        try:
            return self.store(tx, ask, number, basis)
        except DBAPIError:
            return self.store(tx, ask, number + 1, basis)


class CounterStartsAtZero(CounterRow):
    """The right counter, introduced at zero although documents exist (N42).

    Forty documents exist; A introduces the counter; B creates one and is given 1, which a customer holds already.
    """

    def start_counter(self, tx: Transaction, ask: Ask) -> None:
        """Leave the counter to its first use."""


class CounterGoesBack(CounterRow):
    """The right counter, and a document that is deleted gives its number back if it was the last (N43).

    A deletes 7, which its customer holds on paper; the counter goes back to 6; B is given 7.
    """

    def delete(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Delete; if last, decrement."""
        gone = super().delete(tx, ask)
        tx.change(
            "UPDATE counters SET value = value - 1 WHERE scope = :scope AND period = :period AND value = :number",
            scope=gone["scope"],
            period=gone["period"],
            number=gone["number"],
        )
        return gone


class SerialOnConflict(NativeSequence):
    """A sequence, and ON CONFLICT DO NOTHING to sort out the second submit (N28).

    A inserts 1; A's second submit draws 2 and inserts nothing; B gets 3: a number burnt by every repetition.
    """

    def store(self, tx: Transaction, ask: Ask, number: int, basis: str | None = None) -> dict[str, Any]:
        """Insert or ignore; what was there already is the answer."""
        row = row_of(ask, number, ask.place.text(number))
        inserted = tx.value(IGNORE, **row)
        return self.recall(tx, ask) if inserted is None else told(row, inserted)


class TokenIgnored(CounterRow):
    """The right counter, and every request is a new one (N38).

    A's COMMIT succeeds and its reply is lost; A sends the request again: two documents for one intent.
    """

    token_once = False


class TokenCheckedFirst(CounterRow):
    """The right counter, and the token looked up before it is stored, without an index (P17).

    A looks: unknown; B, the same request, looks: unknown; both create.
    """

    token_once = False

    def create(self, ask: Ask, checkpoint: Checkpoint) -> tuple[dict[str, Any], int]:
        """Look first."""
        seen = self.session.run(lambda tx: tx.value("SELECT count(*) FROM documents WHERE token = :t", t=ask.key), checkpoint)
        if seen[0]:
            return self.session.run(lambda tx: self.recall(tx, ask), checkpoint)
        return super().create(ask, checkpoint)


class PayloadNotCompared(CounterRow):
    """The right counter, and a used token answers whatever is asked with it (P18): 250 is told "ok, 100"."""

    def same_request(self, stored: str, ask: Ask) -> None:
        """Trust the token."""


class PeriodFromTheClock(CounterRow):
    """The right counter for the document's period, and the year in print from the server's clock (N31).

    In January A enters a payment of last December: it draws that year's 17, and prints this year's 17, which B has.
    """

    def print(self, ask: Ask, number: int) -> str:
        """Print this year, whatever the document's date."""
        return ask.place.text(number).replace(f"{ask.at:%Y}", time.strftime("%Y"), 1)


class TwoTimeZones(CounterRow):
    """The right counter, its period from the day in Manila and the print from the day in UTC (N32).

    At 16:00 UTC the counter of the next day begins, and its numbers go to documents of this one.
    """

    def draw_and_store(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Count where the server stands."""
        local = place_of(ask.company, ask.document_type, ask.branch, ask.at + MANILA)
        return super().draw_and_store(tx, replace(ask, place=replace(ask.place, period=local.period)))


class StripedCounter(CounterRow):
    """One counter for odd and one for even numbers, so that clients wait less (N33).

    A, A and A draw 1, 3 and 5; B draws 2: lower than what was issued before it, and 4 is missing as long as nobody draws it.
    """

    keeps_counter = False
    stripes = 2

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Draw from the stripe that the document's amount falls into."""
        stripe = ask.amount % self.stripes
        own = replace(ask, place=replace(ask.place, scope=f"{ask.place.scope}#{stripe}"))
        value, _ = super().draw(tx, own)
        return (value - 1) * self.stripes + stripe + 1, None


class TwoAllocators(CounterRow):
    """The right counter, asked by the controller and again by the hook before saving (N44): a number burnt per document.

    A's controller draws 1, its hook draws 2 and stores that; B stores 4.
    """

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Draw in the controller, and once more in the hook."""
        super().draw(tx, ask)
        return super().draw(tx, ask)


class ShareThenUpdate(CounterRow):
    """Lock the counter FOR SHARE, then update it (N40).

    A and B share the lock; A wants to update and waits for B; B wants to update and waits for A: 40P01.
    """

    tries = 1

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Share, then upgrade."""
        value = tx.value("SELECT value FROM counters WHERE scope = :scope AND period = :period FOR SHARE", **key_of(ask))
        if value is None:
            return super().draw(tx, ask)
        tx.change(
            "UPDATE counters SET value = :value WHERE scope = :scope AND period = :period",
            **key_of(ask),
            value=value + 1,
        )
        return value + 1, f"the counter {value}"


def clock_digits() -> int:
    """Return the last six digits of the milliseconds since 1970."""
    return time.time_ns() // 1_000_000 % 1_000_000
