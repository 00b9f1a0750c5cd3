"""What a process measures of its clients and of itself.

Latencies go into histograms of microseconds with three significant digits from 1 us to an hour; those of several processes
add up without loss. Locust's own keep two digits. In an open model the response time counts from when the arrival was
intended, the service time from when the request was sent; in a closed model both are the same and one is kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

LEAST, MOST, DIGITS = 1, 3_600_000_000, 3
"""Microseconds between which a latency is measured, and its significant digits."""

PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)

BUSY = 0.9
"""Share of a core from which on a generator's own queueing shows in its latencies."""

LAGGING = 0.1
"""Seconds that a timer of the generator may be late."""


def new_histogram() -> HdrHistogram:
    """Return an empty histogram of microseconds."""
    return HdrHistogram(LEAST, MOST, DIGITS)


PER_DECADE = 100
"""Buckets of a recent latency in each power of ten of microseconds: 2.3 % wide, enough for a curve on a screen."""


@dataclass
class Latencies:
    """Of one operation: how many requests, and their service and response times.

    Taking one in only appends it to a list; the lists go into the histograms now and then, each distinct value once, because
    a histogram costs microseconds for every value and that is time that a generator does not have.
    """

    service: HdrHistogram = field(default_factory=new_histogram)
    response: HdrHistogram | None = None
    _services: list[int] = field(default_factory=list)
    _responses: list[int] = field(default_factory=list)

    def add(self, service_ns: int, response_ns: int | None = None) -> None:
        """Take one request in; ``response_ns`` counts from the intended start, where there is one."""
        self._services.append(service_ns)
        if response_ns is not None:
            self._responses.append(response_ns)

    def settle(self) -> Counter[int]:
        """Move what was taken in to the histograms, and return its latencies as the user felt them, by bucket."""
        services, self._services = self._services, []
        responses, self._responses = self._responses, []
        _record(self.service, services)
        if responses:
            self.response = self.response or new_histogram()
            _record(self.response, responses)
        return Counter(int(PER_DECADE * math.log10(max(ns // 1000, LEAST))) for ns in responses or services)

    def to_json(self) -> dict[str, Any]:
        """Return what another process needs to add them to its own."""
        self.settle()
        return {
            "service": self.service.encode().decode(),
            "response": self.response.encode().decode() if self.response else None,
        }


def _record(histogram: HdrHistogram, values_ns: Sequence[int]) -> None:
    for value, count in Counter(_rounded(ns // 1000) for ns in values_ns).items():
        histogram.record_value(value, count)


def _rounded(us: int) -> int:
    """Return the microseconds with the digits that a histogram keeps, so that equal values are recorded together."""
    us = min(max(us, LEAST), MOST)
    coarse = 1
    while us >= 10_000 * coarse:
        coarse *= 10
    return us // coarse * coarse


def percentiles_of(recent: Mapping[int, int]) -> dict[str, float | None]:
    """Return p50, p95 and p99 in ms of latencies by bucket, as `Latencies.settle` gave them; None where there are none."""
    whole = sum(recent.values())
    found: dict[str, float | None] = {}
    for percentile in (50, 95, 99):
        left = whole * percentile / 100
        found[f"p{percentile}"] = None
        for bucket in sorted(recent) if whole else ():
            left -= recent[bucket]
            if left <= 0:
                found[f"p{percentile}"] = round(10 ** ((bucket + 0.5) / PER_DECADE) / 1000, 3)
                break
    return found


def merged(parts: Iterable[Mapping[str, Any]], kind: str) -> HdrHistogram | None:
    """Add up the histograms ``service`` or ``response`` of several processes; None if none has one."""
    whole = None
    for part in parts:
        if encoded := part.get(kind):
            whole = whole or new_histogram()
            whole.decode_and_add(encoded.encode())
    return whole


def summary(histogram: HdrHistogram) -> dict[str, float]:
    """Return count, mean, largest and the usual percentiles; times in milliseconds."""
    found: dict[str, float] = {"count": histogram.get_total_count()}
    if not found["count"]:
        return found
    found["mean"] = round(histogram.get_mean_value() / 1000, 3)
    found["max"] = round(histogram.get_max_value() / 1000, 3)
    for percentile, value in histogram.get_percentile_to_value_dict(PERCENTILES).items():
        found[f"p{percentile:g}"] = round(value / 1000, 3)
    return found


@dataclass
class Counts:
    """What clients did: operations sent and how they ended, and connections that were refused.

    ``errors`` is what Locust is told of as one; its own sums can lack the last moments of a worker.
    In an open model ``arrived`` are the arrivals that came due, of which ``dropped`` found no free client, and ``late`` were
    sent noticeably after their moment.
    """

    invoked: int = 0
    ok: int = 0
    fail: int = 0
    info: int = 0
    refused: int = 0
    unconnected: int = 0
    errors: int = 0
    arrived: int = 0
    dropped: int = 0
    late: int = 0

    def to_json(self) -> dict[str, int]:
        """Return the counts by name."""
        return dict(vars(self))


def total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add counts up by name."""
    sums: dict[str, int] = Counts().to_json()
    for part in counts:
        for name in sums:
            sums[name] += part.get(name, 0)
    return sums


class Generator:
    """The state of a process that makes the load: share of a core that it used, and how late its timers were."""

    def __init__(self) -> None:
        self._cpu: list[float] = []
        self._lag = new_histogram()

    @property
    def cpu(self) -> float:
        """The share of a core that was used lately."""
        return self._cpu[-1] if self._cpu else 0.0

    def late(self, seconds: float) -> None:
        """Take in how late a timer was."""
        self._lag.record_value(min(max(int(seconds * 1e6), LEAST), MOST))

    def used(self, cores: float) -> None:
        """Take in the share of a core that was used for a while."""
        self._cpu.append(cores)

    def to_json(self) -> dict[str, Any]:
        """Return averages, worsts, and whether the process was itself the bottleneck."""
        cpu = self._cpu or [0.0]
        late = self._lag.get_value_at_percentile(95) / 1e6
        return {
            "cpu_mean": round(sum(cpu) / len(cpu), 3),
            "cpu_max": round(max(cpu), 3),
            "lag_p95_ms": round(late * 1000, 2),
            "lag_max_ms": round(self._lag.get_max_value() / 1000, 2),
            "saturated": sum(cpu) / len(cpu) > BUSY or late > LAGGING,
        }


def saturated(generators: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether any process of the generator was itself the bottleneck."""
    return any(g["saturated"] for g in generators)
