"""Programs as values: which operations, by which clients, in one line of text.

``approve:p0 | approve:p0 refund:p1`` is a program of two clients. A word is a key of a world's menu; ``~`` behind it marks an
operation that is sent with the token that all ``~`` operations of that key share: the same request once more. A world is a scene
that is small and rich in conflicts, with everything that can be done in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from harness.model import Call, Program, Seat, Setting, UsageError, nearest

AGAIN = "~"
BETWEEN_CLIENTS = "|"


class Step(NamedTuple):
    """One operation: a key of the menu, and whether it is the same request as all others that are marked so."""

    key: str
    again: bool = False

    def __str__(self) -> str:
        return f"{self.key}{AGAIN}" if self.again else self.key


@dataclass(frozen=True)
class Plan:
    """A whole program: what each client does, one thing after another, and what may go wrong with a step."""

    clients: tuple[tuple[Step, ...], ...]
    faults: str = ""

    def __str__(self) -> str:
        return f" {BETWEEN_CLIENTS} ".join(" ".join(str(step) for step in steps) for steps in self.clients)

    @property
    def size(self) -> int:
        """How many operations it has."""
        return sum(len(steps) for steps in self.clients)

    @property
    def longest(self) -> int:
        """How many operations its busiest client has."""
        return max((len(steps) for steps in self.clients), default=0)


def parse_plan(text: str, menu: Iterable[str]) -> Plan:
    """Return the plan that a text means.

    Raises:
        UsageError: a word is not on the menu, or there is none at all.
    """
    known = list(menu)
    clients = tuple(tuple(_step(word, known) for word in part.split()) for part in text.split(BETWEEN_CLIENTS))
    if not any(clients):
        raise UsageError(f"the program is empty; write for example program='{known[0]} {BETWEEN_CLIENTS} {known[0]}'")
    return Plan(clients)


def _step(word: str, known: Sequence[str]) -> Step:
    key = word.removesuffix(AGAIN)
    if key not in known:
        raise UsageError(f"the program has no operation {key!r}{nearest(key, known)}; there are: {', '.join(known)}")
    return Step(key, word != key)


@dataclass(frozen=True, kw_only=True)
class World:
    """A scenario whose clients do what the setting ``program`` says.

    ``menu`` holds the operations by key; their tokens are made when the program is. ``scene`` is what is there before. ``scopes``
    are the keys of operations that meet: on one series of numbers, one payment, one order.
    """

    name: str
    family: str
    summary: str
    scene: Sequence[Call]
    menu: Mapping[str, Call]
    invariants: tuple[str, ...]
    policy: str
    example: str
    scopes: Sequence[Sequence[str]] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scopes", self.scopes or (tuple(self.menu),))
        keys = ", ".join(self.menu)
        help = f"what each client does, separated by {BETWEEN_CLIENTS}, of: {keys}; {AGAIN} marks the same request once more"
        object.__setattr__(self, "settings", {"program": Setting(default=self.example, help=help)})

    @property
    def operations(self) -> frozenset[str]:
        """Of scene and menu."""
        return frozenset(call.f for call in (*self.scene, *self.menu.values()))

    def opening(self, settings: Mapping[str, Any]) -> Iterable[Call]:
        """Set the scene."""
        return self.scene

    def program(self, seat: Seat) -> Program:
        """Do what the program says for this client; nothing if it says nothing."""
        plan = parse_plan(seat.settings["program"], self.menu)
        mine = plan.clients[seat.client] if seat.client < len(plan.clients) else ()
        for n, step in enumerate(mine):
            call = self.menu[step.key]
            yield replace(call, token=f"again-{step.key}" if step.again else f"c{seat.client}-{n}-{step.key}")
