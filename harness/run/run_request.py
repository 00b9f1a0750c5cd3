"""Everything that decides a run, as a value."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from harness.model import Policy, Scenario, Seat, UsageError
from harness.targets.base import Target


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Everything that decides a run. ``duration`` and ``budget`` are seconds; ``ops`` is the total over all clients."""

    scenario: Scenario
    target: Target
    settings: Mapping[str, Any]
    policy: Policy
    engine: str = "stress"
    clients: int = 16
    processes: int = 4
    ops: int | None = 1000
    duration: float | None = None
    budget: float = 600.0
    seed: int = 0
    out: Path = Path("runs")
    command: str = ""


def check_fit(scenario: Scenario, target: Target) -> None:
    """Make sure that the target offers every operation of the scenario. Raises UsageError if it does not."""
    if missing := scenario.operations - target.operations:
        raise UsageError(
            f"{target.name} does not offer {', '.join(sorted(missing))}, which {scenario.name} needs; "
            f"it offers {', '.join(sorted(target.operations))}"
        )


def check_first_calls(request: RunRequest) -> None:
    """Make sure that a target that can tell beforehand understands what the scenario begins with. Raises UsageError if not."""
    check = getattr(request.target, "check", None)
    if check is None:
        return
    seat = Seat(client=0, clients=request.clients, random=Random(request.seed), settings=request.settings)
    first = itertools.islice(request.scenario.opening(request.settings), 1), itertools.islice(request.scenario.program(seat), 1)
    for call in itertools.chain(*first):
        check(call.f, call.arguments, call.token)
