"""Which interleaving is next: a depth-first search over the choices that are really there. No store, no clock.

The tree is never listed beforehand, because what a client does next depends on what the others did. A run follows a prefix of
choices and then goes on by itself, preferring the client that moved last (no needless switch). What it met on the way, the
enabled clients and the footprints of their next steps, becomes the path from which the next prefix is chosen.

Reduction is by sleep sets (Godefroid, Partial-Order Methods, 1996): having explored client A first, B first is explored only
as far as something that depends on A's step happens before it. One execution remains for each class of executions that differ
only in the order of independent steps. A run that finds all enabled clients asleep is cut short: everything below it was seen.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.engines.explore.footprints import Footprint, independent
from harness.engines.explore.moves import Move

Enabled = Mapping[Move, Footprint]


@dataclass
class Point:
    """A point at which somebody chose: which moves there were and what each touched, which was made, which sleep."""

    enabled: Enabled
    chosen: Move
    asleep: dict[Move, Footprint] = field(default_factory=dict)
    tried: list[Move] = field(default_factory=list)
    twins: tuple[Move, ...] = ()


class Sample:
    """A sample of all that it was offered, each with the same chance (reservoir sampling: Vitter, ACM TOMS 1985)."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.kept: list[list[Move]] = []
        self.offered = 0
        self._size = size
        self._chance = random.Random(seed)

    def offer(self, moves: list[Move]) -> None:
        """Keep it, perhaps."""
        self.offered += 1
        if len(self.kept) < self._size:
            self.kept.append(moves)
        elif (at := self._chance.randrange(self.offered)) < self._size:
            self.kept[at] = moves


class Search:
    """The state of one exploration.

    Args:
        reduce: whether independent steps are swapped only once. Without it every interleaving is its own.
        preemptions: the most voluntary switches that an interleaving may have; None for any number.
        sample: keeps a sample of the prefixes that the reduction leaves out, for an audit of it; None for no audit.
    """

    def __init__(self, *, reduce: bool = True, preemptions: int | None = None, sample: Sample | None = None) -> None:
        self.reduce = reduce
        self.preemptions = preemptions
        self.path: list[Point] = []
        self.exhausted = False
        self._prefix = 0
        self._sample = sample

    def begin(self) -> None:
        """Start a run: the path up to its last choice is followed again."""
        self._prefix = len(self.path)
        self._depth = 0
        self._asleep: dict[Move, Footprint] = {}
        self._last: int | None = None
        self._switches = 0
        self.diverged = False
        """The prefix did not repeat: the program does not depend on the order of its steps alone."""

    def choose(self, enabled: Enabled, twins: frozenset[int] = frozenset()) -> Move | None:
        """Return the next move, or None when everything below this point was seen already.

        Args:
            enabled: which moves there are, and what each touches.
            twins: clients that would do the same as another that may move, under another name; they are passed over.
        """
        offered = {m: f for m, f in enabled.items() if not (self.reduce and m.client in twins)}
        if self._depth < self._prefix:
            point = self.path[self._depth]
            self.diverged |= offered.keys() != point.enabled.keys()
            point.enabled = offered
            if point.chosen not in enabled:
                return None
            chosen = point.chosen
            self._asleep = dict(point.asleep)
        else:
            awake = [m for m in _ordered(offered, self._last) if not (self.reduce and m in self._asleep)]
            awake = [m for m in awake if self._allowed(m, enabled)]
            passed = tuple(sorted(enabled.keys() - offered.keys()))
            if not awake:
                self._leave_out([*offered, *passed], self.path)
                return None
            chosen = awake[0]
            point = Point(enabled=offered, chosen=chosen, asleep=dict(self._asleep), tried=[chosen], twins=passed)
            self.path.append(point)
        self._move(chosen, enabled)
        return chosen

    def _allowed(self, move: Move, enabled: Enabled) -> bool:
        costs = self._last is not None and move.client != self._last and Move(self._last) in enabled
        return self.preemptions is None or self._switches + costs <= self.preemptions

    def _move(self, chosen: Move, enabled: Enabled) -> None:
        if self._last is not None and chosen.client != self._last and Move(self._last) in enabled:
            self._switches += 1
        footprint = enabled[chosen]
        self._asleep = {m: f for m, f in self._asleep.items() if m.client != chosen.client and independent(f, footprint)}
        self._last = chosen.client
        self._depth += 1

    def end(self) -> None:
        """Finish a run: go back to the deepest point with a move left to try."""
        del self.path[self._depth :]
        while self.path:
            point = self.path[-1]
            point.asleep[point.chosen] = point.enabled[point.chosen]
            left = [m for m in sorted(point.enabled) if m not in point.tried and not (self.reduce and m in point.asleep)]
            left = [m for m in left if self._within(len(self.path) - 1, m)]
            if left:
                point.chosen = left[0]
                point.tried.append(left[0])
                return
            self._leave_out([*(m for m in point.enabled if m not in point.tried), *point.twins], self.path[:-1])
            self.path.pop()
        self.exhausted = True

    def _leave_out(self, moves: Iterable[Move], path: Sequence[Point]) -> None:
        """Offer the audit what is not going to be tried."""
        if self._sample is not None and self.reduce:
            for move in moves:
                self._sample.offer([*(point.chosen for point in path), move])

    def _within(self, depth: int, move: Move) -> bool:
        if self.preemptions is None:
            return True
        moves = [*(p.chosen for p in self.path[:depth]), move]
        return preemptions(moves, [p.enabled for p in self.path[: depth + 1]]) <= self.preemptions


def _ordered(enabled: Enabled, last: int | None) -> list[Move]:
    """Whoever moved last goes on, and nothing goes wrong, unless it was tried."""
    return sorted(enabled, key=lambda m: (bool(m.fault), m.client != last, m))


def preemptions(moves: Sequence[Move], enabled: Sequence[Mapping[Move, object]]) -> int:
    """Count the switches away from a client that could have gone on."""
    return sum(
        1
        for before, now, could in zip(moves, moves[1:], enabled[1:], strict=False)
        if now.client != before.client and Move(before.client) in could
    )


class Follow:
    """Follows given moves; after them, or where one is not possible, whoever moved last goes on."""

    def __init__(self, moves: Sequence[Move]) -> None:
        self._moves = list(moves)
        self._at = 0
        self.strayed: int | None = None
        self._last: int | None = None

    def choose(self, enabled: Enabled, twins: frozenset[int] = frozenset()) -> Move | None:
        """Return the next move."""
        wanted = self._moves[self._at] if self._at < len(self._moves) else None
        if wanted is not None and wanted not in enabled and self.strayed is None:
            self.strayed = self._at
        if wanted is None or wanted not in enabled:
            wanted = _ordered(enabled, self._last)[0]
        self._at += 1
        self._last = wanted.client
        return wanted
