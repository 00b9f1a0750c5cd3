"""Numbering on PostgreSQL, done right. `CounterRow` is the one to copy.

Its three habits:

- **One statement draws the number.** ``INSERT .. ON CONFLICT DO UPDATE .. RETURNING`` makes the counter if it is not there,
  increments it and tells the result, all under the row's lock. Nobody can read the same value. (It is made at 1: where
  documents exist already, `introduce` it first.)
- **The counter belongs to the document's transaction.** A create that fails gives its number back, because the counter's
  row rolls back with the document: no gap. (A sequence does not: see `NativeSequence`.)
- **The client's token is unique in the documents.** The same intent sent again runs into it and is told what happened the
  first time; another request under that token is refused.

A document bears the date of its request, and waits for its number after that: of two creates at midnight the later number may
have the earlier date. Where dates must ascend with numbers in a series that knows no periods, take the date when the counter is
held.

What it costs: creates of one scope stand in line while the counter is held, so draw the number as late as possible.
`reference_impl.numbering.postgres_others` has other ways that are right as well, and says when to prefer them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from sqlalchemy.exc import DBAPIError

from reference_impl.base.keys import key_reused
from reference_impl.base.postgres import (
    TRIES,
    Boundaries,
    Checkpoint,
    PostgresSession,
    Transaction,
    Where,
    run_script,
    violated,
)
from reference_impl.base.refusal import unknown
from reference_impl.numbering import duplicates
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

# Ids only identify: sessions take them fifty at a time, which spares them waiting for each other, and out of order.
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
    dated          timestamptz NOT NULL,
    amount         bigint NOT NULL,
    token          text,
    request        text
);
CREATE INDEX documents_place ON documents (scope, period, number);
CREATE INDEX documents_print ON documents (scope, text);
CREATE TABLE counters (
    scope   text NOT NULL,
    period  text NOT NULL,
    value   bigint NOT NULL
);
CREATE TABLE voids (
    document  bigint PRIMARY KEY,
    reason    text NOT NULL,
    token     text NOT NULL UNIQUE,
    at        timestamptz NOT NULL
);
CREATE TABLE deletions (
    token   text PRIMARY KEY,
    company text NOT NULL,
    scope   text NOT NULL,
    period  text NOT NULL,
    text    text NOT NULL,
    number  bigint NOT NULL,
    at      timestamptz NOT NULL
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
INSERT INTO documents
    (company, document_type, branch, scope, period, number, text, status, dated, amount, token, request)
VALUES (:company, :document_type, :branch, :scope, :period, :number, :text, :status, :dated, :amount, :token, :request)
RETURNING id
"""
RECALL = "SELECT id, scope, period, number, text, request FROM documents WHERE token = :token"

INTRODUCE = """
INSERT INTO counters (scope, period, value)
SELECT :scope, :period, greatest(max(number), :number) FROM documents WHERE scope = :scope AND period = :period
ON CONFLICT (scope, period) DO UPDATE SET value = greatest(counters.value, excluded.value)
"""

Settings = Mapping[str, Any]
Drawn = tuple[int, str | None]
"""A number, and what it was derived from, if something was read to derive it."""
Job = Callable[[Transaction, Ask], dict[str, Any]]


