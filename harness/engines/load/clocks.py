"""How far the clock of another host is from ours, from messages that go there and back.

A question that leaves at ``sent`` and whose answer is back at ``received``, both on our clock, was answered somewhere between:
the other clock, which showed ``answered`` then, is ahead of ours by at least ``answered - received`` and at most
``answered - sent``. Several exchanges close together narrow this down, because each bound holds for all of them. Clocks drift,
so bursts of exchanges are made again and again while a test runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

DRIFT = 1e-3
"""The most that two monotonic clocks may drift apart, in seconds a second.

Linux slews a clock by at most 500 ppm (adjtimex(2)), and this holds for either of the two.
"""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One question and its answer. Times are ns; ``answered`` is the other clock's."""

    sent: int
    answered: int
    received: int


def bounds_of(burst: Sequence[Exchange]) -> tuple[int, int]:
    """Return the ns that the other clock is ahead of ours during a burst of exchanges, at least and at most.

    Raises:
        ValueError: there are no exchanges.
    """
    drift = int(DRIFT * (max(e.received for e in burst) - min(e.sent for e in burst))) + 1
    least = max(e.answered - e.received for e in burst) - drift
    most = min(e.answered - e.sent for e in burst) + drift
    if least > most:  # a clock jumped, for example because its machine was suspended
        return min(e.answered - e.received for e in burst), max(e.answered - e.sent for e in burst)
    return least, most


def skew_of(bursts: Sequence[Sequence[Exchange]]) -> tuple[int, int]:
    """Return the ns that the other clock was ahead of ours, at least and at most, over all bursts and the time between.

    What one burst says holds for every other as well, as far as the clocks can have drifted meanwhile: one with quick answers
    narrows down those that were slow.

    Raises:
        ValueError: fewer than two bursts were answered, so that nothing is known of the time between.
    """
    answered = sorted((_middle(burst), *bounds_of(burst)) for burst in bursts if burst)
    if len(answered) < 2:
        raise ValueError("the clocks were compared fewer than twice")
    narrowed = [_narrowed(at, answered) for at, _, _ in answered]
    if any(least > most for least, most in narrowed):  # a clock jumped
        narrowed = [(least, most) for _, least, most in answered]
    between = int(DRIFT * max(later[0] - earlier[0] for earlier, later in pairwise(answered)) / 2)
    return min(least for least, _ in narrowed) - between, max(most for _, most in narrowed) + between


def _middle(burst: Sequence[Exchange]) -> int:
    return (min(e.sent for e in burst) + max(e.received for e in burst)) // 2


def _narrowed(at: int, answered: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
    """Return what all bursts together say of the skew at a time."""
    least = max(least - int(DRIFT * abs(at - when)) for when, least, _ in answered)
    most = min(most + int(DRIFT * abs(at - when)) for when, _, most in answered)
    return least, most
