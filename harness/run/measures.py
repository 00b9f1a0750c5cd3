"""What a run's recorded data says in figures, with how sure the data is of them.

A run is cut into consecutive batches of equally many operations. How the batches differ says how far a figure of the whole run
can be trusted; neighbours that resemble each other count for less (the lag-1 correlation widens the interval).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from harness.invariants.numbering.columns import PLACE, stored
from harness.invariants.numbering.gaps import extents, missing
from harness.model import Books, History, Policy

BATCHES = 20
LEAST_IN_BATCH = 20
"""Operations; below it a batch says nothing, and there are fewer batches."""

FEWEST_BATCHES = 5

PERCENTILES: Mapping[str, tuple[float, int]] = {"p50": (0.50, 100), "p95": (0.95, 400), "p99": (0.99, 2000)}
"""Each latency percentile with the operations that it takes to speak of it."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Positive:
    """A figure above zero: ``log`` is its natural logarithm, ``error`` the standard error of that within the run."""

    log: float
    error: float
    unit: str
    more_is_better: bool

    @property
    def value(self) -> float:
        """The figure."""
        return math.exp(self.log)


@dataclass(frozen=True, kw_only=True)
class Share:
    """``hits`` of ``of``. ``clumping`` is how many times more the batches differ than independent hits would (1 or more)."""

    hits: int
    of: int
    clumping: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Measures:
    """All figures of one run, by name."""

    positive: Mapping[str, Positive] = field(default_factory=dict)
    shares: Mapping[str, Share] = field(default_factory=dict)


def measures_of(history: History, books: Books, policy: Policy | None) -> Measures:
    """Return the figures of a run's race.

    Args:
        history: the operations of the race, without those that set the scene.
        books: what the store held afterwards.
        policy: says what a scope is and which numbers count as missing; None where it is not known.
    """
    done = history.operations.filter(pl.col("completed").is_not_null()).sort("completed")
    positive: dict[str, Positive] = {}
    if (rate := _throughput(done)) is not None:
        positive["throughput"] = rate
    positive.update(_latencies(done))
    shares = {}
    if history.operations.height:
        wrong = (history.operations["outcome"] != "ok") & ~history.operations["refusal"].fill_null(False)
        shares["failed operations"] = _share(wrong.to_numpy().astype(np.float64))
    if (holes := _gaps(books, policy)) is not None:
        shares["gaps"] = holes
    return Measures(positive=positive, shares=shares)


def _batches(count: int) -> int:
    """Return how many batches so many operations make; 0 if they are too few."""
    fitting = min(BATCHES, count // LEAST_IN_BATCH)
    return fitting if fitting >= FEWEST_BATCHES else 0


def _throughput(done: pl.DataFrame) -> Positive | None:
    """Answered operations a second. The first batch is left out: clients are still arriving."""
    at = done["completed"].to_numpy().astype(np.float64) / 1e9
    parts = _batches(len(at))
    if not parts:
        return None
    edges = np.linspace(0, len(at) - 1, parts + 1).astype(int)
    seconds = np.diff(at[edges])
    sizes = np.diff(edges).astype(np.float64)
    if (seconds[1:] <= 0).any():
        return None
    whole = math.log(sizes[1:].sum() / seconds[1:].sum())
    return Positive(log=whole, error=_error(np.log(sizes[1:] / seconds[1:])), unit="/s", more_is_better=True)


def _latencies(done: pl.DataFrame) -> dict[str, Positive]:
    """Percentiles of the time that ``ok`` operations took, in milliseconds."""
    ok = done.filter(pl.col("outcome") == "ok")
    took = (ok["completed"] - ok["invoked"]).to_numpy().astype(np.float64) / 1e6
    found = {}
    for name, (quantile, needed) in PERCENTILES.items():
        parts = _batches(len(took))
        if not parts or len(took) < needed:
            continue
        each = np.array([np.quantile(part, quantile) for part in np.array_split(took, parts)])
        whole = float(np.quantile(took, quantile))
        if whole > 0 and (each > 0).all():
            found[f"latency {name}"] = Positive(log=math.log(whole), error=_error(np.log(each)), unit=" ms", more_is_better=False)
    return found


def _error(batches: Floats) -> float:
    """Return the standard error of the batches' mean, wider where neighbours resemble each other."""
    n = len(batches)
    spread = float(batches.std(ddof=1))
    if spread == 0:
        return 0.0
    around = batches - batches.mean()
    lag = float((around[1:] * around[:-1]).sum() / (around**2).sum())
    alike = min(max(lag, 0.0), 0.8)
    return spread / math.sqrt(n) * math.sqrt((1 + alike) / (1 - alike))


def _share(hits: Floats) -> Share:
    parts = _batches(len(hits))
    return Share(hits=int(hits.sum()), of=len(hits), clumping=_clumping(np.array_split(hits, parts)) if parts else 1.0)


def _clumping(batches: Sequence[Floats]) -> float:
    """Return the design effect: variance between batches over what independent hits would have."""
    every = np.concatenate(batches)
    p = float(every.mean())
    if p in (0.0, 1.0):
        return 1.0
    expected = p * (1 - p) / float(np.mean([len(b) for b in batches]))
    return max(1.0, float(np.var([b.mean() for b in batches], ddof=1)) / expected)


def _gaps(books: Books, policy: Policy | None) -> Share | None:
    """Return missing numbers of those in range, over all scopes; None where the target keeps no documents."""
    if policy is None or not books.complete or not books.has("documents"):
        return None
    documents = stored(books, policy)
    spans = extents(documents, policy)
    if spans.is_empty():
        return None
    holes = missing(documents, policy)
    per_scope = spans.join(holes.group_by(PLACE).agg(pl.col("size").sum().alias("gone")), on=PLACE, how="left")
    gone = int(per_scope["gone"].fill_null(0).sum())
    runs = int(holes.height)  # a rolled back batch leaves a run of holes: it is one event
    return Share(hits=gone, of=int(per_scope["range"].sum()), clumping=max(1.0, gone / runs) if runs else 1.0)
