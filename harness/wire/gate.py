"""What is done with the next step: forward, hold, drop or close. Pure: takes what happened, returns commands.

One gate a connection. Units go to the store in the order in which the client said them. While the proxy is controlled, at
most one is held or in flight, so that a step is never sent before the answer of the one before it; in passthrough
everything goes at once. What each decision does is the table `PLANS`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from harness.model.errors import UsageError
from harness.wire.base import (
    ConnectionClosing,
    ConnectionOpened,
    Decision,
    Fate,
    StepArrived,
    StepDone,
    Tunnelled,
)
from harness.wire.conversation import (
    Cancel,
    CloseClient,
    CloseServer,
    Command,
    Finished,
    Invite,
    Item,
    KillServer,
    Opened,
    Refused,
    Report,
    Session,
    StartTls,
    ToClient,
    ToServer,
    Unit,
    Unreadable,
)


class Move(Enum):
    """What the gate does with a unit."""

    FORWARD = "forward"
    HOLD = "hold"
    DROP = "drop"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a decision means: whether the unit goes to the store, whether its answer comes back, who is ended when."""

    move: Move
    fate: Fate
    answer: bool = True
    kill: bool = False
    close: bool = False


PLANS = {
    Decision.RELEASE: Plan(move=Move.FORWARD, fate=Fate.ANSWERED),
    Decision.LOSE_REQUEST: Plan(move=Move.DROP, fate=Fate.REQUEST_LOST, close=True),
    Decision.LOSE_REPLY: Plan(move=Move.FORWARD, fate=Fate.REPLY_LOST, answer=False, close=True),
    Decision.KILL_BACKEND: Plan(move=Move.FORWARD, fate=Fate.BACKEND_KILLED, answer=False, kill=True),
    Decision.KILL_BACKEND_FIRST: Plan(move=Move.DROP, fate=Fate.BACKEND_KILLED, kill=True),
    Decision.KILL_CLIENT: Plan(move=Move.DROP, fate=Fate.CLIENT_KILLED, close=True),
}
_RELEASE = PLANS[Decision.RELEASE]
_FORGOTTEN = Plan(move=Move.DROP, fate=Fate.CLIENT_KILLED, kill=True)
"""A dead client whose transaction the store would keep until a time limit is over: the limit is made to be over now."""
EXPIRED = Plan(move=Move.DROP, fate=Fate.HOLD_EXPIRED, close=True)


WITHHELD_LIMIT = 65_536
"""Bytes of an answer to be lost that are kept; what asks a client to go on comes long before."""


def move_of(*, controlled: bool, gated: bool, waiting: bool) -> Move | None:
    """Return what becomes of the next unit: forwarded, held, or (None) left in the queue behind one that is not done."""
    if not controlled:
        return Move.FORWARD
    if waiting:
        return None
    return Move.HOLD if gated else Move.FORWARD


