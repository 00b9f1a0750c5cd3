"""Ways to get numbering on PostgreSQL wrong around the number itself: several series, reservations, blocks, and what comes later.

As in `reference_impl.numbering.broken_postgres`, each class differs from its correct twin in the lines that are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reference_impl.base.postgres import Transaction
from reference_impl.numbering.postgres import CounterRow, key_of
from reference_impl.numbering.postgres_blocks import BlockAllocation
from reference_impl.numbering.postgres_others import highest_number
from reference_impl.numbering.postgres_reservations import ReservedNumber
from reference_impl.numbering.series import Ask, print_of


class CountersInAnyOrder(CounterRow):
    """The right counters, each event taking them in the order in which it names its documents (N39).

    A takes INV and wants JE; B takes JE and wants INV: 40P01 for one of them.
    """

    tries = 1

    def in_lock_order(self, parts: Sequence[Ask]) -> Sequence[Ask]:
        """As they come."""
        return parts


class CounterResetOnStart(CounterRow):
    """The right counter, set to the highest number by every instance that starts (N42).

    A starts and reads 40; B starts, creates 41; A sets the counter to 40; B creates 41 again.
    """

    def introduce(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Look, then set."""
        highest = highest_number(tx, ask)
        tx.at("highest_read")
        tx.change(
            "INSERT INTO counters (scope, period, value) VALUES (:scope, :period, :value)"
            " ON CONFLICT (scope, period) DO UPDATE SET value = excluded.value",
            **key_of(ask),
            value=highest,
        )
        return key_of(ask)


class CleanupRenumbers(CounterRow):
    """The right counter, and a cleanup that gives the surplus document the next number (N46).

    A customer holds INV-00006; the job makes it INV-00009, which the counter gives to somebody else soon after.
    """

    def resolve_duplicate(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Look for the highest number, and take the next."""
        number = highest_number(tx, ask) + 1
        text = ask.place.text(number)
        tx.change(
            "UPDATE documents SET number = :number, text = :text WHERE id = :id",
            number=number,
            text=text,
            id=int(ask.document or 0),
        )
        return {"scope": ask.place.scope, "text": text, "document": ask.document, "status": "renumbered"}


class VoidWithoutRegister(CounterRow):
    """The right counter, and a void that sets the status and says nowhere why (N47).

    A voids 7; the auditor asks about 7; nobody knows.
    """

    def register_void(self, tx: Transaction, ask: Ask, document: int) -> None:
        """Leave it at that."""


class ConfirmByLook(ReservedNumber):
    """Reservations, confirmed after a look at their state.

    A looks: reserved; the sweep makes it void; A issues it: void in the register, and in a customer's hands.
    """

    def issue(self, tx: Transaction, ask: Ask) -> Any:
        """Look, then write."""
        found = tx.row(
            "SELECT d.id, d.scope, d.period, d.number, d.text FROM documents d JOIN reservations r ON r.document = d.id"
            " WHERE d.company = :company AND d.scope = :scope AND d.text = :text AND d.status = 'reserved' AND r.expires > :at",
            **print_of(ask),
            at=ask.at,
        )
        if found is None:
            return None
        tx.at("looked")
        tx.change(
            "UPDATE documents SET status = 'issued', token = :token, request = :request WHERE id = :id",
            id=found.id,
            token=ask.key,
            request=ask.request,
        )
        return found


class ReservationsNeverLapse(ReservedNumber):
    """Reservations that nobody sweeps (S04): a client that does not come back leaves its number neither issued nor void."""

    def sweep(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Find nothing to do."""
        return {**key_of(ask), "voided": 0}


class BlocksWithoutRegister(BlockAllocation):
    """Numbers by the block, and no register: what a block had left is missing, and nobody knows why (N29)."""

    def register(self, tx: Transaction, ask: Ask, first: int, last: int) -> None:
        """Keep it to oneself."""


class BlockReadThenMoved(BlockAllocation):
    """Blocks that are taken by reading the counter and then moving it (N06).

    A reads 40; B reads 40; both move it to 60 and hand out 41 to 60.
    """

    def take_block(self, tx: Transaction, ask: Ask) -> list[int]:
        """Write what was read, plus twenty."""
        before = tx.value("SELECT value FROM counters WHERE scope = :scope AND period = :period", **key_of(ask)) or 0
        last = before + self.size
        tx.change(
            "INSERT INTO counters (scope, period, value) VALUES (:scope, :period, :value)"
            " ON CONFLICT (scope, period) DO UPDATE SET value = :value",
            **key_of(ask),
            value=last,
        )
        self.register(tx, ask, before + 1, last)
        return list(range(before + 1, last + 1))
