"""Servers in containers, through testcontainers: the store that most users' CI has.

Settings are those of the embedded servers; data lies in memory. A container is labelled, watched by a reaper of its own, and
gone when racegate is, however that ended.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pymongo
import pymongo.errors

from harness.model.errors import EnvironmentProblem
from harness.stores.base import Database, StoreKind
from harness.stores.embedded_postgres import server_settings
from harness.stores.mongo import CONTROL, MongoDatabases
from harness.stores.options import StoreOptions
from harness.stores.postgres import PostgresControl, PostgresDatabases

START_LIMIT = 120.0
"""Seconds that a container may take to serve, once its image is there."""

REAPER = Path(__file__).with_name("reaper.py")
USER = "racegate"
REPLICA_SET = "racegate"


class _Container:
    """One container, started and watched.

    Raises:
        EnvironmentProblem: Docker is missing or does not run, the image is not to be had, or the server died at the start.
    """

    def __init__(self, image: str, *, port: int, command: list[str], environment: dict[str, str], data: str) -> None:
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - reads the environment when imported

        self.image = image
        try:
            container: Any = DockerContainer(image).with_exposed_ports(port).with_command(command)
            for name, value in environment.items():
                container.with_env(name, value)
            container.with_kwargs(tmpfs={data: "rw"}, labels={"org.racegate": str(os.getpid())})
            container.start()
        except Exception as e:
            raise EnvironmentProblem(_why_not(image, e)) from e
        self._container = container
        self._reaper = subprocess.Popen(
            [sys.executable, str(REAPER), container.get_wrapped_container().id],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.host: str = container.get_container_host_ip()
        self.port = int(container.get_exposed_port(port))

    def until(self, reached: Callable[[], object], trouble: tuple[type[Exception], ...]) -> None:
        """Ask again and again until the server serves. Raises EnvironmentProblem with its last words when it does not."""
        limit = time.monotonic() + START_LIMIT
        while True:
            try:
                if reached():
                    return
            except trouble as e:
                last = str(e)
            else:
                last = "not ready"
            state = self._container.get_wrapped_container()
            state.reload()
            if state.status == "exited" or time.monotonic() > limit:
                words = " | ".join(state.logs(tail=3).decode(errors="replace").strip().splitlines())
                raise EnvironmentProblem(f"the container of {self.image} does not serve: {words or last}")
            time.sleep(0.05)  # between two questions; the answer is the condition

    def close(self) -> None:
        """Remove the container and wait until it is gone."""
        if self._reaper.stdin is not None and not self._reaper.stdin.closed:
            self._reaper.stdin.close()
        self._reaper.wait()


def _why_not(image: str, error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    kind = type(error).__name__
    if "ImageNotFound" in kind or "manifest" in text or "pull access" in text:
        return f"the image {image} is not to be had: {text}; build it (make images) or name another"
    if kind in ("DockerException", "APIError", "ConnectionError") or "Connection aborted" in text:
        return f"Docker is missing or does not run: {text}; start it, or use embedded instead of container"
    return f"the container of {image} could not be started: {kind}: {text}"


class ContainerPostgres:
    """A PostgreSQL server in a container. See `harness.stores.base.Store`."""

    kind = StoreKind.POSTGRES

    def __init__(self, options: StoreOptions) -> None:
        password = secrets.token_urlsafe(16)
        flags = [word for name, value in server_settings(options).items() for word in ("-c", f"{name}={value}")]
        self._container = _Container(
            options.postgres_image,
            port=5432,
            command=["postgres", *flags],
            environment={
                "POSTGRES_USER": USER,
                "POSTGRES_PASSWORD": password,
                "POSTGRES_DB": "postgres",
                "POSTGRES_INITDB_ARGS": "--no-sync",
                "PGDATA": "/racegate/data",
            },
            data="/racegate",
        )
        host, port = self._container.host, self._container.port
        url = f"postgresql://{USER}:{password}@{host}:{port}/postgres"
        try:
            self._container.until(lambda: _serves(url), (psycopg.OperationalError,))
            self.control = PostgresControl(url)
            version = self.control.execute("SHOW server_version")[0][0]
        except BaseException:
            self._container.close()
            raise
        self._databases = PostgresDatabases(self.control, host=host, port=port, user=USER, password=password)
        self.description = f"PostgreSQL {version}, container of {options.postgres_image}"

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

    def close(self) -> None:
        """Remove the container."""
        self.control.close()
        self._container.close()


class ContainerMongo:
    """A MongoDB replica set of one node in a container. See `harness.stores.base.Store`."""

    kind = StoreKind.MONGO

    def __init__(self, options: StoreOptions) -> None:
        self._container = _Container(
            options.mongo_image,
            port=27017,
            command=["mongod", "--replSet", REPLICA_SET, "--bind_ip_all", "--dbpath", "/racegate", "--quiet"],
            environment={},
            data="/racegate",
        )
        address = f"{self._container.host}:{self._container.port}"
        self.client: pymongo.MongoClient[Any] = pymongo.MongoClient(
            f"mongodb://{address}/?directConnection=true", appname=CONTROL, serverSelectionTimeoutMS=2000
        )
        try:
            self._container.until(self._initiate, (pymongo.errors.PyMongoError,))
            self._container.until(
                lambda: self.client.admin.command("hello").get("isWritablePrimary"), (pymongo.errors.PyMongoError,)
            )
            version = self.client.server_info()["version"]
        except BaseException:
            self.close()
            raise
        self._databases = MongoDatabases(
            self.client,
            uri=f"mongodb://{address}/{{name}}?directConnection=true&appName={{name}}",
            shown=f"mongodb://{address}/{{name}}",
        )
        self.description = f"MongoDB {version}, container of {options.mongo_image}"

    def _initiate(self) -> bool:
        try:
            self.client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": "localhost:27017"}]})
        except pymongo.errors.OperationFailure as e:
            return e.code == 23  # AlreadyInitialized
        return True

    def create_database(self) -> Database:
        """Return a fresh database."""
        return self._databases.create()

    def drop_database(self, database: Database) -> None:
        """Drop it and end what is in flight in it."""
        self._databases.drop(database)

    def in_flight(self, database: Database) -> list[str]:
        """Describe the operations and open transactions of its clients."""
        return self._databases.in_flight(database)

    def end_in_flight(self, database: Database) -> int:
        """Kill those operations and sessions."""
        return self._databases.end_in_flight(database)

    def close(self) -> None:
        """Remove the container."""
        self.client.close()
        self._container.close()


def _serves(url: str) -> bool:
    with psycopg.connect(url, connect_timeout=2):
        return True
