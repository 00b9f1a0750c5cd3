"""A share of the work: what one of several jobs does, so that all of them together do the whole.

The work is listed first, seeds and all, and dealt out like cards. What is done with an item does not depend on who does it, so
the shards' run folders together are those of one run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.model import UsageError

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Number ``index`` of ``of``, counted from 1."""

    index: int = 1
    of: int = 1

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Return this shard's items: every ``of``-th, so that neighbours, which are alike, are spread."""
        return list(items[self.index - 1 :: self.of])

    def count(self, total: int) -> int:
        """Return this shard's part of a number of equal things; the parts of all shards add up to it."""
        return len(range(self.index - 1, total, self.of))

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


WHOLE = Shard()


def parse_shard(text: str | None) -> Shard:
    """Return the shard that ``2/4`` means; the whole for None. Raises UsageError for anything else."""
    if text is None:
        return WHOLE
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text!r} is not a share such as 2/4: the second of four")
    return Shard(index=int(match[1]), of=int(match[2]))
