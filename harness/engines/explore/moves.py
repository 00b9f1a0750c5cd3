"""What can be chosen at a point: whose step goes next, and whether it goes well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from harness.engines.explore.footprints import Footprint
from harness.model.errors import UsageError, nearest
from harness.wire.base import Decision, Step, StepKind

FAULTS: Mapping[str, Decision] = {
    "lose_request": Decision.LOSE_REQUEST,
    "lose_reply": Decision.LOSE_REPLY,
    "kill_backend": Decision.KILL_BACKEND_FIRST,
    "kill_client": Decision.KILL_CLIENT,
}
"""Faults that may befall a step. A backend is killed before it sees the step, so that what follows repeats."""


class Move(NamedTuple):
    """Let ``client``'s step through; or do ``fault``, a key of `FAULTS`, to it."""

    client: int
    fault: str = ""

    @property
    def decision(self) -> Decision:
        """What the proxy is told."""
        return FAULTS[self.fault] if self.fault else Decision.RELEASE

    def __str__(self) -> str:
        return f"{self.client}!{self.fault}" if self.fault else str(self.client)


@dataclass(frozen=True, kw_only=True)
class FaultPlan:
    """Which faults the search may choose, and how many of them in one interleaving."""

    kinds: tuple[str, ...] = ()
    most: int = 0

    def moves(self, client: int, step: Step, footprint: Footprint, undone: Footprint, used: int) -> dict[Move, Footprint]:
        """Return what may be done with a client's step.

        A lost reply matters where the step made something visible; elsewhere it is a lost request in other clothes. Whatever
        else goes wrong undoes the transaction: ``undone`` is the footprint of that.
        """
        found = {Move(client): footprint}
        if used >= self.most or step.kind is StepKind.BEGIN:  # nothing was begun: the next step's fault says the same
            return found
        for kind in self.kinds:
            if kind != "lose_reply":
                found[Move(client, kind)] = undone
            elif footprint.publishes or footprint.unknown:
                found[Move(client, kind)] = footprint
        return found


NO_FAULTS = FaultPlan()


def fault_plan(names: str, most: int) -> FaultPlan:
    """Return the plan that a user wrote as ``lose_reply,kill_client``. Raises UsageError if there is no such fault."""
    kinds = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for kind in kinds:
        if kind not in FAULTS:
            raise UsageError(f"there is no fault {kind!r}{nearest(kind, FAULTS)}; faults of a step are {', '.join(FAULTS)}")
    return FaultPlan(kinds=kinds, most=most if kinds else 0)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The moves of an interleaving, as a token keeps them: clients in order, and which steps met which fault."""

    clients: tuple[int, ...]
    faults: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, moves: Sequence[Move]) -> Choices:
        """Take moves apart."""
        return cls(clients=tuple(m.client for m in moves), faults={at: m.fault for at, m in enumerate(moves) if m.fault})

    def moves(self) -> list[Move]:
        """Put them together again."""
        return [Move(client, self.faults.get(at, "")) for at, client in enumerate(self.clients)]


def in_short(moves: Sequence[Move]) -> str:
    """Return the moves for people: ``0x3 1x2 0!lose_reply``."""
    runs = [(move, len(list(group))) for move, group in groupby(moves)]
    return " ".join(f"{move}x{count}" if count > 1 else str(move) for move, count in runs)
