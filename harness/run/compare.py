"""What got worse between two sets of runs, with the noise taken into account.

A figure got worse when two things hold: the change is larger than the tolerance, and the whole 99 % interval of the change,
made of the recorded data, lies on the worse side. The interval holds both kinds of noise: within a run (its batches), and
from run to run. The latter is measured where a side has several runs of the same thing; of a single run nobody can know it, so
a spread is assumed, which several runs correct.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from harness.model import Verdict, worst
from harness.run.measures import Positive, Share
from harness.run.recorded import Recorded

CONFIDENCE = 0.99
SPREAD = 0.15
"""Assumed spread from run to run, relative: eight runs of one thing on an otherwise idle shared machine had 0.07 to 0.16."""

SURENESS = 8.0
"""Of so many runs the assumed spread was measured."""

_RANK = {Verdict.PASS: 0, Verdict.UNKNOWN: 1, Verdict.FAIL: 2}
_WRONG = ("violation", "liveness", "indeterminate")


class Direction(StrEnum):
    """Which way something changed."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "same"
    """Not more than noise and tolerance explain."""
    UNJUDGED = "not judged"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that was compared: ``what`` (verdict, finding, gaps, throughput, ...), before and after, and what it means."""

    run: str
    what: str
    direction: Direction
    message: str
    old: Any = None
    new: Any = None
    interval: tuple[float, float] | None = None
    """Of new / old, for figures above zero."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        document: dict[str, Any] = {
            "run": self.run,
            "what": self.what,
            "direction": self.direction.value,
            "message": self.message,
            "old": self.old,
            "new": self.new,
        }
        if self.interval is not None:
            document["interval"] = [round(bound, 4) for bound in self.interval]
        return document


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All changes, and how many runs each side had."""

    changes: Sequence[Change]
    old: int
    new: int

    @property
    def worse(self) -> list[Change]:
        """What got worse."""
        return [c for c in self.changes if c.direction is Direction.WORSE]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values (schema ``racegate.comparison/1``)."""
        return {
            "schema": "racegate.comparison/1",
            "verdict": "fail" if self.worse else "pass",
            "worse": len(self.worse),
            "runs": {"old": self.old, "new": self.new},
            "changes": [c.to_json() for c in self.changes],
        }


def compare(old: Sequence[Recorded], new: Sequence[Recorded], *, tolerance: float = 0.1, spread: float = SPREAD) -> Comparison:
    """Compare two sets of runs, each run with those of the same scenario, target, engine and settings.

    Args:
        old: the runs to hold the others against.
        new: the runs in question.
        tolerance: change of a figure that is of no interest, relative: 0.1 is a tenth.
        spread: relative spread from run to run that is assumed; several runs of a side correct it.
    """
    before, after = _grouped(old), _grouped(new)
    changes: list[Change] = []
    for key, runs in before.items():
        if key not in after:
            changes.append(
                Change(run=runs[0].title, what="run", direction=Direction.WORSE, message="was run before and is not run any more")
            )
            continue
        changes += _verdicts(runs, after[key])
        changes += _findings(runs, after[key])
        changes += _figures(runs, after[key], tolerance, spread)
    for key, runs in after.items():
        if key not in before:
            changes.append(_unknown_before(runs))
    return Comparison(changes=changes, old=len(old), new=len(new))


def _grouped(runs: Sequence[Recorded]) -> dict[str, list[Recorded]]:
    groups: dict[str, list[Recorded]] = {}
    for run in runs:
        groups.setdefault(run.key, []).append(run)
    return groups


def _verdict(runs: Sequence[Recorded]) -> Verdict:
    return worst([Verdict(r.result["verdict"]) for r in runs])


def _unknown_before(runs: Sequence[Recorded]) -> Change:
    verdict = _verdict(runs)
    bad = verdict is Verdict.FAIL
    return Change(
        run=runs[0].title,
        what="run",
        direction=Direction.WORSE if bad else Direction.UNJUDGED,
        message=f"was not run before; it {'fails' if bad else 'is ' + verdict.value}",
        new=verdict.value,
    )


