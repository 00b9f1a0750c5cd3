"""racegate replay: a schedule that was found, repeated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options

if TYPE_CHECKING:
    from harness.engines.explore.token import Schedule
    from harness.run.explored import Replay


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("replay")(replay)


def replay(
    schedule: Annotated[str, typer.Argument(help="a .schedule file of a run folder, or the token itself")],
    times: Annotated[int, typer.Option("--times", "-k", min=1, help="how often")] = 5,
    config: options.Config = None,
    postgres: options.Postgres = "embedded",
    mongo: options.Mongo = "embedded",
    disposable: options.Disposable = None,
    out: options.Out = Path("runs"),
    json: options.Json = None,
) -> int:
    """Repeat a schedule and say how often it breaks again: "5 of 5", or where the program took another way.

    A schedule of your own service is repeated with the configuration that its run was called with, unless you name another.

    Exit status 1 when it breaks, 0 when it does not any more, 4 when it diverged without breaking.
    """
    from harness.cli.output import say  # noqa: PLC0415 - heavy, and not needed for --help
    from harness.cli.running import open_stores  # noqa: PLC0415
    from harness.cli.service_running import is_service, replay_service  # noqa: PLC0415
    from harness.engines.explore.token import PREFIX, decode  # noqa: PLC0415
    from harness.model import UsageError  # noqa: PLC0415
    from harness.run.explored import replay as repeat  # noqa: PLC0415
    from harness.run.folder import RunFolder  # noqa: PLC0415
    from harness.run.recorded import is_run  # noqa: PLC0415

    url: str | None = None
    if not schedule.startswith(PREFIX):
        run = Path(schedule).parent.parent
        if is_run(run):
            told = RunFolder.open(run).read_json("run.json")
            url = told.get("url")
            if config is None and told.get("config"):
                config = Path(told["config"])
        try:
            schedule = Path(schedule).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise UsageError(f"{schedule} is neither a token nor a file that can be read: {e}") from e
    asked = decode(schedule)
    say(f"racegate: replaying {asked.scenario} on {asked.target}: {asked.lanes}")
    if is_service(asked.target, config):
        found = replay_service(config, asked, url=url, times=times, out=out)
        return _shown(found, asked, json)
    with open_stores(postgres=postgres, mongo=mongo, disposable=disposable, clients=asked.clients) as stores:
        found = repeat(asked, stores, times=times, out=out)
    return _shown(found, asked, json)


def _shown(found: Replay, asked: Schedule, json: str | None) -> int:
    from harness.cli.output import write_json  # noqa: PLC0415
    from harness.engines.explore.diagram import lanes  # noqa: PLC0415
    from harness.model import ExitStatus  # noqa: PLC0415
    from harness.run.result import finding_to_json  # noqa: PLC0415

    if json is not None:
        write_json(
            {
                "schema": "racegate.replay/1",
                "again": found.again,
                "times": found.times,
                "diverged": found.diverged,
                "findings": [finding_to_json(f) for f in found.findings],
            },
            json,
        )
    if json != "-":
        sentence = found.findings[0].message if found.findings else "nothing is wrong"
        print(lanes(found.rows, clients=asked.clients, sentence=sentence))
        print(f"\n{found.again} of {found.times} broke again" + (f"; {found.diverged}" if found.diverged else ""))
    if found.again:
        return int(ExitStatus.FAIL)
    return int(ExitStatus.UNKNOWN if found.diverged else ExitStatus.PASS)
