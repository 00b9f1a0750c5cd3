"""Somebody's own server, at a URL that its owner marked as disposable.

Scenarios write and wipe, so a URL is accepted only when ``--disposable`` repeats the name of its database, and never when
that name looks like production. On PostgreSQL each run works in a fresh schema of that database; on MongoDB, which has no
schemas, in the database itself, which must be empty.
"""

from __future__ import annotations

import re
import secrets
import threading
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import psycopg
import pymongo
import pymongo.errors
from psycopg import sql

from harness.model.errors import EnvironmentProblem, UnsafeStore, UsageError
from harness.stores.base import Database, StoreKind
from harness.stores.mongo import MongoDatabases
from harness.stores.mongo import problem as mongo_problem
from harness.stores.options import StoreOptions
from harness.stores.postgres import PostgresControl
from harness.stores.redaction import redact

PRODUCTION = re.compile(r"(^|[^a-z])(prod|production|live|master)([^a-z]|$)", re.IGNORECASE)

SCHEMES = {
    StoreKind.POSTGRES: ("postgresql", "postgres"),
    StoreKind.MONGO: ("mongodb", "mongodb+srv"),
}

CONNECT_TIMEOUT = 10
"""Seconds that a server may take to answer the first connection."""


def check_not_production(name: str, what: str) -> None:
    """Raise UnsafeStore if a database's or host's name looks like production."""
    if PRODUCTION.search(name):
        raise UnsafeStore(f"{what} {name!r} looks like production and racegate writes to what it tests; use another")


def check_disposable(kind: StoreKind, url: str, disposable: str | None, *, in_place: bool = False) -> str:
    """Return the database's name if the URL may be written to.

    Args:
        kind: of the store.
        url: names the database.
        disposable: its owner's mark, which repeats that name.
        in_place: the mark is the configuration's ``store.disposable``, and not ``--disposable``.

    Raises:
        UsageError: the URL is not one of this kind, or names no database.
        UnsafeStore: its owner did not mark it, marked another name, or the name looks like production.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES[kind]:
        raise UsageError(f"{redact(url)!r} is not a {kind} URL; expected {SCHEMES[kind][0]}://user@host/database")
    name = unquote(parts.path.lstrip("/"))
    if not name:
        raise UsageError(f"{redact(url)} names no database; add one: {SCHEMES[kind][0]}://.../NAME")
    check_not_production(name, "the database")
    check_not_production(parts.hostname or "", "the host")
    if disposable is None:
        cure = f'say so in the configuration: [store] disposable = "{name}"' if in_place else f"say so: --disposable {name}"
        does = "puts it back" if in_place else "wipes it"
        raise UnsafeStore(f"racegate writes to the database {name!r} and {does}; if it is disposable {cure}")
    if disposable != name:
        mark = f"store.disposable = {disposable!r}" if in_place else f"--disposable {disposable}"
        raise UnsafeStore(f"{mark} does not name the URL's database, {name!r}; nothing was touched")
    return name


class UrlPostgres:
    """A PostgreSQL server at a URL. Each database that it makes is a fresh schema, put first on the search path.

    Raises:
        UnsafeStore, UsageError: as `check_disposable`.
        EnvironmentProblem: it cannot be reached, or refuses us.
    """

    kind = StoreKind.POSTGRES

    def __init__(self, url: str, options: StoreOptions) -> None:
        self._name = check_disposable(self.kind, url, options.disposable)
        self._url = url
        try:
            with psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT) as connection:
                version = connection.info.parameter_status("server_version")
        except psycopg.OperationalError as e:
            raise EnvironmentProblem(f"cannot connect to {redact(url)}: {_reason(str(e))}") from e
        except psycopg.ProgrammingError as e:
            raise UsageError(f"{redact(url)} is not a connection URL: {redact(str(e).splitlines()[0])}") from e
        self.control = PostgresControl(url)
        self.description = f"PostgreSQL {version} at {urlsplit(url).hostname}"

    def create_database(self) -> Database:
        """Make a fresh schema."""
        schema = f"racegate_{secrets.token_hex(6)}"
        self.control.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        parts = urlsplit(self._url)
        query = dict(parse_qsl(parts.query))
        query["options"] = f"{query.get('options', '')} -csearch_path={schema}".strip()
        query["application_name"] = schema
        url = urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))
        return Database(kind=self.kind, name=schema, url=url, shown=redact(urlunsplit(parts)) + f" (schema {schema})")

    def drop_database(self, database: Database) -> None:
        """End its sessions and drop the schema."""
        self.end_in_flight(database)
        self.control.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(database.name)))

    def in_flight(self, database: Database) -> list[str]:
        """Describe the schema's sessions that are active or in a transaction."""
        return [f"backend {pid} is {state}: {query}" for pid, state, query in self._open(database)]

    def end_in_flight(self, database: Database) -> int:
        """Terminate those sessions."""
        found = self._open(database)
        for pid, _, _ in found:
            self.control.execute("SELECT pg_terminate_backend(%s)", (pid,))
        return len(found)

    def _open(self, database: Database) -> list[tuple[int, str, str]]:
        rows = self.control.execute(
            "SELECT pid, state, left(query, 80) FROM pg_stat_activity WHERE application_name = %s "
            "AND pid <> pg_backend_pid() AND (state = 'active' OR state LIKE 'idle in transaction%%')",
            (database.name,),
        )
        return [(pid, state, query) for pid, state, query in rows]

    def close(self) -> None:
        """Close the control connection; the server is not ours to stop."""
        self.control.close()


