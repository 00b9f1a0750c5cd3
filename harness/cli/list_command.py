"""racegate list: what there is to choose from."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from harness.cli import options


class Kind(StrEnum):
    """What can be listed."""

    SCENARIOS = "scenarios"
    TARGETS = "targets"
    INVARIANTS = "invariants"
    POLICIES = "policies"
    CASES = "cases"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("list")(list_them)


def list_them(
    kind: Annotated[Kind, typer.Argument(help="what to list")],
    json: options.Json = None,
) -> int:
    """List scenarios, targets, invariants, policies or cases, a line each."""
    from harness.cli.output import write_json  # noqa: PLC0415

    rows = _ROWS[kind]()
    if json is not None:
        write_json([{"name": name, "summary": summary} for name, summary in rows], json)
    if json != "-":
        width = max((len(name) for name, _ in rows), default=0)
        for name, summary in rows:
            print(f"{name:<{width}}  {summary}")
    return 0


def _scenarios() -> list[tuple[str, str]]:
    from harness.run.registry import scenarios  # noqa: PLC0415

    return [(s.name, s.summary + "".join(f" [{n}={v.default}]" for n, v in s.settings.items())) for s in scenarios().values()]


def _targets() -> list[tuple[str, str]]:
    from harness.run.registry import providers  # noqa: PLC0415

    return [
        (f"{family}:{variant}", provider.describe(variant))
        for family, provider in providers().items()
        for variant in provider.names()
    ]


def _invariants() -> list[tuple[str, str]]:
    import harness.invariants  # noqa: PLC0415, F401 - registers ours
    from harness.invariants.registry import REGISTRY  # noqa: PLC0415

    return [(i.id, i.summary) for i in REGISTRY.values()]


def _policies() -> list[tuple[str, str]]:
    from harness.config.policy import load_policy, policy_names  # noqa: PLC0415

    return [(name, load_policy(name).summary) for name in policy_names()]


def _cases() -> list[tuple[str, str]]:
    from harness.run.cases import cases  # noqa: PLC0415

    return [(c.id, f"{c.variant} x {c.scenario}: {c.expect}") for c in cases()]


_ROWS = {
    Kind.SCENARIOS: _scenarios,
    Kind.TARGETS: _targets,
    Kind.INVARIANTS: _invariants,
    Kind.POLICIES: _policies,
    Kind.CASES: _cases,
}
