"""Numbering on PostgreSQL, done right. `CounterRow` is the one to copy.

Its three habits:

- **One statement draws the number.** ``INSERT .. ON CONFLICT DO UPDATE .. RETURNING`` makes the counter if it is not there,
  increments it and tells the result, all under the row's lock. Nobody can read the same value.
- **The counter belongs to the document's transaction.** A create that fails gives its number back, because the counter's
  row rolls back with the document: no gap. (A sequence does not: see `NativeSequence`.)
- **The client's token is unique in the documents.** The same intent sent again runs into it and is told what happened the
  first time; another request under that token is refused.

What it costs: creates of one scope stand in line while the counter is held, so draw the number as late as possible.
The other classes here are right as well, and say when to prefer them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy.exc import DBAPIError

from reference_impl.base.keys import key_reused
from reference_impl.base.postgres import (
    TRIES,
    Boundaries,
    Checkpoint,
    PostgresSession,
    Transaction,
    run_script,
    violated,
)
from reference_impl.base.refusal import Refused, unknown
from reference_impl.numbering.series import Ask, understand, validate

SCHEMA = """
CREATE TABLE documents (
    id             bigint GENERATED ALWAYS AS IDENTITY (CACHE 50) PRIMARY KEY,
    company        text NOT NULL,
    document_type  text NOT NULL,
    branch         text NOT NULL,
    scope          text NOT NULL,
    period         text NOT NULL,
    number         bigint NOT NULL,
    text           text NOT NULL,
    status         text NOT NULL DEFAULT 'issued',
    reason         text,
    dated          timestamptz NOT NULL,
    amount         bigint NOT NULL,
    token          text,
    request        text
);
CREATE INDEX documents_place ON documents (scope, period, number);
CREATE TABLE counters (
    scope   text NOT NULL,
    period  text NOT NULL,
    value   bigint NOT NULL
);
"""
COUNTER_KEY = "ALTER TABLE counters ADD CONSTRAINT counters_pkey PRIMARY KEY (scope, period);"
TOKEN_INDEX = "ALTER TABLE documents ADD CONSTRAINT documents_token_key UNIQUE (token);"
NUMBER_INDEX = "ALTER TABLE documents ADD CONSTRAINT documents_number_key UNIQUE (scope, period, number);"

TAKE = """
INSERT INTO counters (scope, period, value) VALUES (:scope, :period, 1)
ON CONFLICT (scope, period) DO UPDATE SET value = counters.value + 1
RETURNING value
"""
STORE = """
INSERT INTO documents (company, document_type, branch, scope, period, number, text, dated, amount, token, request)
VALUES (:company, :document_type, :branch, :scope, :period, :number, :text, :dated, :amount, :token, :request)
RETURNING id
"""
RECALL = "SELECT id, scope, period, number, text, request FROM documents WHERE token = :token"

Settings = Mapping[str, Any]
Drawn = tuple[int, str | None]
"""A number, and what it was derived from, if something was read to derive it."""


class CounterRow:
    """A counter row, incremented with RETURNING inside the document's transaction: unique and gapless."""

    transaction: ClassVar[bool] = True
    isolation: ClassVar[str | None] = None
    """The isolation level that the method needs, where the setting has no say."""
    tries: ClassVar[int] = TRIES
    counter_key: ClassVar[bool] = True
    token_once: ClassVar[bool] = True
    keeps_counter: ClassVar[bool] = True

    def __init__(self, session: PostgresSession, settings: Settings) -> None:
        self.session = session
        self.settings = settings

    # What a target offers -------------------------------------------------------------------------------------------

    @classmethod
    def schema(cls, settings: Settings) -> str:
        """Return the DDL. ``unique_index`` adds the second line of defence."""
        parts = [SCHEMA]
        if cls.counter_key:
            parts.append(COUNTER_KEY)
        if cls.token_once:
            parts.append(TOKEN_INDEX)
        if settings["unique_index"]:
            parts.append(NUMBER_INDEX)
        return "\n".join(parts)

    @classmethod
    def install(cls, url: str, settings: Settings) -> None:
        """Make the tables in an empty database."""
        run_script(url, cls.schema(settings))

    @classmethod
    def connect(cls, url: str, settings: Settings) -> CounterRow:
        """Open one client's connection."""
        boundaries = Boundaries(isolation=cls.isolation or settings["isolation"], transaction=cls.transaction, tries=cls.tries)
        return cls(PostgresSession(url, boundaries), settings)

    @classmethod
    def books(cls, settings: Settings) -> Mapping[str, str]:
        """Return how each canonical table is read."""
        found = {
            "documents": """
                SELECT id, scope, period, number, text, token, status, dated, amount, reason FROM documents
            """,
            "indexes": """
                SELECT 'documents' AS "table", string_agg(a.attname, ',' ORDER BY k.position) AS columns
                FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(attnum, position), pg_attribute a
                WHERE i.indrelid = 'documents'::regclass AND i.indisunique AND NOT i.indisprimary
                AND a.attrelid = i.indrelid AND a.attnum = k.attnum GROUP BY i.indexrelid
            """,
        }
        if cls.keeps_counter:
            found["counters"] = "SELECT scope, period, value FROM counters"
        return found

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Carry out one operation. Raises Refused, or the driver's error where the store failed."""
        ask = understand(f, arguments, token)
        if f == "seed":
            return self.session.run(lambda tx: self.seed(tx, ask), checkpoint)[0]
        if f == "void":
            return self.session.run(lambda tx: self.void(tx, ask), checkpoint)[0]
        try:
            answer, attempts = self.create(ask, checkpoint)
        except DBAPIError as e:
            if violated(e) != "documents_token_key":
                raise
            answer, attempts = self.session.run(lambda tx: self.recall(tx, ask), checkpoint)
            attempts += getattr(e, "attempts", 1)
        return {**answer, "attempts": attempts}

    def vanish(self) -> None:
        """Cut the connection without a goodbye."""
        self.session.vanish()

    def close(self) -> None:
        """Close the connection."""
        self.session.close()

    # The operations -------------------------------------------------------------------------------------------------

    def create(self, ask: Ask, checkpoint: Checkpoint) -> tuple[dict[str, Any], int]:
        """Create a document with the next number; return the answer and the tries that it took."""
        return self.session.run(lambda tx: self.draw_and_store(tx, ask), checkpoint)

    def draw_and_store(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Draw the number, check what the business checks, store the document."""
        number, basis = self.draw(tx, ask)
        tx.at("number_taken")
        validate(ask)
        return self.store(tx, ask, number, basis)

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Increment the counter and take what it says: one statement."""
        return tx.value(TAKE, scope=ask.place.scope, period=ask.place.period), None

    def store(self, tx: Transaction, ask: Ask, number: int, basis: str | None = None) -> dict[str, Any]:
        """Insert the document."""
        place = ask.place
        text = self.print(ask, number)
        document = tx.value(
            STORE,
            company=ask.company,
            document_type=ask.document_type,
            branch=ask.branch,
            scope=place.scope,
            period=place.period,
            number=number,
            text=text,
            dated=ask.at,
            amount=ask.amount,
            token=ask.key,
            request=ask.request,
        )
        answer = {
            "scope": place.scope,
            "period": place.period,
            "number": number,
            "text": text,
            "document": str(document),
        }
        return answer if basis is None else {**answer, "basis": basis}

    def print(self, ask: Ask, number: int) -> str:
        """Return the number as printed."""
        return ask.place.text(number)

    def recall(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Answer a repeated token with its document; refuse it for another request."""
        found = tx.row(RECALL, token=ask.key)
        if found is None:
            raise unknown("token", ask.key)
        self.same_request(found.request, ask)
        return {
            "scope": found.scope,
            "period": found.period,
            "number": found.number,
            "text": found.text,
            "document": str(found.id),
            "replayed": True,
        }

    def same_request(self, stored: str, ask: Ask) -> None:
        """Refuse another request under a used token."""
        if stored != ask.request:
            raise key_reused(ask.key)

    def seed(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take over documents that exist already, and start the counter where they end, both in one transaction."""
        place = ask.place
        tx.change(
            "INSERT INTO documents (company, document_type, branch, scope, period, number, text, dated, amount)"
            " SELECT :company, :document_type, :branch, :scope, :period, n,"
            " :prefix || lpad(n::text, greatest(:width, length(n::text)), '0'), :dated, 100"
            " FROM generate_series(1, :through) AS n",
            company=ask.company,
            document_type=ask.document_type,
            branch=ask.branch,
            scope=place.scope,
            period=place.period,
            prefix=place.prefix,
            width=place.width,
            dated=ask.at,
            through=ask.through,
        )
        if self.keeps_counter:
            self.start_counter(tx, ask)
        return {"scope": place.scope, "period": place.period, "through": ask.through}

    def start_counter(self, tx: Transaction, ask: Ask) -> None:
        """Start the counter at the highest number that exists."""
        tx.change(
            "INSERT INTO counters (scope, period, value) VALUES (:scope, :period, :value)",
            scope=ask.place.scope,
            period=ask.place.period,
            value=ask.through,
        )

    def void(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Void an issued document, with its reason. Its number stays taken for ever."""
        found = tx.row(
            "UPDATE documents SET status = 'void', reason = :reason"
            " WHERE scope = :scope AND text = :text AND status = 'issued' RETURNING number",
            scope=ask.place.scope,
            text=ask.text,
            reason=ask.reason,
        )
        if found is None:
            raise Refused("not_issued", f"There is no issued document {ask.text!r} to void.")
        return {"scope": ask.place.scope, "text": ask.text, "number": found.number, "status": "void"}


class CounterRowOneStatement(CounterRow):
    """Counter and document in a single statement: gapless, with the counter held for one round trip only."""

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
            company=ask.company,
            document_type=ask.document_type,
            branch=ask.branch,
            scope=place.scope,
            period=place.period,
            prefix=place.prefix,
            width=place.width,
            dated=ask.at,
            amount=ask.amount,
            token=ask.key,
            request=ask.request,
        )
        return {
            "scope": place.scope,
            "period": place.period,
            "number": found.number,
            "text": found.text,
            "document": str(found.id),
        }


class IncrementThenRefreshInTransaction(CounterRow):
    """Increment, then read back, in one transaction: the row lock is held between the two, so it is right."""

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Increment; then read: nobody can come between, because the row stays locked until the end."""
        self.ensure_counter(tx, ask)
        tx.change(
            "UPDATE counters SET value = value + 1 WHERE scope = :scope AND period = :period",
            scope=ask.place.scope,
            period=ask.place.period,
        )
        tx.at("incremented")
        return self.refresh(tx, ask), None

    def ensure_counter(self, tx: Transaction, ask: Ask) -> None:
        """Make the counter if this is its first use."""
        tx.change(
            "INSERT INTO counters (scope, period, value) VALUES (:scope, :period, 0) ON CONFLICT DO NOTHING",
            scope=ask.place.scope,
            period=ask.place.period,
        )

    def refresh(self, tx: Transaction, ask: Ask) -> int:
        """Read the counter."""
        value: int = tx.value(
            "SELECT value FROM counters WHERE scope = :scope AND period = :period",
            scope=ask.place.scope,
            period=ask.place.period,
        )
        return value


class NativeSequence(CounterRow):
    """A native sequence: unique and the fastest, but a number drawn is never given back, so failures leave gaps."""

    keeps_counter = False
    cache: ClassVar[int] = 1

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Take the sequence's next value. It stays taken whatever becomes of the document."""
        name = sequence_name(ask)
        number = tx.value("SELECT nextval(to_regclass(:name))", name=name)
        if number is None:
            self.make_sequence(tx, ask, start=1)
            number = tx.value("SELECT nextval(to_regclass(:name))", name=name)
        return number, None

    def make_sequence(self, tx: Transaction, ask: Ask, *, start: int) -> None:
        """Make the scope's sequence, once, whoever else is about to."""
        name = sequence_name(ask)
        tx.row("SELECT pg_advisory_xact_lock(hashtext(:name))", name=name)
        tx.change(f"CREATE SEQUENCE IF NOT EXISTS {name} START WITH {start:d} CACHE {self.cache:d}")

    def start_counter(self, tx: Transaction, ask: Ask) -> None:
        """Start the sequence behind the highest number that exists."""
        self.make_sequence(tx, ask, start=ask.through + 1)

    def seed(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take over documents, then start the sequence."""
        answer = super().seed(tx, ask)
        self.start_counter(tx, ask)
        return answer


def sequence_name(ask: Ask) -> str:
    """Return the name of the scope's sequence: safe to stand in a statement, whatever the scope is called."""
    return "numbers_" + hashlib.md5(f"{ask.place.scope}/{ask.place.period}".encode(), usedforsecurity=False).hexdigest()


class MaxUnderAdvisoryLock(CounterRow):
    """An advisory lock, then max + 1: right at READ COMMITTED, where the read sees what the lock's last holder committed."""

    keeps_counter = False

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Lock the scope, then look for its highest number."""
        tx.row("SELECT pg_advisory_xact_lock(hashtext(:scope), hashtext(:period))", **key_of(ask))
        tx.at("locked")
        return highest_plus_one(tx, ask)


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


def highest_plus_one(tx: Transaction, ask: Ask) -> Drawn:
    """Return one more than the highest number of the scope."""
    highest = tx.value("SELECT coalesce(max(number), 0) FROM documents WHERE scope = :scope AND period = :period", **key_of(ask))
    return highest + 1, f"the highest number {highest}"


def key_of(ask: Ask) -> dict[str, str]:
    """Return the counter's key."""
    return {"scope": ask.place.scope, "period": ask.place.period}
