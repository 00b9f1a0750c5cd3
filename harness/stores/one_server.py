"""A store that is one server of ours: its databases, and the faults that it can be made to suffer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from harness.stores.base import SERVER_FAULTS, Database


class Databases(Protocol):
    """The databases of one server."""

    def create(self) -> Database:
        """Make an empty one."""

    def drop(self, database: Database) -> None:
        """Drop one, whoever is still connected."""

    def in_flight(self, database: Database) -> list[str]:
        """Describe what its clients have open."""

    def end_in_flight(self, database: Database) -> int:
        """End that."""


class Server(Protocol):
    """A server's processes."""

    def order(self, order: str) -> None:
        """Carry out ``kill``, ``start``, ``restart``, ``pause`` or ``resume``, and return when it is done."""


class OneServer(ABC):
    """What every store of one server does in the same way. A subclass makes ``_server`` and ``_databases``."""

    faults = SERVER_FAULTS
    _server: Server
    _databases: Databases
    _away: str | None = None

    @abstractmethod
    def _await_server(self) -> None:
        """Return when the server, which was started, takes requests."""

    def create_database(self) -> Database:
        """Make an empty database."""
        return self._databases.create()

    def drop_database(self, database: Database) -> None:
        """Drop it, whoever is still connected."""
        self._databases.drop(database)

    def in_flight(self, database: Database) -> list[str]:
        """Describe what its clients have open."""
        return self._databases.in_flight(database)

    def end_in_flight(self, database: Database) -> int:
        """End that, and return how many sessions or operations it was."""
        return self._databases.end_in_flight(database)

    def kill_server(self) -> None:
        """Kill the server and all its processes (SIGKILL). `start_server` brings it back."""
        self._server.order("kill")
        self._away = "killed"

    def start_server(self) -> None:
        """Start the server again after `kill_server`, on the same port and data."""
        self._server.order("start")
        self._await_server()
        self._away = None

    def restart(self) -> None:
        """Stop the server at once and start it again: every connection is lost, committed work is not."""
        self._server.order("restart")
        self._await_server()

    def pause_server(self) -> None:
        """Freeze the server. `resume_server` lets it go on. Of PostgreSQL only the first process freezes: nobody new gets in."""
        self._server.order("pause")
        self._away = "paused"

    def resume_server(self) -> None:
        """Let a frozen server go on."""
        self._server.order("resume")
        self._away = None

    def recover(self) -> None:
        """Undo the fault that is still in force, if any."""
        if self._away == "killed":
            self.start_server()
        elif self._away == "paused":
            self.resume_server()
