"""racegate report: run folders, rendered again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("report")(report)


def report(
    folders: Annotated[list[Path], typer.Argument(help="run folders, or folders that hold them; all are reported together")],
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
    from harness.model import UsageError  # noqa: PLC0415
    from harness.run.recorded import run_folders  # noqa: PLC0415
    from harness.run.registry import reports  # noqa: PLC0415

    names = formats_named(format)
    found = [run for folder in folders for run in run_folders(folder) or [folder]]
    folders = [path for path in found if path.is_file() or (path / "result.json").is_file()] or found
    for path in sorted({*found} - {*folders}):
        say(f"{path} is left out: it holds no finished run")
    if out is None:
        if len(names) != 1:
            raise UsageError("several formats need a folder to be written to: --out DIR")
        print(reports()[names[0]].render(folders, colours=colours(sys.stdout)), end="")
        return 0
    for path in write_reports(folders, names, out):
        say(f"wrote {path}")
    return 0


def formats_named(text: str) -> list[str]:
    """Return the formats that ``html,junit`` names. Raises UsageError with the nearest name for one that does not exist."""
    from harness.model import UsageError, nearest  # noqa: PLC0415
    from harness.run.registry import reports  # noqa: PLC0415

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in reports():
            raise UsageError(f"no report format is called {name!r}{nearest(name, reports())}; there are: {', '.join(reports())}")
    if not names:
        raise UsageError(f"--format names no format; there are: {', '.join(reports())}")
    return names


def write_reports(folders: Sequence[Path], names: Sequence[str], out: Path) -> list[Path]:
    """Write a report of each format to a folder and return the files. Raises EnvironmentProblem if that is not possible."""
    from harness.model import EnvironmentProblem  # noqa: PLC0415
    from harness.run.registry import reports  # noqa: PLC0415

    written = []
    for name in names:
        path = out / reports()[name].filename
        text = reports()[name].render(folders, colours=False)
        try:
            out.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as e:
            raise EnvironmentProblem(f"cannot write {path}: {e.strerror}; choose another --out") from e
        written.append(path)
    return written
