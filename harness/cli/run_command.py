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
    config: options.Config = None,
    clients: Annotated[
        int | None, typer.Option("--clients", "-c", min=1, max=10_000, help="concurrent clients; default: 16")
    ] = None,
    processes: options.Processes = None,
    ops: options.Ops = None,
    duration: options.Duration = None,
    budget: options.Budget = None,
    seed: options.Seed = None,
    shard: options.ShardText = None,
    policy: options.PolicyName = None,
    sets: options.Sets = None,
    postgres: options.Postgres = "embedded",
    mongo: options.Mongo = "embedded",
    disposable: options.Disposable = None,
    out: options.Out = Path("runs"),
    json: options.Json = None,
) -> int:
    """Fire a scenario at a target with many processes at full speed, and judge what the store holds afterwards.

    Your own service is described by a configuration; without a scenario everything that it lists under [[runs]] is fired.

    Example: racegate run concurrent_creates --target reference:pg.count_plus_one --clients 16 --ops 800 --seed 1

    Example: racegate run --target http://127.0.0.1:3000 --config racegate.toml
    """
    from harness.cli.output import this_command  # noqa: PLC0415
    from harness.cli.running import open_stores, run_and_show  # noqa: PLC0415 - heavy, and not needed for --help
    from harness.cli.service_running import is_service, run_service  # noqa: PLC0415
    from harness.model import UsageError  # noqa: PLC0415
    from harness.run.request import DEFAULT_OPS, build_request  # noqa: PLC0415
    from harness.run.shards import parse_shard  # noqa: PLC0415

    if is_service(target, config):
        return run_service(
            config,
            url=target,
            scenario=scenario,
            json=json,
            asked={
                "chosen": _chosen(sets),
                "policy": policy,
                "clients": clients,
                "processes": processes,
                "ops": ops,
                "duration": duration,
                "budget": budget,
                "seed": options.some_seed(seed),
                "out": out,
            },
        )
    if scenario is None:
        raise UsageError("name a scenario, for example: racegate run concurrent_creates --target reference:pg.counter_row")
    if target is None:
        raise UsageError(f"name a target: racegate run {scenario} --target reference:pg.counter_row; see: racegate list targets")
    share = parse_shard(shard)
    if share.of > 1 and (seed is None or duration is not None):
        raise UsageError("--shard needs --seed and --ops: the shards of one run share the seed and divide the operations")
    drawn = options.some_seed(seed)
    request = build_request(
        scenario=scenario,
        target=target,
        chosen=_chosen(sets),
        policy=policy,
        clients=clients or 16,
        processes=processes,
        ops=share.count(ops or DEFAULT_OPS) if share.of > 1 else ops,
        duration=duration,
        budget=budget,
        seed=drawn + share.index - 1,
        out=out,
        command=this_command(drawn),
    )
    with open_stores(postgres=postgres, mongo=mongo, disposable=disposable, clients=clients or 16) as stores:
        return run_and_show(request, stores, json=json)


def _chosen(sets: list[str] | None) -> dict[str, str]:
    from harness.run.knobs import parse_assignments  # noqa: PLC0415

    return parse_assignments(sets or [])
