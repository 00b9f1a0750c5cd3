"""racegate load: a scenario as Locust users over time, judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import options

DEFAULT_SECONDS = 30.0

STEP_SECONDS = 5.0
DEFAULT_SLO = "p95=200ms"

UI_USERS = 100
"""Users for whom stores have room at least, when the page decides how many there are."""

Users = Annotated[int, typer.Option("--users", "-u", "--clients", "-c", min=1, max=10_000, help="concurrent users")]
SpawnRate = Annotated[
    float | None, typer.Option("--spawn-rate", "-r", min=0.01, help="users started per second; default: all within a second")
]
LoadProcesses = Annotated[
    int, typer.Option("--processes", min=1, max=64, help="Locust workers, each a process; with more than one a master besides")
]
Think = Annotated[
    Any, typer.Option("--think", parser=options.seconds, metavar="TIME", help="the most that a user pauses before each call")
]

Rate = Annotated[
    str | None,
    typer.Option(
        help=(
            "open model: arrivals per second, whatever the answers: 100, 10..200 (ramp), 50,100,200 (steps), 50^500 (spike) or "
            "@FILE (seconds, one a line); --users caps what is in flight"
        )
    ),
]
LocustFile = Annotated[
    bool,
    typer.Option("--locustfile", help="print the path of a file for plain Locust: locust -f FILE --scenario NAME --target NAME"),
]
FindCapacity = Annotated[
    bool,
    typer.Option("--find-capacity", help="more and more users, up to --users, until a limit or an invariant gives way"),
]
Slo = Annotated[
    list[str] | None, typer.Option("--slo", metavar="LIMIT", help="a limit to keep, such as p95=200ms, errors=1% or rate=50")
]
Abort = Annotated[bool, typer.Option("--abort", help="end the run at the first finding, or when an --slo is broken for 3 s")]
FaultOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="FAULT@TIME",
        help="do this to the store: kill-connections@5s, restart@10s, pause:2s@15s, stepdown@20s, failover@25s",
    ),
]
Against = Annotated[
    list[str] | None, typer.Option("--against", metavar="TARGET", help="with --find-capacity: another target for the same table")
]
Live = Annotated[
    bool, typer.Option("--live/--no-live", help="look at history, books and locks while it runs; the verdict does not need it")
]
Ui = Annotated[bool, typer.Option("--ui", help="start and stop runs on Locust's page, which shows invariants and capacity")]
UiHost = Annotated[str, typer.Option("--ui-host", help="where the page listens")]
UiPort = Annotated[int, typer.Option("--ui-port", min=0, max=65535, help="port of the page; 0 takes any free one")]
UiLogin = Annotated[
    bool, typer.Option("--ui-login", help="the page asks for the password in RACEGATE_UI_PASSWORD, or prints one")
]
Poisson = Annotated[bool, typer.Option("--poisson", help="with --rate: arrivals at random, not evenly spaced")]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("load")(load)


def load(
    scenario: Annotated[str | None, typer.Argument(help="what is fired; see: racegate list scenarios")] = None,
    target: options.Target = None,
    config: options.Config = None,
    users: Users = 16,
    spawn_rate: SpawnRate = None,
    processes: LoadProcesses = 1,
    think: Think = None,
    ui: Ui = False,
    ui_host: UiHost = "127.0.0.1",
    ui_port: UiPort = 8089,
    ui_login: UiLogin = False,
    locustfile: LocustFile = False,
    find_capacity: FindCapacity = False,
    slo: Slo = None,
    against: Against = None,
    abort: Abort = False,
    live: Live = True,
    fault: FaultOption = None,
    rate: Rate = None,
    poisson: Poisson = False,
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
    """Load a target with Locust users over time, and judge what the store holds afterwards.

    Example: racegate load concurrent_creates --target reference:pg.counter_row --users 20 --duration 10s

    Example: racegate load concurrent_creates --target reference:pg.counter_row --users 64 --find-capacity --slo p95=200ms
    """
    from harness.cli import loading  # noqa: PLC0415 - heavy, and not needed for --help
    from harness.cli.capacity import capacity_and_show  # noqa: PLC0415
    from harness.cli.output import this_command  # noqa: PLC0415
    from harness.cli.running import open_stores  # noqa: PLC0415
    from harness.cli.service_running import is_service, load_service_with, service_capacity  # noqa: PLC0415
    from harness.engines.load.arrivals import parse_arrivals  # noqa: PLC0415
    from harness.model import UsageError  # noqa: PLC0415
    from harness.run.capacity import Fresh, fresh_database  # noqa: PLC0415
    from harness.run.knobs import parse_assignments  # noqa: PLC0415
    from harness.run.limits import parse_limits  # noqa: PLC0415
    from harness.run.load_faults import needs_of, parse_fault  # noqa: PLC0415
    from harness.run.loaded import LoadOptions  # noqa: PLC0415
    from harness.run.request import DEFAULT_BUDGET, build_request  # noqa: PLC0415
    from harness.run.run_request import RunRequest  # noqa: PLC0415
    from harness.run.stores import Stores  # noqa: PLC0415

    if locustfile:
        print(Path(loading.__file__).parent.parent / "engines" / "load" / "locustfile.py")
        return 0
    own = is_service(target, config)
    if not own:
        refuse_unnamed(scenario, target)
    refuse_contradictions(rate=rate, paced=ops is not None or think is not None, ui=ui, find=find_capacity, against=bool(against))
    if abort and not live:
        raise UsageError("--abort ends a run by what is seen of it while it runs; leave --no-live out")
    drawn = options.some_seed(seed)
    seconds = duration if duration or ops else (STEP_SECONDS if find_capacity else DEFAULT_SECONDS)
    arrivals = None if rate is None else parse_arrivals(rate, seconds, even=not poisson)
    asked: dict[str, Any] = {
        "chosen": parse_assignments(sets or []),
        "policy": policy,
        "clients": users,
        "processes": processes,
        "ops": ops,
        "duration": seconds if arrivals is None else arrivals.seconds,
        "budget": budget or max(DEFAULT_BUDGET, 2 * (seconds or 0.0)),
        "seed": drawn,
        "out": out,
    }
    limits = parse_limits(slo or ([DEFAULT_SLO] if find_capacity else []))
    chosen = LoadOptions(
        spawn_rate=spawn_rate or float(users),
        think=(0.0, think or 0.0),
        arrivals=arrivals,
        limits=() if find_capacity else limits,
        abort=abort,
        live=live,
        faults=[parse_fault(text) for text in fault or []],
    )

    def go(request: RunRequest, stores: Stores, configured: Sequence[str] = ()) -> int:
        kept = chosen.limits or parse_limits(configured)
        if ui:
            from harness.cli.load_page import PageOptions, serve_page  # noqa: PLC0415

            page = PageOptions(host=ui_host, port=ui_port, login=ui_login, seconds=duration)
            return serve_page(page, stores, request, replace(chosen, limits=kept), asked, json=json)
        if find_capacity:
            all_of_them = [(one, fresh_database(one, stores)) for one in (request, *others)]
            return capacity_and_show(all_of_them, chosen, limits, json=json)
        return loading.load_and_show(request, stores, replace(chosen, limits=kept), json=json)

    def find(request: RunRequest, fresh: Fresh, configured: Sequence[str]) -> int:
        kept = parse_limits(slo or configured or [DEFAULT_SLO])
        return capacity_and_show([(request, fresh)], chosen, kept, json=json)

    if own:
        if against:
            raise UsageError("--against compares targets that racegate makes; find the capacity of one service after the other")
        if find_capacity:
            return service_capacity(config, url=target, scenario=scenario, asked=asked, run=find)
        return load_service_with(config, url=target, scenario=scenario, asked=asked, run=go)
    named: dict[str, Any] = {"scenario": str(scenario), "engine": "load", "command": this_command(drawn)}
    request = build_request(**named, **asked, target=str(target))
    others = [build_request(**named, **asked, target=other) for other in against or []]
    connections = max(users, UI_USERS) if ui else users
    needs = needs_of(chosen.faults)
    with open_stores(postgres=postgres, mongo=mongo, disposable=disposable, clients=connections, needs=needs) as stores:
        return go(request, stores)


def refuse_unnamed(scenario: str | None, target: str | None) -> None:
    """Make sure that a load of what racegate itself makes names both. Raises UsageError if it does not."""
    from harness.model import UsageError  # noqa: PLC0415 - as above

    if scenario is None and target is not None:
        raise UsageError(f"name a scenario: racegate load concurrent_creates --target {target}; see: racegate list scenarios")
    if scenario is None:
        raise UsageError(
            "name a scenario, for example: racegate load concurrent_creates --target reference:pg.counter_row; or the "
            "description of your own service with --config FILE (no racegate.toml is here)"
        )
    if target is None:
        raise UsageError(
            f"name a target: racegate load {scenario} --target reference:pg.counter_row; see: racegate list targets; or the "
            "description of your own service with --config FILE (no racegate.toml is here)"
        )


def refuse_contradictions(*, rate: str | None, paced: bool, ui: bool, find: bool, against: bool) -> None:
    """Make sure that the options go together; ``paced`` is with --ops or --think. Raises UsageError if they do not."""
    from harness.model import UsageError  # noqa: PLC0415 - as above

    if rate is not None and paced:
        raise UsageError("--rate is a schedule of its own: --ops and --think do not go with it")
    if rate is not None and (ui or find):
        raise UsageError("--rate does not go with --ui and --find-capacity, which decide themselves how much load there is")
    if ui and find:
        raise UsageError("--ui and --find-capacity contradict each other: who decides how many users there are?")
    if against and not find:
        raise UsageError("--against compares capacities; add --find-capacity")