class Gate:
    """One connection's gate.

    Args:
        connection: its number.
        session: reads its protocol.
        clock: seconds, for how long steps take and are held.
        controlled: steps are held; otherwise everything is forwarded at once.
        peer_port: the application's own port, for `ConnectionOpened`.
    """

    def __init__(
        self, *, connection: int, session: Session, clock: Callable[[], float], controlled: bool, peer_port: int = 0
    ) -> None:
        self.connection = connection
        self.controlled = controlled
        self.held: Unit | None = None
        self.opened: ConnectionOpened | None = None
        self.backend = 0
        """What stands for the store's side if the protocol does not say: set when that side is connected."""
        self._session = session
        self._clock = clock
        self._peer_port = peer_port
        self._waiting: deque[Unit] = deque()
        self._in_flight: deque[Unit] = deque()
        self._dying: Unit | None = None
        self._plan = _RELEASE
        self._withheld = bytearray()
        """The beginning of an answer that is to be lost, in case the client must be asked to go on."""
        self._since = 0.0
        self._index = 0
        self._goodbye = False
        self._over = False
        """The client's side is gone or as good as gone: nothing more is forwarded."""

    # What happened

    def client_data(self, data: bytes) -> list[Command]:
        """The application sent bytes."""
        return [] if self._over else self._take(self._session.client_data(data))

    def server_data(self, data: bytes) -> list[Command]:
        """The store sent bytes."""
        return self._take(self._session.server_data(data))

    def client_gone(self) -> list[Command]:
        """The application closed its side."""
        if self._over:
            return []
        out: list[Command] = []
        if self.held is not None:
            out.append(self._done(self.held, Fate.ABANDONED))
        out += [ToServer(unit.data) for unit in self._waiting if unit.closing]
        self._say_closing(out)
        return self._end(out)

    def server_gone(self) -> list[Command]:
        """The store closed its side, by itself or because it was asked or made to."""
        fate = self._plan.fate if self._plan.kill else Fate.BROKEN
        units = [*self._in_flight, *([self._dying] if self._dying else []), *([self.held] if self.held else [])]
        self._in_flight.clear()
        self._dying = None
        out: list[Command] = [self._done(unit, fate) for unit in units if unit.step]
        return self._end(out)

    # What was decided

    def decide(self, decision: Decision) -> list[Command]:
        """Do this with the held step.

        Raises:
            UsageError: none is held.
        """
        if self.held is None:
            raise UsageError(f"connection {self.connection} holds no step to decide on; wait for its StepArrived")
        plan = PLANS[decision]
        if decision is Decision.KILL_CLIENT and self._session.outlives_connection:
            plan = _FORGOTTEN
        return self._carry_out(plan)

    def expire(self, now: float, limit: float) -> list[Command]:
        """Give up a step that has been held for more than ``limit`` seconds."""
        return self._carry_out(EXPIRED) if self.held is not None and now - self._since > limit else []

    def drop(self) -> list[Command]:
        """Close both sides."""
        out: list[Command] = [self._done(self.held, Fate.ABANDONED)] if self.held is not None else []
        return self._end(out)

    def set_controlled(self, controlled: bool) -> list[Command]:
        """Hold steps from now on, or let everything go that is held and all that comes."""
        self.controlled = controlled
        if controlled:
            return []
        out = self._carry_out(_RELEASE) if self.held is not None else []
        self._advance(out)
        return out

    # How it is done

    def _take(self, items: list[Item]) -> list[Command]:
        out: list[Command] = []
        for item in items:
            if isinstance(item, ToClient | Invite):
                self._answer(item, out)
            elif isinstance(item, Unit):
                self._waiting.append(item)
            elif isinstance(item, Finished):
                self._finish(item.unit, out)
            elif isinstance(item, Refused):
                out.append(ToClient(item.data))
                out.append(Report(Tunnelled(connection=self.connection, reason=item.reason)))
                return self._end(out)
            else:
                self._rarely(item, out)
        self._advance(out)
        return out

    def _rarely(self, item: Opened | Unreadable | Cancel | StartTls | ToServer, out: list[Command]) -> None:
        if isinstance(item, Opened):
            self._open(item, out)
        elif isinstance(item, Unreadable):
            out += [self._done(unit, Fate.BROKEN) for unit in self._in_flight if unit.step]
            self._in_flight.clear()
            self._plan = self._plan if self._plan.kill else _RELEASE
            out.append(Report(Tunnelled(connection=self.connection, reason=item.reason)))
        elif isinstance(item, Cancel):
            out += [ToServer(item.data), item]
        else:
            out.append(item)

    def _answer(self, item: ToClient | Invite, out: list[Command]) -> None:
        """Pass on what the store says, or keep it back if it is to be lost."""
        if self._over:
            return
        if self._plan.answer:
            out.append(item if isinstance(item, ToClient) else ToClient(item.data))
        elif isinstance(item, Invite):
            out.append(ToClient(bytes(self._withheld) + item.data))
            self._withheld.clear()
        elif len(self._withheld) < WITHHELD_LIMIT:
            self._withheld += item.data

    def _advance(self, out: list[Command]) -> None:
        """Send or hold what may go now."""
        while self._waiting and self.held is None and not self._over and self._session.ready:
            unit = self._waiting[0]
            busy = bool(self._in_flight)
            gated = self.controlled and not busy and self._session.gated(unit)
            move = move_of(controlled=self.controlled, gated=gated, waiting=busy)
            if move is None:
                return
            self._waiting.popleft()
            if move is Move.HOLD:
                self._hold(unit, out)
            else:
                self._forward(unit, out)
                if unit.closing:
                    self._say_closing(out)

    def _hold(self, unit: Unit, out: list[Command]) -> None:
        unit.step = self._session.describe(unit, self.connection, self._index)
        self._index += 1
        self.held = unit
        self._since = self._clock()
        out.append(Report(StepArrived(step=unit.step)))

    def _forward(self, unit: Unit, out: list[Command]) -> bool:
        """Send a unit on; return whether an answer is to come."""
        out.append(ToServer(unit.data))
        if answered := self._session.begin(unit):
            self._in_flight.append(unit)
        return answered

    def _carry_out(self, plan: Plan) -> list[Command]:
        unit = self.held
        assert unit is not None
        assert unit.step is not None
        self.held = None
        self._plan = plan
        self._since = self._clock()
        out: list[Command] = []
        if plan.move is Move.FORWARD:
            answered = self._forward(unit, out)
            if plan.kill:
                self._dying = None if answered else unit
                out.append(KillServer(unit.step.session))
            elif not answered:
                self._finish(unit, out)
                self._advance(out)
            return out
        if plan.kill:
            self._dying = unit
            out.append(KillServer(unit.step.session))
            return out
        out.append(self._done(unit, plan.fate))
        return self._end(out)

    def _finish(self, unit: Unit, out: list[Command]) -> None:
        if unit in self._in_flight:
            self._in_flight.remove(unit)
        if unit.step is None:
            return
        plan = self._plan
        if plan.kill:  # it was quicker than its death; that is told when it is dead
            self._dying = unit
            return
        fate = Fate.BROKEN if self._over else plan.fate
        if fate is Fate.ANSWERED and not unit.replies:
            fate = Fate.UNACKNOWLEDGED
        out.append(self._done(unit, fate))
        if plan.close:
            self._end(out)

    def _open(self, item: Opened, out: list[Command]) -> None:
        self.opened = ConnectionOpened(
            connection=self.connection,
            backend=self.backend if item.backend is None else item.backend,
            application_name=item.application_name,
            user=item.user,
            peer_port=self._peer_port,
        )
        out.append(Report(self.opened))

    def _say_closing(self, out: list[Command]) -> None:
        if self.opened is not None and not self._goodbye:
            self._goodbye = True
            in_transaction = self._session.in_transaction()
            out.append(Report(ConnectionClosing(connection=self.connection, in_transaction=in_transaction)))

    def _done(self, unit: Unit, fate: Fate) -> Report:
        assert unit.step is not None
        result, status = self._session.finished(unit)
        elapsed = self._clock() - self._since
        return Report(StepDone(step=unit.step, fate=fate, result=result, status=status, elapsed=elapsed))

    def _end(self, out: list[Command]) -> list[Command]:
        """Close both sides, once."""
        if not self._over:
            self._over = True
            out += [CloseClient(), CloseServer()]
        self.held = None
        self._waiting.clear()
        return out