class UrlMongo:
    """A MongoDB server at a URL. Runs work in the URL's own database, one at a time, and leave it empty.

    Raises:
        UnsafeStore, UsageError: as `check_disposable`.
        EnvironmentProblem: it cannot be reached, refuses us, is no replica set, or the database is not empty.
    """

    kind = StoreKind.MONGO

    def __init__(self, url: str, options: StoreOptions) -> None:
        self._name = check_disposable(self.kind, url, options.disposable)
        self._url = url
        self._taken = threading.Lock()
        try:
            self.client: pymongo.MongoClient[Any] = pymongo.MongoClient(
                url, serverSelectionTimeoutMS=CONNECT_TIMEOUT * 1000, appname="racegate control"
            )
        except pymongo.errors.ConfigurationError as e:
            raise UsageError(f"{redact(url)} is not a connection URL: {redact(str(e))}") from e
        try:
            hello = self.client.admin.command("hello")
            version = self.client.server_info()["version"]
        except pymongo.errors.PyMongoError as e:
            self.client.close()
            raise EnvironmentProblem(f"cannot connect to {redact(url)}: {_reason(str(mongo_problem(e)))}") from e
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            self.client.close()
            raise EnvironmentProblem(f"{redact(url)} is not a replica set; transactions need one: start it with --replSet")
        self._databases = MongoDatabases(self.client, uri=url, shown=redact(url))
        self.description = f"MongoDB {version} at {urlsplit(url).hostname}"

    def create_database(self) -> Database:
        """Claim the URL's database. Raises EnvironmentProblem when it is not empty or another run has it."""
        if not self._taken.acquire(blocking=False):
            raise EnvironmentProblem(f"the database {self._name!r} serves one run at a time; use --jobs 1")
        if self.client[self._name].list_collection_names():
            self._taken.release()
            raise EnvironmentProblem(f"the database {self._name!r} is not empty; drop it first, or name an empty one")
        parts = urlsplit(self._url)
        query = {**dict(parse_qsl(parts.query)), "appName": self._name}
        return Database(
            kind=self.kind,
            name=self._name,
            url=urlunsplit(parts._replace(query=urlencode(query, quote_via=quote))),
            shown=redact(self._url),
        )

    def drop_database(self, database: Database) -> None:
        """Empty the database again."""
        self._databases.drop(database)
        self._taken.release()

    def in_flight(self, database: Database) -> list[str]:
        """Describe the operations and open transactions of the run's clients."""
        return self._databases.in_flight(database)

    def end_in_flight(self, database: Database) -> int:
        """Kill those operations and sessions."""
        return self._databases.end_in_flight(database)

    def close(self) -> None:
        """Close the control connection; the server is not ours to stop."""
        self.client.close()


def _reason(text: str) -> str:
    """Return why a connection failed on one line: drivers repeat themselves for every address they tried."""
    lines = [line.strip() for line in redact(text).splitlines() if line.strip()]
    return lines[0][:300] if lines else "no reason given"
