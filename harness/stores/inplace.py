"""Somebody's own database, used as it is: the service that is tested has its schema and its rows there.

It is accepted as `harness.stores.url.check_disposable` accepts a URL. Nothing is created and nothing dropped; whoever runs on it
puts its rows back afterwards.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import psycopg
import pymongo
import pymongo.errors

from harness.model.errors import EnvironmentProblem, UsageError
from harness.stores.base import Database, Store, StoreKind
from harness.stores.mongo import CONTROL
from harness.stores.mongo import problem as mongo_problem
from harness.stores.postgres import PostgresControl
from harness.stores.redaction import redact
from harness.stores.url import CONNECT_TIMEOUT, check_disposable

_MAY_PUT_BACK = "SELECT current_setting('is_superuser') = 'on' OR has_parameter_privilege('session_replication_role', 'SET')"

_OPEN = """
    SELECT pid, state, left(query, 80) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
      AND application_name NOT LIKE 'racegate %%' AND xact_start IS NOT NULL AND xact_start < %s
"""


class InPlacePostgres:
    """A PostgreSQL database at a URL.

    Raises:
        UnsafeStore, UsageError: as `check_disposable`.
        EnvironmentProblem: it cannot be reached, or its role may not put rows back.
    """

    kind = StoreKind.POSTGRES

    def __init__(self, url: str, disposable: str | None) -> None:
        self._name = check_disposable(self.kind, url, disposable, in_place=True)
        self._url = url
        try:
            with psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT, application_name=CONTROL) as connection:
                version = connection.info.parameter_status("server_version")
                row = connection.execute(_MAY_PUT_BACK).fetchone()
                role = connection.info.user
        except psycopg.OperationalError as e:
            raise EnvironmentProblem(f"cannot connect to {redact(url)}: {_first_line(e)}") from e
        except psycopg.ProgrammingError as e:
            raise UsageError(f"{redact(url)} is not a connection URL: {_first_line(e)}") from e
        if row is None or not row[0]:
            raise EnvironmentProblem(
                f"the role {role} may not put rows back after a run; as a superuser: "
                f'GRANT SET ON PARAMETER session_replication_role TO "{role}"'
            )
        self.control = PostgresControl(url)
        self.description = f"PostgreSQL {version} at {urlsplit(url).hostname or 'localhost'}"
        self._since: Any = None

    def create_database(self) -> Database:
        """Return the database itself."""
        return Database(kind=self.kind, name=self._name, url=self._url, shown=redact(self._url))

    def drop_database(self, database: Database) -> None:
        """Leave it."""

    def in_flight(self, database: Database) -> list[str]:
        """Describe the transactions that were open when this was first asked: other traffic begins new ones for ever."""
        return [f"backend {pid} is {state}: {' '.join(query.split())}" for pid, state, query in self._open()]

    def end_in_flight(self, database: Database) -> int:
        """Terminate their sessions."""
        found = self._open()
        for pid, _, _ in found:
            self.control.execute("SELECT pg_terminate_backend(%s)", (pid,))
        return len(found)

    def _open(self) -> list[tuple[int, str, str]]:
        if self._since is None:
            [(self._since,)] = self.control.execute("SELECT clock_timestamp()")
        found = list(self.control.execute(_OPEN, (self._since,)))
        if not found:
            self._since = None
        return found

    def close(self) -> None:
        """Close the control connection."""
        self.control.close()


class InPlaceMongo:
    """A MongoDB database at a URL.

    Raises:
        UnsafeStore, UsageError: as `check_disposable`.
        EnvironmentProblem: it cannot be reached, or is no replica set.
    """

    kind = StoreKind.MONGO

    def __init__(self, url: str, disposable: str | None) -> None:
        self._name = check_disposable(self.kind, url, disposable, in_place=True)
        self._url = url
        try:
            self.client: pymongo.MongoClient[Any] = pymongo.MongoClient(
                url, serverSelectionTimeoutMS=CONNECT_TIMEOUT * 1000, appname=CONTROL
            )
        except (pymongo.errors.ConfigurationError, pymongo.errors.InvalidURI) as e:
            raise UsageError(f"{redact(url)} is not a connection URL: {_first_line(e)}") from e
        try:
            hello = self.client.admin.command("hello")
            version = self.client.server_info()["version"]
        except pymongo.errors.PyMongoError as e:
            self.client.close()
            raise EnvironmentProblem(f"cannot connect to {redact(url)}: {_first_line(mongo_problem(e))}") from e
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            self.client.close()
            raise EnvironmentProblem(f"{redact(url)} is not a replica set; snapshots need one: start it with --replSet")
        self.description = f"MongoDB {version} at {urlsplit(url).hostname}"
        self._first: set[str] | None = None

    def create_database(self) -> Database:
        """Return the database itself."""
        return Database(kind=self.kind, name=self._name, url=self._url, shown=redact(self._url))

    def drop_database(self, database: Database) -> None:
        """Leave it."""

    def in_flight(self, database: Database) -> list[str]:
        """Describe the transactions that were open when this was first asked."""
        return [f"a transaction of {o.get('appName') or 'an unnamed application'}" for o in self._open()]

    def end_in_flight(self, database: Database) -> int:
        """Kill their sessions."""
        found = self._open()
        sessions = [{"id": o["lsid"]["id"]} for o in found]
        try:
            if sessions:
                self.client.admin.command("killSessions", sessions)
        except pymongo.errors.PyMongoError as e:
            raise mongo_problem(e) from e
        return len(found)

    def _open(self) -> list[dict[str, Any]]:
        stages: list[dict[str, Any]] = [
            {"$currentOp": {"allUsers": False, "idleSessions": True}},
            {
                "$match": {
                    "transaction": {"$exists": True},
                    "lsid": {"$exists": True},
                    "appName": {"$not": {"$regex": "^racegate "}},
                }
            },
        ]
        try:
            found = list(self.client.admin.aggregate(stages))
        except pymongo.errors.PyMongoError as e:
            raise mongo_problem(e) from e
        sessions = {f"{o['lsid']['id']} {o['transaction'].get('parameters', {}).get('txnNumber')}": o for o in found}
        if self._first is None:
            self._first = set(sessions)
        still = [o for name, o in sessions.items() if name in self._first]
        if not still:
            self._first = None
        return still

    def close(self) -> None:
        """Close the control connection."""
        self.client.close()


def open_in_place(kind: StoreKind, url: str, disposable: str | None) -> Store:
    """Return somebody's own database. Raises as the classes do."""
    return InPlacePostgres(url, disposable) if kind is StoreKind.POSTGRES else InPlaceMongo(url, disposable)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in redact(str(error)).splitlines() if line.strip()]
    return lines[0].split(", Timeout:")[0][:300] if lines else type(error).__name__
