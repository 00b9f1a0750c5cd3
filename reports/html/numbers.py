"""The numbers of a scope in the order in which clients were told them, with duplicates and gaps shown.

In a sound run the numbers climb in a line. A duplicate is two marks at one height, a gap a line across at the height of the
missing number. Duplicates and gaps are read from books and answers for the picture; the verdict on them is the invariants'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from harness.invariants.numbering.columns import PLACE, acknowledged, stored
from harness.invariants.numbering.gaps import missing
from harness.model import Books, History, Policy
from reports.html import svg
from reports.html.charts import LEFT, RIGHT, WIDTH, Axis, Chart, Hint, Legend, Plot, draw, horizontal, vertical
from reports.html.scales import amount, count, round_ticks

MOST_DOTS = 1_500
MOST_TWICE = 400
MOST_GAPS = 300
MOST_PLACES = 4
HEIGHT = 260.0
FEW_GAPS = 40
"""Gaps up to this many are lines across the picture; more of them are a strip at its right edge."""
STRIP = 14.0


@dataclass(frozen=True, kw_only=True)
class Told:
    """A client was told a number: when (seconds since recording began), which, who, and how it was printed."""

    at: float
    number: int
    client: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The numbers of one place. ``told`` is thinned, ``total`` is exact; the same goes for duplicates and gaps."""

    scope: str
    period: str
    told: Sequence[Told]
    total: int
    twice: Sequence[Told]
    twice_total: int
    gaps: Sequence[tuple[int, int]]
    gaps_total: int


def numbers(history: History, books: Books, policy: Policy) -> tuple[list[Numbers], int]:
    """Return the places worth showing, those with duplicates and gaps first, and how many were left out."""
    documents = stored(books, policy)
    told = acknowledged(history, documents, policy).filter(pl.col("number").is_not_null(), pl.col("completed").is_not_null())
    if told.is_empty():
        return [], 0
    holes = missing(documents, policy) if documents.height else None
    claimed = told.unique([*PLACE, "number", "token"]).group_by([*PLACE, "number"]).len().filter(pl.col("len") > 1)
    twice = told.join(claimed, on=[*PLACE, "number"], how="semi")
    wrong = twice.group_by(PLACE).len().rename({"len": "twice"})
    gone = holes.group_by(PLACE).agg(pl.col("size").sum().alias("gone")) if holes is not None else None
    places = told.group_by(PLACE).len().join(wrong, on=PLACE, how="left")
    places = places.join(gone, on=PLACE, how="left") if gone is not None else places.with_columns(gone=pl.lit(0))
    ordered = places.with_columns(pl.col("twice", "gone").fill_null(0)).sort(
        ["twice", "gone", "len", *PLACE], descending=[True, True, True, False, False]
    )
    shown = [
        _place(history, scope, period, told, twice, holes)
        for scope, period in ordered.head(MOST_PLACES).select(PLACE).iter_rows()
    ]
    return shown, max(0, ordered.height - MOST_PLACES)


def _place(
    history: History, scope: str, period: str, told: pl.DataFrame, twice: pl.DataFrame, holes: pl.DataFrame | None
) -> Numbers:
    here = (pl.col("scope") == scope) & (pl.col("period") == period)
    mine, doubled = told.filter(here).sort("completed"), twice.filter(here).sort("number", "completed")
    gone = (
        holes.filter(here) if holes is not None else pl.DataFrame(schema={"first": pl.Int64, "last": pl.Int64, "size": pl.Int64})
    )
    return Numbers(
        scope=scope,
        period=period,
        told=_told(history, _thinned(mine, MOST_DOTS)),
        total=mine.height,
        twice=_told(history, doubled.head(MOST_TWICE)),
        twice_total=doubled["number"].n_unique(),
        gaps=[(a, b) for a, b in gone.head(MOST_GAPS).select("first", "last").iter_rows()],
        gaps_total=int(gone["size"].sum()),
    )