class CounterRow:
    """A counter row, incremented with RETURNING inside the document's transaction: unique and gapless."""

    transaction: ClassVar[bool] = True
    isolation: ClassVar[str | None] = None
    """The isolation level that the method needs, where the setting has no say."""
    tries: ClassVar[int] = TRIES
    counter_key: ClassVar[bool] = True
    token_once: ClassVar[bool] = True
    keeps_counter: ClassVar[bool] = True
    token_indexes: ClassVar[frozenset[str]] = frozenset({"documents_token_key", "voids_token_key", "deletions_pkey"})
    """Where a request that is sent again is noticed, and a key that is used for another one."""

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
    def connect(cls, where: Where, settings: Settings) -> CounterRow:
        """Open one client's connection."""
        boundaries = Boundaries(isolation=cls.isolation or settings["isolation"], transaction=cls.transaction, tries=cls.tries)
        return cls(PostgresSession(where, boundaries), settings)

    @classmethod
    def books(cls, settings: Settings) -> Mapping[str, str]:
        """Return how each canonical table is read."""
        found = {
            "documents": """
                SELECT id::text, scope, period, number, text, d.token, status, dated, amount, reason
                FROM documents d LEFT JOIN voids v ON v.document = d.id
                UNION ALL
                SELECT 'void ' || id, scope, period, number, text, NULL, 'void', dated, amount, reason
                FROM documents d JOIN voids v ON v.document = d.id WHERE status <> 'void'
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
        try:
            answer, attempts = self.create(ask, checkpoint) if f == "create" else self.carry_out(ask, checkpoint)
        except DBAPIError as e:
            index = violated(e)
            taken = ask.f == "import_document" and index == "documents_number_key"
            if not taken and index not in self.token_indexes:
                raise
            again = {
                "documents_number_key": self.recalled,  # by itself: it was sent before
                "voids_token_key": self.voided_before,
                "deletions_pkey": self.deleted_before,
            }.get(index or "", self.recall)
            done, attempts = self.session.run(lambda tx: again(tx, ask), checkpoint)
            if done is None:
                if taken:
                    raise number_taken(ask.number) from e
                raise
            answer = done
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

    def carry_out(self, ask: Ask, checkpoint: Checkpoint) -> tuple[dict[str, Any], int]:
        """Do anything else in one transaction, however a create is done; return the answer and the tries that it took."""
        work = self.jobs().get(ask.f)
        if work is None:
            raise no_operation(ask.f)
        return self.session.in_transaction(lambda tx: work(tx, ask), checkpoint)

    def jobs(self) -> Mapping[str, Job]:
        """Return what can be asked for besides ``create``."""
        return {
            "post": self.post,
            "seed": self.seed,
            "import_document": self.import_document,
            "introduce": self.introduce,
            "void": self.void,
            "delete": self.delete,
            "cleanup": self.cleanup,
        }

    def draw_and_store(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Draw the number, check what the business checks, store the document.

        Here the check may come last, as a number that was drawn for nothing rolls back. It costs others their time, though: what
        takes long belongs before the draw.
        """
        number, basis = self.draw(tx, ask)
        tx.at("number_taken")
        validate(ask)
        return self.store(tx, ask, number, basis)

    def post(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Store the documents of one event, each under a number of its own series: an invoice and its journal entry."""
        drawn = {part.place: self.draw(tx, part) for part in self.in_lock_order(ask.parts)}
        tx.at("number_taken")
        first, *others = [self.store(tx, part, *drawn[part.place]) for part in ask.parts]
        return {**first, "also": [other["text"] for other in others]}

    def in_lock_order(self, parts: Sequence[Ask]) -> Sequence[Ask]:
        """Return the order in which counters are taken. As long as it is the same for everybody, nobody waits in a circle."""
        return sorted(parts, key=lambda part: (part.place.scope, part.place.period))

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Increment the counter and take what it says: one statement."""
        return tx.value(TAKE, **key_of(ask)), None

    def store(self, tx: Transaction, ask: Ask, number: int, basis: str | None = None) -> dict[str, Any]:
        """Insert the document."""
        row = row_of(ask, number, self.print(ask, number))
        answer = told(row, tx.value(STORE, **row))
        return answer if basis is None else {**answer, "basis": basis}

    def print(self, ask: Ask, number: int) -> str:
        """Return the number as printed."""
        return ask.place.text(number)

    def recall(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Answer a repeated token with its document, or with what is left of several; refuse it for another request."""
        done = self.recalled(tx, ask)
        if done is None:  # deleted since it was in the way: nothing is done, and the request may be sent again
            raise unknown("token", ask.key)
        return done

    def recalled(self, tx: Transaction, ask: Ask) -> dict[str, Any] | None:
        """Do the same; None if there is no document under the token."""
        keys = [part.key for part in ask.parts] or [ask.key]
        left = [row for key in keys if (row := tx.row(RECALL, token=key)) is not None]
        if not left:
            return None
        first, *others = left
        self.same_request(first.request, ask)
        answer = {**told(first._mapping, first.id), "replayed": True}
        return {**answer, "also": [other.text for other in others]} if ask.parts else answer

    def same_request(self, stored: str, ask: Ask) -> None:
        """Refuse another request under a used token."""
        if stored != ask.request:
            raise key_reused(ask.key)

    def seed(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take over the documents of an empty series, and start the counter where they end, both in one transaction.

        They bear no key, so a request that is sent again is refused: the series has begun.
        """
        place = ask.place
        self.hold(tx, ask)  # before the look: whoever creates the first document has done so by then, or waits
        if self.begun(tx, ask):
            raise series_begun(place.scope)
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
        if ask.counter:
            self.start_counter(tx, ask)
        return {**key_of(ask), "through": ask.through}

    def begun(self, tx: Transaction, ask: Ask) -> bool:
        """Tell whether a number of the series was ever given, also to a document that is gone."""
        there: bool = tx.value("SELECT EXISTS (SELECT FROM documents WHERE scope = :scope AND period = :period)", **key_of(ask))
        if there or not self.keeps_counter:
            return there
        drawn = "SELECT EXISTS (SELECT FROM counters WHERE scope = :scope AND period = :period AND value > 0)"
        return bool(tx.value(drawn, **key_of(ask)))

    def import_document(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take over one document under the number that it was issued with, right or wrong.

        The counter goes first, as in a create, and never lies below what is stored. One that did would come to that number some
        day: a duplicate, or under the unique index an end of all creates, as each that fails sets the counter back.
        """
        self.start_counter(tx, ask)
        return self.store(tx, ask, ask.number)

    def introduce(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Introduce the counters for documents that exist; a later call moves one up if need be, and never back.

        Each period of the series has its own, also one that is over: a document may come late. Any number of instances may do
        so when they start.
        """
        self.hold(tx, ask)
        for period in self.periods(tx, ask):
            self.start_counter(tx, replace(ask, place=replace(ask.place, period=period)))
        return key_of(ask)

    def periods(self, tx: Transaction, ask: Ask) -> list[str]:
        """Return the periods that need a counter: those that have documents, and the request's own."""
        found = tx.rows("SELECT DISTINCT period FROM documents WHERE scope = :scope", scope=ask.place.scope)
        return sorted({ask.place.period, *(row.period for row in found)})

    def hold(self, tx: Transaction, ask: Ask) -> None:
        """Keep everybody from drawing numbers and adding documents until the end, so that a look at them stays true.

        The locks are taken in the order in which a create takes them: counters, documents. And they come first: at a
        stricter level than READ COMMITTED the first look decides what is seen, and must not be older than the wait.
        """
        tables = "counters, documents" if self.keeps_counter else "documents"
        tx.change(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE")

    def start_counter(self, tx: Transaction, ask: Ask) -> None:
        """Start the counter at the highest number that exists or is taken over. It is moved up if need be, and never back."""
        if self.keeps_counter:
            tx.change(INTRODUCE, **key_of(ask), number=ask.number)

    def void(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Void an issued document, with its reason. Its number stays taken for ever."""
        issued = self.lock_issued(tx, ask)
        if len(issued) != 1:
            if done := self.voided_before(tx, ask):
                return done
            raise not_one(ask.text, len(issued))
        tx.change("UPDATE documents SET status = 'void' WHERE id = :id", id=issued[0].id)
        self.register_void(tx, ask, issued[0].id)
        return {"scope": ask.place.scope, "text": ask.text, "number": issued[0].number, "status": "void"}

    def lock_issued(self, tx: Transaction, ask: Ask) -> list[Any]:
        """Return the issued documents with this number, locked: one, or none, or several if the number was issued twice."""
        return tx.rows(
            "SELECT id, period, number FROM documents"
            " WHERE company = :company AND scope = :scope AND text = :text AND status = 'issued' ORDER BY id FOR UPDATE",
            **print_of(ask),
        )

    def register_void(self, tx: Transaction, ask: Ask, document: int) -> None:
        """Note in the register which document is void, why, since when, and by whose request."""
        tx.change(
            "INSERT INTO voids (document, reason, token, at) VALUES (:document, :reason, :token, :at)",
            document=document,
            reason=ask.reason,
            token=ask.key,
            at=ask.at,
        )

    def voided_before(self, tx: Transaction, ask: Ask) -> dict[str, Any] | None:
        """Answer a void that was sent again, refuse its key for another one; None if nothing was voided with it."""
        found = tx.row(
            "SELECT d.id, company, scope, text, number, reason FROM documents d JOIN voids v ON v.document = d.id"
            " WHERE v.token = :token",
            token=ask.key,
        )
        if found is None:
            return None
        asked = (ask.company, ask.place.scope, ask.text, ask.reason)
        if (found.company, found.scope, found.text, found.reason) != asked:
            raise key_reused(ask.key)
        answer = {"scope": found.scope, "text": found.text, "status": "void", "replayed": True}
        if ask.f != "cleanup":
            return {**answer, "number": found.number}
        if str(found.id) != ask.document:
            raise key_reused(ask.key)
        return {**answer, "document": ask.document, "applied": True}

    def cleanup(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Report numbers that several documents bear; if asked to, void one of these documents. No number ever changes."""
        if not ask.apply:
            tx.change("SET TRANSACTION READ ONLY")
            return {**key_of(ask), "duplicates": duplicates.found(tx, ask), "applied": False}
        issued = duplicates.lock_copies(tx, ask)
        if done := self.voided_before(tx, ask):  # after the lock: the first request may have been under way
            return done
        surplus_of(ask, issued)
        tx.at("copies_locked")
        return {**self.resolve_duplicate(tx, ask), "applied": True}

    def resolve_duplicate(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Void one document of several with its number, with a line in the register.

        Its customer needs another document: an ordinary create, by whoever cleans up.
        """
        tx.change("UPDATE documents SET status = 'void' WHERE id = :id", id=int(ask.document or 0))
        self.register_void(tx, ask, int(ask.document or 0))
        return {"scope": ask.place.scope, "text": ask.text, "document": ask.document, "status": "void"}

    def delete(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Delete an issued document, for businesses that will not void.

        No counter goes back for it. Where there is none, the highest number may be this one, and is then given again: so the
        register of deletions knows each by its key, or one that is sent again would delete whoever has the number by then.
        """
        issued = self.lock_issued(tx, ask)
        if done := self.deleted_before(tx, ask):  # after the lock: the first request may have been under way
            return done
        if len(issued) != 1:
            raise not_one(ask.text, len(issued))
        tx.change("DELETE FROM documents WHERE id = :id", id=issued[0].id)
        gone = {"scope": ask.place.scope, "period": issued[0].period, "text": ask.text, "number": issued[0].number}
        tx.change(
            "INSERT INTO deletions (token, company, scope, period, text, number, at)"
            " VALUES (:token, :company, :scope, :period, :text, :number, :at)",
            **gone,
            token=ask.key,
            company=ask.company,
            at=ask.at,
        )
        return gone

    def deleted_before(self, tx: Transaction, ask: Ask) -> dict[str, Any] | None:
        """Answer a delete that was sent again, refuse its key for another one; None if nothing was deleted with it."""
        found = tx.row("SELECT company, scope, period, text, number FROM deletions WHERE token = :token", token=ask.key)
        if found is None:
            return None
        if (found.company, found.scope, found.text) != (ask.company, ask.place.scope, ask.text):
            raise key_reused(ask.key)
        return {name: getattr(found, name) for name in ("scope", "period", "text", "number")} | {"replayed": True}


def key_of(ask: Ask) -> dict[str, str]:
    """Return the counter's key."""
    return {"scope": ask.place.scope, "period": ask.place.period}


def row_of(ask: Ask, number: int, text: str, status: str = "issued") -> dict[str, Any]:
    """Return the document's row."""
    return {
        **key_of(ask),
        "company": ask.company,
        "document_type": ask.document_type,
        "branch": ask.branch,
        "number": number,
        "text": text,
        "status": status,
        "dated": ask.at,
        "amount": ask.amount,
        "token": ask.key,
        "request": ask.request,
    }


def told(row: Mapping[str, Any], document: int) -> dict[str, Any]:
    """Return what the client is told of its document."""
    return {**{name: row[name] for name in ("scope", "period", "number", "text")}, "document": str(document)}
