"""MongoDB in a container: a replica set of one node, set up like the embedded one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pymongo
import pymongo.errors

from harness.stores.base import SERVER_FAULTS, Database, StoreKind
from harness.stores.container import Plan, Premises
from harness.stores.embedded_mongo import initiate, server_flags
from harness.stores.mongo import CONTROL, MongoDatabases
from harness.stores.options import StoreOptions

PORT = 27017
DATA = "/data/db"
TROUBLE = (pymongo.errors.PyMongoError,)


class ContainerMongo:
    """A MongoDB replica set of one node in a container. See `harness.stores.base.Store`.

    Raises:
        EnvironmentProblem: Docker is missing or does not run, no image is to be had, or the server died at the start.
    """

    kind = StoreKind.MONGO
    faults = SERVER_FAULTS
    _away: str | None = None

    def __init__(self, options: StoreOptions, images: Sequence[str]) -> None:
        self._premises = Premises(options, images)
        with self._premises:
            self._container = self._premises.run(mongo_plan())
            host, port = self._container.address()
            address = f"{host}:{port}"
            self.client: pymongo.MongoClient[Any] = pymongo.MongoClient(
                f"mongodb://{address}/?directConnection=true", appname=CONTROL, serverSelectionTimeoutMS=2000
            )
            try:
                members = [f"localhost:{PORT}"]
                self._container.until(lambda: initiate(self.client, members, journal=options.fsync), TROUBLE)
                self._await_primary()
                version = self.client.server_info()["version"]
            except BaseException:
                self.client.close()
                raise
        self._databases = MongoDatabases(
            self.client,
            uri=f"mongodb://{address}/{{name}}?directConnection=true&appName={{name}}",
            shown=f"mongodb://{address}/{{name}}",
        )
        self.description = f"MongoDB {version}, container of {self._premises.image}, replica set of one node"

    def _await_primary(self) -> None:
        self._container.until(lambda: self.client.admin.command("hello").get("isWritablePrimary"), TROUBLE)

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

    def kill_server(self) -> None:
        """Kill the server (SIGKILL). `start_server` brings it back."""
        self._container.kill()
        self._away = "killed"

    def start_server(self) -> None:
        """Start the server again after `kill_server`, on the same port and data."""
        self._container.start()
        self._await_primary()
        self._away = None

    def restart(self) -> None:
        """Stop the server at once and start it again: every connection is lost, committed work is not."""
        self.kill_server()
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
        self.client.close()
        self._premises.close()


def mongo_plan() -> Plan:
    """Return what a node's container is made of."""
    return Plan(command=["mongod", "--dbpath", DATA, "--bind_ip_all", *server_flags()], port=PORT, memory_folders=[DATA])
