"""Limits that a load has to keep: latency, errors, gaps, the rate of correct work."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.model.errors import UsageError

FORMS = "p95=200ms, p99=1s, errors=1%, gaps=0.5% or rate=50 (correct operations per second, at least)"

_UNITS = {"ms": 1.0, "s": 1000.0, "%": 0.01, "": 1.0}


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One limit: ``bound`` is in ms for a percentile, a share for errors and gaps, operations per second for a rate."""

    name: str
    bound: float
    text: str

    def broken(self, measured: Mapping[str, float | None]) -> str | None:
        """Return what was measured if the limit is broken by it, or if it was not measured at all."""
        value = measured.get(self.name)
        if value is None:
            return f"{self.text}: nothing was measured"
        keeps = value >= self.bound if self.name == "rate" else value <= self.bound
        return None if keeps else f"{self.text}: {_shown(self.name, value)}"


def parse_limits(texts: Sequence[str]) -> list[Limit]:
    """Return the limits that the texts mean. Raises UsageError if one means none."""
    return [_limit(text) for text in texts]


def _limit(text: str) -> Limit:
    match = re.fullmatch(r"(p50|p75|p90|p95|p99|errors|gaps|rate)=(\d+(?:\.\d+)?)(ms|s|%|)", text.strip())
    if match is not None:
        name, number, unit = match[1], float(match[2]), match[3]
        fits = ("ms", "s") if name.startswith("p") else ("",) if name == "rate" else ("%", "")
        if unit in fits:
            return Limit(name=name, bound=number * _UNITS[unit], text=text.strip())
    raise UsageError(f"{text!r} is no limit; expected for example {FORMS}")


def measured_of(load: Mapping[str, Any]) -> dict[str, float | None]:
    """Return what limits are about, from the facts of a load run: response times where there are any, else service times."""
    found: dict[str, float | None] = {}
    for kinds in load["latency_ms"].values():
        summary = kinds.get("response") or kinds["service"]
        for name, value in summary.items():
            if re.fullmatch(r"p\d+", name):
                found[name] = max(found.get(name) or 0.0, value)
    counts = load["counts"]
    tried = counts["invoked"] + counts["unconnected"] + counts["dropped"]
    found["errors"] = (load["errors"] + counts["dropped"]) / tried if tried else None
    found["gaps"] = load["live"]["gap_rate"]
    found["rate"] = load["correct_per_second"]
    return found


def _shown(name: str, value: float) -> str:
    if name.startswith("p"):
        return f"{value:.1f} ms"
    return f"{value:.1f} per second" if name == "rate" else f"{100 * value:.2f} %"