def _thinned(frame: pl.DataFrame, most: int) -> pl.DataFrame:
    """Keep the lowest and the highest number of each stretch of time, so that an outlier never disappears."""
    if frame.height <= most:
        return frame
    stretch = pl.int_range(pl.len()) * (most // 2) // frame.height
    return (
        frame.with_columns(stretch=stretch)
        .filter(
            (pl.col("number") == pl.col("number").min().over("stretch"))
            | (pl.col("number") == pl.col("number").max().over("stretch"))
        )
        .drop("stretch")
        .head(2 * most)
    )


def _told(history: History, frame: pl.DataFrame) -> list[Told]:
    rows = frame.select("completed", "number", "client", "text").iter_rows()
    return [
        Told(at=(completed - history.open_at) / 1e9, number=number, client=client, text=text or str(number))
        for completed, number, client, text in rows
    ]


def chart(view: Numbers, *, name: str) -> Chart:
    """Draw number against time."""
    began, ended = view.told[0].at, max(t.at for t in view.told)
    heights = [t.number for t in view.told] + [b for _, b in view.gaps] + [a for a, _ in view.gaps]
    low, high = min(heights), max(heights)
    x, y = horizontal(began, max(ended, began + 1e-6)), vertical(low - 0.5, high + 0.5, height=HEIGHT)
    twice = amount(view.twice_total, "number", "numbers")
    marks, over = [], []
    if view.gaps:
        edges = [n for a, b in view.gaps for n in dict.fromkeys((a, b))]
        start = LEFT if len(view.gaps) <= FEW_GAPS else WIDTH - RIGHT - STRIP
        over.append(
            svg.tag(
                "path",
                d="".join(f"M{svg.number(start)} {svg.number(y(n))}H{WIDTH - RIGHT:.0f}" for n in edges),
                class_="mark gap",
            )
        )
    marks.append(svg.dots([(x(t.at), y(t.number)) for t in view.told], "dot ok"))
    if view.twice:
        marks.append(svg.dots([(x(t.at), y(t.number)) for t in view.twice], "dot twice"))
    where = view.scope + (f" in {view.period}" if view.period else "")
    return Chart(
        name=name,
        title=f"Numbers of {where}" if where else "Numbers",
        summary=_summary(view),
        picture=draw(
            Plot(
                x=Axis(
                    scale=x, ticks=[(t, f"+{t:g} s") for t in round_ticks(began, ended, 6)], title="seconds since recording began"
                ),
                y=Axis(
                    scale=y,
                    ticks=[(t, count(t)) for t in round_ticks(low, high, 5) if float(t).is_integer()],
                    title="number",
                ),
                height=HEIGHT,
                marks=marks,
                over=over,
                times=True,
            ),
            name=name,
        ),
        legend=[
            Legend(mark="dot ok", text="a client was told a number"),
            *([Legend(mark="dot twice", text=f"told more than once ({twice})")] if view.twice else []),
            *([Legend(mark="mark gap", text=f"missing from the books ({count(view.gaps_total)})")] if view.gaps else []),
        ],
        hints=[
            Hint(x=x(t.at), y=y(t.number), text=f"{t.text}: client {t.client} at +{t.at:.3f} s")
            for t in dict.fromkeys([*view.twice, *view.told[:: max(1, len(view.told) // 600)]])
        ],
        zoomable=True,
    )


def _summary(view: Numbers) -> str:
    twice = amount(view.twice_total, "number was told more than once", "numbers were told more than once")
    gaps = amount(view.gaps_total, "number is missing from the books", "numbers are missing from the books")
    parts = [amount(view.total, "answer with a number", "answers with a number")]
    parts.append(twice if view.twice_total else "no number was told twice")
    parts.append(gaps if view.gaps_total else "none is missing")
    thin = [] if len(view.told) == view.total else [f"the picture shows {count(len(view.told))} of them, extremes kept"]
    return ", ".join([*parts, *thin]) + "."
