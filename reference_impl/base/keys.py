"""Idempotency keys on PostgreSQL: one intent, one effect, however often the request arrives.

The rules, each of which somebody has left out (`reference_impl.payments.broken_postgres_keys`):

- The key is claimed first and by an insert: of two requests at once one waits for the other.
- Claim, effect and stored answer commit together. There is no moment at which one exists without the others.
- The request's fingerprint is stored, and another request under the same key is refused.
- Only what definitely happened is stored. A refused or failed transaction leaves no key behind and may be sent again.
- A key may be forgotten after its window. The intent may not: the audit row is unique by token for ever, so a late
  retry runs into it and is told what happened the first time. If it is refused before it gets that far (the payment is
  approved already, the last piece is sold: to itself), the audit row has the last word as well.

Keys are global, and so are the identities of webhook events: the company is no part of them. A key must be unique over all
clients of all companies, as a random UUID is. A service whose tenants choose their own keys puts the tenant into the unique
indexes (of keys, of the audit log's tokens, of webhook events) and into the queries that look there. Otherwise one tenant's
``1`` is in the way of another's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy.exc import DBAPIError

from reference_impl.base.postgres import Checkpoint, PostgresSession, Transaction, violated
from reference_impl.base.refusal import Refused

WINDOW = timedelta(hours=24)

Answer = dict[str, Any]
Work = Callable[[Transaction], Answer]


class Keyed(Protocol):
    """What a request must tell about itself."""

    @property
    def f(self) -> str:
        """The operation."""

    @property
    def key(self) -> str:
        """The client's token."""

    @property
    def request(self) -> str:
        """Fingerprint of everything but key and clock."""

    @property
    def at(self) -> datetime:
        """When the request is made, by the injected clock."""


SCHEMA = """
CREATE TABLE idempotency_keys (
    key      text NOT NULL,
    request  text NOT NULL,
    answer   jsonb,
    expires  timestamptz NOT NULL
);
"""
KEY = "idempotency_keys_pkey"
KEY_INDEX = f"ALTER TABLE idempotency_keys ADD CONSTRAINT {KEY} PRIMARY KEY (key);"

CLAIM = """
INSERT INTO idempotency_keys (key, request, expires) VALUES (:key, :request, :expires)
ON CONFLICT (key) DO UPDATE SET request = excluded.request, answer = NULL, expires = excluded.expires
WHERE idempotency_keys.expires <= :at
"""


class Keys:
    """Runs the work of a request once for its key."""

    def carry_out(self, session: PostgresSession, ask: Keyed, work: Work, at: Checkpoint) -> tuple[Answer, int]:
        """Run the work, or answer as it was answered before; return the answer and the tries that it took.

        Raises:
            Refused: the work was refused, or the key belongs to another request.
        """
        try:
            return session.run(lambda tx: self.once(tx, ask, work), at)
        except (Refused, DBAPIError) as e:
            if isinstance(e, DBAPIError) and violated(e) in (None, KEY):  # a conflict on the key says nothing of the effect
                raise
            answer, attempts = session.run(lambda tx: self.recall(tx, ask), lambda point: None)
            if answer is None:
                raise
            return answer, attempts

    def once(self, tx: Transaction, ask: Keyed, work: Work) -> Answer:
        """Claim the key and run the work, or answer again. All in the one transaction."""
        if not tx.change(CLAIM, key=ask.key, request=ask.request, at=ask.at, expires=ask.at + WINDOW):
            return self.answer_again(tx, ask)
        tx.at("key_claimed")
        answer = work(tx)
        tx.change("UPDATE idempotency_keys SET answer = :answer WHERE key = :key", key=ask.key, answer=json.dumps(answer))
        return answer

    def answer_again(self, tx: Transaction, ask: Keyed) -> Answer:
        """Return the stored answer of this key."""
        stored = tx.row("SELECT request, answer FROM idempotency_keys WHERE key = :key", key=ask.key)
        self.same_request(stored.request, ask)
        return {**stored.answer, "replayed": True}

    def recall(self, tx: Transaction, ask: Keyed) -> Answer | None:
        """Return what the audit log knows of an intent whose key has been forgotten, None if it never happened."""
        done = tx.row(
            "SELECT subject, amount, request FROM audit WHERE token = :token AND action = :action",
            token=ask.key,
            action=ask.f,
        )
        if done is None:
            return None
        self.same_request(done.request, ask)
        return {"subject": done.subject, "amount": done.amount, "replayed": True}

    def same_request(self, stored: str, ask: Keyed) -> None:
        """Refuse another request under a used key."""
        if stored != ask.request:
            raise key_reused(ask.key)


def key_reused(key: str) -> Refused:
    """Return the refusal of another request under a used key."""
    return Refused("key_reused", f"The key {key} was used for another request. Use a new key for a new intent.", status=422)
