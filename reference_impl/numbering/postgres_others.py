"""Other ways to number documents on PostgreSQL that are right as well. Each says when to prefer it to the counter row."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

from sqlalchemy.exc import DBAPIError

from reference_impl.base.postgres import Transaction, violated
from reference_impl.numbering.postgres import CounterRow, Drawn, Settings, key_of, row_of, told
from reference_impl.numbering.series import Ask, validate


class CounterRowOneStatement(CounterRow):
    """Counter and document in a single statement: gapless, with the counter held for one round trip only.

    Everything else takes several statements, and is a transaction.
    """

    transaction = False

    def draw_and_store(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Validate first: one statement draws and stores, so nothing can fail between."""
        validate(ask)
        place = ask.place
        found = tx.row(
            """
            WITH taken AS (
                INSERT INTO counters (scope, period, value) VALUES (:scope, :period, 1)
                ON CONFLICT (scope, period) DO UPDATE SET value = counters.value + 1
                RETURNING value
            )
            INSERT INTO documents (company, document_type, branch, scope, period, number, text, dated, amount, token, request)
            SELECT :company, :document_type, :branch, :scope, :period, value,
                   :prefix || lpad(value::text, greatest(:width, length(value::text)), '0'), :dated, :amount, :token, :request
            FROM taken RETURNING id, number, text
            """,
            **row_of(ask, 0, ""),
            prefix=place.prefix,
            width=place.width,
        )
        return told({**key_of(ask), "number": found.number, "text": found.text}, found.id)

    def hold(self, tx: Transaction, ask: Ask) -> None:
        """Lock the documents alone. A create locks both tables before it begins, in an order that the server chooses."""
        tx.change("LOCK TABLE documents IN SHARE ROW EXCLUSIVE MODE")

    def import_document(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take over one document under the number that it was issued with. Here the documents go first, then the counter."""
        self.hold(tx, ask)
        return super().import_document(tx, ask)


class IncrementThenRefreshInTransaction(CounterRow):
    """Increment, then read back, in one transaction: the row lock is held between the two, so it is right."""

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Increment; then read: nobody can come between, because the row stays locked until the end."""
        self.ensure_counter(tx, ask)
        tx.change(
            "UPDATE counters SET value = value + 1 WHERE scope = :scope AND period = :period",
            **key_of(ask),
        )
        tx.at("incremented")
        return self.refresh(tx, ask), None

    def ensure_counter(self, tx: Transaction, ask: Ask) -> None:
        """Make the counter if this is its first use."""
        tx.change(
            "INSERT INTO counters (scope, period, value) VALUES (:scope, :period, 0) ON CONFLICT DO NOTHING",
            **key_of(ask),
        )

    def refresh(self, tx: Transaction, ask: Ask) -> int:
        """Read the counter."""
        value: int = tx.value(
            "SELECT value FROM counters WHERE scope = :scope AND period = :period",
            **key_of(ask),
        )
        return value


class NativeSequence(CounterRow):
    """A native sequence: unique and the fastest, but a number drawn is never given back, so failures leave gaps.

    Where the policy is gapless that is the bug (N26): A draws 1 and rolls back; B draws 2.
    """

    keeps_counter = False
    cache: ClassVar[int] = 1

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Take the sequence's next value. It stays taken whatever becomes of the document.

        One that is not there yet is made beside the document's transaction: at a stricter level than READ COMMITTED that
        transaction may not see the documents behind which the sequence has to start.
        """
        number = self.following(tx, ask)
        return (self.session.aside(lambda own: self.first(own, ask)) if number is None else number), None

    def following(self, tx: Transaction, ask: Ask) -> int | None:
        """Ask the sequence, None if there is none."""
        found: int | None = tx.value("SELECT nextval(to_regclass(:name))", name=sequence_name(ask))
        return found

    def first(self, tx: Transaction, ask: Ask) -> int:
        """Make the scope's sequence behind the highest number that exists, once, whoever else is about to; ask it."""
        self.lock_name(tx, ask)
        self.create_sequence(tx, ask)
        number = self.following(tx, ask)
        assert number is not None  # it was made here, or by whoever held the lock before
        return number

    def lock_name(self, tx: Transaction, ask: Ask) -> None:
        """Wait for everybody who is about to make the sequence, and then see what they did.

        That takes READ COMMITTED whatever the setting is: this SELECT is the first look, and it is older than its wait.
        """
        tx.change("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        tx.row("SELECT pg_advisory_xact_lock(hashtext(:name))", name=sequence_name(ask))

    def create_sequence(self, tx: Transaction, ask: Ask) -> int:
        """Create the sequence if it is not there; return the number that has to follow what exists."""
        following = max(highest_number(tx, ask), ask.number) + 1
        tx.change(f"CREATE SEQUENCE IF NOT EXISTS {sequence_name(ask)} START WITH {following:d} CACHE {self.cache:d}")
        return following

    def hold(self, tx: Transaction, ask: Ask) -> None:
        """Keep everybody from drawing numbers and adding documents until the end.

        ``ALTER SEQUENCE`` changes nothing here but keeps everybody from drawing. The locks are taken in the order in which a
        create takes them: sequence, documents.
        """
        self.lock_name(tx, ask)
        tx.change(f"ALTER SEQUENCE IF EXISTS {sequence_name(ask)} CACHE {self.cache:d}")
        super().hold(tx, ask)

    def start_counter(self, tx: Transaction, ask: Ask) -> None:
        """Start the sequence behind the highest number that exists or is taken over, or move it up to there, and never back."""
        name = sequence_name(ask)
        following = self.create_sequence(tx, ask)
        if following > tx.value(f"SELECT last_value + is_called::int FROM {name}"):
            tx.change(f"ALTER SEQUENCE {name} RESTART WITH {following:d}")

    def periods(self, tx: Transaction, ask: Ask) -> list[str]:
        """Return the request's own: where a sequence is missing, its first use looks for the highest number by itself."""
        return [ask.place.period]

    def import_document(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take over one document under the number that it was issued with, while nobody draws."""
        self.hold(tx, ask)
        return super().import_document(tx, ask)

    def begun(self, tx: Transaction, ask: Ask) -> bool:
        """Tell whether a number of the series was ever given, also to a document that is gone."""
        drawn = "SELECT EXISTS (SELECT FROM pg_sequences WHERE sequencename = :name AND last_value IS NOT NULL)"
        return super().begun(tx, ask) or bool(tx.value(drawn, name=sequence_name(ask)))


def sequence_name(ask: Ask) -> str:
    """Return the name of the scope's sequence: safe to stand in a statement, whatever the scope is called."""
    return "numbers_" + hashlib.md5(f"{ask.place.scope}/{ask.place.period}".encode(), usedforsecurity=False).hexdigest()


class NativeSequenceAfterCheck(NativeSequence):
    """A native sequence that is asked only where the token is known to be new: what is sent again burns no number.

    That takes READ COMMITTED: at a stricter level the look is as old as the wait for the lock before it.
    """

    isolation = "read_committed"

    def draw_and_store(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Let nobody else work on this token; look for it; only then draw."""
        tx.row("SELECT pg_advisory_xact_lock(hashtext(:token))", token=ask.key)
        if tx.value("SELECT EXISTS (SELECT FROM documents WHERE token = :token)", token=ask.key):
            return self.recall(tx, ask)
        return super().draw_and_store(tx, ask)


class MaxUnderAdvisoryLock(CounterRow):
    """An advisory lock, then max + 1: right at READ COMMITTED, where the read sees what the lock's last holder committed.

    Not at REPEATABLE READ (N15): B waits for the lock in the statement that takes B's snapshot; A stores 7 and commits; B holds
    the lock, looks into its snapshot, and stores 7 again.
    """

    keeps_counter = False

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Lock the scope, then look for its highest number."""
        self.lock_scope(tx, ask)
        tx.at("locked")
        return highest_plus_one(tx, ask)

    def lock_scope(self, tx: Transaction, ask: Ask) -> None:
        """Wait for whoever holds the scope."""
        tx.row("SELECT pg_advisory_xact_lock(hashtext(:scope), hashtext(:period))", **key_of(ask))

    def hold(self, tx: Transaction, ask: Ask) -> None:
        """Keep everybody from drawing as well: who has looked already holds the scope. A create takes the scope first, too."""
        self.lock_scope(tx, ask)
        super().hold(tx, ask)


class MaxSerializable(CounterRow):
    """max + 1 at SERIALIZABLE, the whole transaction run again when the server says so."""

    keeps_counter = False
    isolation = "serializable"

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Look for the highest number; the server notices whoever else did."""
        return highest_plus_one(tx, ask)


class OptimisticSavepoint(CounterRow):
    """max + 1 under a unique index, a savepoint around each try: gapless without a counter."""

    keeps_counter = False

    @classmethod
    def schema(cls, settings: Settings) -> str:
        """Return the DDL; the unique index is what the method stands on."""
        return super().schema({**settings, "unique_index": True})

    def draw_and_store(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Try numbers upwards from the highest; a number that is taken costs a savepoint, not the transaction."""
        number, basis = highest_plus_one(tx, ask)
        while True:
            tx.at("number_taken")
            validate(ask)
            tx.change("SAVEPOINT candidate")
            try:
                return self.store(tx, ask, number, basis)
            except DBAPIError as e:
                if violated(e) != "documents_number_key":
                    raise
                tx.change("ROLLBACK TO SAVEPOINT candidate")
                number += 1


def highest_number(tx: Transaction, ask: Ask) -> int:
    """Return the highest number of the scope, 0 if there is none."""
    sql = "SELECT coalesce(max(number), 0) FROM documents WHERE scope = :scope AND period = :period"
    highest: int = tx.value(sql, **key_of(ask))
    return highest


def highest_plus_one(tx: Transaction, ask: Ask) -> Drawn:
    """Return one more than the highest number of the scope."""
    highest = highest_number(tx, ask)
    return highest + 1, f"the highest number {highest}"
