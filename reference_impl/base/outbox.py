"""Audit log and outbox on PostgreSQL, and the publisher that empties the outbox.

Both rows are written in the transaction of the change that they tell of, by one statement: there is no change without
them, and none of them without its change. Publishing happens later and at least once: a publisher that dies between
publishing and marking publishes again, so the consumer keeps the event's identity with its effect and does it once.
"""

from __future__ import annotations

from typing import Any

from reference_impl.base.postgres import PostgresSession, Transaction

SCHEMA = """
CREATE TABLE audit (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject  text NOT NULL,
    action   text NOT NULL,
    amount   bigint NOT NULL,
    token    text NOT NULL,
    request  text NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE outbox (
    event         bigint PRIMARY KEY REFERENCES audit,
    delivered_at  timestamptz
);
CREATE INDEX outbox_waiting ON outbox (event) WHERE delivered_at IS NULL;
CREATE TABLE deliveries (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event  bigint NOT NULL
);
"""
TOKEN_INDEX = "CREATE UNIQUE INDEX audit_once ON audit (token, action);"
CONSUMER_INDEX = "CREATE UNIQUE INDEX deliveries_once ON deliveries (event);"

BOOKS = {
    "audit": """
        SELECT a.id, a.subject, a.action, a.token,
               CASE WHEN o.event IS NOT NULL THEN o.delivered_at IS NOT NULL END AS delivered
        FROM audit a LEFT JOIN outbox o ON o.event = a.id
    """,
    "deliveries": "SELECT id, event FROM deliveries",
}

RECORD = """
WITH change AS (
    INSERT INTO audit (subject, action, amount, token, request)
    VALUES (:subject, :action, :amount, :token, :request) RETURNING id
)
INSERT INTO outbox (event) SELECT id FROM change
"""


def record(tx: Transaction, *, subject: str, action: str, amount: int, token: str, request: str) -> None:
    """Tell the audit log and the outbox of a change, in the change's own transaction."""
    tx.change(RECORD, subject=subject, action=action, amount=amount, token=token, request=request)


def own_token(tx: Transaction, what: str) -> str:
    """Return a token for a change that no client's key stands for. It has a number that is drawn once and never again.

    What was changed is not enough: the same may have to be done again, after a restore or by an old version that still runs.
    """
    number = tx.value("SELECT nextval(pg_get_serial_sequence('audit', 'id'))")
    return f"{what}, {number}"


class Outbox:
    """Publishes what waits in the outbox."""

    def deliver(self, session: PostgresSession, tx: Transaction, most: int) -> dict[str, object]:
        """Publish up to ``most`` waiting events, mark them, and tell how many are left."""
        events = [row.event for row in self.waiting(tx, most)]
        tx.at("events_read")
        session.aside(lambda consumer: self.consume(consumer, events))
        tx.at("published")
        tx.change("UPDATE outbox SET delivered_at = now() WHERE event = ANY(:events)", events=events)
        return {"delivered": len(events), "left": self.left(tx)}

    def waiting(self, tx: Transaction, most: int) -> list[Any]:
        """Take events that no other publisher is busy with. There is no cursor to run ahead of a late commit."""
        return tx.rows(
            "SELECT event FROM outbox WHERE delivered_at IS NULL ORDER BY event LIMIT :most FOR UPDATE SKIP LOCKED",
            most=most,
        )

    def left(self, tx: Transaction) -> int:
        """Count what still waits, events in other publishers' hands included."""
        return int(tx.value("SELECT count(*) FROM outbox WHERE delivered_at IS NULL"))

    def consume(self, consumer: Transaction, events: list[int]) -> None:
        """The consumer's side, on its own connection: keep each event's identity with its effect, and do it once."""
        consumer.change(
            "INSERT INTO deliveries (event) SELECT unnest(CAST(:events AS bigint[])) ON CONFLICT (event) DO NOTHING",
            events=events,
        )
