"""racegate check: a recorded history, ours or somebody else's, without the system that it came from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options


class Form(StrEnum):
    """Forms in which a history can be exported."""

    RACEGATE = "racegate"
    PARQUET = "parquet"
    JEPSEN_EDN = "jepsen-edn"
    JEPSEN_JSON = "jepsen-json"
    ETCD_LOG = "etcd-log"
    PORCUPINE_KV = "porcupine-kv"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("check")(check)


def check(
    history: Annotated[
        Path, typer.Argument(help="a run folder, one of our history files, Jepsen's EDN or JSON, an etcd log, or Parquet")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="numbers, register, kv, counter, approval or account; default: by the operations"),
    ] = None,
    policy: options.PolicyName = None,
    start: Annotated[
        int | None, typer.Option("--start", min=0, help="the first number of every scope; default: the lowest that was seen")
    ] = None,
    budget: options.Budget = None,
    megabytes: Annotated[int, typer.Option("--megabytes", min=1, help="the most memory that the search may fill")] = 1024,
    open_ends: Annotated[
        bool, typer.Option("--open-ends", help="what never completes is as it should be: its client or process died")
    ] = False,
    export: Annotated[Path | None, typer.Option("--export", metavar="FILE", help="also write the history here")] = None,
    to: Annotated[Form, typer.Option("--to", help="the form of --export, for a second opinion")] = Form.JEPSEN_EDN,
    json: options.Json = None,
) -> int:
    """Check a history alone: numbers exactly, anything else for an order in which it can have happened.

    Example: racegate check history.edn --model register
    """
    from harness.cli.output import say, this_command, write_json  # noqa: PLC0415 - heavy, and not needed for --help
    from harness.invariants.linearizability import Limits  # noqa: PLC0415
    from harness.model import UsageError  # noqa: PLC0415
    from harness.recording.formats import HistoryFormat, write_history  # noqa: PLC0415
    from harness.run.check_history import check_file  # noqa: PLC0415
    from harness.run.result import exit_status_of  # noqa: PLC0415

    limits = Limits(seconds=budget or Limits().seconds, megabytes=megabytes)
    if not history.exists():
        raise UsageError(f"{history} does not exist; expected a run folder or a file with a history")
    found = check_file(history, model=model, policy=policy, start=start, limits=limits, open_ends=open_ends)
    if export is not None:
        write_history(found.history, export, HistoryFormat(to.value))
        say(f"racegate: wrote {export} as {to.value}")
    if json is not None:
        write_json(found.result(history, this_command()).to_json(), json)
    if json != "-":
        counts = found.history.count()
        print(f"{found.verdict.value.upper():<8}{history} ({found.format.value}) against {found.how}")
        print(f"        {len(found.history)} operations: {counts['ok']} ok, {counts['fail']} failed, {counts['info']} unknown")
        for finding in found.findings:
            print(f"\n  {finding.invariant}  {finding.finding_class.value}\n    {finding.message}")
        if found.smallest:
            print("\n  the smallest part that is still wrong:")
            for line in found.smallest:
                print(f"    {line}")
    return exit_status_of([found.verdict])
