"""Plays an interleaving: operations of a variant, paused at named points, on real connections, and recorded as a history.

There is no sleep that orders anything. A paused operation waits for an event; an operation that the database holds up is
recognised by asking the database whom it waits for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from harness.engines.client import InjectedRefusal
from harness.invariants.registry import REGISTRY
from harness.model import Books, Call, Fault, Finding, History, Operation, Outcome, Policy
from harness.stores.base import Database, StoreKind
from harness.stores.mongo import lasting_transactions
from harness.targets.books_reader import read_books
from harness.targets.classify import classify_error
from reference_impl.provider import PROVIDER

PATIENCE = 20.0
"""Seconds after which a test gives up waiting: a fault of the test, never a result."""


class Vanished(Exception):
    """The client was cut off."""


@dataclass
class _Collected:
    operations: list[Operation] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Actor:
    """One client of the play."""

    def __init__(self, number: int, connection: Any, collected: _Collected, blocked: Callable[[int], bool]) -> None:
        self.number = number
        self.connection = connection
        self.last: Operation | None = None
        self._collected = collected
        self._blocked = blocked
        self._thread: threading.Thread | None = None
        self._paused = threading.Event()
        self._go = threading.Event()

    def does(self, f: str, token: str, fault: Fault | None = None, **arguments: Any) -> Operation:
        """Carry out an operation from beginning to end."""
        self.begins(f, token, fault=fault, **arguments)
        return self.ends()

    def begins(self, f: str, token: str, *, until: str | None = None, fault: Fault | None = None, **arguments: Any) -> None:
        """Start an operation; return when it has reached the point ``until``, is held up by the database, or is done."""
        self._paused.clear()
        self._go.clear()
        if hasattr(self.connection.session, "attempt"):
            self.connection.session.attempt = 0
        call = Call(f=f, token=token, arguments=arguments, fault=fault)
        self._thread = threading.Thread(target=self._perform, args=(call, until), daemon=True)
        with self._lasting() if until else nullcontext():
            self._thread.start()
            limit = time.monotonic() + PATIENCE
            while self._thread.is_alive() and not self._paused.is_set():
                if self._blocked(self.number):
                    return
                assert time.monotonic() < limit, f"client {self.number} neither paused, nor waited, nor ended"
                self._thread.join(0.002)

    def _lasting(self) -> AbstractContextManager[None]:
        """Let a transaction that will be paused last; one whose client vanished ends soon, so that others need not wait."""
        database = getattr(self.connection.session, "database", None)
        return nullcontext() if database is None else lasting_transactions(database.client)

    @property
    def waits(self) -> bool:
        """Whether the operation was begun and has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def ends(self) -> Operation:
        """Let the operation go on to its end and return it."""
        self._go.set()
        assert self._thread is not None
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), f"client {self.number} did not end"
        assert self.last is not None
        return self.last

    def _perform(self, call: Call, until: str | None) -> None:
        def at(point: str) -> None:
            if point == until and not self._go.is_set():
                self._paused.set()
                assert self._go.wait(PATIENCE)
            if call.fault and call.fault.point == point:
                if call.fault.kind == "vanish":
                    self.connection.vanish()
                raise InjectedRefusal(call.fault.kind) if call.fault.kind == "refuse" else Vanished(call.fault.kind)

        invoked = time.monotonic_ns()
        result, failure = None, None
        try:
            result = self.connection.call(call.f, call.arguments, call.token, at)
            outcome = Outcome.OK
        except Exception as e:  # noqa: BLE001 - every failure is an outcome
            outcome, failure = classify_error(e)
        self.last = Operation(
            process=self.number,
            client=self.number,
            f=call.f,
            token=call.token,
            arguments=call.arguments,
            invoked=invoked,
            completed=time.monotonic_ns(),
            outcome=outcome,
            result=result,
            failure=failure,
        )
        with self._collected.lock:
            self._collected.operations.append(self.last)


class Play:
    """A variant on a database with its clients."""

    def __init__(self, variant: str, database: Database, settings: Mapping[str, Any]) -> None:
        self.target = PROVIDER.target(variant, settings)
        self.database = database
        self.target.install(database)
        self._collected = _Collected()
        self._connections: list[Any] = []

    def actor(self) -> Actor:
        """Bring in another client."""
        number = len(self._connections)
        connection = self.target.connect(self.database, number)
        self._connections.append(connection)
        return Actor(number, connection, self._collected, self._blocked)

    def _blocked(self, number: int) -> bool:
        if self.database.kind is not StoreKind.POSTGRES:  # MongoDB does not wait: it says no, and the client tries again
            return bool(self._connections[number].session.attempt > 1)
        return _waits_in_postgres(self.database, self._connections[number])

    def books(self) -> Books:
        """Read the books."""
        books = read_books(self.database, self.target.books())
        assert books.complete, books.trouble
        return books

    @property
    def history(self) -> History:
        """What happened so far."""
        return History.of(sorted(self._collected.operations, key=lambda o: o.invoked))

    def findings(self, *invariants: str) -> list[Finding]:
        """Let the named invariants judge."""
        history, books = self.history, self.books()
        policy = Policy(name="unique")
        return [f for id in invariants for f in REGISTRY[id].check(history, books, policy)]

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            connection.close()


@contextmanager
def play(variant: str, database: Database, **settings: Any) -> Iterator[Play]:
    """Install the variant with these settings, and close its connections afterwards."""
    staged = Play(variant, database, settings)
    try:
        yield staged
    finally:
        staged.close()


def _waits_in_postgres(database: Database, connection: Any) -> bool:
    """Ask PostgreSQL whether one of a client's two sessions waits for a lock."""
    import psycopg

    pids = connection.session.pids()
    if not pids:
        return False
    with psycopg.connect(database.url, autocommit=True) as asking:
        found = asking.execute(
            "SELECT bool_or(cardinality(pg_blocking_pids(pid)) > 0) FROM unnest(%s::int[]) AS pid", [pids]
        ).fetchone()
    return bool(found and found[0])
