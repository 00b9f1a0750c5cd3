"""More and more users until something gives way, and what is concluded from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli.capacity import text_of
from harness.model import UsageError, Verdict
from harness.run.capacity import Capacity, Step, _search, find_capacity, fresh_database
from harness.run.limits import measured_of, parse_limits
from harness.run.loaded import LoadOptions
from harness.run.request import build_request
from harness.run.run_request import RunRequest
from harness.run.scaling import fit_of
from harness.run.stores import Stores
from harness.stores import Store, StoreKind, StoreOptions


def step(users: int, rate: float, **changes: Any) -> Step:
    asked: dict[str, Any] = {
        "users": users,
        "verdict": Verdict.PASS,
        "rate": rate,
        "p50": 1000 * users / rate,
        "p95": 2000 * users / rate,
        "p99": 3000 * users / rate,
        "broken": (),
        "saturated": False,
        "cpu": 0.2,
        "lock_waits": 0.0,
        "write_conflicts": None,
        "seconds_rates": (rate, rate),
    }
    return Step(**{**asked, **changes})


def searched(rates: dict[int, Any], most: int = 64) -> tuple[list[int], str]:
    """Search over steps that are known, and return the users that were tried and why it ended."""
    steps: list[Step] = []

    def attempt(users: int) -> Step:
        known = rates.get(users, 100.0)
        steps.append(known if isinstance(known, Step) else step(users, known))
        return steps[-1]

    asked: dict[str, Any] = {"scenario": "concurrent_creates", "target": "reference:pg.counter_row"}
    request: RunRequest = build_request(**asked, duration=1.0, clients=most, processes=1, engine="load")
    ended = _search(attempt, request, steps)
    return [s.users for s in steps], ended


def test_users_double_until_no_step_is_faster() -> None:
    assert searched({1: 10.0, 2: 20.0, 4: 40.0, 8: 41.0, 16: 39.0}) == ([1, 2, 4, 8, 16], "two steps in a row were no faster")


def test_the_search_ends_at_the_most_users_allowed() -> None:
    assert searched({n: 10.0 * n for n in (1, 2, 4, 6)}, most=6) == ([1, 2, 4, 6], "--users 6 is reached")


def test_a_broken_limit_ends_the_search_and_the_place_between_is_tried() -> None:
    bad = step(8, 80.0, broken=("p95=200ms: 300.0 ms",))

    assert searched({1: 10.0, 2: 20.0, 4: 40.0, 8: bad, 6: 60.0}) == ([1, 2, 4, 8, 6], "at 8 users: p95=200ms: 300.0 ms")


def test_a_wrong_step_ends_the_search_at_once() -> None:
    assert searched({2: step(2, 99.0, verdict=Verdict.FAIL)}) == ([1, 2], "the verdict at 2 users is fail")


def test_a_generator_that_is_itself_the_bottleneck_ends_the_search() -> None:
    assert searched({2: step(2, 20.0, saturated=True)})[1] == "the generator is saturated at 2 users"


def capacity(*steps: Step) -> Capacity:
    return Capacity(target="t", store="s", steps=steps, ended="e", fit=None)


def test_capacity_is_the_highest_rate_that_is_correct_and_within_the_limits() -> None:
    found = capacity(step(1, 10), step(2, 19), step(4, 30), step(8, 31, broken=("p95",)), step(16, 50, verdict=Verdict.FAIL))

    assert found.best is not None
    assert (found.best.users, found.verdict) == (4, Verdict.FAIL)
    assert capacity(step(1, 10, verdict=Verdict.UNKNOWN)).verdict is Verdict.UNKNOWN


def test_the_knee_is_where_rate_over_latency_is_largest() -> None:
    rates = {1: 100.0, 2: 190.0, 4: 350.0, 8: 360.0, 16: 350.0}
    found = capacity(*(step(n, x) for n, x in rates.items()))

    assert found.knee is not None
    assert found.knee.users == 4


def test_the_ceiling_follows_from_the_time_that_a_transaction_holds_what_it_wrote() -> None:
    assert capacity(step(1, 100.0, holding=0.25)).ceiling == 400.0
    assert capacity(step(1, 100.0)).ceiling is None


@pytest.mark.parametrize(
    ("last", "says"),
    [
        ({"saturated": True, "cpu": 0.95}, "the generator itself, at 95 %"),
        ({"lock_waits": 6.0}, "locks: 6.0 of 8 sessions"),
        ({"lock_waits": 0.1, "write_conflicts": 70}, "write conflicts: 70"),
        ({"lock_waits": 0.1}, "none that is known"),
    ],
)
def test_the_bottleneck_is_named_with_its_figures(last: dict[str, Any], says: str) -> None:
    assert says in capacity(step(1, 10), step(8, 20, **last)).bottleneck()


def law(users: int, alone: float, serial: float, crosstalk: float) -> float:
    return alone * users / (1 + serial * (users - 1) + crosstalk * users * (users - 1))


def test_the_law_is_found_again_with_its_uncertainty() -> None:
    draw = np.random.default_rng(1)
    points = [(n, law(n, 100, 0.05, 0.002) * draw.normal(1, 0.02)) for n in (1, 2, 4, 8, 16, 32, 64) for _ in range(5)]
    fit = fit_of(points)

    assert fit is not None
    assert fit.alone == pytest.approx(100, rel=0.1)
    assert fit.intervals["serial"][0] <= 0.05 <= fit.intervals["serial"][1]
    assert fit.peak == pytest.approx(21.8, rel=0.2)
    assert fit.r2 > 0.98
    assert "the rate peaks at about" in fit.said()
    with pytest.raises(ValueError, match="65 users were not tried"):
        fit.rate(65)


def test_a_serial_counter_stays_within_bounds_and_a_bad_fit_says_so() -> None:
    measured = {1: 4110, 2: 4080, 4: 4371, 8: 3981, 16: 2286, 32: 2018, 64: 1961}
    fit = fit_of([(n, float(x)) for n, x in measured.items()])

    assert fit is not None
    assert 0 <= fit.serial <= 1
    assert fit.crosstalk >= 0
    assert ("nothing is concluded" in fit.said()) == (fit.r2 < 0.9)


def test_too_few_steps_fit_nothing() -> None:
    assert fit_of([(1, 10.0), (2, 19.0), (4, 30.0)]) is None


def test_limits_are_read_and_held_against_what_was_measured() -> None:
    limits = parse_limits(["p95=200ms", "p99=1s", "errors=1%", "gaps=0.5%", "rate=50"])
    load = {
        "latency_ms": {"create": {"service": {"count": 9, "p95": 150.0, "p99": 1200.0}}},
        "counts": {"invoked": 100, "unconnected": 0, "dropped": 2},
        "errors": 0,
        "live": {"gap_rate": 0.01},
        "correct_per_second": 60.0,
    }

    broken = [limit.broken(measured_of(load)) for limit in limits]
    assert broken == [None, "p99=1s: 1200.0 ms", "errors=1%: 1.96 %", "gaps=0.5%: 1.00 %", None]
    assert limits[0].broken({}) == "p95=200ms: nothing was measured"


@pytest.mark.parametrize("text", ["p95", "p95=fast", "p95=200", "rate=5ms", "p42=1s", "errors=1s"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no limit"):
        parse_limits([text])


def test_a_real_counter_has_a_capacity(postgres_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = Stores({}, StoreOptions())
    monkeypatch.setattr(stores, "_open", {StoreKind.POSTGRES: postgres_store})
    monkeypatch.setattr("harness.run.loaded.saturated", lambda generators: False)  # however busy this machine is
    asked: dict[str, Any] = {"scenario": "concurrent_creates", "target": "reference:pg.counter_row", "out": tmp_path}
    request = build_request(**asked, duration=1.5, clients=2, processes=1, seed=1, engine="load")
    found = find_capacity(
        request, fresh_database(request, stores), LoadOptions(spawn_rate=10.0), parse_limits(["p95=60s"]), tmp_path / "logs"
    )

    assert [s.users for s in found.steps] == [1, 2]
    assert {s.verdict for s in found.steps} == {Verdict.PASS}
    assert "concurrent" not in text_of([found])
    assert "reference:pg.counter_row (PostgreSQL" in text_of([found])
