"""Arrivals come when the schedule says so, and latency counts from that moment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.engines.load.arrivals import Arrivals, parse_arrivals
from harness.engines.load.engine import LoadEngine
from harness.engines.load.measures import merged
from harness.engines.load.plan import LoadPlan
from harness.model import UsageError
from harness.recording.loader import load
from harness.targets.base import Checkpoint
from tests.support import EchoConnection, Echoes, EchoTarget

STALL, CYCLE = 1.0, 2.5
"""Seconds that the server stalls at the end of every so many."""


class StallingConnection(EchoConnection):
    """Answers at once, except while the server stalls: then everybody waits for the end of it."""

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> Mapping[str, Any]:
        phase = time.monotonic() % CYCLE
        if phase > CYCLE - STALL:
            time.sleep(CYCLE - phase)
        return {"attempts": 1}


@dataclass(frozen=True, kw_only=True)
class Stalling(EchoTarget):
    """A server that stalls."""

    def connect(self, database: Any, client: int) -> StallingConnection:
        return StallingConnection()


class SlowConnection(EchoConnection):
    """Keeps everybody for a while."""

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> Mapping[str, Any]:
        time.sleep(1.0)
        return {"attempts": 1}


@dataclass(frozen=True, kw_only=True)
class Slow(EchoTarget):
    """A server that is slow: four seats do not see many of a hundred arrivals a second, however these bunch."""

    def connect(self, database: Any, client: int) -> SlowConnection:
        return SlowConnection()


def per_second(arrivals: Arrivals) -> list[int]:
    times = list(arrivals.all(1))
    assert times == sorted(times)
    return [sum(second <= t < second + 1 for t in times) for second in range(round(arrivals.seconds))]


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("100", [100, 100, 100, 100, 100]),
        ("0..100", [10, 30, 50, 70, 90]),
        ("100..0", [90, 70, 50, 30, 10]),
        ("10,20,30,40,50", [10, 20, 30, 40, 50]),
        ("10^200", [10, 10, 200, 10, 10]),
    ],
)
def test_a_rate_over_time_becomes_arrivals(text: str, counts: list[int]) -> None:
    assert all(abs(found - due) <= 1 for found, due in zip(per_second(parse_arrivals(text, 5.0)), counts, strict=True))


def test_arrivals_at_random_keep_the_rate_and_repeat_with_the_seed() -> None:
    arrivals = parse_arrivals("500", 20.0, even=False)

    assert abs(len(list(arrivals.all(1))) - 10_000) < 500
    assert list(arrivals.all(1)) == list(arrivals.all(1)) != list(arrivals.all(2))
    assert len(set(per_second(arrivals))) > 5


def test_arrivals_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "arrivals.txt"
    file.write_text("0.5\n0.1\n2\n")

    assert list(parse_arrivals(f"@{file}", None).all(1)) == [0.1, 0.5, 2.0]


def test_every_arrival_belongs_to_exactly_one_process() -> None:
    arrivals = parse_arrivals("30..90", 3.0, even=False)

    shares = [list(arrivals.share(7, rank, 3)) for rank in range(3)]
    assert sorted(t for share in shares for t in share) == list(arrivals.all(7))


@pytest.mark.parametrize("text", ["", "fast", "0", "10..", "-5", "1^", "@/nowhere"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_arrivals(text, 5.0)


def plan(folder: Path, text: str, seconds: float, **changes: Any) -> LoadPlan:
    asked: dict[str, Any] = {
        "target": EchoTarget(),
        "database": None,
        "scenario": Echoes(),
        "users": 150,
        "spawn_rate": 1000.0,
        "duration": 60.0,
        "arrivals": parse_arrivals(text, seconds),
        "seed": 1,
        "folder": folder,
    }
    return LoadPlan(**{**asked, **changes})


def test_a_server_that_stalls_is_charged_for_all_who_came_meanwhile(tmp_path: Path) -> None:
    with LoadEngine(processes=1, logs=tmp_path / "logs") as engine:
        outcome = engine.run(plan(tmp_path, "100", 2 * CYCLE, target=Stalling()))

    counts = outcome.counts()
    assert (counts["arrived"], counts["dropped"], counts["invoked"]) == (500, 0, 500)
    response = merged([f["latencies"]["echo"] for f in outcome.finals], "response")
    assert response is not None
    late = max(f["generator"]["lag_max_ms"] for f in outcome.finals)
    if late > 0.04 * STALL * 1000:
        pytest.skip(f"this machine is busy: a timer was {late:.0f} ms late, and the server stalled for longer than it was to")
    true_p90 = STALL - 0.1 * CYCLE  # a share of (STALL - x) / CYCLE of evenly spaced arrivals waits for more than x
    assert response.get_value_at_percentile(90) / 1e6 == pytest.approx(true_p90, rel=0.05)


def test_arrivals_beyond_the_cap_are_dropped_and_counted(tmp_path: Path) -> None:
    with LoadEngine(processes=2, logs=tmp_path / "logs") as engine:
        outcome = engine.run(plan(tmp_path, "100", 2.5, target=Slow(), users=4))
    history, _ = load(sorted(tmp_path.glob("*.jsonl")))

    counts = outcome.counts()
    assert counts["arrived"] == 250
    assert counts["dropped"] > 200
    assert counts["invoked"] == len(history) == counts["arrived"] - counts["dropped"]
