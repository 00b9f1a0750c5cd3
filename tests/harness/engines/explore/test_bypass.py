"""How long a connection may take to be gone before it is traffic past the proxy."""

from __future__ import annotations

from typing import Any

import pytest

from harness.engines.explore import bypass
from harness.engines.explore.bypass import PostgresBypass
from harness.model.errors import EnvironmentProblem


class Machine:
    """A database that somebody else's connection leaves after so many looks, and a clock on which each look takes a while."""

    def __init__(self, *, gone_after: int, a_look_takes: float) -> None:
        self.looks = 0
        self._gone_after = gone_after
        self._takes = a_look_takes

    def monotonic(self) -> float:
        return self.looks * self._takes

    def sleep(self, seconds: float) -> None:
        """Take no time."""

    def execute(self, query: str, parameters: Any = None) -> Machine:
        self.looks += "pg_stat_activity" in query
        return self

    def fetchall(self) -> list[tuple[int, str, str]]:
        return [(77, "the last step", "127.0.0.1")] if self.looks <= self._gone_after else []

    def fetchone(self) -> tuple[int]:
        return (0,)

    def open_connections(self) -> dict[int, Any]:
        return {}

    def connections_made(self) -> int:
        return 0


def begin(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bypass, "time", machine)
    PostgresBypass(machine, machine, list).begin()


@pytest.mark.parametrize(
    ("gone_after", "a_look_takes"),
    [
        pytest.param(bypass.LOOKS - 1, 1.0, id="on a machine that stalls, whoever leaves has as little time as who looks"),
        pytest.param(int(bypass.LEAVING / 0.001) - 1, 0.001, id="on a fast one, looking often is no reason to expect more"),
    ],
)
def test_a_connection_that_was_closed_is_waited_for(
    gone_after: int, a_look_takes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(gone_after=gone_after, a_look_takes=a_look_takes)
    begin(machine, monkeypatch)

    assert machine.looks == gone_after + 1


def test_one_that_stays_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentProblem, match="does not go through the proxy: backend 77 of the last step"):
        begin(Machine(gone_after=10**9, a_look_takes=0.01), monkeypatch)
