"""racegate doctor: what this machine can run, and what is missing."""

from __future__ import annotations

import typer

from harness.cli import options


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("doctor")(doctor)


def doctor(json: options.Json = None) -> int:
    """Say what this machine can run and what is missing. Exit status 3 when neither kind of store can be had."""
    from harness.cli.output import write_json  # noqa: PLC0415
    from harness.model import ExitStatus  # noqa: PLC0415
    from harness.stores.doctor import examine  # noqa: PLC0415

    checks = examine()
    if json is not None:
        write_json(
            [{"name": c.name, "ok": c.ok, "detail": c.detail, "remedy": c.remedy} for c in checks],
            json,
        )
    if json != "-":
        width = max(len(c.name) for c in checks)
        for check in checks:
            print(f"{'ok     ' if check.ok else 'missing'}  {check.name:<{width}}  {check.detail}")
            if not check.ok and check.remedy:
                print(f"{'':<{width + 11}}{check.remedy}")
    needed = [c for c in checks if c.needed]
    return int(ExitStatus.PASS if all(c.ok for c in needed) else ExitStatus.ENVIRONMENT)
