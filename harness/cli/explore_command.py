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
    scenario: Annotated[str | None, typer.Argument(help="what is fired; see: racegate list scenarios")] = None,
    target: options.Target = None,
    config: options.Config = None,
    clients: Annotated[int, typer.Option("--clients", "-c", min=1, max=8, help="concurrent clients")] = 2,
    ops: Annotated[int | None, typer.Option("--ops", "-n", min=1, help="operations in all; default: one for each client")] = None,
    budget: options.Budget = None,
    seed: options.Seed = None,
    policy: options.PolicyName = None,
    sets: options.Sets = None,
    reduction: Annotated[bool, typer.Option("--reduction/--no-reduction", help="try independent steps in one order only")] = True,
    faults: Annotated[
        str,
        typer.Option(help="what may go wrong with a step: lose_request, lose_reply, kill_backend, kill_client", metavar="LIST"),
    ] = "",
    max_faults: Annotated[int, typer.Option(min=0, max=5, help="how many faults an interleaving may have")] = 1,
    audit: Annotated[
        int, typer.Option(min=0, metavar="N", help="try N of the interleavings that the reduction left out, to check it")
    ] = 0,
    all_failures: Annotated[bool, typer.Option("--all", help="go on after the first failure, and count them")] = False,
    postgres: options.Postgres = "embedded",
    mongo: options.Mongo = "embedded",
    disposable: options.Disposable = None,
    out: options.Out = Path("runs"),
    json: options.Json = None,
) -> int:
    """Hold every statement at the wire and try one interleaving after another.

    Ends when an invariant breaks, when every distinct interleaving was tried (coverage: exhaustive), or when the budget is spent.
    A finding comes with its schedule, which racegate replay repeats. With --faults the search also chooses where things go
    wrong: the reply of a COMMIT that is lost leaves a client that does not know.

    Your own service is described by a configuration. It is started with a database URL that leads through the wire, if the
    configuration says how; otherwise that URL is printed, and racegate waits until the service is healthy.

    Example: racegate explore concurrent_creates --target reference:pg.count_plus_one

    Example: racegate explore retried_creates --target reference:pg.token_ignored -c 1 -n 2 --faults lose_reply
    """
    from harness.cli.output import this_command  # noqa: PLC0415 - heavy, and not needed for --help
    from harness.cli.running import explore_and_show, open_stores  # noqa: PLC0415
    from harness.cli.service_running import explore_service, is_service  # noqa: PLC0415
    from harness.engines.explore.moves import fault_plan  # noqa: PLC0415
    from harness.model import UsageError  # noqa: PLC0415
    from harness.run.knobs import parse_assignments  # noqa: PLC0415
    from harness.run.request import build_request  # noqa: PLC0415

    if ops is not None and ops % clients:
        raise UsageError(f"--ops {ops} cannot be shared equally by --clients {clients}; choose a multiple of {clients}")
    plan = fault_plan(faults, max_faults)
    how = {
        "operations": (ops or clients) // clients,
        "reduce": reduction,
        "faults": plan,
        "stop_at_first": not all_failures,
        "audit": audit,
    }
    drawn = options.some_seed(seed)
    if is_service(target, config):
        return explore_service(
            config,
            url=target,
            scenario=scenario,
            json=json,
            asked={
                "chosen": parse_assignments(sets or []),
                "policy": policy,
                "clients": clients,
                "budget": budget or 60.0,
                "seed": drawn,
                "out": out,
            },
            how=how,
        )
    if scenario is None:
        raise UsageError("name a scenario, for example: racegate explore concurrent_creates --target reference:pg.counter_row")
    if target is None:
        raise UsageError(f"name a target: racegate explore {scenario} --target reference:pg.counter_row")
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
        return explore_and_show(request, stores, json=json, **how)
