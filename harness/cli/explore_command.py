"""racegate explore: one chosen interleaving after another, until it breaks or every distinct one was tried."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("explore")(explore)


def explore(
    scenario: Annotated[str, typer.Argument(help="what is fired; see: racegate list scenarios")],
    target: options.Target = None,
    clients: Annotated[int, typer.Option("--clients", "-c", min=1, max=8, help="concurrent clients")] = 2,
    ops: Annotated[int | None, typer.Option("--ops", "-n", min=1, help="operations in all; default: one for each client")] = None,
    budget: options.Budget = None,
    seed: options.Seed = None,
    policy: options.PolicyName = None,
    sets: options.Sets = None,
    reduction: Annotated[bool, typer.Option("--reduction/--no-reduction", help="try independent steps in one order only")] = True,
    postgres: options.Postgres = "embedded",
    mongo: options.Mongo = "embedded",
    disposable: options.Disposable = None,
    out: options.Out = Path("runs"),
    json: options.Json = None,
) -> int:
    """Hold every statement at the wire and try one interleaving after another.

    Ends when an invariant breaks, when every distinct interleaving was tried (coverage: exhaustive), or when the budget is spent.
    A finding comes with its schedule, which racegate replay repeats.

    Example: racegate explore concurrent_creates --target reference:pg.count_plus_one
    """
    from harness.cli.output import this_command  # noqa: PLC0415 - heavy, and not needed for --help
    from harness.cli.running import explore_and_show, open_stores  # noqa: PLC0415
    from harness.model import UsageError  # noqa: PLC0415
    from harness.run.knobs import parse_assignments  # noqa: PLC0415
    from harness.run.request import build_request  # noqa: PLC0415

    if target is None:
        raise UsageError(f"name a target: racegate explore {scenario} --target reference:pg.counter_row")
    if ops is not None and ops % clients:
        raise UsageError(f"--ops {ops} cannot be shared equally by --clients {clients}; choose a multiple of {clients}")
    drawn = options.some_seed(seed)
    request = build_request(
        scenario=scenario,
        target=target,
        chosen=parse_assignments(sets or []),
        policy=policy,
        clients=clients,
        budget=budget or 60.0,
        seed=drawn,
        out=out,
        engine="explore",
        command=this_command(drawn),
    )
    with open_stores(postgres=postgres, mongo=mongo, disposable=disposable, clients=clients) as stores:
        return explore_and_show(request, stores, operations=(ops or clients) // clients, reduce=reduction, json=json)
