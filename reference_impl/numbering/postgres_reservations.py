"""Reserve a number now, confirm or release it later: for paper that is printed before its document is complete.

A reservation is a document with the status ``reserved`` and a day on which it lapses. From there it goes to exactly one of two
states, and each step names the state that it leaves in its WHERE clause:

    reserved -> issued      confirm, before it lapses
    reserved -> void        release, or the sweep after it lapsed; both leave a line in the register of voids

So every number that was ever reserved is issued or void in the end, whoever crashes in between: the series stays gapless.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from reference_impl.base.keys import key_reused
from reference_impl.base.postgres import Transaction
from reference_impl.base.refusal import Refused
from reference_impl.numbering.postgres import (
    RECALL,
    STORE,
    CounterRow,
    Job,
    Settings,
    key_of,
    row_of,
    told,
)
from reference_impl.numbering.series import Ask, print_of

LEASE = timedelta(minutes=15)

RESERVATIONS = """
CREATE TABLE reservations (
    document  bigint PRIMARY KEY,
    token     text NOT NULL CONSTRAINT reservations_token_key UNIQUE,
    request   text NOT NULL,
    expires   timestamptz NOT NULL
);
CREATE INDEX documents_reserved ON documents (scope) WHERE status = 'reserved';
"""
CONFIRM = """
UPDATE documents d SET status = 'issued', token = :token, request = :request
FROM reservations r
WHERE r.document = d.id AND d.company = :company AND d.scope = :scope AND d.text = :text
AND d.status = 'reserved' AND r.expires > :at
RETURNING d.id, d.scope, d.period, d.number, d.text
"""
SWEEP = """
WITH lapsed AS (
    UPDATE documents d SET status = 'void'
    FROM reservations r
    WHERE r.document = d.id AND d.company = :company AND d.scope = :scope AND d.status = 'reserved' AND r.expires <= :at
    RETURNING d.id
)
INSERT INTO voids (document, reason, token, at)
SELECT id, 'the reservation lapsed', :token || ' ' || id, :at FROM lapsed
"""
"""A void's token is unique; with a space it is none that a client can use."""


class ReservedNumber(CounterRow):
    """A number may be reserved first: it is confirmed or released later, or becomes void when its reservation lapses."""

    token_indexes: ClassVar[frozenset[str]] = CounterRow.token_indexes | {"reservations_token_key"}

    @classmethod
    def schema(cls, settings: Settings) -> str:
        """Return the DDL."""
        return super().schema(settings) + RESERVATIONS

    def jobs(self) -> Mapping[str, Job]:
        """Return what can be asked for besides ``create``."""
        mine = {"reserve": self.reserve, "confirm": self.confirm, "release": self.release, "sweep": self.sweep}
        return {**super().jobs(), **mine}

    def reserve(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take a number for a document that is not complete yet."""
        number, _ = self.draw(tx, ask)
        tx.at("number_taken")
        row = row_of(ask, number, self.print(ask, number), status="reserved")
        document, expires = tx.value(STORE, **row), ask.at + LEASE
        tx.change(
            "INSERT INTO reservations (document, token, request, expires) VALUES (:document, :token, :request, :expires)",
            document=document,
            token=ask.key,
            request=ask.request,
            expires=expires,
        )
        return self.reserved(row["text"], document, expires)

    def confirm(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Issue the document of a reservation, once, and only while the reservation stands."""
        self.no_reservations_key(tx, ask)
        found = self.issue(tx, ask)
        if found is not None:
            return told(found._mapping, found.id)
        if tx.row(RECALL, token=ask.key) is not None:
            return self.recall(tx, ask)
        raise not_reserved(ask)

    def issue(self, tx: Transaction, ask: Ask) -> Any:
        """Make a standing reservation a document, in one statement; None if there is none."""
        return tx.row(CONFIRM, **print_of(ask), at=ask.at, token=ask.key, request=ask.request)

    def release(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Give a reservation up. Its number is void."""
        found = tx.row(
            "UPDATE documents SET status = 'void'"
            " WHERE company = :company AND scope = :scope AND text = :text AND status = 'reserved' RETURNING id, number",
            **print_of(ask),
        )
        if found is None:
            if done := self.voided_before(tx, ask):
                return done
            raise not_reserved(ask)
        self.register_void(tx, ask, found.id)
        return {"scope": ask.place.scope, "text": ask.text, "number": found.number, "status": "void"}

    def sweep(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Void what was reserved and lapsed, for whatever reason nobody came back for it."""
        lapsed = {"company": ask.company, "scope": ask.place.scope, "at": ask.at}
        return {**key_of(ask), "voided": tx.change(SWEEP, **lapsed, token=ask.key)}

    def store(self, tx: Transaction, ask: Ask, number: int, basis: str | None = None) -> dict[str, Any]:
        """Insert the document."""
        self.no_reservations_key(tx, ask)
        return super().store(tx, ask, number, basis)

    def no_reservations_key(self, tx: Transaction, ask: Ask) -> None:
        """Refuse a reservation's key: its document goes by another one as soon as it is confirmed, so no index would notice."""
        if tx.row("SELECT FROM reservations WHERE token = :token", token=ask.key) is not None:
            raise key_reused(ask.key)

    def recall(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Answer a reservation that is sent again with the number that it holds."""
        if ask.f != "reserve":
            return super().recall(tx, ask)
        found = tx.row(
            "SELECT r.document, r.request, r.expires, d.text FROM reservations r JOIN documents d ON d.id = r.document"
            " WHERE r.token = :token",
            token=ask.key,
        )
        if found is None:  # the token is a document's that was never reserved under it
            raise key_reused(ask.key)
        self.same_request(found.request, ask)
        return {**self.reserved(found.text, found.document, found.expires), "replayed": True}

    def reserved(self, text: str, document: int, expires: Any) -> dict[str, Any]:
        """Return what the client is told of its reservation."""
        return {"reserved": text, "document": str(document), "expires": expires.isoformat()}


def not_reserved(ask: Ask) -> Refused:
    """Return the refusal to confirm or release what is not reserved, or not any more."""
    return Refused("not_reserved", f"{ask.text} is not reserved, or its reservation has lapsed.")
