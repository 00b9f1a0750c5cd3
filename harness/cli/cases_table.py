"""The tables of `racegate catalogue` and `racegate demo`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from shlex import quote
from typing import Any

from harness.cli.output import colours
from harness.run.cases import CaseResult, command_of

WIDTH_WITHOUT_TERMINAL = 200
UNLIMITED = 10_000
"""For a table whose cells must not be cut: the lines of a file may be as long as they are."""

STYLES = {"pass": "green", "fail": "red", "unknown": "yellow"}


def print_matrix(results: Sequence[CaseResult]) -> None:
    """Print expected against observed, one row a case; several seeds of a case share a row."""
    from rich.table import Table  # noqa: PLC0415 - only where a table is printed

    table = Table(show_edge=False, pad_edge=False, box=None)
    for heading in ("case", "target", "scenario", "expected", "observed", "spoke", "operations", "seconds", ""):
        table.add_column(heading, overflow="fold")
    for _, group in groupby(results, key=lambda r: r.case.id):
        runs = list(group)
        case = runs[0].case
        observed = sorted({r.result.verdict.value for r in runs})
        met = sum(r.met for r in runs)
        share = "" if len(runs) == 1 else f" {met}/{len(runs)}"
        table.add_row(
            case.id,
            case.variant,
            case.scenario,
            case.expect,
            ", ".join(observed),
            ", ".join(sorted({i for r in runs for i in r.spoke})),
            str(sum(sum(r.result.operations.values()) for r in runs)),
            f"{sum(r.seconds for r in runs):.1f}",
            ("as expected" if met == len(runs) else "DIFFERS") + share,
            style=None if met == len(runs) else "bold red",
        )
    _print(table, width=UNLIMITED)
    differing = sorted({r.case.id for r in results if not r.met})
    print(
        f"\n{len(results)} runs, {sum(r.met for r in results)} as expected"
        + (f"; differs: {', '.join(differing)}" if differing else "")
    )


def _print(table: Any, *, width: int = WIDTH_WITHOUT_TERMINAL) -> None:
    """Print a table without the spaces that would fill its lines."""
    screen = console(width)
    with screen.capture() as captured:
        screen.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def console(width: int = WIDTH_WITHOUT_TERMINAL) -> Any:
    """Return a console on standard output: without colours, and this wide, where it is not a terminal."""
    from rich.console import Console  # noqa: PLC0415

    wide = None if sys.stdout.isatty() else width
    return Console(no_color=not colours(sys.stdout), width=wide, highlight=False, markup=False, emoji=False)


def to_json(results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return the matrix as plain JSON values."""
    return {
        "schema": "racegate.catalogue/1",
        "verdict": "pass" if all(r.met for r in results) else "fail",
        "cases": [
            {
                "id": r.case.id,
                "area": r.case.area,
                "target": r.case.variant,
                "scenario": r.case.scenario,
                "settings": dict(r.case.settings),
                "engine": r.case.engine,
                "seed": r.seed,
                "expected": r.case.expect,
                "observed": r.result.verdict.value,
                "spoke": r.spoke,
                "met": r.met,
                "first": r.first_sentence,
                "operations": dict(r.result.operations),
                "seconds": round(r.seconds, 3),
                "folder": str(r.result.folder) if r.result.folder and r.result.folder.exists() else None,
            }
            for r in results
        ],
    }


def print_demo(files: Sequence[Any], results: Sequence[CaseResult], out: Path) -> None:
    """Print a block for each case file: a row a stage, with what went wrong first. ``out`` is where the runs are kept."""
    from rich.table import Table  # noqa: PLC0415

    by_id = {r.case.id: r for r in results}
    screen = console()
    for file in files:
        print()
        screen.print(file.title, style="bold")
        table = Table(show_edge=False, pad_edge=False, show_header=False, box=None)
        table.add_column(width=14)
        table.add_column(width=9)
        table.add_column(overflow="fold")
        for stage in file.stages:
            found = by_id[stage.id]
            verdict = found.result.verdict.value
            text = f"{stage.note}\n{found.first_sentence}".strip()
            if not found.met:
                text += f"\nDIFFERS: expected {stage.expect}, kept in {found.result.folder}"
            table.add_row(stage.stage, verdict.upper(), text, style=None)
            table.add_row("", "", command_of(stage, found.seed), style="dim")
        _print(table)
    met = sum(r.met for r in results)
    print(f"\n{met} of {len(results)} as expected. Each run is kept in a folder below {out}{_again(results[:1], out)}.")


def _again(results: Sequence[CaseResult], out: Path) -> str:
    """Say how the runs are shown again, with one of them as an example."""
    folders = [quote(str(r.result.folder)) for r in results if r.result.folder]
    return "".join(f"; racegate report {folder} shows one again, racegate report {quote(str(out))} all" for folder in folders)
