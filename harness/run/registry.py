"""Finds scenarios, targets and report formats through entry points, ours and users' alike.

An entry point in ``racegate.scenarios`` names a sequence of scenarios, one in ``racegate.targets`` a target provider, one
in ``racegate.reports`` a function that writes a report from run folders. A name that two packages claim is an error
that names both.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from harness.model.errors import UsageError, nearest
from harness.model.scenario import Scenario
from harness.run.reporting import ReportFormat
from harness.targets.base import Target, TargetProvider


def _load(group: str) -> dict[str, tuple[EntryPoint, Any]]:
    found: dict[str, tuple[EntryPoint, Any]] = {}
    for point in sorted(entry_points(group=group), key=lambda p: (p.name, p.value)):
        if point.name in found and found[point.name][0].value != point.value:
            raise UsageError(
                f"two packages register {point.name!r} in {group}: {found[point.name][0].value} and {point.value}; "
                "remove or rename one"
            )
        if point.name not in found:
            try:
                found[point.name] = (point, point.load())
            except Exception as e:
                raise UsageError(f"the entry point {point.name} = {point.value} in {group} cannot be imported: {e}") from e
    return found


@cache
def scenarios() -> Mapping[str, Scenario]:
    """Return every scenario by name. Raises UsageError when two have the same name."""
    named: dict[str, Scenario] = {}
    owners: dict[str, str] = {}
    for point, members in _load("racegate.scenarios").values():
        for scenario in members:
            if scenario.name in named:
                raise UsageError(f"two scenarios are called {scenario.name!r}: in {owners[scenario.name]} and {point.value}")
            named[scenario.name], owners[scenario.name] = scenario, point.value
    return named


@cache
def providers() -> Mapping[str, TargetProvider]:
    """Return every target provider by the prefix that selects it (``reference`` in ``reference:pg.counter_row``)."""
    return {name: cast(TargetProvider, provider) for name, (_, provider) in _load("racegate.targets").items()}


def entries(group: str) -> dict[str, Any]:
    """Return what the entry points of a group name, by entry point."""
    return {name: value for name, (_, value) in _load(group).items()}


@cache
def reports() -> Mapping[str, ReportFormat]:
    """Return every report format by name."""
    return {name: cast(ReportFormat, value) for name, value in entries("racegate.reports").items()}


def scenario_named(name: str) -> Scenario:
    """Return the scenario. Raises UsageError with the nearest name if there is none."""
    try:
        return scenarios()[name]
    except KeyError:
        raise UsageError(f"no scenario is called {name!r}{nearest(name, scenarios())}; see: racegate list scenarios") from None


def target_names() -> list[str]:
    """Return every target that can be named without a configuration: ``reference:pg.counter_row``."""
    return [f"{family}:{variant}" for family, provider in providers().items() for variant in provider.names()]


def split_target(name: str) -> tuple[TargetProvider, str]:
    """Return the provider and variant of a target's name. Raises UsageError with the nearest name if there is none."""
    family, _, variant = name.partition(":")
    provider = providers().get(family)
    if provider is None or variant not in provider.names():
        known = target_names()
        raise UsageError(f"no target is called {name!r}{nearest(name, known)}; see: racegate list targets")
    return provider, variant


def target_named(name: str, settings: Mapping[str, Any]) -> Target:
    """Return the target with these settings, defaults filled in. Raises UsageError as `split_target` does."""
    provider, variant = split_target(name)
    return provider.target(variant, settings)