def _verdicts(old: Sequence[Recorded], new: Sequence[Recorded]) -> list[Change]:
    a, b = _verdict(old), _verdict(new)
    direction = Direction.SAME
    if _RANK[b] != _RANK[a]:
        direction = Direction.WORSE if _RANK[b] > _RANK[a] else Direction.BETTER
    message = f"{a.value}, as before" if a is b else f"{a.value} before, {b.value} now"
    return [Change(run=old[0].title, what="verdict", direction=direction, message=message, old=a.value, new=b.value)]


def _spoke(runs: Sequence[Recorded]) -> dict[str, tuple[int, str, int]]:
    """Return by invariant: how often it was violated, the first sentence, and in how many runs it spoke."""
    found: dict[str, tuple[int, str, int]] = {}
    for run in runs:
        here: dict[str, int] = {}
        for f in run.result["findings"]:
            if f["class"] in _WRONG:
                here[f["invariant"]] = here.get(f["invariant"], 0) + int(f.get("total", 1))
                found.setdefault(f["invariant"], (0, f["message"], 0))
        for invariant, total in here.items():
            before = found[invariant]
            found[invariant] = (before[0] + total, before[1], before[2] + 1)
    return found


def _findings(old: Sequence[Recorded], new: Sequence[Recorded]) -> list[Change]:
    a, b = _spoke(old), _spoke(new)
    changes = []
    for invariant, (total, message, _) in b.items():
        if invariant not in a:
            changes.append(_finding(new, invariant, Direction.WORSE, f"new: {message}", None, total))
    for invariant, (total, message, _) in a.items():
        if invariant not in b:
            changes.append(_finding(old, invariant, Direction.BETTER, f"gone: {message}", total, None))
            continue
        if old[0].result["engine"] == "explore":
            continue  # one interleaving was shown: how often says nothing
        before = Share(hits=total, of=_operations(old), clumping=2.0)
        after = Share(hits=b[invariant][0], of=_operations(new), clumping=2.0)
        direction = _shares_differ(before, after, least=2.0)
        if direction is not Direction.SAME:
            more = "more" if direction is Direction.WORSE else "less"
            told = f"{more} often: {_percent(before)} of the operations before, {_percent(after)} now"
            changes.append(_finding(old, invariant, direction, told, total, b[invariant][0]))
    return changes


def _finding(runs: Sequence[Recorded], invariant: str, direction: Direction, message: str, old: Any, new: Any) -> Change:
    return Change(run=runs[0].title, what=invariant, direction=direction, message=message, old=old, new=new)


def _operations(runs: Sequence[Recorded]) -> int:
    return sum(sum(r.result["operations"].values()) for r in runs)


def _figures(old: Sequence[Recorded], new: Sequence[Recorded], tolerance: float, spread: float) -> list[Change]:
    changes = []
    unlike = _unlike(old, new)
    for name in _names(old, new, "positive"):
        a, b = _all(old, name, "positive"), _all(new, name, "positive")
        changes.append(_positive(old[0].title, name, a, b, tolerance, spread, unlike))
    for name in _names(old, new, "shares"):
        before, after = _pooled(_all(old, name, "shares")), _pooled(_all(new, name, "shares"))
        direction = _shares_differ(before, after, least=1 + tolerance)
        if before.hits or after.hits:
            told = f"{_percent(before)} before, {_percent(after)} now"
            values = (before.hits / before.of, after.hits / after.of)
            changes.append(Change(run=old[0].title, what=name, direction=direction, message=told, old=values[0], new=values[1]))
    if notes := sorted({r.note for r in [*old, *new] if r.note}):
        changes.append(Change(run=old[0].title, what="figures", direction=Direction.UNJUDGED, message="; ".join(notes)))
    return changes


def _names(old: Sequence[Recorded], new: Sequence[Recorded], kind: str) -> list[str]:
    """Return the figures that both sides have."""
    after = {name for r in new for name in getattr(r.measured, kind)}
    return [name for name in dict.fromkeys(n for r in old for n in getattr(r.measured, kind)) if name in after]


def _all(runs: Sequence[Recorded], name: str, kind: str) -> list[Any]:
    return [getattr(r.measured, kind)[name] for r in runs if name in getattr(r.measured, kind)]


def _unlike(old: Sequence[Recorded], new: Sequence[Recorded]) -> str:
    """Say in what the circumstances differ, so that speed cannot be compared; empty if they do not."""
    a, b = old[0].conditions, new[0].conditions
    for run in [*old, *new]:
        for name in a.keys() | b.keys():
            if run.conditions.get(name) != a.get(name):
                return f"{name} was {a.get(name)} and is {run.conditions.get(name)}"
    return ""


