"""MongoDB in a container: a replica set of one node, set up like the embedded one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pymongo
import pymongo.errors

from harness.stores.base import StoreKind
from harness.stores.container import Container, Plan, Premises
from harness.stores.embedded_mongo import REPLICA_SET, initiate, server_flags
from harness.stores.mongo import CONTROL, MongoDatabases
from harness.stores.one_server import OneServer
from harness.stores.options import StoreOptions

PORT = 27017
DATA = "/data/db"
TROUBLE = (pymongo.errors.PyMongoError,)


class ContainerMongo(OneServer):
    """A MongoDB replica set of one node in a container. See `harness.stores.base.Store`.

    Raises:
        EnvironmentProblem: Docker is missing or does not run, no image is to be had, or the server died at the start.
    """

    kind = StoreKind.MONGO
    _server: Container

    def __init__(self, options: StoreOptions, images: Sequence[str]) -> None:
        self._premises = Premises(options, images)
        with self._premises:
            self._server = self._premises.run(mongo_plan(REPLICA_SET))
            host, port = self._server.address()
            address = f"{host}:{port}"
            self.client: pymongo.MongoClient[Any] = pymongo.MongoClient(
                f"mongodb://{address}/?directConnection=true", appname=CONTROL, serverSelectionTimeoutMS=2000
            )
            try:
                members = [f"localhost:{PORT}"]
                self._server.until(lambda: initiate(self.client, members, set_name=REPLICA_SET, journal=options.fsync), TROUBLE)
                self._await_server()
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

    def _await_server(self) -> None:
        self._server.until(lambda: self.client.admin.command("hello").get("isWritablePrimary"), TROUBLE)

    def close(self) -> None:
        """Remove the container."""
        self.client.close()
        self._premises.close()


def mongo_plan(set_name: str) -> Plan:
    """Return what a node's container is made of."""
    return Plan(command=["mongod", "--dbpath", DATA, "--bind_ip_all", *server_flags(set_name)], port=PORT, memory_folders=[DATA])
