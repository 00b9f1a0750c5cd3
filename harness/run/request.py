"""Turns names and texts, as a user gives them, into a `RunRequest`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

from harness.config.policy import load_policy
from harness.config.service import policy_of
from harness.model import Scenario, UsageError
from harness.model.policy import Policy
from harness.run.knobs import defaults, divide
from harness.run.registry import scenario_named, split_target
from harness.run.run_request import RunRequest, check_first_calls, check_fit
from harness.targets.base import Target
from harness.targets.http import HttpTarget

DEFAULT_OPS = 1000
DEFAULT_BUDGET = 600.0


def build_request(
    *,
    scenario: str,
    target: str | HttpTarget,
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

    ``target`` is a name, or a service. A service brings its own policy, and need not offer ``seed``: then the scene is empty.

    Raises:
        UsageError: a name is unknown, a value does not fit, or options contradict one another.
    """
    if ops is not None and duration is not None:
        raise UsageError("--ops and --duration contradict each other: choose how many, or how long")
    if processes is not None and processes > clients:
        raise UsageError(f"--processes {processes} is more than --clients {clients}: a process needs a client to drive")
    plan = scenario_named(scenario)
    if isinstance(target, HttpTarget):
        [for_scenario] = divide(chosen or {}, plan.settings)
        plan, for_scenario = _without_seed(plan, for_scenario, target)
        system = cast(Target, target)
        rules = load_policy(policy) if policy else policy_of(target.config, plan.policy)
    else:
        provider, variant = split_target(target)
        declared = provider.settings(variant)
        for_scenario, for_target = divide(chosen or {}, plan.settings, declared)
        system = provider.target(variant, for_target)
        rules = policy or plan.policy
    check_fit(plan, system)
    request = RunRequest(
        scenario=plan,
        target=system,
        settings={**defaults(plan.settings), **for_scenario},
        policy=rules if isinstance(rules, Policy) else load_policy(rules),
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
    check_first_calls(request)
    return request


def _without_seed(plan: Scenario, chosen: dict[str, Any], target: HttpTarget) -> tuple[Scenario, dict[str, Any]]:
    """Return a scenario that begins with no documents where the service cannot be told to make some with given numbers."""
    record: Any = plan
    settable = is_dataclass(record) and any(part.name == "operations" for part in fields(record))
    if "seed" in target.operations or "seed" not in plan.operations or chosen.get("opening") or not settable:
        return plan, chosen
    lean = replace(record, operations=plan.operations - {"seed"})
    return lean, {**chosen, "opening": 0}
