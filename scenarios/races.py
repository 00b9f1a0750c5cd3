"""What the families share: a scenario made of a scene and a behaviour, and clients that work in pairs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.model import Call, Operation, Outcome, Program, Seat, Setting


def no_scene(settings: Mapping[str, Any]) -> Iterable[Any]:
    """Begin with nothing."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Race:
    """A scenario: a scene that is set once, and what every client does in it."""

    name: str
    family: str
    summary: str
    behaviour: Callable[[Seat], Program]
    operations: frozenset[str]
    invariants: tuple[str, ...]
    scene: Callable[[Mapping[str, Any]], Iterable[Any]] = no_scene
    settings: Mapping[str, Setting] = field(default_factory=dict)
    policy: str = "unique"

    def opening(self, settings: Mapping[str, Any]) -> Iterable[Any]:
        """Set the scene."""
        return self.scene(settings)

    def program(self, seat: Seat) -> Program:
        """Return the client's behaviour."""
        return self.behaviour(seat)


def share_of(seat: Seat, count: int) -> range:
    """Return which of ``count`` things this client's pair works through, in the same order as its partner.

    Clients 2k and 2k + 1 are a pair. With an odd number of clients the last one is a pair by itself.
    """
    pairs = (seat.clients + 1) // 2
    return range(seat.client // 2, count, pairs)


def alone(seat: Seat, n: int) -> bool:
    """Tell whether this client leaves thing number ``n`` to its partner.

    Where the two do different things to it, one of which always ends it, each has a few to itself: otherwise the slower
    one might come too late every time, and nothing would be known of it.
    """
    return n // 8 % 8 == (2 if is_second(seat) else 6)


def is_second(seat: Seat) -> bool:
    """Tell whether this client is the second of its pair."""
    return seat.client % 2 == 1


def unheard(operation: Operation) -> bool:
    """Tell whether nobody knows what became of an operation."""
    return operation.outcome is Outcome.INFO


def insist(seat: Seat, call: Call, undecided: Callable[[Operation], bool] = unheard) -> Generator[Call, Operation, Operation]:
    """Make a call, and again without its fault while it is undecided: ``tries`` times at most, of the scenario's settings."""
    operation = yield call
    tries = 1
    while undecided(operation) and tries < seat.settings["tries"]:
        operation = yield replace(call, fault=None)
        tries += 1
    return operation


class NotToldError(Exception):
    """An answer lacks what the scenario has to go on with."""


def told(made: Operation, name: str) -> Any:
    """Return what an acknowledged operation was answered under this name.

    Raises:
        NotToldError: nothing; the message says where a described service's configuration can name it.
    """
    value = (made.result or {}).get(name)
    if value is None:
        raise NotToldError(
            f"the answer of {made.f} holds no {name}, which comes next: say where, in [operations.{made.f}.answer]"
        )
    return value
