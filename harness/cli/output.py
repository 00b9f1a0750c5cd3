"""Where things are printed: results to standard output, prose and progress to standard error."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.engines.stress import Progress
from harness.model.errors import EnvironmentProblem
from harness.stores.redaction import redact

LINE_EVERY = 5.0
"""Seconds between two progress lines where there is no terminal."""


def say(text: str) -> None:
    """Print prose to standard error."""
    print(redact(text), file=sys.stderr, flush=True)


def colours(stream: Any) -> bool:
    """Tell whether to use colours: on a terminal, unless NO_COLOR is set."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def write_json(document: Any, where: str) -> None:
    """Write the result to a file, or to standard output for ``-``. Raises EnvironmentProblem if it cannot be written."""
    import orjson  # noqa: PLC0415

    content = orjson.dumps(document, option=orjson.OPT_INDENT_2, default=str) + b"\n"
    if where == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    try:
        Path(where).write_bytes(content)
    except OSError as e:
        raise EnvironmentProblem(f"cannot write --json {where}: {e.strerror}") from e


def this_command(seed: int | None = None) -> str:
    """Return the command that repeats this call, with the seed that was drawn and without secrets."""
    words = ["racegate", *sys.argv[1:]]
    if seed is not None and not any(w == "--seed" or w.startswith("--seed=") for w in words):
        words += ["--seed", str(seed)]
    return redact(shlex.join(words))


class ProgressDisplay:
    """A progress bar on a terminal, a plain line now and then elsewhere. Use it as a context manager."""

    def __init__(self, *, title: str, ops: int | None, duration: float | None) -> None:
        self._title = title
        self._ops = ops
        self._duration = duration
        self._next_line = time.monotonic() + LINE_EVERY
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console  # noqa: PLC0415
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
            from rich.progress import Progress as Bar  # noqa: PLC0415

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[counts]}"),
                TimeElapsedColumn(),
                console=Console(stderr=True, no_color=not colours(sys.stderr)),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._ops or self._duration, counts="starting")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show how far the run has come."""
        counts = f"{progress.ok} ok, {progress.fail} fail, {progress.info} info"
        if self._bar is not None:
            done = progress.invoked if self._ops else progress.seconds
            self._bar.update(self._task, completed=done, counts=counts)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY
            say(f"{self._title}: {progress.seconds:.0f} s, {counts}")
