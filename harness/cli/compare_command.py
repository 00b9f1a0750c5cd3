"""racegate compare: what got worse between two sets of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("compare")(compare)


def compare(
    old: Annotated[Path, typer.Argument(help="a run folder, a folder of run folders, or a file that --json wrote")],
    new: Annotated[Path, typer.Argument(help="the same, of what is held against it")],
    tolerance: Annotated[
        float, typer.Option(min=0, max=10, help="change of a figure that is of no interest: 0.1 is a tenth")
    ] = 0.1,
    spread: Annotated[
        float, typer.Option(min=0, max=10, help="how much runs differ by themselves, as far as they do not show it: 0.15 is 15 %")
    ] = 0.15,
    json: options.Json = None,
) -> int:
    """Say what got worse from OLD to NEW: verdicts, findings, gaps, throughput, latency.

    A figure got worse when it changed by more than the tolerance and its 99 % interval, made of the recorded data, says so
    too. Several runs of the same thing on each side make it sharper. Exit status 1 when anything got worse, else 0.

    Example: racegate compare runs/before runs/after
    """
    from harness.cli.output import write_json  # noqa: PLC0415 - heavy, and not needed for --help
    from harness.model import ExitStatus  # noqa: PLC0415
    from harness.run.compare import by_run  # noqa: PLC0415
    from harness.run.compare import compare as compared  # noqa: PLC0415
    from harness.run.recorded import recorded_at  # noqa: PLC0415

    found = compared(recorded_at(old), recorded_at(new), tolerance=tolerance, spread=spread)
    if json is not None:
        write_json(found.to_json(), json)
    if json != "-":
        for run, changes in by_run(found.changes).items():
            print(run)
            wide = max(len(c.what) for c in changes)
            for change in changes:
                print(f"  {change.direction.value:<10}  {change.what:<{wide}}  {change.message}")
            print()
        same = "nothing got worse" if not found.worse else f"{len(found.worse)} got worse"
        print(f"{same}: {found.old} runs before, {found.new} now")
    return int(ExitStatus.FAIL if found.worse else ExitStatus.PASS)
