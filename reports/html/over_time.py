"""Operations over time by outcome, with the faults that were injected and the findings marked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from markupsafe import Markup

from harness.model import History
from harness.recording.loader import FileFacts
from reports.html import svg
from reports.html.charts import BOTTOM, TOP, Axis, Chart, Hint, Legend, Plot, draw, horizontal, vertical
from reports.html.scales import amount, count, duration, nice_high, round_ticks

BUCKETS = 120
OUTCOMES = ("ok", "fail", "info")
NAMES = {"ok": "ok", "fail": "failed or refused", "info": "unknown"}
FAULTS = {"vanished": "connection cut on purpose", "reply_lost": "reply lost on purpose"}
MOST_MARKS = 60
HEIGHT = 240.0
_OFFSET = re.compile(r"\+(\d+(?:\.\d+)?) s")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Something that happened at a moment: ``kind`` is fault or finding; ``at`` is in seconds since recording began."""

    kind: str
    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class OverTime:
    """Counts per bucket of ``width`` seconds from ``began``, by outcome, and marks. All times since recording began."""

    began: float
    width: float
    counts: Mapping[str, Sequence[int]]
    marks: Sequence[Mark]
    marks_left_out: int = 0

    @property
    def ended(self) -> float:
        """The end of the last bucket."""
        return self.began + self.width * len(self.counts["ok"])


