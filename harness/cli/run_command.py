"""racegate run: a scenario against a target, at full speed, judged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("run")(run)


def run(
    scenario: Annotated[str | None, typer.Argument(help="what is fired; see: racegate list scenarios")] = None,
    target: options.Target = None,
    clients: options.Clients = 16,
    processes: options.Processes = None,
    ops: options.Ops = None,
    duration: options.Duration = None,
    budget: options.Budget = None,
    seed: options.Seed = None,
    policy: options.PolicyName = None,
    sets: options.Sets = None,
    postgres: options.Postgres = "embedded",
    mongo: options.Mongo = "embedded",
    disposable: options.Disposable = None,
    out: options.Out = Path("runs"),
    json: options.Json = None,
) -> int:
    """Fire a scenario at a target with many processes at full speed, and judge what the store holds afterwards.

    Example: racegate run concurrent_creates --target reference:pg.count_plus_one --clients 16 --ops 800 --seed 1
    """
    from harness.cli.output import this_command  # noqa: PLC0415
    from harness.cli.running import open_stores, run_and_show  # noqa: PLC0415 - heavy, and not needed for --help
    from harness.model import UsageError  # noqa: PLC0415
    from harness.run.request import build_request  # noqa: PLC0415

    if scenario is None:
        raise UsageError("name a scenario, for example: racegate run concurrent_creates --target reference:pg.counter_row")
    if target is None:
        raise UsageError(f"name a target: racegate run {scenario} --target reference:pg.counter_row; see: racegate list targets")
    drawn = options.some_seed(seed)
    request = build_request(
        scenario=scenario,
        target=target,
        chosen=_chosen(sets),
        policy=policy,
        clients=clients,
        processes=processes,
        ops=ops,
        duration=duration,
        budget=budget,
        seed=drawn,
        out=out,
        command=this_command(drawn),
    )
    with open_stores(postgres=postgres, mongo=mongo, disposable=disposable, clients=clients) as stores:
        return run_and_show(request, stores, json=json)


def _chosen(sets: list[str] | None) -> dict[str, str]:
    from harness.run.knobs import parse_assignments  # noqa: PLC0415

    return parse_assignments(sets or [])
