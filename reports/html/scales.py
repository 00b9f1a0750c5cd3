"""Numbers to positions, round ticks, and numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Maps ``low`` to ``high`` of a quantity onto ``start`` to ``end`` in SVG units; logarithmic if ``log``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value, kept within the scale."""
        low, high = self._shown(self.low), self._shown(self.high)
        share = (self._shown(value) - low) / (high - low) if high > low else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def _shown(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.log else value

    def ticks(self, about: int = 5) -> list[float]:
        """Return round values within the scale, about as many as asked; powers of ten for a logarithmic scale."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**n for n in range(first, last + 1)]
        return round_ticks(self.low, self.high, about)


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten between ``low`` and ``high``.

    >>> round_ticks(0, 9)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def nice_high(values: Sequence[float]) -> float:
    """Return a round number that is not below any of the values, and above zero."""
    top = max([*values, 0.0])
    if top <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(top))
    return next(power * m for m in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * m >= top * 0.999999)


def count(value: float) -> str:
    """Return a count with separators: ``12,345``."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def amount(number: int, one: str, several: str) -> str:
    """Return a count with its words: ``1 mark is``, ``2 marks are``."""
    return f"{count(number)} {one if number == 1 else several}"


def duration(seconds: float) -> str:
    """Return a length of time in its natural unit: ``450 µs``, ``12.5 ms``, ``3.20 s``, ``2 min 5 s``."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds == 0:
        return "0 s"
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.3g} µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:,} min {rest} s" if rest else f"{minutes:,} min"


def share(part: float, whole: float) -> str:
    """Return a share as a percentage, and ``-`` of nothing."""
    return f"{part / whole:.1%}" if whole else "-"