def over_time(
    history: History,
    findings: Sequence[Mapping[str, Any]],
    files: Sequence[FileFacts] = (),
    events: Sequence[Mapping[str, Any]] = (),
) -> OverTime | None:
    """Count the operations of the race by the time of their completion; those that never completed by their invocation.

    ``events`` is what was done to the store: a ``text`` and a ``time`` in ns on the history's clock.
    """
    if not len(history):
        return None
    at = (pl.coalesce("completed", "invoked") - history.open_at) / 1e9
    moments = history.operations.select("outcome", "code", at=at)
    began, ended = float(moments["at"].min()), float(moments["at"].max())  # type: ignore[arg-type]
    buckets = max(1, min(BUCKETS, len(history) // 4))
    width = max((ended - began) / buckets, 1e-9)
    placed = moments.with_columns(bucket=((pl.col("at") - began) / width).floor().clip(0, buckets - 1).cast(pl.Int64()))
    found = {(b, o): n for b, o, n in placed.group_by("bucket", "outcome").len().iter_rows()}
    done = [Mark(kind="fault", at=(e["time"] - history.open_at) / 1e9, text=str(e["text"])) for e in events if "time" in e]
    marks = sorted([*_faults(moments), *done, *_deaths(history, files), *_findings(findings)], key=lambda m: (m.kind, m.at))
    kept = _thinned([m for m in marks if began - width <= m.at <= ended + width])
    return OverTime(
        began=began,
        width=width,
        counts={o: [found.get((b, o), 0) for b in range(buckets)] for o in OUTCOMES},
        marks=kept,
        marks_left_out=len(marks) - len(kept),
    )


def _faults(moments: pl.DataFrame) -> Iterable[Mark]:
    hit = moments.filter(pl.col("code").is_in(list(FAULTS)))
    return [Mark(kind="fault", at=at, text=FAULTS[code]) for code, at in hit.select("code", "at").iter_rows()]


def _deaths(history: History, files: Sequence[FileFacts]) -> Iterable[Mark]:
    """A later life of a process (worker-3.1.jsonl) began where an earlier one was killed."""
    lives = [(f, re.search(r"-(\d+)\.(\d+)\.jsonl$", f.path.name)) for f in files]
    return [
        Mark(kind="fault", at=(f.opened - history.open_at) / 1e9, text=f"client process {m[1]} had died and was started again")
        for f, m in lives
        if m and int(m[2]) > 0
    ]


def _findings(findings: Sequence[Mapping[str, Any]]) -> Iterable[Mark]:
    for finding in findings:
        operations = finding.get("evidence", {}).get("operations") or []
        told = [seconds_of(o.get("completed")) for o in operations]
        moments = [at for at in told if at is not None]
        if moments and finding["class"] != "cost":
            yield Mark(kind="finding", at=min(moments), text=f"{finding['invariant']}: {finding['message']}")


def seconds_of(offset: object) -> float | None:
    """Return the seconds that ``+2.544 s`` stands for, or None."""
    match = _OFFSET.fullmatch(offset) if isinstance(offset, str) else None
    return float(match[1]) if match else None


def _thinned(marks: Sequence[Mark]) -> list[Mark]:
    findings = [m for m in marks if m.kind == "finding"][:MOST_MARKS]
    faults = [m for m in marks if m.kind == "fault"]
    step = max(1, -(-len(faults) // MOST_MARKS))
    return [*findings, *faults[::step]]


def chart(view: OverTime, *, name: str) -> Chart:
    """Draw the counts as stacked steps, operations per second on the y axis."""
    totals = [sum(view.counts[o][b] for o in OUTCOMES) / view.width for b in range(len(view.counts["ok"]))]
    x, y = horizontal(view.began, view.ended), vertical(0, nice_high(totals), height=HEIGHT)
    marks, base = [], [0.0] * len(totals)
    for outcome in OUTCOMES:
        top = [b + n / view.width for b, n in zip(base, view.counts[outcome], strict=True)]
        if any(view.counts[outcome]):
            marks.append(_band(view, base, top, x, y, f"area {outcome}"))
        base = top
    for mark in view.marks:
        at = x(mark.at)
        marks.append(svg.line(at, TOP, at, HEIGHT - BOTTOM, f"mark {mark.kind}"))
    sums = {o: sum(view.counts[o]) for o in OUTCOMES}
    told = ", ".join(f"{count(sums[o])} {NAMES[o]}" for o in OUTCOMES)
    left_out = f" {amount(view.marks_left_out, 'more mark is', 'more marks are')} not drawn." if view.marks_left_out else ""
    return Chart(
        name=name,
        title="Operations over time",
        summary=f"{told} in {duration(view.ended - view.began)}; each step is {duration(view.width)}.{left_out}",
        picture=draw(
            Plot(
                x=Axis(
                    scale=x,
                    ticks=[(t, f"+{t:g} s") for t in round_ticks(view.began, view.ended, 6)],
                    title="seconds since recording began",
                ),
                y=Axis(scale=y, ticks=[(t, count(t)) for t in y.ticks(4)], title="operations per second"),
                height=HEIGHT,
                marks=marks,
                times=True,
            ),
            name=name,
        ),
        legend=_legend(view, sums),
        hints=_hints(view, totals, x, y),
        zoomable=True,
    )


def _band(view: OverTime, base: Sequence[float], top: Sequence[float], x: Any, y: Any, class_: str) -> Markup:
    """Return the area between two step lines as one path."""
    edges = [x(view.began + n * view.width) for n in range(len(top) + 1)]
    up = [(edges[n + side], y(v)) for n, v in enumerate(top) for side in (0, 1)]
    down = [(edges[n + side], y(v)) for n, v in reversed(list(enumerate(base))) for side in (1, 0)]
    points = "L".join(f"{svg.number(px)} {svg.number(py)}" for px, py in [*up, *down])
    return svg.tag("path", d=f"M{points}Z", class_=class_)


def _legend(view: OverTime, sums: Mapping[str, int]) -> list[Legend]:
    entries = [Legend(mark=f"area {o}", text=f"{NAMES[o]} ({count(sums[o])})") for o in OUTCOMES if sums[o]]
    kinds = {m.kind for m in view.marks}
    entries += [Legend(mark="mark fault", text="fault injected")] if "fault" in kinds else []
    entries += [Legend(mark="mark finding", text="first sign of a finding")] if "finding" in kinds else []
    return entries


def _hints(view: OverTime, totals: Sequence[float], x: Any, y: Any) -> list[Hint]:
    hints = []
    for b, total in enumerate(totals):
        begins = view.began + b * view.width
        told = ", ".join(f"{count(view.counts[o][b])} {NAMES[o]}" for o in OUTCOMES if view.counts[o][b]) or "nothing"
        hints.append(
            Hint(x=x(begins + view.width / 2), y=y(total), text=f"+{begins:.3f} s: {told}; {count(round(total))} per second")
        )
    hints += [Hint(x=x(m.at), y=TOP, text=f"+{m.at:.3f} s: {m.text}") for m in view.marks]
    return hints
