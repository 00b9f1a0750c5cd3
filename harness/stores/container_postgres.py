"""PostgreSQL in a container, set up like the embedded server."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import psycopg

from harness.stores.base import SERVER_FAULTS, Database, StoreKind
from harness.stores.container import SCRATCH, Plan, Premises
from harness.stores.embedded_postgres import INITDB_OPTIONS, server_settings
from harness.stores.options import StoreOptions
from harness.stores.postgres import PostgresControl, PostgresDatabases

USER = "racegate"


class ContainerPostgres:
    """A PostgreSQL server in a container. See `harness.stores.base.Store`.

    Raises:
        EnvironmentProblem: Docker is missing or does not run, no image is to be had, or the server died at the start.
    """

    kind = StoreKind.POSTGRES
    faults = SERVER_FAULTS
    _away: str | None = None

    def __init__(self, options: StoreOptions, images: Sequence[str]) -> None:
        password = secrets.token_urlsafe(16)
        flags = [word for name, value in server_settings(options).items() for word in ("-c", f"{name}={value}")]
        plan = Plan(
            command=["postgres", *flags],
            port=5432,
            environment={
                "POSTGRES_USER": USER,
                "POSTGRES_PASSWORD": password,
                "POSTGRES_DB": "postgres",
                "POSTGRES_INITDB_ARGS": " ".join(INITDB_OPTIONS),
                "PGDATA": f"{SCRATCH}/data",
            },
        )
        self._premises = Premises(options, images)
        with self._premises:
            self._container = self._premises.run(plan)
            host, port = self._container.address()
            self._url = f"postgresql://{USER}:{password}@{host}:{port}/postgres"
            self._await_start()
            self.control = PostgresControl(self._url)
            # Again, now that the server's own setting says how often it is stretched.
            self.control.execute(f"ALTER ROLE {USER} PASSWORD '{password}'")
            version = self.control.execute("SHOW server_version")[0][0].split()[0]
        self._databases = PostgresDatabases(self.control, host=host, port=port, user=USER, password=password)
        self.description = f"PostgreSQL {version}, container of {self._premises.image}"

    def _await_start(self) -> None:
        self._container.until(self._serves, (psycopg.OperationalError,))

    def _serves(self) -> bool:
        with psycopg.connect(self._url, connect_timeout=2):
            return True

    def create_database(self) -> Database:
        """Make an empty database."""
        return self._databases.create()

    def drop_database(self, database: Database) -> None:
        """Drop it, whoever is still connected."""
        self._databases.drop(database)

    def in_flight(self, database: Database) -> list[str]:
        """Describe the sessions that are active or in a transaction."""
        return self._databases.in_flight(database.name)

    def end_in_flight(self, database: Database) -> int:
        """Terminate those sessions."""
        return self._databases.end_in_flight(database.name)

    def kill_server(self) -> None:
        """Kill the server and all its processes (SIGKILL). `start_server` brings it back."""
        self._container.kill()
        self._away = "killed"

    def start_server(self) -> None:
        """Start the server again after `kill_server`, on the same port and data."""
        self._container.start()
        self._await_start()
        self._away = None

    def restart(self) -> None:
        """Stop the server at once and start it again: every connection is lost, committed work is not."""
        self._container.stop("QUIT")
        self.start_server()

    def pause_server(self) -> None:
        """Freeze the server. `resume_server` lets it go on."""
        self._container.pause()
        self._away = "paused"

    def resume_server(self) -> None:
        """Let a frozen server go on."""
        self._container.resume()
        self._away = None

    def recover(self) -> None:
        """Undo the fault that is still in force, if any."""
        if self._away == "killed":
            self.start_server()
        elif self._away == "paused":
            self.resume_server()

    def close(self) -> None:
        """Remove the container."""
        self.control.close()
        self._premises.close()
