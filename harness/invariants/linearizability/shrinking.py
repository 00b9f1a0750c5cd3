"""Makes a history that is wrong smaller, as long as it stays wrong for the same kind of reason.

Operations are dropped in large pieces first, then in smaller ones, until none can be spared (Zeller's delta debugging). A
naive search would drop the write and keep the read that saw it, and show a read of nothing. So what is left must be wrong because
of time alone, if the whole was: there must be an order that explains all answers when everything is taken as concurrent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from harness.invariants.linearizability.models import Model
from harness.invariants.linearizability.search import Call, Search

STEPS = 20_000
"""Steps that each attempt may take. A part that stays undecided counts as neither wrong nor impossible."""

T = TypeVar("T")


def shrink(
    calls: Sequence[Call],
    model: Model,
    *,
    stuck: Call | None = None,
    seconds: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
) -> list[Call]:
    """Return a part of one object's operations that is not linearizable either and of which nothing can be left out.

    ``stuck`` is the operation that cannot be placed, if that is known: it is kept, and what began after it goes at once.
    When ``seconds`` are up, the smallest part so far is returned. What is linearizable is returned as it is.
    """
    deadline = clock() + seconds
    if _valid(calls, model) is not False:
        return list(calls)
    calls = _until(stuck, calls, model)
    because_of_time = _valid(_at_once(calls), model) is not False

    def wrong(part: Sequence[Call]) -> bool:
        if (stuck is not None and stuck not in part) or _valid(part, model) is not False:
            return False
        return not because_of_time or _valid(_at_once(part), model) is not False

    return smallest(calls, wrong, lambda: clock() > deadline)


def _until(stuck: Call | None, calls: Sequence[Call], model: Model) -> Sequence[Call]:
    """Leave out what began after the operation that cannot be placed had returned, if the rest is wrong without it."""
    if stuck is None or stuck.returned is None:
        return calls
    before = [c for c in calls if c.invoked <= stuck.returned]
    return before if _valid(before, model) is False else calls


def smallest(items: Sequence[T], wrong: Callable[[Sequence[T]], bool], late: Callable[[], bool]) -> list[T]:
    """Drop items while the rest stays wrong, in pieces of half of them first, then of ever smaller ones, until ``late``."""
    left = list(items)
    size = max(1, len(left) // 2)
    while True:
        dropped = False
        at = 0
        while at < len(left):
            if late():
                return left
            part = left[:at] + left[at + size :]
            if part and wrong(part):
                left, dropped = part, True
            else:
                at += size
        if size == 1 and not dropped:
            return left
        size = max(1, size // 2)


def _valid(calls: Sequence[Call], model: Model) -> bool | None:
    return Search(calls, model).advance(STEPS)


def _at_once(calls: Sequence[Call]) -> list[Call]:
    last = max((c.returned or c.invoked for c in calls), default=0)
    return [replace(c, invoked=0, returned=None if c.returned is None else last) for c in calls]
