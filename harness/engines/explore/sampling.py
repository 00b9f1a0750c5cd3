"""Interleavings drawn at random, for trees that are too large to search.

Two ways take turns. SURW (Zhao, Wolff, Mathur, Roychoudhury: Selectively Uniform Concurrency Testing, ASPLOS 2025) chooses
a client in proportion to the steps that it has left, which makes every interleaving of that many steps equally likely. PCT
(Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs, ASPLOS
2010) gives clients random priorities and lowers the running one's at d - 1 random points: a bug of depth d among n clients
and k steps is met with probability at least 1 / (n * k^(d-1)) in each run.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from harness.engines.explore.footprints import Footprint
from harness.engines.explore.moves import Move

DEPTHS = (2, 3)
"""Depths for which PCT's points are drawn, in turn: every bug of the catalogue needs at most two switches."""

FAULT_CHANCE = 0.1
"""How likely a step that may go wrong does, when moves are drawn."""


def _drawn(chance: random.Random, enabled: Mapping[Move, Footprint], client: int) -> Move:
    faults = sorted(m for m in enabled if m.client == client and m.fault)
    return chance.choice(faults) if faults and chance.random() < FAULT_CHANCE else Move(client)


class Surw:
    """Chooses a client in proportion to the steps that it has left. ``steps`` are estimates, from earlier runs."""

    def __init__(self, chance: random.Random, steps: Mapping[int, int]) -> None:
        self._chance = chance
        self._left = dict(steps)

    def choose(self, enabled: Mapping[Move, Footprint], twins: frozenset[int] = frozenset()) -> Move:
        """Return the next move."""
        clients = sorted({m.client for m in enabled})
        weights = [max(self._left.get(c, 1), 1) for c in clients]
        client = self._chance.choices(clients, weights)[0]
        self._left[client] = self._left.get(client, 1) - 1
        return _drawn(self._chance, enabled, client)


class Pct:
    """Lets the client of the highest priority go on, and lowers the running one's at ``depth`` - 1 random steps."""

    def __init__(self, chance: random.Random, *, clients: int, steps: int, depth: int) -> None:
        self._chance = chance
        order = list(range(clients))
        chance.shuffle(order)
        self._priority = {client: depth + at for at, client in enumerate(order)}
        self._changes = {chance.randrange(max(steps, 1)): depth - 1 - n for n in range(depth - 1)}
        self._at = 0

    def choose(self, enabled: Mapping[Move, Footprint], twins: frozenset[int] = frozenset()) -> Move:
        """Return the next move."""
        client = max({m.client for m in enabled}, key=lambda c: self._priority[c])
        if self._at in self._changes:
            self._priority[client] = self._changes[self._at]
            client = max({m.client for m in enabled}, key=lambda c: self._priority[c])
        self._at += 1
        return _drawn(self._chance, enabled, client)


def lots(seed: int, *, clients: int, steps: Mapping[int, int]) -> Iterator[Surw | Pct]:
    """Yield choosers for ever, the same ones for the same seed. ``steps`` may grow meanwhile."""
    chance = random.Random(seed)
    while True:
        yield Surw(chance, steps)
        for depth in DEPTHS:
            yield Pct(chance, clients=clients, steps=sum(steps.values()), depth=depth)
