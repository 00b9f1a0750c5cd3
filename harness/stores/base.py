"""What every store and database offers, however it was obtained."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class StoreKind(StrEnum):
    """The two kinds of server."""

    POSTGRES = "postgres"
    MONGO = "mongo"


@dataclass(frozen=True, kw_only=True)
class Database:
    """One isolated place on a store: what a run works in. A plain value that can be sent to other processes.

    ``url`` is a PostgreSQL URL (``postgresql://user:password@host:port/name?options=...``) or a MongoDB URI with a
    database name and every option that a driver needs. It may hold a password: print ``shown`` instead.
    """

    kind: StoreKind
    name: str
    url: str = field(repr=False)
    shown: str


SERVER_FAULTS = frozenset({"kill_server", "start_server", "restart", "pause_server", "resume_server"})
"""What can be done to one server that racegate started: names of methods of its store."""


class Store(Protocol):
    """A running server. Closing it stops what racegate started and leaves alone what it did not.

    A store that racegate started may also have ``faults``, the names of methods that hurt its servers on purpose and tell in a
    sentence what they did, and ``recover()``, which undoes what is still in force.
    """

    kind: StoreKind
    description: str
    """For people and reports: ``PostgreSQL 18.1, embedded``. Never a password."""

    def create_database(self) -> Database:
        """Make a fresh, empty database. Cheap: tens of milliseconds."""

    def drop_database(self, database: Database) -> None:
        """Remove a database that `create_database` made, whoever is still connected to it."""

    def in_flight(self, database: Database) -> list[str]:
        """Describe the transactions that are open in the database, one line each; empty when it is at rest."""

    def end_in_flight(self, database: Database) -> int:
        """End the sessions that still hold transactions, and return how many were ended."""

    def close(self) -> None:
        """Stop the server if racegate started it. May be called twice."""
