"""Who is at work in a database and who waits: a cheap question to the server, over a connection of its own."""

from __future__ import annotations

from typing import Any

from harness.stores.base import Database, StoreKind

_POSTGRES = (
    "SELECT count(*) FILTER (WHERE state <> 'idle'), count(*) FILTER (WHERE state = 'active' AND wait_event_type = 'Lock') "
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)

_WRITING = "SELECT count(backend_xid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

NOT_KNOWN: dict[str, int | None] = {"sessions": None, "lock_waits": None, "write_conflicts": None}
"""The figures of a server that was not asked, or did not answer."""


class Activity:
    """Asks a database. A server that does not answer gives no figures, and is asked again the next time."""

    def __init__(self, database: Database | None) -> None:
        self._database = database
        self._connection: Any = None

    def now(self) -> dict[str, int | None]:
        """Return how many sessions are at work in the store, how many wait for a lock, and write conflicts so far (MongoDB)."""
        if self._database is None:
            return NOT_KNOWN
        try:
            read = self._postgres if self._database.kind is StoreKind.POSTGRES else self._mongo
            return {**NOT_KNOWN, **read(self._database)}
        except Exception:  # noqa: BLE001 - a server that is down is what a run under faults expects
            self.close()
            return NOT_KNOWN

    def writing(self) -> float | None:
        """Return how many transactions have written something and are not over; None where that cannot be asked."""
        if self._database is None or self._database.kind is not StoreKind.POSTGRES or self._connection is None:
            return None
        try:
            return float(self._connection.execute(_WRITING).fetchone()[0])
        except Exception:  # noqa: BLE001 - as above
            self.close()
            return None

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _postgres(self, database: Database) -> dict[str, int | None]:
        import psycopg  # noqa: PLC0415

        if self._connection is None:
            self._connection = psycopg.connect(database.url, autocommit=True, connect_timeout=2)
        sessions, waits = self._connection.execute(_POSTGRES).fetchone()
        return {"sessions": sessions, "lock_waits": waits}

    def _mongo(self, database: Database) -> dict[str, int | None]:
        import pymongo  # noqa: PLC0415

        if self._connection is None:
            self._connection = pymongo.MongoClient(database.url, serverSelectionTimeoutMS=2000)
        status = self._connection.admin.command("serverStatus", metrics=1, globalLock=1)
        queue = status["globalLock"]
        return {
            "sessions": queue["activeClients"]["total"],
            "lock_waits": queue["currentQueue"]["total"],
            "write_conflicts": status["metrics"]["operation"]["writeConflicts"],
        }
