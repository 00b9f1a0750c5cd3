"""What exchanges of the time say of another clock."""

from __future__ import annotations

import random

import pytest

from harness.engines.load.clocks import Exchange, bounds_of, skew_of

MS = 1_000_000


def exchange(at: int, ahead: int, there: int, back: int) -> Exchange:
    return Exchange(sent=at, answered=at + there + ahead, received=at + there + back)


def test_the_quickest_ways_of_a_burst_bound_the_skew() -> None:
    burst = [exchange(0, 500 * MS, 1 * MS, 9 * MS), exchange(20 * MS, 500 * MS, 9 * MS, 1 * MS)]
    least, most = bounds_of(burst)

    assert 499 * MS - MS < least <= 500 * MS <= most < 501 * MS + MS


def test_a_clock_that_drifts_is_never_outside_of_its_bounds() -> None:
    choose = random.Random(7)
    bursts, aheads = [], []
    for number in range(20):
        start, burst = number * 3000 * MS, []
        for n in range(8):
            at = start + n * 20 * MS
            ahead = int(-70_000 * MS + at * choose.uniform(0.4, 0.5) * 1e-4)
            burst.append(exchange(at, ahead, choose.randrange(1, 30 * MS), choose.randrange(1, 30 * MS)))
            aheads.append(ahead)
        bursts.append(burst)
    least, most = skew_of(bursts)

    assert all(least <= ahead <= most for ahead in aheads)
    assert most - least < 100 * MS


def test_a_burst_with_quick_answers_narrows_down_a_slow_one() -> None:
    slow = [exchange(n * 3000 * MS, 500 * MS, 700 * MS, 800 * MS) for n in (0, 2)]
    quick = [exchange(3000 * MS, 500 * MS, MS, MS)]
    least, most = skew_of([slow[:1], quick, slow[1:]])

    assert least <= 500 * MS <= most
    assert most - least < 25 * MS, "six seconds of drift at most, and two milliseconds"


def test_a_clock_that_jumped_between_two_bursts_has_bounds_that_hold_both() -> None:
    least, most = skew_of([[exchange(0, 0, 10, 10)], [exchange(1000 * MS, 3000 * MS, 10, 10)]])

    assert least <= 0
    assert most >= 3000 * MS


def test_a_clock_that_jumped_has_wide_bounds_and_none_that_contradict() -> None:
    least, most = bounds_of([exchange(0, 0, 10, 10), exchange(MS, 3000 * MS, 10, 10)])

    assert least <= 0
    assert most >= 3000 * MS


def test_one_burst_says_nothing_of_the_time_after_it() -> None:
    with pytest.raises(ValueError, match="fewer than twice"):
        skew_of([[exchange(0, 0, 10, 10)], []])
