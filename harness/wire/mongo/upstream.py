"""A MongoDB server as the proxy's upstream."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from harness.model.errors import EnvironmentProblem, UsageError
from harness.wire.mongo.session import Attempts, MongoSession
from harness.wire.server import Upstream

FIND_PRIMARY = 10_000
"""Milliseconds to find the primary of a replica set of several members."""


def mongo_upstream(url: str) -> Upstream:
    """Return the server that a URI names as an upstream; of a replica set of several members, its primary.

    Raises:
        UsageError: the URI names no server that a proxy can stand in front of.
        EnvironmentProblem: the primary could not be found.
    """
    parts = urlsplit(url)
    if parts.scheme != "mongodb":
        raise UsageError(f"a proxy needs a URI that begins with mongodb://, not {parts.scheme or 'nothing'}://")
    options = {k.lower(): v.lower() for k, _, v in (o.partition("=") for o in parts.query.split("&") if o)}
    if "true" in (options.get("tls"), options.get("ssl")):
        raise UsageError("the proxy speaks to MongoDB without TLS; use a server that accepts plain connections")
    if options.get("loadbalanced") == "true":
        raise UsageError("the proxy does not speak to load balancers; remove loadBalanced=true from the URI")
    who, _, where = parts.netloc.rpartition("@")
    host, port = _primary(url) if "," in where else _address(where)
    attempts = Attempts()
    killer = _Killer(url)

    def through(port: int, *, secret: bool) -> str:
        name = who if secret else who.partition(":")[0]
        address = f"{name}@127.0.0.1:{port}" if name else f"127.0.0.1:{port}"
        return urlunsplit((parts.scheme, address, parts.path, parts.query if secret else "", ""))

    return Upstream(
        host=host,
        port=port,
        session=lambda own: MongoSession(f"127.0.0.1:{own}", attempts),
        kill=killer,
        url=lambda p: through(p, secret=True),
        shown=lambda p: through(p, secret=False),
        cut=True,
        close=killer.close,
    )


def _address(where: str) -> tuple[str, int]:
    host, _, port = where.rpartition(":") if not where.endswith("]") and ":" in where else (where, "", "27017")
    if "%2f" in where.lower():
        raise UsageError("a proxy needs a MongoDB server that is reached over TCP, not through a socket file")
    return host.strip("[]"), int(port)


def _primary(url: str) -> tuple[str, int]:
    import pymongo  # noqa: PLC0415 - the control client is only made when it is needed
    import pymongo.errors  # noqa: PLC0415

    with pymongo.MongoClient[Any](url, serverSelectionTimeoutMS=FIND_PRIMARY) as client:
        try:
            client.admin.command("ping")
            found = client.primary
        except pymongo.errors.PyMongoError as e:
            raise EnvironmentProblem(f"the replica set's primary was not found: {type(e).__name__}") from e
    if found is None:
        raise EnvironmentProblem("the replica set has no primary; start one, or name one server in the URI")
    return found


class _Killer:
    """Kills logical sessions over a client of its own, made when it is first needed: their transactions are rolled back."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._client: Any = None

    def __call__(self, backend: int, session: str) -> None:
        import pymongo  # noqa: PLC0415 - only a run with this fault pays for it
        import pymongo.errors  # noqa: PLC0415
        from bson.binary import UUID_SUBTYPE, Binary  # noqa: PLC0415

        if not session:
            return
        with self._lock:
            try:
                if self._client is None:
                    self._client = pymongo.MongoClient(self._url, appname="racegate control")
                self._client.admin.command("killSessions", [{"id": Binary(bytes.fromhex(session), UUID_SUBTYPE)}])
            except pymongo.errors.PyMongoError as e:
                raise EnvironmentProblem(f"MongoDB did not let the proxy kill a session: {type(e).__name__}") from e

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
