"""racegate catalogue: every case, expected against observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli import options

if TYPE_CHECKING:
    from harness.run.cases import Case


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("catalogue")(catalogue)


def catalogue(
    area: Annotated[
        list[str] | None, typer.Option(help="only these areas: numbering, payments, orders, sales, audit, durability")
    ] = None,
    store: Annotated[list[str] | None, typer.Option(help="only these stores: postgres, mongo")] = None,
    id: Annotated[list[str] | None, typer.Option("--id", help="only cases whose id starts so: N01, P06")] = None,
    engine: Annotated[list[str] | None, typer.Option(help="only these engines: stress, explore")] = None,
    expect: Annotated[
        Literal["pass", "fail"] | None, typer.Option(help="only cases that must be quiet (pass), or that must be found (fail)")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="run every case with this many seeds")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="cases at a time")] = 2,
    seed: options.Seed = None,
    shard: options.ShardText = None,
    postgres: options.Postgres = "embedded",
    mongo: options.Mongo = "embedded",
    disposable: options.Disposable = None,
    out: options.Out = Path("runs"),
    json: options.Json = None,
) -> int:
    """Run the cases of the catalogue and hold what is observed against what is expected.

    It proves that the harness finds what is there and is quiet where nothing is. Exit status 1 on any difference.
    With several seeds only the folders of runs that differ are kept.
    """
    from shutil import rmtree  # noqa: PLC0415

    from harness.cli.cases_table import print_matrix, to_json  # noqa: PLC0415
    from harness.cli.output import say, write_json  # noqa: PLC0415
    from harness.cli.running import open_stores  # noqa: PLC0415
    from harness.model import ExitStatus, UsageError  # noqa: PLC0415
    from harness.run.cases import cases, run_cases  # noqa: PLC0415
    from harness.run.shards import parse_shard  # noqa: PLC0415

    known = cases()
    wanted = {"id": id, "area": area, "store": store, "engine": engine, "expect": [expect] if expect else None}
    chosen = _chosen(known, {part: values for part, values in wanted.items() if values})
    share = parse_shard(shard)
    if share.of > 1 and seed is None:
        raise UsageError("--shard needs --seed: the shards of one run share it")
    first = options.some_seed(seed)
    every = [(case, first + n) for case in chosen for n in range(seeds)]
    pairs = share.share(every)
    if not pairs:
        raise UsageError(f"--shard {share}: there are only {len(every)} runs to share; use fewer shards")
    say(f"racegate: {len(chosen)} cases, {seeds} seeds each from {first}, shard {share}: {len(pairs)} runs, {jobs} at a time")
    with open_stores(
        postgres=postgres, mongo=mongo, disposable=disposable, clients=max(c.clients for c in chosen) * jobs
    ) as stores:
        results = []
        for n, result in enumerate(run_cases(pairs, stores, out=out, jobs=jobs), start=1):
            results.append(result)
            folder = result.result.folder
            if seeds > 1 and result.met and folder is not None:
                rmtree(folder, ignore_errors=True)
            say(f"[{n}/{len(pairs)}] {result.case.id}: {result.result.verdict} {'as expected' if result.met else 'DIFFERS'}")
    if json is not None:
        write_json(to_json(results), json)
    if json != "-":
        print_matrix(results)
    return int(ExitStatus.PASS if all(r.met for r in results) else ExitStatus.FAIL)


def _chosen(known: Sequence[Case], wanted: Mapping[str, Sequence[str]]) -> list[Case]:
    """Return the cases that every choice leaves. Raises UsageError that names the choice that leaves none."""
    from harness.model import UsageError  # noqa: PLC0415

    def left(cases: Sequence[Case], part: str) -> list[Case]:
        if part == "id":
            return [case for case in cases if case.id.startswith(tuple(wanted[part]))]
        return [case for case in cases if getattr(case, part) in wanted[part]]

    def told(part: str) -> str:
        return " ".join(f"--{part} {value}" for value in wanted[part])

    def there(cases: Sequence[Case], part: str) -> str:
        return ", ".join(sorted({getattr(case, part) for case in cases})) or "nothing"

    for part in wanted:
        if not left(known, part):
            hint = f"; the areas are: {there(known, 'area')}" if part == "id" else f"; there is: {there(known, part)}"
            raise UsageError(f"no case matches {told(part)}{hint}; see: racegate list cases")
    chosen, before = list(known), ""
    for part in wanted:
        fewer = left(chosen, part)
        if not fewer:
            counted = f"{len(chosen)} cases match" if len(chosen) != 1 else "1 case matches"
            raise UsageError(
                f"{counted} {before}, but not {told(part)}: there is {there(chosen, part)}; see: racegate list cases"
            )
        chosen, before = fewer, f"{before} {told(part)}".strip()
    return chosen
