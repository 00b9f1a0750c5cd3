"""One way to a proxy, whatever the store."""

from __future__ import annotations

from harness.model.errors import UsageError
from harness.wire.base import HOLD_LIMIT, WireProxy
from harness.wire.server import Proxy


def open_proxy(kind: str, url: str, *, hold_limit: float = HOLD_LIMIT, tls: bool = False) -> WireProxy:
    """Start a proxy in front of a store. It listens on a free port of 127.0.0.1 and begins in passthrough.

    Args:
        kind: ``postgres`` or ``mongo``.
        url: of the store, as in `harness.stores.base.Database.url`.
        tls: speak TLS with applications that ask for it; the proxy's ``url`` then names the certificate to trust
            (PostgreSQL only). Otherwise such a request is answered with "no".
        hold_limit: seconds after which a step that nobody decided on is given up (`Fate.HOLD_EXPIRED`).

    Raises:
        UsageError: the URL names nothing that a proxy can stand in front of.
        EnvironmentProblem: no port could be had, or no certificate could be made.
    """
    if kind == "postgres":
        from harness.wire.postgres.upstream import postgres_upstream  # noqa: PLC0415 - a driver each

        return Proxy(postgres_upstream(url, tls=tls), hold_limit=hold_limit)
    if kind == "mongo":
        if tls:
            raise UsageError("the proxy speaks TLS for PostgreSQL alone; go without it for MongoDB")
        from harness.wire.mongo.upstream import mongo_upstream  # noqa: PLC0415 - a driver each

        return Proxy(mongo_upstream(url), hold_limit=hold_limit)
    raise UsageError(f"there is no proxy for {kind!r}: it is postgres or mongo")
