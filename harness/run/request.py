"""Turns names and texts, as a user gives them, into a `RunRequest`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from harness.config.policy import load_policy
from harness.model import UsageError
from harness.run.knobs import defaults, divide
from harness.run.registry import scenario_named, split_target
from harness.run.run_request import RunRequest, check_fit

DEFAULT_OPS = 1000
DEFAULT_BUDGET = 600.0


def build_request(
    *,
    scenario: str,
    target: str,
    chosen: Mapping[str, object] | None = None,
    policy: str | None = None,
    clients: int = 16,
    processes: int | None = None,
    ops: int | None = None,
    duration: float | None = None,
    budget: float | None = None,
    seed: int = 0,
    out: Path = Path("runs"),
    engine: str = "stress",
    command: str = "",
) -> RunRequest:
    """Look everything up and check that it fits together.

    Raises:
        UsageError: a name is unknown, a value does not fit, or options contradict one another.
    """
    if ops is not None and duration is not None:
        raise UsageError("--ops and --duration contradict each other: choose how many, or how long")
    if processes is not None and processes > clients:
        raise UsageError(f"--processes {processes} is more than --clients {clients}: a process needs a client to drive")
    plan = scenario_named(scenario)
    provider, variant = split_target(target)
    declared = provider.settings(variant)
    for_scenario, for_target = divide(chosen or {}, plan.settings, declared)
    system = provider.target(variant, for_target)
    check_fit(plan, system)
    return RunRequest(
        scenario=plan,
        target=system,
        settings={**defaults(plan.settings), **for_scenario},
        policy=load_policy(policy or plan.policy),
        engine=engine,
        clients=clients,
        processes=processes or min(clients, max(4, 2 * (os.cpu_count() or 1))),
        ops=(ops or DEFAULT_OPS) if duration is None else None,
        duration=duration,
        budget=budget or DEFAULT_BUDGET,
        seed=seed,
        out=out,
        command=command,
    )
