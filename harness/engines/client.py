"""One client at work: performs calls on its own connection, records them, carries out the faults asked for.

Shared by every engine, so that an operation means the same under stress, exploration and load.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from harness.model.operation import Call, Failure, Operation, Outcome
from harness.targets.base import Connection
from harness.targets.classify import classify_error


class Record(Protocol):
    """Where events go: `harness.recording.recorder.Recorder`, or a list in a test."""

    def invoke(self, *, process: int, client: int, f: str, token: str, arguments: Mapping[str, Any]) -> int:
        """Record an invocation and return its time in ns."""

    def complete(
        self,
        *,
        process: int,
        client: int,
        f: str,
        token: str,
        outcome: Outcome,
        at: int,
        attempts: int = 1,
        result: Mapping[str, Any] | None = None,
        failure: Failure | None = None,
    ) -> None:
        """Record a completion seen at ``at`` ns."""


class InjectedRefusal(Exception):
    """The business said no, because a fault asked for it."""

    refusal = "injected_refusal"


class InjectedVanish(Exception):
    """The client's connection was cut on purpose; it will never learn what became of its operation."""


class ClientKilled(BaseException):
    """Raised in the code of a client that was killed in its own thread. No driver's handler of errors takes it for one."""

    arrived: ClassVar[set[int]] = set()
    """The threads in which it was raised, by their idents."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived.add(threading.get_ident())


class Client:
    """A client in its seat. Not safe to share between threads.

    Args:
        number: the client, 0 to ``clients`` - 1.
        clients: how many there are: the step between a client's successive Jepsen processes.
        generation: where this client's processes begin; grows with each ``info``.
        connect: opens a connection of its own to the target.
        record: where events go.
        clock: monotonic nanoseconds.
        passing: told each named point of an operation as the client comes to it; may keep it there.
    """

    def __init__(
        self,
        *,
        number: int,
        clients: int,
        connect: Callable[[], Connection],
        record: Record,
        clock: Callable[[], int],
        generation: int = 0,
        passing: Callable[[str], None] = lambda point: None,
    ) -> None:
        self.number = number
        self._clients = clients
        self._generation = generation
        self._connect = connect
        self._record = record
        self._clock = clock
        self._passing = passing
        self._connection: Connection | None = None

    @property
    def process(self) -> int:
        """The Jepsen process that this client is acting as."""
        return self.number + self._generation * self._clients

    @property
    def connected(self) -> bool:
        """Tell whether there is a connection; there is none after an unknown outcome, until the next call."""
        return self._connection is not None

    def open(self) -> None:
        """Connect, if not connected."""
        if self._connection is None:
            self._connection = self._connect()

    def close(self) -> None:
        """Close the connection in good order."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def perform(self, call: Call) -> Operation:
        """Carry out one call and return the completed operation. Only racegate's own errors are raised."""
        self.open()
        assert self._connection is not None
        process = self.process
        invoked = self._record.invoke(process=process, client=self.number, f=call.f, token=call.token, arguments=call.arguments)
        outcome, result, failure, attempts = self._attempt(self._connection, call)
        completed = self._clock()
        self._record.complete(
            process=process,
            client=self.number,
            f=call.f,
            token=call.token,
            outcome=outcome,
            at=completed,
            attempts=attempts,
            result=result,
            failure=failure,
        )
        if outcome is Outcome.INFO:
            self._begin_anew()
        return Operation(
            process=process,
            client=self.number,
            f=call.f,
            token=call.token,
            arguments=call.arguments,
            invoked=invoked,
            completed=completed,
            outcome=outcome,
            result=result,
            failure=failure,
            attempts=attempts,
        )

    def _attempt(self, connection: Connection, call: Call) -> tuple[Outcome, Mapping[str, Any] | None, Failure | None, int]:
        def checkpoint(point: str) -> None:
            self._passing(point)
            fault = call.fault
            if fault is None or fault.point != point:
                return
            if fault.kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault.kind == "vanish":
                connection.vanish()
                raise InjectedVanish("the connection was cut on purpose")
            if fault.kind == "refuse":
                raise InjectedRefusal(f"refused on purpose at {point}")

        try:
            result = connection.call(call.f, call.arguments, call.token, checkpoint)
        except InjectedVanish as e:
            return Outcome.INFO, None, Failure(code="vanished", message=str(e)), 1
        except ClientKilled:
            return Outcome.INFO, None, Failure(code="killed", message="the client was killed on purpose"), 1
        except Exception as e:  # noqa: BLE001 - whatever a target raises is an outcome, that is the point
            outcome, failure = classify_error(e)
            return outcome, None, failure, int(getattr(e, "attempts", 1))
        if call.fault is not None and call.fault.kind == "lose_reply":
            return Outcome.INFO, None, Failure(code="reply_lost", message="the reply was lost on purpose"), 1
        return Outcome.OK, result, None, int(result.get("attempts", 1))

    def _begin_anew(self) -> None:
        """After an unknown outcome the old connection is not to be trusted and the old process never acts again."""
        self._generation += 1
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.vanish()
