"""The command line, put together from the commands that are installed."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer

COMMANDS = (
    "run",
    "demo",
    "explore",
    "replay",
    "catalogue",
    "load",
    "check",
    "audit",
    "report",
    "compare",
    "prune",
    "gate",
    "init",
    "serve",
    "schema",
    "list",
    "doctor",
)


def build_app() -> typer.Typer:
    """Return the command line with every command that is installed."""
    app = typer.Typer(
        name="racegate",
        help=(
            "Fires concurrent operations at code that numbers documents and moves money, on a real database, "
            "and says whether the books are still right.\n\n"
            "Start with: racegate doctor, then racegate demo. Exit status: 0 pass, 1 fail, 2 wrong call, "
            "3 environment, 4 unknown."
        ),
        add_completion=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_everywhere)
    for name in COMMANDS:
        module = f"harness.cli.{name}_command"
        try:
            command = import_module(module)
        except ModuleNotFoundError as e:
            if e.name != module:
                raise
            continue
        command.register(app)
    return app


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"racegate {version('racegate')}")
        raise typer.Exit


def _everywhere(
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Tell the version and leave.")
    ] = False,
) -> None:
    pass
