"""What a load run is asked to do: a plain value that travels to the processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.engines.load.arrivals import Arrivals
from harness.model.scenario import Scenario
from harness.stores.base import Database
from harness.targets.base import Target

GRACE = 10.0
"""Seconds that operations may take to complete after a run was told to stop; then their clients are ended."""


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """A run over time with ``users`` clients, started ``spawn_rate`` a second.

    ``duration`` and ``grace`` are seconds; without a duration the run goes on until it is stopped, or until ``ops``
    operations were sent by all processes together, if that is given. ``think`` is the least and the most that a client
    pauses before a call, in seconds, on top of what the scenario asks for. With ``arrivals`` the model is open: the schedule
    decides when a call is made, and ``users`` is the cap on what is in flight. ``folder`` receives one history file per process.
    """

    target: Target
    database: Database | None
    scenario: Scenario
    settings: Mapping[str, Any] = field(default_factory=dict)
    users: int
    spawn_rate: float
    duration: float | None
    ops: int | None = None
    think: tuple[float, float] = (0.0, 0.0)
    arrivals: Arrivals | None = None
    grace: float = GRACE
    seed: int
    folder: Path

    def locust_users(self, processes: int) -> int:
        """Return how many users Locust itself is asked for: in an open model one a process stands for all clients there."""
        return processes if self.arrivals is not None else self.users

    def share(self, rank: int, processes: int) -> int | None:
        """Return how many operations the process of that rank sends, of ``ops`` in all; None if there is no limit."""
        return None if self.ops is None else self.ops // processes + (rank < self.ops % processes)


@dataclass(frozen=True, kw_only=True)
class Page:
    """Locust's page in the browser, with ours in it: where it listens, who may see it, what its form offers.

    ``password`` is what a visitor has to give, if anything; ``choices`` are the values of each field of the form, and
    ``preset`` what stands there at first. ``users``, ``spawn_rate`` and ``seconds`` hold for a start that does not say them;
    without seconds a run goes on until it is stopped. ``longest`` is the most seconds that a start may ask for.
    """

    host: str
    port: int
    password: str | None = field(default=None, repr=False)
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    preset: Mapping[str, str] = field(default_factory=dict)
    users: int = 8
    spawn_rate: float = 8.0
    seconds: float | None = None
    longest: float = 7 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one process is to be: ``local`` alone, or the ``master`` or ``worker`` number so and so of ``processes``.

    The process that starts and stops the users shows the ``page``, if there is one.
    """

    role: str
    number: int
    processes: int
    page: Page | None = None
