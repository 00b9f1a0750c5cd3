"""What a stress run is asked to do: a plain value that travels to the worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.engines.stress.halt import Halt
from harness.model.scenario import Scenario
from harness.stores.base import Database
from harness.targets.base import Target


@dataclass(frozen=True, kw_only=True)
class StressPlan:
    """A closed-loop run: each client makes its next call when the last one completed.

    It ends after ``ops`` operations in all, or ``duration`` seconds, whichever is given; ``budget`` (seconds) is the limit
    after which clients that are still busy are ended and reported as stuck. ``folder`` receives one history file per
    process. ``points`` are those at which clients may be made to stand still: see `harness.engines.stress.halt`.
    """

    target: Target
    database: Database | None
    scenario: Scenario
    settings: Mapping[str, Any] = field(default_factory=dict)
    clients: int
    processes: int
    ops: int | None
    duration: float | None
    budget: float
    seed: int
    folder: Path
    points: tuple[str, ...] = ()

    def seats(self, worker: int) -> range:
        """Return the clients that this worker process drives: every ``processes``-th one."""
        return range(worker, self.clients, self.processes)

    def halt(self) -> Halt | None:
        """Return what makes clients stand still, or None where nothing ever does."""
        return Halt(self.folder / "halt", clients=self.clients, points=self.points) if self.points else None

    def share(self, client: int) -> int | None:
        """Return how many operations this client makes, or None when only time limits it."""
        if self.ops is None:
            return None
        return self.ops // self.clients + (1 if client < self.ops % self.clients else 0)
