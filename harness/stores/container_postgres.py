"""PostgreSQL in a container, set up like the embedded server."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import psycopg

from harness.stores.base import StoreKind
from harness.stores.container import SCRATCH, Container, Plan, Premises
from harness.stores.embedded_postgres import INITDB_OPTIONS, server_settings
from harness.stores.one_server import OneServer
from harness.stores.options import StoreOptions
from harness.stores.postgres import PostgresControl, PostgresDatabases

USER = "racegate"


class ContainerPostgres(OneServer):
    """A PostgreSQL server in a container. See `harness.stores.base.Store`.

    Raises:
        EnvironmentProblem: Docker is missing or does not run, no image is to be had, or the server died at the start.
    """

    kind = StoreKind.POSTGRES
    _server: Container

    def __init__(self, options: StoreOptions, images: Sequence[str]) -> None:
        password = secrets.token_urlsafe(16)
        flags = [word for name, value in server_settings(options).items() for word in ("-c", f"{name}={value}")]
        plan = Plan(
            command=["postgres", *flags],
            port=5432,
            stop_signal="QUIT",
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
            self._server = self._premises.run(plan)
            host, port = self._server.address()
            self._url = f"postgresql://{USER}:{password}@{host}:{port}/postgres"
            self._await_server()
            self.control = PostgresControl(self._url)
            # Again, now that the server's own setting says how often it is stretched.
            self.control.execute(f"ALTER ROLE {USER} PASSWORD '{password}'")
            version = self.control.execute("SHOW server_version")[0][0].split()[0]
        self._databases = PostgresDatabases(self.control, host=host, port=port, user=USER, password=password)
        self.description = f"PostgreSQL {version}, container of {self._premises.image}"

    def _await_server(self) -> None:
        self._server.until(self._serves, (psycopg.OperationalError,))

    def _serves(self) -> bool:
        with psycopg.connect(self._url, connect_timeout=2):
            return True

    def close(self) -> None:
        """Remove the container."""
        self.control.close()
        self._premises.close()