def _positive(
    run: str, name: str, old: Sequence[Positive], new: Sequence[Positive], tolerance: float, spread: float, unlike: str
) -> Change:
    unit, more_is_better = old[0].unit, old[0].more_is_better
    mean_old, error_old, free_old = _side(old, spread)
    mean_new, error_new, free_new = _side(new, spread)
    change = mean_new - mean_old
    error = math.hypot(error_old, error_new)
    half = _quantile(free_old + free_new) * error
    low, high = math.exp(change - half), math.exp(change + half)
    told = (
        f"{_figure(math.exp(mean_old))}{unit} before, {_figure(math.exp(mean_new))}{unit} now: "
        f"{_relative(math.exp(change))} ({_relative(low)} to {_relative(high)})"
    )
    direction = Direction.SAME
    if unlike:
        direction, told = Direction.UNJUDGED, f"{told}; not compared: {unlike}"
    elif (low > 1 or high < 1) and abs(change) > math.log1p(tolerance):
        direction = Direction.BETTER if (change > 0) == more_is_better else Direction.WORSE
    return Change(
        run=run,
        what=name,
        direction=direction,
        message=told,
        old=round(math.exp(mean_old), 4),
        new=round(math.exp(mean_new), 4),
        interval=(low, high),
    )


def _side(figures: Sequence[Positive], spread: float) -> tuple[float, float, float]:
    """Return mean of the logarithms, its standard error, and the degrees of freedom of that.

    The assumed spread counts like `SURENESS` runs: it decides where there is one run, and the runs themselves do where there are
    many.
    """
    logs = np.array([f.log for f in figures])
    n = len(figures)
    within = float(np.mean([f.error**2 for f in figures])) / n
    measured = float(logs.var(ddof=1)) if n > 1 else 0.0
    between = (SURENESS * math.log1p(spread) ** 2 + (n - 1) * measured) / (SURENESS + n - 1)
    return float(logs.mean()), math.sqrt(between / n + within), SURENESS + n - 1


def _quantile(freedom: float) -> float:
    from scipy import stats  # noqa: PLC0415 - slow to import, and needed here only

    tail = 1 - (1 - CONFIDENCE) / 2
    return float(stats.norm.ppf(tail) if math.isinf(freedom) else stats.t.ppf(tail, freedom))


def _pooled(shares: Sequence[Share]) -> Share:
    """Add shares up; runs that differ more than chance widen the interval like batches that do."""
    hits, of = sum(s.hits for s in shares), sum(s.of for s in shares)
    clumping = max(s.clumping for s in shares)
    p = hits / of if of else 0.0
    if len(shares) > 1 and 0 < p < 1:
        rates = [s.hits / s.of for s in shares if s.of]
        expected = p * (1 - p) / (of / len(shares))
        clumping = max(clumping, float(np.var(rates, ddof=1)) / expected if len(rates) > 1 else 1.0)
    return Share(hits=hits, of=of, clumping=clumping)


def _shares_differ(old: Share, new: Share, *, least: float) -> Direction:
    """Say which way a share went, if the intervals do not touch and it changed at least by the factor ``least``."""
    if not old.of or not new.of:
        return Direction.SAME
    (a_low, a_high), (b_low, b_high) = wilson(old), wilson(new)
    a, b = old.hits / old.of, new.hits / new.of
    if b_low > a_high and b >= a * least:
        return Direction.WORSE
    if b_high < a_low and b * least <= a:
        return Direction.BETTER
    return Direction.SAME


def wilson(share: Share) -> tuple[float, float]:
    """Return Wilson's interval of a share (E. B. Wilson, JASA 22, 1927), on the operations that count after clumping."""
    n = max(1.0, share.of / share.clumping)
    z = _quantile(math.inf)
    p = share.hits / share.of
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _percent(share: Share) -> str:
    return f"{share.hits / share.of:.2%}" if share.of else "none"


def _relative(factor: float) -> str:
    return f"{factor - 1:+.0%}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def by_run(changes: Sequence[Change]) -> Mapping[str, list[Change]]:
    """Return the changes by run, in order."""
    grouped: dict[str, list[Change]] = {}
    for change in changes:
        grouped.setdefault(change.run, []).append(change)
    return grouped
