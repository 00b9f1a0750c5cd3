"""What concurrent clients do, and which invariants must hold afterwards."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.model.operation import Call, Operation


@dataclass(frozen=True, kw_only=True)
class Seat:
    """One client's place in a scenario.

    ``client`` counts from 0 to ``clients`` - 1. ``random`` derives from the run's seed and the client alone, so that a
    client makes the same choices in every run with that seed. ``settings`` are the scenario's, defaults filled in.
    ``life`` counts how often this client's process was started again after it was killed.
    """

    client: int
    clients: int
    random: random.Random
    settings: Mapping[str, Any]
    life: int = 0

    def token(self, intent: int | str) -> str:
        """Return the client token of this client's intent number ``intent``: unique in the run, equal on every retry."""
        return f"c{self.client}.{self.life}-{intent}"


Program = Generator[Call, Operation, None]
"""A client's behaviour: yields the next call, is sent its completed operation. May end, or go on for ever."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A knob of a scenario or target: its default (whose type is the knob's type), choices if limited, and meaning."""

    default: Any
    help: str
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ServerFault:
    """Something done on purpose to the store's servers while clients are at work.

    ``kind`` is what is done: one of the store's own ``faults``. It is done once ``after`` operations have completed since the
    fault before it (since the start, for the first), or when none has completed for ``or_quiet`` seconds: clients that wait for a
    server will not complete anything.

    With a ``point``, the name of a point in the target, it is done while at least one client stands still there, in the middle
    of its operation: whoever comes to it from then on waits until it is done. ``heard`` waits until those who stood have heard
    how their operation ended.
    """

    kind: str
    after: int = 0
    or_quiet: float | None = None
    point: str | None = None
    heard: bool = False


@dataclass(frozen=True, kw_only=True)
class StoreNeeds:
    """What a scenario needs of its store beyond being one: ``nodes`` of a replica set, or that it survives a crash."""

    nodes: int = 1
    fsync: bool = False


class Scenario(Protocol):
    """What is fired. Knows operations, never a variant or a table.

    A scenario that hurts servers also has ``server_faults(settings)``, which returns the `ServerFault` in their order, and
    ``needs``, a `StoreNeeds`. It then runs on a store of its own.
    """

    name: str
    family: str
    summary: str
    operations: frozenset[str]
    """Names of the operations that a target must offer."""
    invariants: tuple[str, ...]
    """Ids of the invariants that must hold afterwards."""
    settings: Mapping[str, Setting]
    policy: str
    """Name of the policy that applies unless the user chooses another."""

    def opening(self, settings: Mapping[str, Any]) -> Iterable[Call]:
        """Yield the calls that set the scene, made one after another before the race; every one must be ok."""

    def program(self, seat: Seat) -> Program:
        """Return the behaviour of the client in this seat."""


@dataclass(frozen=True, kw_only=True)
class ProgramScenario:
    """A scenario made of plain functions, for tests and for users' own files."""

    name: str
    summary: str
    behaviour: Any
    operations: frozenset[str] = frozenset()
    invariants: tuple[str, ...] = ()
    family: str = "custom"
    settings: Mapping[str, Setting] = field(default_factory=dict)
    policy: str = "unique"
    scene: Any = None

    def opening(self, settings: Mapping[str, Any]) -> Iterable[Call]:
        """Yield the opening calls of the scene function, or none."""
        return self.scene(settings) if self.scene else ()

    def program(self, seat: Seat) -> Program:
        """Return the behaviour function's generator."""
        program: Program = self.behaviour(seat)
        return program
