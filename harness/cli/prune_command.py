"""racegate prune: old run folders, out of the way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import options


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("prune")(prune)


def prune(
    out: Annotated[Path, typer.Argument(help="the folder in which run folders were made")] = Path("runs"),
    older: Annotated[
        Any,
        typer.Option("--older", parser=options.seconds, metavar="TIME", help="only runs older than this (12h); default: a week"),
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=0, help="so many of the newest stay in any case")] = 20,
    failing: Annotated[bool, typer.Option("--failing", help="also runs that failed, are unknown or were never finished")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="remove them; without it they are only named")] = False,
) -> int:
    """Remove old run folders that passed. Says what it would remove; --yes does it.

    Example: racegate prune runs --older 24h --keep 5
    """
    from harness.cli.output import say  # noqa: PLC0415 - heavy, and not needed for --help
    from harness.model import UsageError  # noqa: PLC0415
    from harness.run.pruning import remove, to_remove  # noqa: PLC0415

    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name the folder in which run folders were made")
    chosen = to_remove(out, older=7 * 86_400 if older is None else older, keep=keep, failing=failing)
    for old in chosen:
        print(f"{old.path}  {old.verdict}, {old.age / 3600:.1f} h old, {old.size / 1e6:.1f} MB")
    total = f"{len(chosen)} run folders, {sum(o.size for o in chosen) / 1e6:.1f} MB"
    if yes:
        remove(chosen)
        say(f"racegate: removed {total}")
    else:
        say(f"racegate: {total} would go" + ("; --yes removes them" if chosen else ""))
    return 0
