"""Clients stand still at a named point until they are let go, and nowhere else."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from harness.engines.stress.halt import Halt

POINTS = ("number_taken", "before_commit")


def come_to(halt: Halt, client: int, point: str, over: threading.Event | None = None) -> threading.Thread:
    thread = threading.Thread(target=halt.pass_by, args=(client, point, over or threading.Event()), daemon=True)
    thread.start()
    return thread


def await_standing(halt: Halt, clients: list[int]) -> None:
    limit = time.monotonic() + 10
    while halt.standing() != clients:
        assert time.monotonic() < limit
        time.sleep(0.001)


def test_clients_stand_where_they_are_asked_to_and_go_on_together(tmp_path: Path) -> None:
    ours = Halt(tmp_path / "halt", clients=4, points=POINTS)
    theirs = Halt(tmp_path / "halt", clients=4, points=POINTS)
    ours.ask("number_taken")

    standing = [come_to(theirs, client, "number_taken") for client in (1, 3)]
    await_standing(ours, [1, 3])
    ours.lift()
    for thread in standing:
        thread.join(10)

    assert ours.standing() == []
    assert ours.waiting(), "they have not heard yet how their operations ended"
    theirs.heard(1)
    theirs.heard(3)
    assert not ours.waiting()
    assert not any(thread.is_alive() for thread in standing)


def test_nobody_stands_at_another_point_or_when_nobody_is_asked_to(tmp_path: Path) -> None:
    halt = Halt(tmp_path / "halt", clients=1, points=POINTS)
    halt.pass_by(0, "number_taken", threading.Event())
    halt.ask("before_commit")
    halt.pass_by(0, "number_taken", threading.Event())
    halt.pass_by(0, "a point that no fault has", threading.Event())

    assert halt.standing() == []


def test_the_end_of_the_race_lets_everybody_go(tmp_path: Path) -> None:
    halt, over = Halt(tmp_path / "halt", clients=1, points=POINTS), threading.Event()
    halt.ask("number_taken")
    standing = come_to(halt, 0, "number_taken", over)
    await_standing(halt, [0])
    over.set()
    standing.join(10)

    assert halt.standing() == []
