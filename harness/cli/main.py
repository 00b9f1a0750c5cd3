"""The way in and the way out of the command line.

Every error becomes one line on standard error and an exit status of `ExitStatus`; a traceback never reaches the user.

This module imports next to nothing: whoever interrupts a call while the rest is imported is answered as at any other time. Before
its first line Python itself starts, and what an interrupt does there is Python's.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

INTERRUPTED = 4
"""An interrupted run proved nothing: the exit status of an unknown verdict."""

TYPERS_INTERRUPTED = 130
"""What typer makes of a KeyboardInterrupt."""

WRONG_CALL = 2

BUG = 3


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    try:
        return _called(argv)
    except KeyboardInterrupt:
        return _interrupted()


def _called(argv: Sequence[str]) -> int:  # noqa: PLR0911 - one return for each way out
    import typer  # noqa: PLC0415 - here an interrupt has an answer
    from typer.exceptions import TyperException  # noqa: PLC0415

    from harness.cli.app import build_app  # noqa: PLC0415
    from harness.model.errors import RacegateError  # noqa: PLC0415

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
    except typer.Abort:
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
    print("racegate: interrupted: nothing is proved; servers that were started are stopped", file=sys.stderr)
    return INTERRUPTED


def entry() -> None:
    """Entry point of the console script. SIGTERM, which a cancelled pipeline sends, ends a call in good order as Ctrl-C does."""
    try:
        signal.signal(signal.SIGTERM, _terminated)
        status = main(sys.argv[1:])
    except KeyboardInterrupt:  # once more, while the first was answered
        status = INTERRUPTED
    sys.exit(status)


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
    import tempfile  # noqa: PLC0415
    import traceback  # noqa: PLC0415

    from harness.stores.redaction import redact  # noqa: PLC0415

    descriptor, path = tempfile.mkstemp(prefix="racegate-bug-", suffix=".txt")
    with os.fdopen(descriptor, "w") as file:
        file.write(redact(traceback.format_exc()))
    return Path(path)
