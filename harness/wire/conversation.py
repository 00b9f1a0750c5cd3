"""What a session, of either protocol, tells the gate: the vocabulary between the two. No I/O.

A session reads bytes and returns items; the gate decides and returns commands; the server carries commands out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.wire.base import Event, Result, Status, Step


class Unit:
    """What a client said up to the point where it waits for the store: held or forwarded as a whole.

    ``replies`` is false when, by protocol, nothing comes back. ``closing`` marks the client's goodbye. ``step`` is set
    when the unit is held, so that the session keeps what the store answers.
    """

    __slots__ = ("closing", "data", "replies", "step")

    def __init__(self, data: bytes | bytearray, *, replies: bool = True, closing: bool = False) -> None:
        self.data: bytes | bytearray = data
        self.replies = replies
        self.closing = closing
        self.step: Step | None = None


@dataclass(frozen=True, slots=True)
class ToServer:
    """Send these bytes to the store now, whatever is held."""

    data: bytes | bytearray


@dataclass(frozen=True, slots=True)
class ToClient:
    """Send these bytes to the application now."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Invite:
    """Send these bytes to the application even if the answer is to be lost: they ask it to go on with its request."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """The oldest unit that was begun has got its whole answer."""

    unit: Unit


@dataclass(frozen=True, slots=True)
class Opened:
    """The start-up is over."""

    backend: int | None
    application_name: str
    user: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """The client asked, on a connection made for that, to cancel what another connection is doing."""

    data: bytes
    key: tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The rest of the conversation is passed on unread."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The client wants something that the proxy cannot do: answer this and close."""

    data: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class StartTls:
    """Answer these bytes, then go on in TLS as the server's side."""

    data: bytes


Item = Unit | ToServer | ToClient | Invite | Finished | Opened | Cancel | Unreadable | Refused | StartTls


@dataclass(frozen=True, slots=True)
class Report:
    """Tell whoever decides."""

    event: Event


@dataclass(frozen=True, slots=True)
class CloseClient:
    """Close the application's side."""


@dataclass(frozen=True, slots=True)
class CloseServer:
    """Say to the store that nothing more comes, and wait until it closes its side."""


@dataclass(frozen=True, slots=True)
class KillServer:
    """End the store's side by force. ``session`` is the step's, for stores whose sessions outlive a connection."""

    session: str


Command = ToServer | ToClient | Report | CloseClient | CloseServer | KillServer | Cancel | StartTls


class Session(Protocol):
    """One connection's conversation in one protocol."""

    @property
    def ready(self) -> bool:
        """The start-up is over: units may be begun."""

    @property
    def outlives_connection(self) -> bool:
        """The store keeps a transaction when its connection ends, until a time limit is over."""

    @property
    def cancel_key(self) -> bytes:
        """The secret with which the store lets this connection be cancelled; empty if there is no such thing."""

    def client_data(self, data: bytes) -> list[Item]:
        """Take in what the application sent."""

    def server_data(self, data: bytes) -> list[Item]:
        """Take in what the store sent. Bytes for the application come back as `ToClient`, before what they finish."""

    def gated(self, unit: Unit) -> bool:
        """Tell whether the unit is a step. Asked when it is the next to go and nothing is in flight."""

    def describe(self, unit: Unit, connection: int, index: int) -> Step:
        """Return the unit as a step."""

    def begin(self, unit: Unit) -> bool:
        """Note that the unit's bytes are on their way to the store; return whether an answer is to come."""

    def finished(self, unit: Unit) -> tuple[Result, Status]:
        """Return what the store answered to a unit that is a step, as far as it did, and the status after it."""

    def in_transaction(self) -> bool:
        """Tell whether the store would have something to roll back if the connection ended now."""
