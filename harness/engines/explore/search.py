"""Which interleaving is next: a depth-first search over the choices that are really there. No store, no clock.

The tree is never listed beforehand, because what a client does next depends on what the others did. A run follows a prefix of
choices and then goes on by itself, preferring the client that moved last (no needless switch). What it met on the way, the
enabled clients and the footprints of their next steps, becomes the path from which the next prefix is chosen.

Reduction is by sleep sets (Godefroid, Partial-Order Methods, 1996): having explored client A first, B first is explored only
as far as something that depends on A's step happens before it. One execution remains for each class of executions that differ
only in the order of independent steps. A run that finds all enabled clients asleep is cut short: everything below it was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.engines.explore.footprints import Footprint, independent


@dataclass
class Point:
    """A point at which somebody chose: who could move and what each step touched, who moved, who sleeps."""

    enabled: Mapping[int, Footprint]
    chosen: int
    asleep: dict[int, Footprint] = field(default_factory=dict)
    tried: list[int] = field(default_factory=list)


class Search:
    """The state of one exploration.

    Args:
        reduce: whether independent steps are swapped only once. Without it every interleaving is its own.
        preemptions: the most voluntary switches that an interleaving may have; None for any number.
    """

    def __init__(self, *, reduce: bool = True, preemptions: int | None = None) -> None:
        self.reduce = reduce
        self.preemptions = preemptions
        self.path: list[Point] = []
        self.exhausted = False
        self._prefix = 0

    def begin(self) -> None:
        """Start a run: the path up to its last choice is followed again."""
        self._prefix = len(self.path)
        self._depth = 0
        self._asleep: dict[int, Footprint] = {}
        self._last: int | None = None
        self._switches = 0

    def choose(self, enabled: Mapping[int, Footprint]) -> int | None:
        """Return who moves, or None when everything below this point was seen already."""
        if self._depth < self._prefix:
            point = self.path[self._depth]
            point.enabled = dict(enabled)
            if point.chosen not in enabled:
                return None
            chosen = point.chosen
            self._asleep = dict(point.asleep)
        else:
            awake = [c for c in self._ordered(enabled) if not (self.reduce and c in self._asleep) and self._allowed(c, enabled)]
            if not awake:
                return None
            chosen = awake[0]
            self.path.append(Point(enabled=dict(enabled), chosen=chosen, asleep=dict(self._asleep), tried=[chosen]))
        self._move(chosen, enabled)
        return chosen

    def _ordered(self, enabled: Mapping[int, Footprint]) -> list[int]:
        return sorted(enabled, key=lambda c: (c != self._last, c))

    def _allowed(self, client: int, enabled: Mapping[int, Footprint]) -> bool:
        costs = self._last is not None and client != self._last and self._last in enabled
        return self.preemptions is None or self._switches + costs <= self.preemptions

    def _move(self, chosen: int, enabled: Mapping[int, Footprint]) -> None:
        if self._last is not None and chosen != self._last and self._last in enabled:
            self._switches += 1
        footprint = enabled[chosen]
        self._asleep = {c: f for c, f in self._asleep.items() if c != chosen and independent(f, footprint)}
        self._last = chosen
        self._depth += 1

    def end(self) -> None:
        """Finish a run: go back to the deepest point with somebody left to try."""
        del self.path[self._depth :]
        while self.path:
            point = self.path[-1]
            point.asleep[point.chosen] = point.enabled[point.chosen]
            left = [c for c in sorted(point.enabled) if c not in point.tried and not (self.reduce and c in point.asleep)]
            left = [c for c in left if self._within(len(self.path) - 1, c)]
            if left:
                point.chosen = left[0]
                point.tried.append(left[0])
                return
            self.path.pop()
        self.exhausted = True

    def _within(self, depth: int, client: int) -> bool:
        if self.preemptions is None:
            return True
        choices = [*(p.chosen for p in self.path[:depth]), client]
        return preemptions(choices, [p.enabled for p in self.path[: depth + 1]]) <= self.preemptions


def preemptions(choices: Sequence[int], enabled: Sequence[Mapping[int, object]]) -> int:
    """Count the switches away from a client that could have gone on."""
    return sum(
        1 for before, now, could in zip(choices, choices[1:], enabled[1:], strict=False) if now != before and before in could
    )


class Follow:
    """Follows given choices; after them, or where one is not possible, whoever moved last goes on."""

    def __init__(self, choices: Sequence[int]) -> None:
        self._choices = list(choices)
        self._at = 0
        self.strayed: int | None = None
        self._last: int | None = None

    def choose(self, enabled: Mapping[int, Footprint]) -> int | None:
        """Return who moves."""
        wanted = self._choices[self._at] if self._at < len(self._choices) else None
        if wanted is not None and wanted not in enabled and self.strayed is None:
            self.strayed = self._at
        if wanted is None or wanted not in enabled:
            wanted = self._last if self._last in enabled else min(enabled)
        self._at += 1
        self._last = wanted
        return wanted
