"""Many objects, one verdict: the searches of all partitions take turns under growing budgets.

One after another they could get stuck in a hard partition while the next one is wrong at first sight. So each gets a small
budget of steps in turn, those that are undecided a larger one in the next round, and the first that is not linearizable ends
it. When time or memory run out, the verdict is unknown and says how many partitions are undecided.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.invariants.linearizability.models import REFUSED, UNKNOWN, Model
from harness.invariants.linearizability.search import Call, Search
from harness.model import History, Operation, Outcome, UsageError, Verdict

FIRST_BUDGET = 2_000
"""Steps of each partition in the first round."""

EXPLAINING = 500_000
"""Steps to spend on an explanation that is easier to understand."""

GROWTH = 4
"""By how much the budget grows from round to round."""

BYTES_A_CONFIGURATION = 350
"""Measured on CPython 3.11, rounded up: what a remembered configuration and its part of the stack weigh."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When to give up: seconds of wall time, steps over all partitions, and megabytes of remembered configurations."""

    seconds: float = 60.0
    steps: int | None = None
    megabytes: float = 1024.0


@dataclass(frozen=True, kw_only=True)
class Stuck:
    """Why one object is not linearizable.

    ``call`` is the operation that cannot be placed, ``longest`` the rows of the longest order that could, in that order,
    ``states`` what the object may have been then.
    """

    partition: Hashable
    call: Call
    longest: Sequence[int]
    states: Sequence[Hashable]


@dataclass(frozen=True, kw_only=True)
class Linearizability:
    """What the search found. ``undecided`` of ``partitions`` were given up; ``orders`` has a witness for each decided one."""

    verdict: Verdict
    partitions: int
    undecided: int = 0
    operations: int
    steps: int
    configurations: int
    why: str | None = None
    stuck: Stuck | None = None
    orders: Mapping[Hashable, Sequence[int]] = field(default_factory=dict)


def check_linearizable(
    history: History | Iterable[Operation],
    model: Model,
    limits: Limits | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Linearizability:
    """Search, for each object of the history, an order in which its operations can have taken effect one at a time.

    Raises:
        UsageError: the history has an operation that the model does not know, or one whose values cannot be compared.
    """
    return search_all(calls_of(history, model), model, limits, clock=clock)


def search_all(
    objects: Mapping[Hashable, Sequence[Call]],
    model: Model,
    limits: Limits | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Linearizability:
    """Search the objects' orders, taking turns. See `check_linearizable`."""
    limits = limits or Limits()
    deadline = clock() + limits.seconds
    searches = {key: Search(calls, model) for key, calls in objects.items()}
    open_ones = dict(searches)
    operations = sum(len(calls) for calls in objects.values())
    budget = FIRST_BUDGET
    why: str | None = None

    def result(verdict: Verdict, **more: Any) -> Linearizability:
        return Linearizability(
            verdict=verdict,
            partitions=len(searches),
            operations=operations,
            steps=sum(s.steps for s in searches.values()),
            configurations=sum(s.configurations for s in searches.values()),
            orders={key: s.longest for key, s in searches.items() if s.valid},
            **more,
        )

    while open_ones:
        for key, search in list(open_ones.items()):
            valid = search.advance(budget)
            if valid is False:
                call = search.stuck
                assert call is not None
                stuck = Stuck(partition=key, call=call, longest=search.longest, states=search.states)
                return result(Verdict.FAIL, undecided=len(open_ones) - 1, stuck=stuck)
            if valid:
                del open_ones[key]
            if (why := _used_up(limits, searches, clock() > deadline)) and open_ones:
                return result(Verdict.UNKNOWN, undecided=len(open_ones), why=why)
        budget *= GROWTH
    return result(Verdict.PASS if operations else Verdict.UNKNOWN, why=None if operations else "there is no operation to order")


def explained(calls: Sequence[Call], stuck: Stuck, model: Model) -> Stuck:
    """Return the operation at which an order fails that looks no further than it must: what people understand.

    A model's ``leads`` lets the search fail early, at an operation before the read that cannot be. Where a search without it is
    too long, ``stuck`` is returned as it is.
    """
    search = Search(calls, replace(model, leads=None))
    search.advance(EXPLAINING)
    if search.stuck is None:
        return stuck
    return Stuck(partition=stuck.partition, call=search.stuck, longest=search.longest, states=search.states)


def _used_up(limits: Limits, searches: Mapping[Hashable, Search], late: bool) -> str | None:
    if late:
        return f"{limits.seconds:g} s of search were used up"
    if limits.steps is not None and sum(s.steps for s in searches.values()) >= limits.steps:
        return f"{limits.steps} steps of search were used up"
    remembered = sum(s.configurations for s in searches.values()) * BYTES_A_CONFIGURATION
    if remembered > limits.megabytes * 1e6:
        return f"{limits.megabytes:g} MB of memory were used up"
    return None


def calls_of(history: History | Iterable[Operation], model: Model) -> dict[Hashable, list[Call]]:
    """Return the operations of each object as the search sees them, leaving out what definitely did not happen.

    Raises:
        UsageError: as `check_linearizable`.
    """
    objects: dict[Hashable, list[Call]] = {}
    for at, operation in enumerate(history):
        if operation.f not in model.operations:
            raise UsageError(
                f"the model {model.name} knows {', '.join(sorted(model.operations))}, and the history has {operation.f!r}; "
                "choose another --model"
            )
        call = _call(at, operation, model)
        if call is not None:
            objects.setdefault(_plain(model.partition(operation)), []).append(call)
    return objects


def _call(at: int, operation: Operation, model: Model) -> Call | None:
    refused = operation.outcome is Outcome.FAIL and model.tells(operation)
    if operation.outcome is Outcome.FAIL and not refused:
        return None
    known = operation.outcome is Outcome.OK or refused
    if not known and operation.f in model.reads:
        return None
    argument = _plain(model.argument(operation))
    answer = UNKNOWN if not known else REFUSED if refused else _plain(model.answer(operation))
    if lacks := model.lacks(operation.f, argument, answer):
        raise UsageError(
            f"the {operation.f} of process {operation.process} has {argument!r} and was answered {answer!r}; the model "
            f"{model.name} expects {lacks}. Restore the history, or choose another --model"
        )
    return Call(
        at=at,
        f=operation.f,
        argument=argument,
        answer=answer,
        invoked=operation.invoked,
        returned=operation.completed if known else None,
    )


def _plain(value: Any) -> Any:
    """Return JSON's lists as tuples, which can be compared and remembered."""
    if isinstance(value, list | tuple):
        return tuple(_plain(v) for v in value)
    if isinstance(value, dict):
        return tuple(sorted((k, _plain(v)) for k, v in value.items()))
    return value


def describe(call: Call) -> str:
    """Return a call as people read it: ``write 3``, ``read -> 2``, ``cas (1, 2)``."""
    said = call.f if call.argument is None else f"{call.f} {_shown(call.argument)}"
    if call.answer is UNKNOWN:
        return f"{said} (outcome unknown)"
    if call.answer is REFUSED or call.answer is False:
        return f"{said} (refused)"
    told = call.argument is None or call.answer not in (None, True, call.argument)
    return f"{said} -> {_shown(call.answer)}" if told else said


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:28]}...{text[-28:]}"
