"""What racegate asks of a PostgreSQL server, however it was obtained: databases, and what is in flight in them."""

from __future__ import annotations

import secrets
import threading
from typing import Any, cast
from urllib.parse import quote

import psycopg
from psycopg import sql

from harness.model.errors import EnvironmentProblem
from harness.stores.base import Database, StoreKind
from harness.stores.redaction import redact

CONTROL = "racegate control"

_IN_FLIGHT = """
    SELECT pid, state, coalesce(left(query, 80), '') FROM pg_stat_activity
    WHERE datname = %s AND pid <> pg_backend_pid() AND backend_type = 'client backend'
      AND application_name <> 'racegate control'
      AND (state IN ('active', 'fastpath function call') OR state LIKE 'idle in transaction%%')
"""


class PostgresControl:
    """A control connection to a server, used by one thread at a time. Reconnects after the server was restarted.

    Args:
        url: a connection URL with every right that is needed, password included.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    def execute(self, statement: sql.Composable | str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement in autocommit and return its rows.

        Raises:
            EnvironmentProblem: the server cannot be reached or refuses the statement.
        """
        with self._lock:
            try:
                return self._run(statement, parameters)
            except psycopg.OperationalError:
                self._forget()
            try:
                return self._run(statement, parameters)
            except psycopg.Error as e:
                raise problem(e) from e

    def _run(self, statement: sql.Composable | str, parameters: tuple[object, ...]) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = psycopg.connect(self._url, autocommit=True, application_name=CONTROL, connect_timeout=10)
        try:
            found = self._connection.execute(cast(Any, statement), parameters or None)
        except psycopg.OperationalError:
            raise
        except psycopg.Error as e:
            raise problem(e) from e
        return found.fetchall() if found.description else []

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._forget()


def problem(error: psycopg.Error) -> EnvironmentProblem:
    """Return the driver's error as ours, on one line and without secrets."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return EnvironmentProblem(f"PostgreSQL: {redact(lines[0] if lines else type(error).__name__)}")


def new_name() -> str:
    """Return a fresh database name."""
    return f"racegate_{secrets.token_hex(6)}"


class PostgresDatabases:
    """Makes, watches and drops databases through a control connection. The store classes share it.

    With ``copying`` the server copies files for a new database, and does not log every page of it: on one that does not wait
    for its disk that is several times faster.
    """

    def __init__(
        self, control: PostgresControl, *, host: str, port: int, user: str, password: str, copying: bool = False
    ) -> None:
        self._control = control
        self._address = f"{host}:{port}"
        self._user = user
        self._password = password
        self._how = sql.SQL("TEMPLATE template0 STRATEGY file_copy" if copying else "TEMPLATE template0")

    def create(self) -> Database:
        """Make an empty database."""
        name = new_name()
        self._control.execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), self._how))
        who = quote(self._user, safe="")
        return Database(
            kind=StoreKind.POSTGRES,
            name=name,
            url=f"postgresql://{who}:{quote(self._password, safe='')}@{self._address}/{name}",
            shown=f"postgresql://{who}@{self._address}/{name}",
        )

    def drop(self, database: Database) -> None:
        """Drop a database, whoever is still connected to it."""
        self._control.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name)))

    def in_flight(self, database: Database) -> list[str]:
        """Describe the client sessions of the database that are active or in a transaction."""
        rows = self._control.execute(_IN_FLIGHT, (database.name,))
        return [f"backend {pid} is {state}: {' '.join(query.split())}" for pid, state, query in rows]

    def end_in_flight(self, database: Database) -> int:
        """Terminate those sessions."""
        rows = self._control.execute(_IN_FLIGHT, (database.name,))
        for pid, _, _ in rows:
            self._control.execute("SELECT pg_terminate_backend(%s)", (pid,))
        return len(rows)
