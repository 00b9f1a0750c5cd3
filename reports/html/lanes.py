"""Client lanes: what the clients were doing around a finding, one line each, on a common clock.

The operations that a finding names are drawn strong and labelled; whatever else those clients and a few others did in the same
moments is drawn faint, because it is often the third client that explains the other two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from markupsafe import Markup

from harness.model import History
from reports.html import svg
from reports.html.charts import Chart, Hint, Legend, within
from reports.html.scales import amount, duration, round_ticks

LABEL = 78.0
WIDTH = 720.0
LANE = 30.0
MOST_LANES = 12
MOST_BARS = 240
MARGIN = 0.12
LONGEST_TEXT = 18


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One operation on its lane: seconds since recording began; ``named`` if the finding names it."""

    client: int
    began: float
    ended: float | None
    outcome: str
    named: bool
    label: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """Bars by client within ``began`` to ``ended`` (seconds since recording began)."""

    clients: Sequence[int]
    bars: Sequence[Bar]
    began: float
    ended: float
    others_left_out: int


def lanes(history: History, finding: Mapping[str, Any]) -> Lanes | None:
    """Return what happened around the first example of a finding, or None if it names no operation of the race."""
    told = finding.get("evidence", {}).get("operations") or []
    tokens = [o.get("token") for o in told if isinstance(o, Mapping) and o.get("token")]
    named = history.operations.filter(pl.col("token").is_in(tokens))
    if named.is_empty():
        return None
    named = _first_example(named.sort("invoked"))
    low, high = int(named["invoked"].min()), int(named.select(pl.max_horizontal("completed", "invoked").max()).item())  # type: ignore[arg-type]
    room = max(int((high - low) * MARGIN), 1_000)
    began, ended = low - room, high + room
    around = history.operations.filter(pl.col("invoked") <= ended, pl.coalesce("completed", pl.lit(ended)) >= began)
    involved = named["client"].unique().sort().to_list()
    busiest = (
        around.filter(~pl.col("client").is_in(involved))
        .group_by("client")
        .len()
        .sort(["len", "client"], descending=[True, False])
    )
    clients = involved[:MOST_LANES] + busiest["client"].head(max(0, MOST_LANES - len(involved))).sort().to_list()
    drawn = around.filter(pl.col("client").is_in(clients)).sort("invoked")
    keep = set(named["token"].to_list())
    first = drawn.filter(pl.col("token").is_in(list(keep)))
    rest = drawn.filter(~pl.col("token").is_in(list(keep))).head(MOST_BARS - min(MOST_BARS, first.height))
    bars = [_bar(history, row, row["token"] in keep) for row in pl.concat([rest, first.head(MOST_BARS)]).iter_rows(named=True)]
    return Lanes(
        clients=clients,
        bars=bars,
        began=(began - history.open_at) / 1e9,
        ended=(ended - history.open_at) / 1e9,
        others_left_out=len(involved) + busiest.height - len(clients),
    )


def _first_example(named: pl.DataFrame) -> pl.DataFrame:
    """Of several examples keep the first: operations that share the first one's number or subject, if it has one."""
    first = named.row(0, named=True)
    for column in ("number", "subject"):
        if first[column] is not None:
            same = named.filter(pl.col(column) == first[column], pl.col("scope").eq_missing(first["scope"]))
            if same.height > 1:
                return same
    return named


def _bar(history: History, row: Mapping[str, Any], named: bool) -> Bar:
    offset = (row["invoked"] - history.open_at) / 1e9
    ended = None if row["completed"] is None else (row["completed"] - history.open_at) / 1e9
    took = "never answered" if ended is None else f"took {duration(ended - offset)}"
    what = row["text"] or (str(row["number"]) if row["number"] is not None else row["code"] or row["subject"] or row["f"])
    answer = row["result"] or row["message"] or ""
    return Bar(
        client=row["client"],
        began=offset,
        ended=ended,
        outcome=row["outcome"],
        named=named,
        label=what if len(what) <= LONGEST_TEXT else what[: LONGEST_TEXT - 1] + "…",
        text=f"client {row['client']}: {row['f']} {row['token']} at +{offset:.6f} s, {took}: "
        f"{row['outcome']} {answer[:300]}".rstrip(),
    )


def chart(view: Lanes, *, name: str) -> Chart:
    """Draw the lanes."""
    height = 34.0 + LANE * len(view.clients)
    span = view.ended - view.began

    def x(at: float) -> float:
        return LABEL + (min(max(at, view.began), view.ended) - view.began) / span * (WIDTH - LABEL - 8)

    tops = {client: 4.0 + LANE * n for n, client in enumerate(view.clients)}
    parts: list[Markup] = []
    for client, top in tops.items():
        parts.append(svg.text(LABEL - 8, top + LANE / 2 + 4, f"client {client}", anchor="end"))
        parts.append(svg.line(LABEL, top + LANE - 2, WIDTH - 8, top + LANE - 2, "grid"))
    labelled: list[Markup] = []
    hints = []
    for bar in view.bars:
        left, right, top = x(bar.began), x(view.ended if bar.ended is None else bar.ended), tops[bar.client]
        strength = "named" if bar.named else "other"
        open_end = " open" if bar.ended is None else ""
        parts.append(
            svg.tag(
                "rect",
                x=left,
                y=top + 4,
                width=max(right - left, 2.5),
                height=LANE - 11,
                rx=2,
                class_=f"bar {bar.outcome} {strength}{open_end}",
            )
        )
        hints.append(Hint(x=(left + right) / 2, y=top + LANE / 2, text=bar.text))
        if bar.named:
            labelled.append(_label(bar.label, left, right, top))
    base = height - 26
    ticks = round_ticks(0, span * 1e3, 6)
    axis = [svg.text(within(x(view.began + t / 1e3), f"{t:g} ms"), base + 18, f"{t:g} ms", anchor="middle") for t in ticks]
    more = amount(view.others_left_out, "more client was busy and is", "more clients were busy and are")
    left_out = f" {more} not drawn." if view.others_left_out > 0 else ""
    outcomes = [o for o in ("ok", "fail", "info") if any(b.outcome == o for b in view.bars)]
    return Chart(
        name=name,
        title="What the clients were doing",
        summary=f"{duration(span)} from +{view.began:.6f} s on; operations that the finding names are strong and labelled."
        f"{left_out}",
        picture=svg.tag(
            "svg",
            *parts,
            *labelled,
            svg.group(axis, class_="labels"),
            viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
            role="img",
            aria_labelledby=f"{name}-title {name}-summary",
            class_="lanes",
        ),
        legend=[
            Legend(mark=f"bar named {o}", text={"ok": "ok", "fail": "failed or refused", "info": "unknown"}[o]) for o in outcomes
        ]
        + [Legend(mark="bar other ok", text="not named by the finding")],
        hints=hints,
    )


def _label(label: str, left: float, right: float, top: float) -> Markup:
    """Write in the bar if it fits, otherwise beside it, on the side with more room."""
    needed = 7.0 * len(label)
    if right - left > needed + 6:
        return svg.text((left + right) / 2, top + LANE / 2 + 3, label, "inside", anchor="middle")
    if right + needed < WIDTH - 8:
        return svg.text(right + 4, top + LANE / 2 + 3, label, "beside")
    return svg.text(left - 4, top + LANE / 2 + 3, label, "beside", anchor="end")
