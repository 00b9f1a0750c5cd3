"""Ways to get audit log and outbox wrong on PostgreSQL: written elsewhere, published twice, never published.

The payments themselves are right (`ApproveInOneTransaction`); what tells of them is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reference_impl.base import outbox
from reference_impl.base.business import Settings
from reference_impl.base.keys import Answer, Keyed, Keys
from reference_impl.base.outbox import Outbox
from reference_impl.base.postgres import Checkpoint, PostgresSession, Transaction
from reference_impl.payments.postgres import ApproveInOneTransaction
from reference_impl.payments.requests import Ask


class AuditAfterwards(ApproveInOneTransaction):
    """The change commits, then the audit row is written (A01): a crash in between leaves a change unlogged."""

    def record(self, tx: Transaction, ask: Ask, amount: int) -> None:
        """Nothing yet."""

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Carry out the operation, and log it when it is done."""
        answer = super().call(f, arguments, token, checkpoint)
        if f not in ("account", "history", "deliver") and not answer.get("replayed"):
            checkpoint("committed")
            ask = self.understand(f, arguments, token)
            self.session.aside(lambda tx: super(AuditAfterwards, self).record(tx, ask, answer["amount"]))
        return answer


class KeysWithoutMemory(Keys):
    """Keys that do not ask the audit log, where a row proves nothing."""

    def recall(self, tx: Transaction, ask: Keyed) -> Answer | None:
        """Know nothing."""
        return None


class SideEffectFirst(ApproveInOneTransaction):
    """The ledger is told in a transaction of its own before the status changes (P26, A01).

    A tells the ledger; crash; A's retry tells it again. If the change is refused, the ledger has been told of nothing.
    """

    keys = KeysWithoutMemory()
    token_once = False

    def approve(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Tell first, change afterwards."""
        amount = self.payment(tx, ask).amount
        self.session.aside(lambda ledger: super(SideEffectFirst, self).record(ledger, ask, amount))
        tx.at("ledger_told")
        return super().approve(tx, ask)

    def record(self, tx: Transaction, ask: Ask, amount: int) -> None:
        """Approvals have been told of."""
        if ask.f != "approve":
            super().record(tx, ask, amount)


class ForgetfulConsumer(Outbox):
    """The consumer does not keep the event's identity (A03): published again after a crash, it is done again."""

    def consume(self, consumer: Transaction, events: list[int]) -> None:
        """Do whatever arrives."""
        consumer.change("INSERT INTO deliveries (event) SELECT unnest(CAST(:events AS bigint[]))", events=events)


class ConsumerWithoutDedup(ApproveInOneTransaction):
    """An event that is published again is done again (A03): payments whose outbox feeds a `ForgetfulConsumer`."""

    outbox = ForgetfulConsumer()

    @classmethod
    def schema(cls, settings: Settings) -> str:
        """Return the DDL without the consumer's index."""
        return super().schema(settings).replace(outbox.CONSUMER_INDEX, "")


class CursorOutbox(Outbox):
    """The publisher remembers the last event that it saw, and reads on from there (A02).

    A takes event 7 and is still busy; B takes event 8 and commits; the publisher sees 8 and goes on after it; A
    commits: nobody will ever look at 7 again.
    """

    def deliver(self, session: PostgresSession, tx: Transaction, most: int) -> dict[str, object]:
        """Read on from the cursor, and move it."""
        answer = super().deliver(session, tx, most)
        tx.change(
            "UPDATE outbox_cursor SET last = greatest(last, (SELECT max(event) FROM outbox WHERE delivered_at IS NOT NULL))"
        )
        return answer

    def waiting(self, tx: Transaction, most: int) -> list[Any]:
        """Read what lies after the cursor."""
        last = tx.value("SELECT last FROM outbox_cursor FOR UPDATE")
        return tx.rows("SELECT event FROM outbox WHERE event > :last ORDER BY event LIMIT :most", last=last, most=most)

    def left(self, tx: Transaction) -> int:
        """Count what still lies after the cursor."""
        return int(
            tx.value(
                "SELECT count(*) FROM outbox WHERE delivered_at IS NULL AND event >"
                " (SELECT coalesce(max(event), 0) FROM outbox WHERE delivered_at IS NOT NULL)"
            )
        )


class PollByCursor(ApproveInOneTransaction):
    """The publisher goes on after the last event that it saw, and misses those that committed late (A02): `CursorOutbox`."""

    outbox = CursorOutbox()

    @classmethod
    def schema(cls, settings: Settings) -> str:
        """Return the DDL with a cursor."""
        return super().schema(settings) + (
            "\nCREATE TABLE outbox_cursor (last bigint NOT NULL);\nINSERT INTO outbox_cursor VALUES (0);"
        )
