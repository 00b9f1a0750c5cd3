"""What racegate asks of a MongoDB server, however it was obtained: databases, and what is in flight in them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pymongo
import pymongo.errors

from harness.model.errors import EnvironmentProblem
from harness.stores.base import Database, StoreKind
from harness.stores.redaction import redact

CONTROL = "racegate control"


def problem(error: pymongo.errors.PyMongoError) -> EnvironmentProblem:
    """Return the driver's error as ours, on one line and without secrets."""
    return EnvironmentProblem(f"MongoDB: {redact(str(error).splitlines()[0].split(', Timeout:')[0])}")


@contextmanager
def lasting_transactions(client: pymongo.MongoClient[Any], seconds: int = 60) -> Iterator[None]:
    """Let transactions that begin meanwhile last as long as MongoDB lets them by itself, on a server of ours.

    Ours end them after three seconds, lest the living wait for the dead. That is too soon for one whose client is held at
    the proxy, or gets no processor. Ours are known by their test commands; somebody's own server is left as it is.

    Args:
        client: may set parameters.
        seconds: how long.
    """
    name = "transactionLifetimeLimitSeconds"
    was = None
    with suppress(pymongo.errors.PyMongoError):  # who may not ask is not on a server of ours
        if client.admin.command("getParameter", 1, enableTestCommands=1).get("enableTestCommands"):
            was = client.admin.command({"setParameter": 1, name: seconds})["was"]
    try:
        yield
    finally:
        if was is not None:
            with suppress(pymongo.errors.PyMongoError), pymongo.timeout(5.0):  # the server may be gone
                client.admin.command({"setParameter": 1, name: was})


class MongoDatabases:
    """Makes, watches and drops databases. The store classes share it.

    Every database's URI carries its name as the application name, so that the operations of its clients can be told from
    those of other runs on the same server, also while a session is idle inside a transaction.
    """

    def __init__(self, client: pymongo.MongoClient[Any], *, uri: str, shown: str) -> None:
        self._client = client
        self._uri = uri
        self._shown = shown

    def create(self) -> Database:
        """Return a fresh database. MongoDB makes it with its first write."""
        name = f"racegate_{secrets.token_hex(6)}"
        return Database(
            kind=StoreKind.MONGO,
            name=name,
            url=self._uri.format(name=name),
            shown=self._shown.format(name=name),
        )

    def drop(self, database: Database) -> None:
        """Drop a database after ending what is in flight in it."""
        try:
            self.end_in_flight(database)
            self._client.drop_database(database.name)
        except pymongo.errors.PyMongoError as e:
            raise problem(e) from e

    def in_flight(self, database: Database) -> list[str]:
        """Describe the operations and open transactions of the database's clients."""
        return [f"{o.get('desc', 'operation')} of {o.get('appName')}: {o.get('op')} {o.get('ns')}" for o in self._open(database)]

    def end_in_flight(self, database: Database) -> int:
        """Kill those operations and sessions."""
        found = self._open(database)
        sessions = [o["lsid"] for o in found if o.get("lsid")]
        try:
            if sessions:
                self._client.admin.command("killSessions", [{"id": s["id"]} for s in sessions])
            for operation in found:
                if operation.get("opid") is not None:
                    self._client.admin.command("killOp", op=operation["opid"])
        except pymongo.errors.PyMongoError as e:
            raise problem(e) from e
        return len(found)

    def _open(self, database: Database) -> list[dict[str, Any]]:
        stages: list[dict[str, Any]] = [
            {"$currentOp": {"allUsers": True, "idleConnections": False, "idleSessions": True}},
            {
                "$match": {
                    "appName": database.name,
                    "$or": [
                        {"transaction": {"$exists": True}},
                        {"active": True, "op": {"$nin": ["none", "command"]}},
                        {
                            "active": True,
                            "ns": {"$regex": f"^{database.name}\\."},
                        },
                    ],
                }
            },
        ]
        try:
            return list(self._client.admin.aggregate(stages))
        except pymongo.errors.PyMongoError as e:
            raise problem(e) from e
