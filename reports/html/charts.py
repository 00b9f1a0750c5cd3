"""The frame that the charts share: a plot area with axes, grid, marks, hints and a description.

A chart is drawn in 720 units of width and scaled by the page. What lies on the plot area is in one group that a script may
stretch sideways to zoom; strokes keep their width and no text is in it, so nothing is distorted. A hint is a position and the
text that is shown near it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from reports.html import svg
from reports.html.scales import Scale

WIDTH = 720.0
LEFT, RIGHT, TOP, BOTTOM = 68.0, 14.0, 14.0, 40.0
LETTER = 7.5
"""Width of a letter of a label, rather too much than too little: fonts differ."""


@dataclass(frozen=True, kw_only=True)
class Hint:
    """What is told about a place of a chart: position in SVG units, and text."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Legend:
    """One entry of a legend: the class of its mark, and what it means."""

    mark: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawn chart: its title, what it shows in one sentence, the picture, and what the script may use.

    ``name`` is unique in the page; the picture is labelled by the elements ``NAME-title`` and ``NAME-summary``.
    """

    name: str
    title: str
    summary: str
    picture: Markup
    legend: Sequence[Legend] = ()
    hints: Sequence[Hint] = ()
    note: str = ""
    zoomable: bool = False


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis: its scale, the values that are labelled with their labels, and what it measures."""

    scale: Scale
    ticks: Sequence[tuple[float, str]]
    title: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    """What is on a chart: ``marks`` on the plot area (stretched by zoom), ``over`` on top of it (never stretched)."""

    x: Axis
    y: Axis
    height: float = 220.0
    marks: Sequence[Markup] = ()
    over: Sequence[Markup] = ()
    times: bool = False
    rules: Sequence[float] = field(default=())


def horizontal(low: float, high: float, *, log: bool = False) -> Scale:
    """Return the scale of a chart's x axis."""
    return Scale(low=low, high=high, start=LEFT, end=WIDTH - RIGHT, log=log)


def vertical(low: float, high: float, *, height: float = 220.0, log: bool = False) -> Scale:
    """Return the scale of a chart's y axis; its high end is on top."""
    return Scale(low=low, high=high, start=height - BOTTOM, end=TOP, log=log)


def draw(plot: Plot, *, name: str) -> Markup:
    """Return the picture. ``name`` is unique in the page; it names the clipping region."""
    height, clip = plot.height, f"{name}-clip"
    bottom, right = height - BOTTOM, WIDTH - RIGHT
    grid = [svg.line(LEFT, plot.y.scale(v), right, plot.y.scale(v), "grid") for v, _ in plot.y.ticks]
    y_labels = [svg.text(LEFT - 8, plot.y.scale(v) + 4, label, anchor="end") for v, label in plot.y.ticks]
    x_ticks = [
        svg.group(
            [svg.line(at, bottom, at, bottom + 5, "axis"), svg.text(within(at, label), bottom + 18, label, anchor="middle")]
        )
        for at, label in _apart((plot.x.scale(v), label) for v, label in plot.x.ticks)
    ]
    region = svg.tag("rect", x=LEFT, y=TOP - 4, width=right - LEFT, height=bottom - TOP + 4)
    return svg.tag(
        "svg",
        svg.tag("defs", svg.tag("clipPath", region, id=clip)),
        svg.group(grid),
        svg.group(y_labels, class_="labels"),
        svg.group(x_ticks, class_="labels x-ticks"),
        svg.group([svg.group(plot.marks, class_="zoom")], clip_path=f"url(#{clip})"),
        svg.line(LEFT, bottom, right, bottom, "axis"),
        svg.group(plot.over),
        svg.text((LEFT + right) / 2, height - 4, plot.x.title, "title", anchor="middle"),
        svg.tag(
            "text",
            plot.y.title,
            class_="title",
            text_anchor="middle",
            transform=f"translate(13 {(TOP + bottom) / 2:.0f}) rotate(-90)",
        ),
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        aria_labelledby=f"{name}-title {name}-summary",
        class_="plot",
        data_left=LEFT,
        data_right=right,
        data_bottom=bottom,
        data_low=repr(plot.x.scale.low) if plot.times else None,
        data_high=repr(plot.x.scale.high) if plot.times else None,
    )


def within(at: float, label: str) -> float:
    """Return where a centred label goes so that it does not leave the picture on the right."""
    return min(at, WIDTH - LETTER * len(label) / 2)


def _apart(labels: Iterable[tuple[float, str]]) -> list[tuple[float, str]]:
    """Leave out labels that would run into the one before."""
    kept: list[tuple[float, str]] = []
    for at, label in labels:
        room = 4 + LETTER / 2 * (len(label) + len(kept[-1][1])) if kept else 0
        if not kept or at - kept[-1][0] >= room:
            kept.append((at, label))
    return kept
