"""racegate demo: the case files, each as it was, as it was fixed, and as it is right."""

from __future__ import annotations

from pathlib import Path

import typer

from harness.cli import options


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("demo")(demo)


def demo(
    seed: options.Seed = None,
    postgres: options.Postgres = "embedded",
    mongo: options.Mongo = "embedded",
    disposable: options.Disposable = None,
    out: options.Out = Path("runs"),
    json: options.Json = None,
) -> int:
    """Run the case files on real databases: the original code, the fix that was published, and the true fix.

    Each comes from a real system whose authors fixed a race, tested it with ten parallel promises, and shipped a fix that
    is still racy. Exit status 1 if anything differs from what is expected.
    """
    from harness.cli.cases_table import print_demo, to_json  # noqa: PLC0415
    from harness.cli.output import say, write_json  # noqa: PLC0415
    from harness.cli.running import open_stores  # noqa: PLC0415
    from harness.model import ExitStatus, UsageError  # noqa: PLC0415
    from harness.run.cases import run_cases  # noqa: PLC0415
    from harness.run.registry import entries  # noqa: PLC0415

    files = [file for members in entries("racegate.demos").values() for file in members]
    if not files:
        raise UsageError("no package registers a demonstration (entry point group racegate.demos)")
    first = options.some_seed(seed)
    stages = [stage for file in files for stage in file.stages]
    say(f"racegate: {len(files)} case files, {len(stages)} runs on real databases, seed {first}")
    with open_stores(postgres=postgres, mongo=mongo, disposable=disposable, clients=2 * max(s.clients for s in stages)) as stores:
        results = []
        for result in run_cases([(stage, first) for stage in stages], stores, out=out, jobs=2):
            results.append(result)
            say(f"[{len(results)}/{len(stages)}] {result.case.id}: {result.result.verdict}")
    if json is not None:
        write_json(to_json(results), json)
    if json != "-":
        print_demo(files, results, out)
    return int(ExitStatus.PASS if all(r.met for r in results) else ExitStatus.FAIL)
