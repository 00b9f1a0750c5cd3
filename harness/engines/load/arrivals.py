"""When requests are to arrive in an open model: a rate over time, or times from a file.

An open model sends a request when the schedule says so, whether or not earlier ones were answered, as customers do. Time is
cut into segments whose rate is linear; the k-th arrival is due when the integral of the rate reaches k. Spaced evenly that is
k = 1, 2, 3; at random (a Poisson process) the steps of k are drawn from an exponential distribution of mean 1.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.model.errors import UsageError

FORMS = "100 (constant), 10..200 (ramp), 50,100,200 (steps), 50^500 (spike) or @FILE (seconds, one arrival a line)"

SPIKE = (0.4, 0.2, 0.4)
"""Shares of the time before, during and after a spike."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """So many seconds in which the rate goes linearly from one value to another, in arrivals per second."""

    seconds: float
    first: float
    last: float

    @property
    def arrivals(self) -> float:
        """How many arrivals are due in it."""
        return self.seconds * (self.first + self.last) / 2

    def when(self, due: float) -> float:
        """Return the seconds into the segment at which the integral of the rate reaches ``due``."""
        slope = (self.last - self.first) / self.seconds
        if abs(slope) * self.seconds < 1e-9 * max(self.first, self.last):
            return due / self.first
        return (math.sqrt(max(self.first**2 + 2 * slope * due, 0.0)) - self.first) / slope


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """A schedule of arrivals: ``segments`` one after another, or ``times`` in seconds from the start.

    ``text`` is how the user wrote it; ``even`` spaces arrivals evenly, otherwise they come at random.
    """

    text: str
    segments: Sequence[Segment] = ()
    times: Sequence[float] = ()
    even: bool = True

    @property
    def seconds(self) -> float:
        """How long the schedule is."""
        return sum(s.seconds for s in self.segments) if self.segments else max(self.times, default=0.0)

    def all(self, seed: int) -> Iterator[float]:
        """Yield when each arrival is due, in seconds from the start."""
        if self.times:
            yield from self.times
            return
        draw = random.Random(f"arrivals/{seed}")
        due = 0.0 if self.even else draw.expovariate(1)
        began = passed = 0.0
        for segment in self.segments:
            while due < passed + segment.arrivals - 1e-9:
                yield began + segment.when(due - passed)
                due += 1.0 if self.even else draw.expovariate(1)
            passed += segment.arrivals
            began += segment.seconds

    def share(self, seed: int, rank: int, processes: int) -> Iterator[float]:
        """Yield the arrivals of the process of that rank: every one belongs to exactly one process."""
        for k, due in enumerate(self.all(seed)):
            if k % processes == rank:
                yield due


def parse_arrivals(text: str, seconds: float | None, *, even: bool = True) -> Arrivals:
    """Return the schedule that a text means, over so many seconds.

    Raises:
        UsageError: it means none.
    """
    if text.startswith("@"):
        return Arrivals(text=text, times=_times(Path(text[1:])))
    if seconds is None:
        raise UsageError("a rate needs a --duration, over which it applies")
    number = r"\d+(?:\.\d+)?"
    segments: list[Segment] = []
    if re.fullmatch(rf"{number}(,{number})*", text):
        rates = [float(rate) for rate in text.split(",")]
        segments = [Segment(seconds=seconds / len(rates), first=rate, last=rate) for rate in rates]
    elif match := re.fullmatch(rf"({number})\.\.({number})", text):
        segments = [Segment(seconds=seconds, first=float(match[1]), last=float(match[2]))]
    elif match := re.fullmatch(rf"({number})\^({number})", text):
        rates = [float(match[1]), float(match[2]), float(match[1])]
        segments = [Segment(seconds=seconds * part, first=rate, last=rate) for part, rate in zip(SPIKE, rates, strict=True)]
    if not any(s.arrivals for s in segments):
        raise UsageError(f"--rate {text} is no rate of arrivals per second; expected {FORMS}")
    return Arrivals(text=text, segments=tuple(segments), even=even)


def _times(path: Path) -> tuple[float, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"--rate @{path} cannot be read: {e}") from e
    try:
        times = sorted(float(line) for line in lines)
    except ValueError as e:
        raise UsageError(f"{path} holds something else than a number of seconds a line: {e}") from e
    if not times or not all(0 <= t < math.inf for t in times):
        raise UsageError(f"{path} holds no arrivals: expected one number of seconds from the start a line")
    return tuple(times)
