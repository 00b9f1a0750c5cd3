"""Numbers by the block: twenty at a time, for throughput. Unique, and every gap accounted for; not in order.

The counter is what clients of one series wait for. Here each takes twenty numbers from it in a transaction of its own, a
moment long, and hands them out without asking anybody. A block belongs to a connection: where a pool lends that to one request
after another, each goes on with what the last one left. What is left when the connection ends, and what a failed create leaves
behind, is never issued: the register of blocks says of each such number whose it was. Documents are voided and never deleted,
or the register would tell of a number that was never used. And none is taken over by itself once numbers are drawn (`seed` comes
before that): its number may be in a block that somebody is handing out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from reference_impl.base.postgres import Transaction
from reference_impl.numbering.postgres import CounterRow, Drawn, Settings, key_of
from reference_impl.numbering.series import Ask, Place

BLOCKS = """
CREATE TABLE blocks (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope   text NOT NULL,
    period  text NOT NULL,
    prefix  text NOT NULL,
    width   int NOT NULL,
    first   bigint NOT NULL,
    last    bigint NOT NULL,
    taken   timestamptz NOT NULL DEFAULT now()
);
CREATE VIEW unused_numbers AS
SELECT b.id AS block, b.scope, b.period, n AS number, b.taken,
       b.prefix || lpad(n::text, greatest(b.width, length(n::text)), '0') AS text
FROM blocks b, generate_series(b.first, b.last) AS n
WHERE NOT EXISTS (SELECT FROM documents d WHERE d.scope = b.scope AND d.period = b.period AND d.number = n);
"""
TAKE_BLOCK = """
INSERT INTO counters (scope, period, value) VALUES (:scope, :period, :size)
ON CONFLICT (scope, period) DO UPDATE SET value = counters.value + :size
RETURNING value
"""


class BlockAllocation(CounterRow):
    """Each client takes twenty numbers at once and hands them out; a register accounts for those that it never used."""

    size: ClassVar[int] = 20

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.left: dict[Place, list[int]] = self.session.kept.setdefault("blocks", {})

    @classmethod
    def schema(cls, settings: Settings) -> str:
        """Return the DDL."""
        return super().schema(settings) + BLOCKS

    @classmethod
    def books(cls, settings: Settings) -> Mapping[str, str]:
        """Return how each canonical table is read. A number that is in a block and on no document is void."""
        found = super().books(settings)
        unused = """
            UNION ALL SELECT 'unused ' || block || '-' || number, scope, period, number, text, NULL, 'void', NULL, NULL,
            'never used, of block ' || block FROM unused_numbers
        """
        return {**found, "documents": found["documents"] + unused}

    def draw(self, tx: Transaction, ask: Ask) -> Drawn:
        """Hand out the next number of the block, or take another block."""
        if not self.left.get(ask.place):
            self.left[ask.place] = self.session.aside(lambda own: self.take_block(own, ask))
        return self.left[ask.place].pop(0), None

    def take_block(self, tx: Transaction, ask: Ask) -> list[int]:
        """Take a block and enter it in the register, both in one transaction that nobody's document can undo."""
        last = tx.value(TAKE_BLOCK, **key_of(ask), size=self.size)
        first = last - self.size + 1
        self.register(tx, ask, first, last)
        return list(range(first, last + 1))

    def register(self, tx: Transaction, ask: Ask, first: int, last: int) -> None:
        """Enter a block in the register."""
        tx.change(
            "INSERT INTO blocks (scope, period, prefix, width, first, last)"
            " VALUES (:scope, :period, :prefix, :width, :first, :last)",
            **key_of(ask),
            prefix=ask.place.prefix,
            width=ask.place.width,
            first=first,
            last=last,
        )
