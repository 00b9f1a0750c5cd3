"""Traffic that does not go through the proxy cannot be held, so an exploration with it would prove nothing: it is refused.

A connection that stays open is seen by its own name (PostgreSQL's ``pg_stat_activity``, MongoDB's ``$currentOp``). One that was
made and closed meanwhile is seen by PostgreSQL's count of sessions, which must not grow by more than went through the proxy;
MongoDB has no such count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from harness.model.errors import EnvironmentProblem
from harness.wire.base import WireProxy
from harness.wire.mongo import blocking as mongo
from harness.wire.postgres import blocking as postgres

LEAVING = 10.0
"""Seconds that a connection may take to be gone: whoever set the scene closed its connections a moment ago."""

LOOKS = 200
"""How often it must have been seen, besides: on a busy machine whoever leaves has as little time as we."""

AGAIN = 0.005
"""Seconds between two looks."""

_SESSIONS = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"


class Bypass(Protocol):
    """Watches for traffic past the proxy."""

    def begin(self) -> None:
        """Start to watch: whoever is there now must have come through the proxy. Raises as `look` does."""

    def look(self) -> None:
        """Look again.

        Raises:
            EnvironmentProblem: somebody works in the database who did not come through the proxy.
        """


class PostgresBypass:
    """Watches a PostgreSQL database.

    Args:
        control: asks; its application name is that of our own connections.
        proxy: what everybody else must come through.
        ours: the processes of connections that are ours and do not.
    """

    def __init__(self, control: Any, proxy: WireProxy, ours: Callable[[], Sequence[int]]) -> None:
        self._control = control
        self._proxy = proxy
        self._ours = ours
        self._sessions = 0
        self._made = 0

    def begin(self) -> None:
        """See who is there. Sessions of connections that are open already may be counted only now, so they are no evidence."""
        self._refuse()
        self._sessions = self._count()
        self._made = self._proxy.connections_made() - len(self._proxy.open_connections())

    def look(self) -> None:
        """See who is there, and how many have been."""
        self._refuse()
        made = self._proxy.connections_made() - self._made
        if (seen := self._count() - self._sessions) > made:
            raise EnvironmentProblem(
                f"there is traffic that does not go through the proxy: the database counts {seen} sessions, and {made} went "
                "through it; give the clients the URL that they are handed"
            )

    def _refuse(self) -> None:
        _refuse(lambda: postgres.strangers(self._control, [*self._proxied(), *self._ours()]))

    def _proxied(self) -> list[int]:
        return [opened.backend for opened in self._proxy.open_connections().values()]

    def _count(self) -> int:
        self._control.execute("SELECT pg_stat_force_next_flush()")
        return int(self._control.execute(_SESSIONS).fetchone()[0])


class MongoBypass:
    """Watches a MongoDB database.

    Args:
        control: asks: a `pymongo.MongoClient` that says so in its name.
        proxy: what everybody else must come through.
        database: its name.
    """

    def __init__(self, control: Any, proxy: WireProxy, database: str) -> None:
        self._control = control
        self._proxy = proxy
        self._database = database

    def begin(self) -> None:
        """See who is there."""
        self.look()

    def look(self) -> None:
        """See who is there."""
        _refuse(lambda: mongo.strangers(self._control, self._database, self._proxy.store_ports()))


def _refuse(strangers: Callable[[], Sequence[str]]) -> None:
    """Raise if there are strangers who stay: a server may learn late of a connection that was closed."""
    limit, looks = time.monotonic() + LEAVING, 0
    while found := strangers():
        looks += 1
        if looks > LOOKS and time.monotonic() > limit:
            raise EnvironmentProblem(f"there is traffic that does not go through the proxy: {found[0]}; it cannot be controlled")
        time.sleep(AGAIN)
