"""Plays a conversation against a gate: what happened goes in, what is commanded comes out."""

from __future__ import annotations

from harness.wire.base import (
    CancelSent,
    ConnectionClosed,
    ConnectionClosing,
    ConnectionOpened,
    Decision,
    Event,
    Step,
    StepArrived,
    StepDone,
    Tunnelled,
)
from harness.wire.conversation import Command, Report, Session, ToClient, ToServer
from harness.wire.gate import Gate

EVENTS = (ConnectionOpened, StepArrived, StepDone, ConnectionClosing, ConnectionClosed, CancelSent, Tunnelled)


class Play:
    """A gate around a session, and a clock that stands still unless it is moved."""

    def __init__(self, session: Session, *, controlled: bool = True) -> None:
        self.now = 0.0
        self.gate = Gate(connection=1, session=session, clock=lambda: self.now, controlled=controlled, peer_port=5)
        self.gate.backend = 4321

    def client(self, *data: bytes) -> list[Command]:
        return self.gate.client_data(b"".join(data))

    def server(self, *data: bytes) -> list[Command]:
        return self.gate.server_data(b"".join(data))

    def decide(self, decision: Decision = Decision.RELEASE) -> list[Command]:
        return self.gate.decide(decision)


def events(commands: list[Command]) -> list[Event]:
    return [c.event for c in commands if isinstance(c, Report)]


def step(commands: list[Command]) -> Step:
    """Return the one step that arrived."""
    (arrived,) = [e for e in events(commands) if isinstance(e, StepArrived)]
    return arrived.step


def done(commands: list[Command]) -> StepDone:
    """Return the one end of a step."""
    (ended,) = [e for e in events(commands) if isinstance(e, StepDone)]
    return ended


def to_server(commands: list[Command]) -> bytes:
    return b"".join(c.data for c in commands if isinstance(c, ToServer))


def to_client(commands: list[Command]) -> bytes:
    return b"".join(c.data for c in commands if isinstance(c, ToClient))
