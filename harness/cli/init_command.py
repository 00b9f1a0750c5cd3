"""racegate init: a first racegate.toml, proposed from what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("init")(init)


def init(
    postgres: Annotated[
        str | None, typer.Option(help="URL of the PostgreSQL database; ${NAME} is taken from the environment")
    ] = None,
    mongo: Annotated[str | None, typer.Option(help="URL of the MongoDB database; ${NAME} is taken from the environment")] = None,
    openapi: Annotated[Path | None, typer.Option(help="the service's OpenAPI document, JSON or YAML", metavar="FILE")] = None,
    out: Annotated[
        str, typer.Option("--out", "-o", help="where to write it, or - for standard output", metavar="FILE|-")
    ] = "racegate.toml",
    force: Annotated[bool, typer.Option("--force", help="replace a file that is there")] = False,
) -> int:
    """Propose a commented racegate.toml, and say what could not be guessed.

    The database is only read: names and types of its tables, and some printed numbers for their format.

    Example: racegate init --postgres '${DATABASE_URL}' --openapi openapi.json
    """
    from harness.cli.output import say  # noqa: PLC0415 - heavy, and not needed for --help
    from harness.config.service import parse_service  # noqa: PLC0415
    from harness.model import EnvironmentProblem, UsageError  # noqa: PLC0415
    from harness.run.openapi import read_openapi  # noqa: PLC0415
    from harness.run.proposal import propose  # noqa: PLC0415

    path = Path(out)
    if out != "-" and path.exists() and not force:
        raise UsageError(f"{out} exists already; name another --out, or replace it with --force")
    operations, url = read_openapi(openapi) if openapi is not None else ([], None)
    if postgres and mongo:
        raise UsageError("--postgres and --mongo contradict each other: the books are read from one database")
    with _Seen(postgres, mongo) as seen:
        proposal = propose(seen.tables, seen.some, operations, url=url, mongo=mongo is not None)
        text = "\n".join(proposal.lines) + "\n"
        config = parse_service(text, path)  # what is proposed can be read, or this is a bug
        refused = seen.refused(config)
    if out == "-":
        print(text, end="")
    else:
        try:
            path.write_text(text)
        except OSError as e:
            raise EnvironmentProblem(f"cannot write {out}: {e.strerror}; choose another --out") from e
        say(f"racegate: wrote {out}: {len(config.operations)} operations, {len(config.books)} tables of the books")
    for sentence in [*proposal.unsure, *refused]:
        say(f"racegate: could not guess {sentence}")
    return 0


class _Seen:
    """What the database shows. Without one: nothing."""

    def __init__(self, postgres: str | None, mongo: str | None) -> None:
        from harness.config.placeholders import variables, with_environment  # noqa: PLC0415 - heavy, and not needed for --help
        from harness.model import UsageError  # noqa: PLC0415 - as above
        from harness.stores.base import StoreKind  # noqa: PLC0415
        from harness.stores.redaction import conceal  # noqa: PLC0415
        from harness.stores.spec import is_ours  # noqa: PLC0415
        from harness.targets.books_stream import MongoSnapshot, PostgresSnapshot  # noqa: PLC0415

        self._postgres: PostgresSnapshot | None = None
        self._mongo: MongoSnapshot | None = None
        spec, kind = (postgres, StoreKind.POSTGRES) if postgres else (mongo, StoreKind.MONGO)
        if spec:
            conceal(variables(spec))
            url = str(with_environment(spec, f"--{kind}"))
            if is_ours(url):
                raise UsageError(f"--{kind} {url} would be an empty database; init reads one that has tables: give its URL")
            conceal({"url": url})
            if kind is StoreKind.POSTGRES:
                self._postgres = PostgresSnapshot(url, timeout=60)
            else:
                self._mongo = MongoSnapshot(url, timeout=60)

    @property
    def tables(self) -> Mapping[str, Mapping[str, str]]:
        """The tables or collections, with columns and types."""
        if self._postgres is not None:
            return self._postgres.relations()
        if self._mongo is None:
            return {}
        found: dict[str, dict[str, str]] = {}
        for name in self._mongo.collections():
            columns: dict[str, str] = {}
            for document in self._mongo.sample(name, 200):
                for column, value in document.items():
                    columns.setdefault(column, _kind(value))
            found[name] = columns
        return found

    def some(self, table: str, column: str) -> Sequence[str]:
        """Return some values of a column, as text."""
        if self._postgres is not None:
            return self._postgres.some(table, column)
        if self._mongo is not None:
            return [str(d[column]) for d in self._mongo.sample(table, 200) if d.get(column) is not None]
        return []

    def refused(self, config: Any) -> list[str]:
        """Return what the database says against the proposed queries."""
        from harness.model.errors import RacegateError  # noqa: PLC0415
        from harness.targets.http import books_queries  # noqa: PLC0415

        snapshot = self._postgres or self._mongo
        said = []
        if snapshot is None:
            return []
        for query in books_queries(config):
            try:
                snapshot.columns(query)
            except RacegateError as e:
                said.append(f"how books.{query.table} is read: {e}")
        return said

    def __enter__(self) -> _Seen:
        return self

    def __exit__(self, *error: object) -> None:
        for snapshot in (self._postgres, self._mongo):
            if snapshot is not None:
                snapshot.close()


def _kind(value: Any) -> str:
    import datetime  # noqa: PLC0415

    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "double"
    if isinstance(value, datetime.datetime):
        return "date"
    return "decimal" if type(value).__name__ == "Decimal128" else "string" if isinstance(value, str) else type(value).__name__
