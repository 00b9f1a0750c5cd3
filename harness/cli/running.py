"""What the commands that run something have in common."""

from __future__ import annotations

import signal
import sys
from typing import Any

from harness.cli.output import ProgressDisplay, colours, say, write_json
from harness.engines.stress import Progress
from harness.model import StoreNeeds, UsageError
from harness.run.execute import execute
from harness.run.explored import explore
from harness.run.registry import reports
from harness.run.result import RunResult, exit_status_of
from harness.run.run_request import RunRequest
from harness.run.stores import Stores
from harness.stores import StoreOptions
from harness.stores.base import StoreKind

SPARE_CONNECTIONS = 20
"""Connections beyond the clients' own: control, books, and the target's second connections."""

ANY = StoreNeeds()


def open_stores(*, postgres: str, mongo: str, disposable: str | None, clients: int, needs: StoreNeeds = ANY) -> Stores:
    """Return the stores that a run may use, none of them started yet; those that racegate starts are as ``needs`` says.

    Raises:
        UsageError: ``--disposable`` was given without a URL that it could belong to.
    """
    urls = [spec for spec in (postgres, mongo) if "://" in spec]
    if disposable is not None and not urls:
        raise UsageError("--disposable marks the database of a URL; give --postgres URL or --mongo URL with it")
    restore_interrupts()
    connections = 2 * clients + SPARE_CONNECTIONS
    options = StoreOptions(connections=connections, disposable=disposable, nodes=needs.nodes, fsync=needs.fsync)
    return Stores(
        {StoreKind.POSTGRES: postgres, StoreKind.MONGO: mongo},
        options,
    )


def restore_interrupts() -> None:
    """Make Ctrl-C interrupt system calls again.

    Polars installs a handler on import that restarts them (measured with Polars 2.1: a main thread blocked in ``read`` or on a
    lock never sees the KeyboardInterrupt).
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def run_and_show(request: RunRequest, stores: Stores, *, json: str | None) -> int:
    """Run, show the result, and return the exit status."""
    result = run_with_progress(request, stores)
    show(result, json=json)
    return exit_status_of([result.verdict])


def run_with_progress(request: RunRequest, stores: Stores) -> RunResult:
    """Run with a progress display on standard error."""
    title = f"{request.scenario.name} on {request.target.name}"
    say(f"racegate: {title}: {request.clients} clients in {request.processes} processes, seed {request.seed}")
    with ProgressDisplay(title=title, ops=request.ops, duration=request.duration) as display:
        return execute(request, stores, display)


def show(result: RunResult, *, json: str | None, quiet: bool = False) -> None:
    """Write the result where it was asked for: text on standard output, unless the JSON result goes there (``quiet``: later)."""
    if json is not None:
        write_json(result.to_json(), json)
    if json != "-" and not quiet and result.folder is not None:
        text = reports()["terminal"].render([result.folder], colours=colours(sys.stdout))
        print(text, end="")


def explore_and_show(request: RunRequest, stores: Stores, *, json: str | None, **how: Any) -> int:
    """Explore, show the result, and return the exit status. ``how`` is passed on to `harness.run.explored.explore`."""
    say(f"racegate: exploring {request.scenario.name} on {request.target.name}: {request.clients} clients, seed {request.seed}")
    with ProgressDisplay(title="schedules", ops=None, duration=request.budget) as display:

        def observe(explored: int, seconds: float) -> None:
            display(Progress(invoked=explored, ok=explored, fail=0, info=0, seconds=seconds))

        result = explore(request, stores, observe, **how)
    show(result, json=json)
    return exit_status_of([result.verdict])
