"""What a wire proxy tells whoever decides the order, and what it can be told to do.

A proxy stands between an application and its store. It cuts the traffic of each connection into *steps*: one statement
or round trip that the store may be asked to wait with. Each step is reported as `StepArrived` and held until somebody
decides on it; the end of a step is reported as `StepDone`. On one connection, at most one step is held or in flight.

Two ways to drive it. In the loop (fast, no thread is woken): pass ``on_event`` to `WireProxy.control`; it is called in
the proxy's own thread for every event, must return soon, and may call `WireProxy.decide` at once or later. From another
thread: `WireProxy.control` without a callback, then `WireProxy.next_event` and `WireProxy.decide`, which block at most
on a queue.

Held by the gate and blocked by the database are different states: a step that was released and is not done yet is in
flight, and whether it waits for a lock is asked of the database (`harness.wire.postgres.blocking`,
`harness.wire.mongo.blocking`), never guessed by the proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

HOLD_LIMIT = 30.0
"""Seconds that a step may be held before the proxy gives up on whoever decides."""


class StepKind(StrEnum):
    """What a step does, as far as its first word tells. Best effort: ``other`` may be anything."""

    BEGIN = "begin"
    READ = "read"
    WRITE = "write"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    OTHER = "other"


class Status(StrEnum):
    """Where a connection (PostgreSQL) or session (MongoDB) stands: the letters are PostgreSQL's."""

    IDLE = "I"
    IN_TRANSACTION = "T"
    FAILED = "E"


class Decision(Enum):
    """What is done with a held step."""

    RELEASE = "release"
    """Forward it. `StepDone` follows."""
    LOSE_REQUEST = "lose_request"
    """Never forward it; close both sides. The store rolls back, the application sees its connection break."""
    LOSE_REPLY = "lose_reply"
    """Forward it, wait until the store is done, then close both sides without passing the reply on.

    On a COMMIT this is the ambiguous one: committed, and the application sees an error."""
    KILL_BACKEND = "kill_backend"
    """Forward it and end the store's side of the connection at once. Nobody knows whether it took effect."""
    KILL_BACKEND_FIRST = "kill_backend_first"
    """End the store's side before it sees the step: rolled back for certain, and repeatable."""
    KILL_CLIENT = "kill_client"
    """The client died here: the step is not forwarded and both sides are closed, as with ``LOSE_REQUEST``.

    What the application does next is nobody's any more: whoever decides must not take it for the client's retry."""


class Fate(StrEnum):
    """How a step ended."""

    ANSWERED = "answered"
    """The store's answer (which may be an error) was passed on."""
    UNACKNOWLEDGED = "unacknowledged"
    """Forwarded, and the application is told nothing, by protocol (PostgreSQL's messages without Sync, MongoDB's ``w: 0``) or
    because the answer goes by unread (`Tunnelled`). A ``w: 0`` is done: the proxy asks for the answer and keeps it."""
    REQUEST_LOST = "request_lost"
    """Not forwarded, by decision."""
    REPLY_LOST = "reply_lost"
    """Carried out, and the answer withheld by decision."""
    BACKEND_KILLED = "backend_killed"
    """The store's side was ended by decision."""
    CLIENT_KILLED = "client_killed"
    """Not forwarded: the client died here, by decision."""
    HOLD_EXPIRED = "hold_expired"
    """Nobody decided within the limit: not forwarded, both sides closed. The harness is to blame, not the target."""
    ABANDONED = "abandoned"
    """The application closed the connection while the step was held: not forwarded."""
    BROKEN = "broken"
    """The connection broke by itself while the step was in flight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One unit of work that is held or released as a whole.

    ``fingerprint`` is the normalised statement: no literals, ids or timestamps, the same in every run. ``parameters``
    are decoded where their format is text or a common binary one, else shown as ``bytes``. ``housekeeping`` marks what
    a pool or driver does by itself and what touches no row (SET, SHOW, ...): outside a transaction such a step is
    forwarded without being asked about, inside one it is a step like any other. ``statements`` above 1 marks several
    statements in one round trip, which cannot be split without changing what they mean. ``attempt`` is 2 when a MongoDB
    driver sends a retryable write again. ``tags`` come from a comment in the statement
    (``/*client='2',route='pay'*/``) or from MongoDB's ``comment`` field.
    """

    connection: int
    index: int
    text: str
    fingerprint: str
    parameters: tuple[Any, ...] = ()
    kind: StepKind = StepKind.OTHER
    housekeeping: bool = False
    status: Status = Status.IDLE
    """Before the step."""
    session: str = ""
    """PostgreSQL: the backend's process id. MongoDB: the logical session id, which outlives the connection."""
    statements: int = 1
    attempt: int = 1
    acknowledged: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)
    isolation: str = ""
    """The level that the session chose for its transactions, in lower case; empty where it left the server's."""
    body: Any = None
    """MongoDB: the command document, for footprints. None for PostgreSQL."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What the store answered.

    ``tag`` is the last command tag (``INSERT 0 1``) or the MongoDB reply in short, ``rows`` the number of rows that
    came back, ``count`` the number of rows that the tag names. ``error`` is a SQLSTATE or ``mongo:112``.
    """

    tag: str = ""
    rows: int = 0
    count: int | None = None
    error: str | None = None
    message: str | None = None
    first_rows: tuple[tuple[Any, ...], ...] = ()
    """At most `SHOWN_ROWS` rows, values as text (PostgreSQL) or in short (MongoDB)."""


