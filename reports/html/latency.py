"""How long operations took, as their clients saw it: percentiles and a histogram on a logarithmic axis.

The time runs from invocation to completion, waiting for locks included. The engine's clients are a closed loop: a client that
waits does not ask, so these are times of service and not of demand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from harness.model import History
from reports.html import svg
from reports.html.charts import BOTTOM, Axis, Chart, Hint, Legend, Plot, draw, horizontal, vertical
from reports.html.scales import count, duration, nice_high

PERCENTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
CURVE = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999, 0.99999, 0.999999)
BINS_PER_DECADE = 10
MOST_SERIES = 4
FEWEST_BEYOND = 2
"""Operations that must lie beyond a percentile for the curve to show it: fewer would be noise."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One operation's times in seconds: percentiles in the order of `PERCENTILES`, the curve, and the extremes."""

    f: str
    operations: int
    percentiles: Sequence[float]
    curve: Sequence[tuple[float, float]]
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Series by operation, and a histogram over all: bins of lower edge, upper edge (seconds) and count."""

    series: Sequence[Series]
    bins: Sequence[tuple[float, float, int]]


def latency(history: History) -> Latency | None:
    """Measure every operation that completed with an answer, ok or not."""
    done = history.operations.filter(pl.col("completed").is_not_null(), pl.col("outcome") != "info").select(
        "f", took=((pl.col("completed") - pl.col("invoked")) / 1e9).clip(1e-9)
    )
    if done.is_empty():
        return None
    by_size = done.group_by("f").len().sort(["len", "f"], descending=[True, False])
    series = [_series(f, done.filter(pl.col("f") == f)["took"]) for f in by_size["f"].to_list()]
    step = pl.col("took").log10() * BINS_PER_DECADE
    counted = done.group_by(bin=step.floor().cast(pl.Int64())).len().sort("bin")
    found = dict(counted.iter_rows())
    first, last = counted["bin"][0], counted["bin"][-1]
    bins = [(10 ** (b / BINS_PER_DECADE), 10 ** ((b + 1) / BINS_PER_DECADE), found.get(b, 0)) for b in range(first, last + 1)]
    return Latency(series=series, bins=bins)


def _series(f: str, took: pl.Series) -> Series:
    def at(share: float) -> float:
        return float(took.quantile(share, "nearest"))  # type: ignore[arg-type]

    shown = [p for p in CURVE if (1 - p) * took.len() >= FEWEST_BEYOND]
    lowest, highest = float(took.min()), float(took.max())  # type: ignore[arg-type]
    return Series(
        f=f,
        operations=took.len(),
        percentiles=[at(p) for p in PERCENTILES],
        curve=[(p, at(p)) for p in shown],
        lowest=lowest,
        highest=highest,
    )


def table(view: Latency) -> list[list[str]]:
    """Return one row an operation: name, count, lowest, the percentiles, highest."""
    return [
        [s.f, count(s.operations), duration(s.lowest), *(duration(p) for p in s.percentiles), duration(s.highest)]
        for s in view.series
    ]


HEADINGS = ("operation", "count", "lowest", "median", "p90", "p95", "p99", "p99.9", "highest")


def histogram(view: Latency, *, name: str) -> Chart:
    """Draw the histogram."""
    height = 220.0
    x = horizontal(view.bins[0][0], view.bins[-1][1], log=True)
    y = vertical(0, nice_high([n for _, _, n in view.bins]), height=height)
    bars = [
        svg.tag(
            "rect", x=x(low) + 0.5, y=y(n), width=max(x(high) - x(low) - 1, 0.5), height=height - BOTTOM - y(n), class_="area ok"
        )
        for low, high, n in view.bins
        if n
    ]
    total = sum(n for _, _, n in view.bins)
    return Chart(
        name=name,
        title="How long operations took",
        summary=f"{count(total)} operations took between {duration(min(s.lowest for s in view.series))} "
        f"and {duration(max(s.highest for s in view.series))}.",
        picture=draw(
            Plot(
                x=Axis(scale=x, ticks=_log_ticks(view.bins[0][0], view.bins[-1][1]), title="time from invocation to completion"),
                y=Axis(scale=y, ticks=[(t, count(t)) for t in y.ticks(4)], title="operations"),
                height=height,
                marks=bars,
            ),
            name=name,
        ),
        hints=[
            Hint(x=x(math.sqrt(low * high)), y=y(n), text=f"{duration(low)} to {duration(high)}: {count(n)} operations")
            for low, high, n in view.bins
            if n
        ],
    )


def percentile_curve(view: Latency, *, name: str) -> Chart | None:
    """Draw time against percentile, the far percentiles stretched; None when there are too few operations for a curve."""
    shown = [s for s in view.series[:MOST_SERIES] if len(s.curve) > 1]
    if not shown:
        return None
    height = 240.0
    beyond = [1 / (1 - p) for s in shown for p, _ in s.curve]
    times = [t for s in shown for _, t in s.curve]
    x = horizontal(1.0, max(beyond), log=True)
    y = vertical(
        10 ** math.floor(math.log10(min(times))), 10 ** math.ceil(math.log10(max(times)) + 1e-9), height=height, log=True
    )
    lines = [svg.polyline([(x(1 / (1 - p)), y(t)) for p, t in s.curve], f"curve series-{n}") for n, s in enumerate(shown)]
    ticks = [(1 / (1 - p), _percent(p)) for p in (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)]
    worst = shown[0]
    return Chart(
        name=name,
        title="Percentiles",
        summary=f"Median of {worst.f} {duration(worst.percentiles[0])}, p99 {duration(worst.percentiles[3])}.",
        picture=draw(
            Plot(
                x=Axis(scale=x, ticks=[t for t in ticks if t[0] <= max(beyond) * 1.001], title="percentile of operations"),
                y=Axis(scale=y, ticks=[(t, duration(t)) for t in y.ticks()], title="took at most"),
                height=height,
                marks=lines,
            ),
            name=name,
        ),
        legend=[Legend(mark=f"curve series-{n}", text=f"{s.f} ({count(s.operations)})") for n, s in enumerate(shown)],
        hints=[
            Hint(x=x(1 / (1 - p)), y=y(t), text=f"{_percent(p)} of {s.f} took at most {duration(t)}")
            for s in shown
            for p, t in s.curve
        ],
    )


def _percent(p: float) -> str:
    return f"{100 * p:.6g} %"


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    fine = (1,) if last - first > 3 else (1, 2, 5)
    values = [m * 10.0**n for n in range(first, last + 1) for m in fine]
    return [(v, duration(v)) for v in values if low * 0.999 <= v <= high * 1.001]
