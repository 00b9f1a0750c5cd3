"""The universal scalability law, fitted with bounds and honest about what it knows.

N users reach the rate X(N) = a N / (1 + s (N - 1) + k N (N - 1)): ``a`` is the rate of one user alone, ``s`` the share of the
work that only one can do at a time, ``k`` what agreeing with one another costs (N. Gunther, Guerrilla Capacity Planning, 2007).
Without bounds a hot counter gives s > 1, which means nothing (R2 0.82 at a peak that is undefined), so 0 <= s <= 1 and
k >= 0. The intervals come from fitting resampled measurements. The law is not asked about more users than were measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 200
FEWEST = 4
"""Different numbers of users below which nothing is fitted: the law has three parameters."""

CREDIBLE = 0.9
"""R2 below which the fit describes the measurements too badly to be used."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The parameters with their 95 % intervals. ``measured`` is the largest number of users that was tried."""

    alone: float
    serial: float
    crosstalk: float
    intervals: Mapping[str, tuple[float, float]]
    r2: float
    measured: int

    @property
    def peak(self) -> float | None:
        """The number of users with the highest rate; None if the law has no peak."""
        return math.sqrt((1 - self.serial) / self.crosstalk) if self.crosstalk > 0 else None

    def rate(self, users: float) -> float:
        """Return the rate that the law gives. Raises ValueError beyond what was measured: it would be a guess."""
        if users > self.measured:
            raise ValueError(f"{users:g} users were not tried, the most were {self.measured}")
        return float(_law(np.array([users]), self.alone, self.serial, self.crosstalk)[0])

    def said(self) -> str:
        """Return what the fit says, or why it says nothing."""
        spans = {name: f"{low:.3g} to {high:.3g}" for name, (low, high) in self.intervals.items()}
        text = (
            f"serial share {self.serial:.3f} ({spans['serial']}), crosstalk {self.crosstalk:.2g} ({spans['crosstalk']}), "
            f"R2 {self.r2:.2f}"
        )
        if self.r2 < CREDIBLE:
            return f"{text}: the law does not describe these measurements; nothing is concluded from it"
        if self.peak is None or self.peak > self.measured:
            return f"{text}: no peak up to {self.measured} users, and nothing is said beyond"
        return f"{text}: the rate peaks at about {max(self.peak, 1):.0f} users"

    def to_json(self) -> dict[str, Any]:
        """Return the fit as plain JSON values."""
        return {**vars(self), "intervals": dict(self.intervals), "peak_users": self.peak, "said": self.said()}


def fit_of(points: Sequence[tuple[int, float]], seed: int = 0) -> Fit | None:
    """Fit (users, rate) measurements, several for each number of users; None if there are too few different ones."""
    users = np.array([n for n, _ in points], dtype=np.float64)
    rates = np.array([x for _, x in points], dtype=np.float64)
    if len(np.unique(users)) < FEWEST or not (rates > 0).any():
        return None
    best = _fit(users, rates)
    draw = np.random.default_rng(seed)
    groups = [np.flatnonzero(users == n) for n in np.unique(users)]
    resampled = np.array(
        [_fit(users[at], rates[at]) for at in (_resample(groups, draw) for _ in range(RESAMPLES))], dtype=np.float64
    )
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    residual = float(((rates - _law(users, *best)) ** 2).sum())
    spread = float(((rates - rates.mean()) ** 2).sum())
    return Fit(
        alone=float(best[0]),
        serial=float(best[1]),
        crosstalk=float(best[2]),
        intervals={n: (float(low[i]), float(high[i])) for i, n in enumerate(("alone", "serial", "crosstalk"))},
        r2=1 - residual / spread if spread else 0.0,
        measured=int(users.max()),
    )


def _resample(groups: Sequence[npt.NDArray[np.int64]], draw: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.concatenate([draw.choice(group, len(group)) for group in groups])


def _law(users: Floats, alone: float, serial: float, crosstalk: float) -> Floats:
    return np.asarray(alone * users / (1 + serial * (users - 1) + crosstalk * users * (users - 1)), dtype=np.float64)


def _fit(users: Floats, rates: Floats) -> Floats:
    from scipy.optimize import least_squares  # noqa: PLC0415 - takes a second to import

    scale = float(rates.max())
    first = np.array([rates[users == users.min()].mean() / scale / users.min(), 0.1, 0.001])
    first[0] = max(first[0], 1e-6)

    def off(parameters: Floats) -> Floats:
        return _law(users, *parameters) - rates / scale

    found = least_squares(off, first, bounds=([1e-9, 0.0, 0.0], [np.inf, 1.0, np.inf]), x_scale=[first[0], 0.1, 0.01])
    return np.asarray(found.x * np.array([scale, 1.0, 1.0]), dtype=np.float64)
