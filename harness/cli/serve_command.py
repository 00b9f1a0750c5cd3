"""racegate serve: a service over HTTP, to be tested from outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("serve")(serve)


def serve(
    name: Annotated[str | None, typer.Argument(help="what is served: pg.counter_row; see: racegate list targets")] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="RACEGATE_PORT", help="port on 127.0.0.1; 0 takes any free one")
    ] = 8000,
    connections: Annotated[int, typer.Option(min=1, max=1000, help="operations at a time, each with its connection")] = 16,
    sets: options.Sets = None,
    postgres: options.Postgres = "embedded",
    mongo: options.Mongo = "embedded",
    disposable: options.Disposable = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL|env:NAME", help="work in this database, empty or the variant's own, as behind racegate's proxy"
        ),
    ] = None,
    url_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write the database's URL, password and all, to a file of your own")
    ] = None,
) -> int:
    """Serve a variant over HTTP until Ctrl-C: each operation is a POST, described by /openapi.json.

    A store of our own begins empty and goes away with the service. At a URL the service works in the database that the
    URL names: tables are made if there are none, and stay. env:NAME takes the URL from an environment variable, where
    other users of the machine cannot read its password.

    Example: racegate serve pg.counter_row --port 8000
    """
    from harness.cli.output import say  # noqa: PLC0415
    from harness.cli.running import restore_interrupts  # noqa: PLC0415 - heavy, and not needed for --help
    from harness.model import EnvironmentProblem, UsageError  # noqa: PLC0415
    from harness.run.knobs import divide, parse_assignments  # noqa: PLC0415
    from harness.run.services import service_named  # noqa: PLC0415
    from harness.run.serving import listen  # noqa: PLC0415
    from harness.run.serving import serve as run_server  # noqa: PLC0415

    if name is None:
        raise UsageError("name what to serve, for example: racegate serve pg.counter_row; see: racegate list targets")
    provider, variant = service_named(name)
    (settings,) = divide(parse_assignments(sets or []), provider.settings(variant))
    kind = provider.store(variant)
    restore_interrupts()
    if database_url and (disposable or {"postgres": postgres, "mongo": mongo}[kind] != "embedded"):
        raise UsageError(f"--database-url and --{kind} or --disposable contradict each other; give one of them")
    spec = _from_environment(database_url or {"postgres": postgres, "mongo": mongo}[kind])
    disposable = _own_name(spec) if database_url else disposable
    line = listen(port)
    with line, _database(kind, spec, disposable, connections) as (url, shown):
        try:
            done = provider.prepare(variant, settings, url)
        except ValueError as e:
            raise EnvironmentProblem(f"{e}; use an empty database") from e
        except ConnectionError as e:
            raise EnvironmentProblem(f"the database {shown} cannot be used: {e}; start it, or give another URL") from e
        say(f"racegate: {variant} on {shown}; {done}")
        _keep_url(url, url_file)

        def ready(address: str) -> None:
            print(address, flush=True)
            say(f"racegate: {provider.describe(variant)} Operations: {address}/openapi.json. Stop with Ctrl-C.")

        run_server(provider.application(variant, settings, url, connections), line, ready)
    say("racegate: stopped; nothing is left running")
    return 0


def _from_environment(spec: str) -> str:
    from harness.model import UsageError  # noqa: PLC0415

    if not spec.startswith("env:"):
        return spec
    try:
        return os.environ[spec.removeprefix("env:")]
    except KeyError:
        raise UsageError(f"{spec}: the environment variable {spec.removeprefix('env:')} is not set") from None


def _own_name(url: str) -> str:
    """Return the name of a URL's database: a service wipes nothing, so being given its database is enough."""
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415

    return unquote(urlsplit(url).path.lstrip("/"))


@contextmanager
def _database(kind: str, spec: str, disposable: str | None, connections: int) -> Iterator[tuple[str, str]]:
    """Yield the URL of the database and how to show it."""
    from harness.model import UsageError  # noqa: PLC0415
    from harness.stores import StoreKind, StoreOptions, open_store, redact  # noqa: PLC0415
    from harness.stores.url import check_disposable  # noqa: PLC0415

    if "://" in spec:
        check_disposable(StoreKind(kind), spec, disposable)
        yield spec, redact(spec)
        return
    if disposable is not None:
        raise UsageError("--disposable marks the database of a URL; give --postgres URL or --mongo URL with it")
    store = open_store(StoreKind(kind), spec, StoreOptions(connections=2 * connections + 40))
    try:
        database = store.create_database()
        yield database.url, f"{store.description}, {database.shown}"
    finally:
        store.close()


def _keep_url(url: str, path: Path | None) -> None:
    from harness.model import EnvironmentProblem  # noqa: PLC0415

    if path is None:
        return
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(url + "\n")
    except OSError as e:
        raise EnvironmentProblem(f"cannot write --url-file {path}: {e.strerror}") from e
