"""racegate report: run folders, rendered again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("report")(report)


def report(
    folders: Annotated[list[Path], typer.Argument(help="run folders; several are reported together")],
    format: Annotated[
        str, typer.Option("--format", "-f", help="formats, separated by commas: terminal, html, junit, markdown, json")
    ] = "terminal",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="write files here; default: a single format to standard output"),
    ] = None,
) -> int:
    """Render run folders, from this machine or another. Several folders, or shards of one run, become one report."""
    from harness.cli.output import colours, say  # noqa: PLC0415
    from harness.model import EnvironmentProblem, UsageError, nearest  # noqa: PLC0415
    from harness.run.registry import reports  # noqa: PLC0415

    known = reports()
    names = [name.strip() for name in format.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"no report format is called {name!r}{nearest(name, known)}; there are: {', '.join(known)}")
    if len(names) != 1 and out is None:
        raise UsageError("several formats need a folder to be written to: --out DIR")
    for name in names:
        text = known[name].render(folders, colours=out is None and colours(sys.stdout))
        if out is None:
            print(text, end="")
            continue
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / known[name].filename).write_text(text, encoding="utf-8")
        except OSError as e:
            raise EnvironmentProblem(f"cannot write {out / known[name].filename}: {e.strerror}; choose another --out") from e
        say(f"wrote {out / known[name].filename}")
    return 0
