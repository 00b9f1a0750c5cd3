"""racegate gate: what a release must pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.config.gate import GateConfig
    from harness.run.gate import GateOutcome, GateRow
    from harness.run.own_service import OwnService

MARKS = {"pass": "PASS", "fail": "FAIL", "unknown": "UNKNOWN"}


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("gate")(gate)


def gate(
    config: Annotated[Path, typer.Option(help="the file with the section [gate]", metavar="FILE")] = Path("racegate.toml"),
    budget: options.Budget = None,
    seed: options.Seed = None,
    format: Annotated[
        str, typer.Option("--format", "-f", help="reports to write, separated by commas")
    ] = "html,junit,markdown,json",
    postgres: options.Postgres = "embedded",
    mongo: options.Mongo = "embedded",
    disposable: options.Disposable = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="where reports are written, and run folders made", metavar="DIR")
    ] = Path("gate"),
    json: options.Json = None,
) -> int:
    """Run what the configuration lists within its budget: explorations first, then stress until the time is up.

    Prints one screen, writes all reports to --out, and exits with 0 (everything passed), 1 (something failed) or 4 (something
    is unknown, nothing failed). The same commit and seed give the same explored verdicts. A failure of stress is handed to
    the explorer, which turns it into a schedule that repeats, if it can.

    Example: racegate gate --config racegate.toml --budget 2m
    """
    from dataclasses import replace  # noqa: PLC0415 - heavy, and not needed for --help

    from harness.cli.output import say, write_json  # noqa: PLC0415
    from harness.cli.report_command import formats_named, write_reports  # noqa: PLC0415
    from harness.cli.running import open_stores  # noqa: PLC0415
    from harness.config.gate import load_gate  # noqa: PLC0415
    from harness.run.gate import Gate  # noqa: PLC0415
    from harness.run.result import exit_status_of  # noqa: PLC0415

    wanted = formats_named(format)
    asked = load_gate(config)
    asked = replace(asked, budget=budget or asked.budget, seed=asked.seed if seed is None else seed)
    say(f"racegate: gate of {len(asked.checks)} checks from {config}, {asked.budget:g} s, seed {asked.seed}")
    clients = max(max(c.clients, c.explore_clients) for c in asked.checks)
    with open_stores(postgres=postgres, mongo=mongo, disposable=disposable, clients=clients) as stores:
        outcome = Gate(
            asked, stores, out=out / "runs", observe=lambda row: say(_line(row)), service=_service(asked, clients=clients)
        ).run()
    written = write_reports(outcome.folders, wanted, out)
    write_json(outcome.to_json(), str(out / "gate.json"))
    if json is not None:
        write_json(outcome.to_json(), json)
    if json != "-":
        print(screen(outcome))
        print(f"\nreports: {', '.join(str(path) for path in [*written, out / 'gate.json'])}")
    return exit_status_of([outcome.verdict])


def _service(asked: GateConfig, *, clients: int) -> Callable[[bool], OwnService] | None:
    """Return what opens the service that the configuration describes, if a check is fired at it."""
    if all(check.target for check in asked.checks):
        return None
    from harness.cli.output import say  # noqa: PLC0415
    from harness.cli.service_running import SPARE_CONNECTIONS  # noqa: PLC0415
    from harness.config.service import load_service  # noqa: PLC0415
    from harness.run.own_service import OwnService  # noqa: PLC0415

    described = load_service(asked.path)
    connections = 2 * clients + SPARE_CONNECTIONS
    return lambda wire: OwnService(described, url=None, wire=wire, connections=connections, say=say)


def _line(row: GateRow) -> str:
    return f"racegate: {row.engine} {row.check.scenario} on {row.result.target}: {row.verdict}, {row.note}"


def screen(outcome: GateOutcome) -> str:
    """Return what the gate prints: a line for each check and engine, what is wrong below it, and the verdict last."""
    lines = []
    rows = outcome.rows
    titles = [f"{row.check.scenario} on {row.result.target}" for row in rows]
    wide = max(len(title) for title in titles)
    for row, title in zip(rows, titles, strict=True):
        lines.append(f"{MARKS[row.verdict]:<8}{row.engine:<9}{title:<{wide}}  {row.seconds:6.1f} s  {row.note}")
        if (found := row.finding) is not None:
            lines.append(f"        {found.invariant}: {_printable(found.message)}")
            if found.schedule and row.folders:
                lines.append(f"        again: racegate replay {row.folders[-1]}/findings/1.schedule")
            elif row.result.command:
                lines.append(f"        again: {row.result.command}")
            if row.hunted:
                lines.append(f"        {row.hunted}")
    counts = {mark: sum(row.verdict == verdict for row in rows) for verdict, mark in MARKS.items()}
    told = ", ".join(f"{count} {mark.lower()}" for mark, count in counts.items() if count)
    lines += ["", f"{MARKS[outcome.verdict]}: {told}; {outcome.seconds:.1f} s, seed {outcome.config.seed}"]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Everything from the system under test is untrusted: control characters never reach the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
