"""Ports for servers: none that somebody else comes upon by chance."""

from __future__ import annotations

import socket

import pytest

from harness.model import EnvironmentProblem
from harness.stores import ports
from harness.stores.ports import CHOICE, assigned, free_port, unassigned


def test_a_port_is_not_given_to_another_server_while_the_first_may_come_back() -> None:
    assert len({free_port() for _ in range(1000)}) == 1000


def test_nobody_who_asks_for_any_port_is_given_one_of_ours() -> None:
    ours, theirs = free_port(), []
    if ours in assigned():
        pytest.skip("this system assigns nearly every port by itself")
    for _ in range(200):
        with socket.socket() as somebody:
            somebody.bind(("127.0.0.1", 0))
            theirs.append(somebody.getsockname()[1])

    assert not min(theirs) <= ours <= max(theirs)


def test_a_forked_process_goes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its parent's memory and another identity."""
    given = []
    for process in (100, 101):
        monkeypatch.setattr(ports.os, "getpid", lambda process=process: process)
        given.append({free_port() for _ in range(10)})

    assert not given[0] & given[1]


def test_a_port_that_somebody_listens_on_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "_ports", lambda: [port])
        with pytest.raises(EnvironmentProblem, match=f"from {port} to {port}; end some servers"):
            free_port()
    assert free_port() == port


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (range(32_768, 61_000), [*range(15_000, 32_768), *range(61_000, 65_536)]),
        (range(49_152, 65_536), range(15_000, 49_152)),
        (range(10_000, 40_000), range(40_000, 65_536)),
        (range(18_000, 62_001), [*range(15_000, 18_000), *range(62_001, 65_536)]),
        (range(1024, 65_536), CHOICE),
        (range(16_000, 64_000), CHOICE),
    ],
    ids=["Linux", "as IANA says", "from below", "in the middle", "all of them", "too few are left"],
)
def test_what_the_system_assigns_is_left_to_it(theirs: range, ours: list[int]) -> None:
    assert [*unassigned(theirs)] == [*ours]
