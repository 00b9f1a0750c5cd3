"""A tiny target and scenarios that need no store: for tests of the machinery around them."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.model import Call, Fault, Program, Seat, Setting
from harness.targets.base import Checkpoint


class EchoConnection:
    """Answers with what it was sent; ``hang`` never comes back, ``raise`` raises, ``die`` kills the process."""

    def __init__(self) -> None:
        self.vanished = False

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> Mapping[str, Any]:
        checkpoint("number_taken")
        if f == "hang":
            threading.Event().wait()
        if f == "raise":
            raise ZeroDivisionError("division by zero")
        if f == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"number": arguments.get("number", 1), "attempts": 1}

    def vanish(self) -> None:
        self.vanished = True

    def close(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class EchoTarget:
    """A target without a store."""

    name: str = "test:echo"
    store: str | None = None
    operations: frozenset[str] = frozenset({"echo", "hang", "raise", "die"})
    settings: Mapping[str, Any] = field(default_factory=dict)
    refuses_clients: bool = False

    def install(self, database: Any) -> None:
        pass

    def connect(self, database: Any, client: int) -> EchoConnection:
        if self.refuses_clients:
            raise ConnectionRefusedError("connection refused")
        return EchoConnection()

    def books(self) -> list[Any]:
        return []


@dataclass(frozen=True, kw_only=True)
class Echoes:
    """Every client echoes for ever; ``sometimes`` is what client 0 does at its third call."""

    name: str = "echoes"
    family: str = "test"
    summary: str = "echo for ever"
    operations: frozenset[str] = frozenset({"echo"})
    invariants: tuple[str, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    policy: str = "unique"
    sometimes: str | None = None
    fault: Fault | None = None
    think: float = 0.0

    def opening(self, settings: Mapping[str, Any]) -> Iterable[Call]:
        return ()

    def program(self, seat: Seat) -> Program:
        for n in itertools.count():
            special = seat.client == 0 and seat.life == 0 and n == 2
            yield Call(
                f=self.sometimes if special and self.sometimes else "echo",
                token=seat.token(n),
                arguments={"number": n, "drawn": seat.random.randrange(1000)},
                fault=self.fault if special else None,
                think=self.think,
            )
