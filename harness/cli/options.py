"""Options that mean the same in every command, and the values that they stand for."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.config.durations import parse_seconds


def seconds(text: str) -> float:
    """Return the seconds that ``30s``, ``500ms``, ``2m`` or ``1h`` mean."""
    try:
        return parse_seconds(text)
    except ValueError as e:
        raise typer.BadParameter(str(e)) from e


def some_seed(seed: int | None) -> int:
    """Return the seed, or a fresh one; it is always printed and recorded."""
    return secrets.randbelow(2**31) if seed is None else seed


Target = Annotated[
    str | None,
    typer.Option("--target", "-t", help="what to test: reference:VARIANT, or the URL of a service (with --config)"),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="the description of your own service; default: racegate.toml, for a --target that is a URL", metavar="FILE"
    ),
]
Postgres = Annotated[
    str, typer.Option(help="the PostgreSQL server: embedded, container[:IMAGE], or a URL (with --disposable)", metavar="STORE")
]
Mongo = Annotated[
    str, typer.Option(help="the MongoDB server: embedded, container[:IMAGE], or a URL (with --disposable)", metavar="STORE")
]
Disposable = Annotated[
    str | None,
    typer.Option(help="the name of the database in the URL, repeated: yes, it may be written to and wiped", metavar="NAME"),
]
Clients = Annotated[int, typer.Option("--clients", "-c", min=1, max=10_000, help="concurrent clients")]
Processes = Annotated[
    int | None, typer.Option("--processes", min=1, max=1_000, help="client processes; default: up to 4, or twice the cores")
]
Ops = Annotated[int | None, typer.Option("--ops", "-n", min=1, help="operations in all, over all clients")]
Duration = Annotated[
    Any, typer.Option("--duration", "-d", parser=seconds, metavar="TIME", help="how long to go on: 30s, 2m; instead of --ops")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="makes the clients' choices repeatable; drawn if not given")]
Budget = Annotated[
    Any, typer.Option("--budget", parser=seconds, metavar="TIME", help="the longest it may take; what is stuck then is ended")
]
PolicyName = Annotated[
    str | None,
    typer.Option("--policy", metavar="NAME|FILE", help="what the numbers must obey; default: the scenario's own"),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="NAME=VALUE", help="a setting of scenario or target, for example isolation=serializable"),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="where run folders are made", metavar="DIR")]
Json = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE|-", help="write the machine-readable result to a file, or - for standard output"),
]
ShardText = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="I/N", help="do only this share of the work, 2/4 for the second of four; see: racegate report"
    ),
]
