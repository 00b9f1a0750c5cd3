"""Numbers become positions, round ticks and words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.html.scales import Scale, count, duration, nice_high, round_ticks, share


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 9, [0, 2, 4, 6, 8]),
        (2.544, 2.806, [2.6, 2.7, 2.8]),
        (7, 7, [7]),
        (-5, 5, [-4, -2, 0, 2, 4]),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, ticks: list[float]) -> None:
    assert round_ticks(low, high) == pytest.approx(ticks)


@given(low=st.floats(-1e9, 1e9), span=st.floats(1e-3, 1e9), about=st.integers(1, 12))
def test_there_are_never_many_more_ticks_than_asked_for(low: float, span: float, about: int) -> None:
    ticks = round_ticks(low, low + span, about)

    assert len(ticks) <= about + 2
    assert all(low - span * 1e-6 <= t <= low + span * (1 + 1e-6) for t in ticks)


@given(st.lists(st.floats(0, 1e12).filter(lambda v: v == 0 or v > 1e-300), max_size=5))
def test_a_nice_high_is_above_everything_and_not_far_above(values: list[float]) -> None:
    top = nice_high(values)

    assert top > 0
    assert top >= max([*values, 0.0]) * 0.999999
    assert top <= max(2 * max([*values, 0.0]), 1.0)


def test_a_scale_keeps_values_within_itself() -> None:
    scale = Scale(low=10, high=20, start=100, end=0)

    assert [scale(v) for v in (10, 15, 20, 99, -99)] == [100, 50, 0, 0, 100]


def test_a_logarithmic_scale_gives_every_decade_the_same_room() -> None:
    scale = Scale(low=0.001, high=1, start=0, end=300, log=True)

    assert [round(scale(v)) for v in (0.001, 0.01, 0.1, 1, 0)] == [0, 100, 200, 300, 0]
    assert scale.ticks() == pytest.approx([0.001, 0.01, 0.1, 1])


def test_a_scale_without_extent_puts_everything_in_the_middle() -> None:
    assert Scale(low=3, high=3, start=0, end=10)(3) == 5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.00000045, "0.45 µs"),
        (0.000450, "450 µs"),
        (0.0009996, "1 ms"),
        (0.0125, "12.5 ms"),
        (0.9996, "1 s"),
        (3.2, "3.2 s"),
        (59.96, "1 min"),
        (125, "2 min 5 s"),
        (7200, "120 min"),
        (-0.5, "-500 ms"),
    ],
)
def test_a_length_of_time_is_told_in_its_natural_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_and_shares_are_told_for_people() -> None:
    assert (count(12345), count(1234.56), share(1, 8), share(1, 0)) == ("12,345", "1,234.6", "12.5%", "-")
