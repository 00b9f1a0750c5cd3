"""The way in and the way out of the command line.

Every error becomes one line on standard error and an exit status of `ExitStatus`; a traceback never reaches the user.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from typer.exceptions import TyperException

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

INTERRUPTED = 4
"""An interrupted run proved nothing: the exit status of an unknown verdict."""

TYPERS_INTERRUPTED = 130
"""What typer makes of a KeyboardInterrupt."""

WRONG_CALL = 2

BUG = 3


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


def main(argv: Sequence[str]) -> int:  # noqa: PLR0911 - one return for each way out
    """Run one command and return its exit status."""
    from harness.model.errors import RacegateError  # noqa: PLC0415 - after --help has been answered

    try:
        status = build_app()(args=list(argv) or ["--help"], prog_name="racegate", standalone_mode=False)
        if not argv:
            return WRONG_CALL
        return _interrupted() if status == TYPERS_INTERRUPTED else int(status or 0)
    except TyperException as e:
        wrong = _one_line(e.format_message()).removesuffix(".")
        called = getattr(getattr(e, "ctx", None), "command_path", "racegate")
        return _say(f"{wrong}; see: {called} --help", e.exit_code)
    except typer.Exit as e:
        return e.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RacegateError as e:
        return _say(_one_line(str(e)), int(e.exit_status))
    except Exception as e:  # noqa: BLE001 - the last resort
        kept = _keep_traceback()
        return _say(
            f"internal error ({type(e).__name__}: {_one_line(str(e))}). This is likely a bug in racegate; "
            f"please report it with the file {kept}",
            BUG,
        )


def _interrupted() -> int:
    return _say("interrupted: nothing is proved; servers that were started are stopped", INTERRUPTED)


def entry() -> None:
    """Entry point of the console script. SIGTERM, which a cancelled pipeline sends, ends a call in good order as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(main(sys.argv[1:]))


def _terminated(number: int, frame: FrameType | None) -> None:
    interrupted = signal.getsignal(signal.SIGINT)
    if not callable(interrupted):  # a shell's background jobs ignore Ctrl-C
        raise KeyboardInterrupt
    interrupted(number, frame)


def _say(message: str, status: int) -> int:
    from harness.stores.redaction import redact  # noqa: PLC0415

    print(f"racegate: {redact(message)}", file=sys.stderr)
    return status


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _keep_traceback() -> Path:
    from harness.stores.redaction import redact  # noqa: PLC0415

    descriptor, path = tempfile.mkstemp(prefix="racegate-bug-", suffix=".txt")
    with os.fdopen(descriptor, "w") as file:
        file.write(redact(traceback.format_exc()))
    return Path(path)