SHOWN_ROWS = 3
"""How many rows of a result are kept for showing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionOpened:
    """A connection finished its start-up and can carry steps.

    ``backend`` is what the database's lock views call it: PostgreSQL's process id; for MongoDB the port from which the
    proxy is connected to the server (``client`` in ``$currentOp``). ``peer_port`` is the application's own port.
    A MongoDB connection counts as open with its first command that is not a handshake, so that a driver's heartbeat
    connections, which carry no steps, never appear.
    """

    connection: int
    backend: int
    application_name: str
    user: str = ""
    peer_port: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepArrived:
    """A step is held, and stays so until it is decided on."""

    step: Step


@dataclass(frozen=True, kw_only=True, slots=True)
class StepDone:
    """A step ended. ``status`` is the transaction's state after it; ``elapsed`` seconds from release to the end."""

    step: Step
    fate: Fate
    result: Result
    status: Status
    elapsed: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionClosing:
    """The application hung up. ``in_transaction``: the store will roll back, which releases locks."""

    connection: int
    in_transaction: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionClosed:
    """Both sides are gone, and the store has let go of everything that the connection held (it closed its side)."""

    connection: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelSent:
    """The application asked the server to cancel what a connection is doing (None: a key that is not ours)."""

    connection: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tunnelled:
    """From here on a connection's traffic is passed on unread, and can be neither held nor explained."""

    connection: int
    reason: str


Event = ConnectionOpened | StepArrived | StepDone | ConnectionClosing | ConnectionClosed | CancelSent | Tunnelled


class WireProxy(Protocol):
    """A running proxy. Made by `harness.wire.opening.open_proxy`; starts in passthrough."""

    url: str
    """What the application connects to. May hold a password: print ``shown`` instead."""
    shown: str

    def control(self, on_event: Callable[[Event], None] | None = None) -> None:
        """Hold every step from now on, and report events to ``on_event`` (called in the loop) or to the queue.

        An exception in ``on_event`` is kept, everything held is let go, and the next call from outside raises it.
        """

    def passthrough(self) -> None:
        """Forward everything, report nothing. Steps that are held are released."""

    def decide(self, step: Step, decision: Decision = Decision.RELEASE) -> None:
        """Do this with a held step. From any thread; in the loop it takes effect before the call returns.

        Raises:
            UsageError: in the loop, the step is not held (any more). From other threads such a decision is ignored,
                because the application may have hung up meanwhile: its `StepDone` says so.
        """

    def next_event(self, timeout: float | None = None) -> Event | None:
        """Return the next event, or None after ``timeout`` seconds. Not for use in the loop."""

    def open_connections(self) -> Mapping[int, ConnectionOpened]:
        """Return the connections that are open and ready, by number."""

    def store_ports(self) -> frozenset[int]:
        """Return the ports from which the proxy is connected to the store, for connections that are not open yet too."""

    def connections_made(self) -> int:
        """Return how many connections were made through the proxy since its start, those that are closed included."""

    def tunnelled(self) -> Sequence[Tunnelled]:
        """Return what was passed on unread since the start, also in passthrough."""

    def drop_connection(self, connection: int) -> None:
        """Close both sides of a connection. From any thread. Unknown numbers are ignored."""

    def call_in_loop(self, action: Callable[[], T]) -> T:
        """Run a function in the proxy's thread, wait for it and return its result."""

    def post(self, action: Callable[[], None]) -> None:
        """Have a function run in the proxy's thread soon, without waiting for it. From any thread."""

    def call_later(self, delay: float, action: Callable[[], None]) -> Callable[[], None]:
        """In the loop: run a function after ``delay`` seconds; the returned function calls it off."""

    def close(self) -> None:
        """Close every connection, stop listening and end the thread. May be called twice."""
