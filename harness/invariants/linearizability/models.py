"""What a system promises, as a small pure function: from a state, an operation and its answer to the next state.

``step(state, f, argument, answer)`` returns the next state, or `IMPOSSIBLE` where no object in that state answers so.
``answer`` is `UNKNOWN` for an operation of unknown outcome: then the state that it leads to is all that matters. States,
arguments and answers are plain hashable values.

An operation that was refused (``fail``) did not happen and is left out, unless its refusal tells something about the state: that
a payment was "not awaiting approval" is an answer like any other. Models say which refusals those are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from harness.model import Operation, UsageError, nearest


class _Sign(Enum):
    IMPOSSIBLE = "impossible"
    UNKNOWN = "unknown"
    REFUSED = "refused"

    def __repr__(self) -> str:
        return self.value


IMPOSSIBLE: Final = _Sign.IMPOSSIBLE
"""Returned by a step that cannot be."""
UNKNOWN: Final = _Sign.UNKNOWN
"""The answer of an operation of unknown outcome."""
REFUSED: Final = _Sign.REFUSED
"""The answer of an operation that was refused because of the state."""

State = Hashable
Step = Callable[[Any, str, Any, Any], Any]


def _value(operation: Operation) -> Any:
    return operation.arguments.get("value")


def _answer(operation: Operation) -> Any:
    return (operation.result or {}).get("value")


def _key(operation: Operation) -> Hashable:
    return ""


def _nothing(operation: Operation) -> bool:
    return False


def _anything(f: str, argument: Any, answer: Any) -> str | None:
    return None


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, kw_only=True)
class Model:
    """An object whose operations take effect one at a time.

    ``reads`` names operations that never change the state. ``argument`` and ``answer`` take an operation's part from the
    history, ``partition`` the object it is about: different objects are independent. ``tells`` says whether a refusal is
    an answer. ``lacks(f, argument, answer)`` says what is expected of an operation where it is something else: a damaged one
    must not reach a step.

    ``leads(state, f, answer)`` may say False where no operation but those named in ``resets`` can ever bring this state to
    one in which ``f`` is answered so. It spares the search what cannot succeed, and nothing else.
    """

    name: str
    summary: str
    initial: State
    step: Step
    operations: frozenset[str]
    reads: frozenset[str] = frozenset()
    argument: Callable[[Operation], Any] = _value
    answer: Callable[[Operation], Any] = _answer
    partition: Callable[[Operation], Hashable] = _key
    tells: Callable[[Operation], bool] = _nothing
    leads: Callable[[Any, str, Any], bool] | None = None
    resets: frozenset[str] = frozenset()
    lacks: Callable[[str, Any, Any], str | None] = _anything


def register_step(state: Any, f: str, argument: Any, answer: Any) -> Any:
    """Read, write, and compare-and-set ``(old, new)``, whose answer False says that it found something else."""
    if f == "read":
        return state if answer in (state, UNKNOWN) else IMPOSSIBLE
    if f == "write":
        return argument
    old, new = argument
    if answer is UNKNOWN:
        return new if state == old else state
    if answer is False:
        return IMPOSSIBLE if state == old else state
    return new if state == old else IMPOSSIBLE


def _register_lacks(f: str, argument: Any, answer: Any) -> str | None:
    pair = isinstance(argument, tuple) and len(argument) == 2
    return "the old and the new value" if f == "cas" and not pair else None


def kv_step(state: str, f: str, argument: Any, answer: Any) -> Any:
    """Get, put and append of text under one key; a key that was never written reads as nothing."""
    if f == "get":
        return state if answer is UNKNOWN or (answer or "") == state else IMPOSSIBLE
    return argument if f == "put" else state + argument


def _kv_lacks(f: str, argument: Any, answer: Any) -> str | None:
    text = answer if f == "get" else argument
    nothing_there = f == "get" and text is None
    return None if nothing_there or isinstance(text, str) else "text"


def counter_step(state: int, f: str, argument: Any, answer: Any) -> Any:
    """Add an amount, read the sum, or take the next number."""
    if f == "read":
        return state if answer in (state, UNKNOWN) else IMPOSSIBLE
    if f == "add":
        return state + argument
    return state + 1 if answer in (state + 1, UNKNOWN) else IMPOSSIBLE


def _counter_lacks(f: str, argument: Any, answer: Any) -> str | None:
    number = {"add": argument, "next": answer}.get(f, UNKNOWN)
    return None if number is UNKNOWN or _whole(number) else "a whole number"


ENDS: Mapping[str, str] = {"approve": "paid", "webhook": "paid", "reject": "rejected", "cancel": "cancelled"}
"""What ends a payment, and as what."""


def approval_step(state: str, f: str, argument: Any, answer: Any) -> Any:
    """Submit a payment once, then end it once: approved, rejected or cancelled."""
    if f == "read":
        return state if answer in (state, UNKNOWN) else IMPOSSIBLE
    needed, following = ("new", "awaiting_approval") if f == "submit" else ("awaiting_approval", ENDS[f])
    if answer is UNKNOWN:
        return following if state == needed else state
    if answer is REFUSED:
        return state if state != needed else IMPOSSIBLE
    return following if state == needed else IMPOSSIBLE


def account_step(state: int, f: str, argument: Any, answer: Any) -> Any:
    """Deposit and withdraw minor units, never below zero, and read the balance."""
    if f == "read":
        return state if answer in (state, UNKNOWN) else IMPOSSIBLE
    if f == "deposit":
        return state + argument
    if answer is UNKNOWN:
        return state - argument if argument <= state else state
    if answer is REFUSED:
        return state if argument > state else IMPOSSIBLE
    return state - argument if argument <= state else IMPOSSIBLE


def _account_lacks(f: str, argument: Any, answer: Any) -> str | None:
    return None if f == "read" or (_whole(argument) and argument >= 0) else "an amount in minor units"


def _subject(operation: Operation) -> Hashable:
    subject: Hashable = (operation.result or {}).get("subject", operation.arguments.get("subject"))
    return subject


def _named_key(operation: Operation) -> Hashable:
    return operation.arguments.get("key")


def _amount(operation: Operation) -> Any:
    return operation.arguments.get("amount")


def _refused(operation: Operation) -> bool:
    return operation.failure is not None and operation.failure.refusal


def _refused_by_state(operation: Operation) -> bool:
    """Only refusals that speak of the payment's own state; a missing permission says nothing about it."""
    return operation.failure is not None and operation.failure.refusal and operation.failure.code in STATE_REFUSALS


STATE_REFUSALS = frozenset({"not_awaiting_approval", "already_awaiting_approval", "already_decided"})
"""Codes of refusals from which the state of a payment follows."""

REGISTER = Model(
    name="register",
    summary="One value: read, write, compare and set.",
    initial=None,
    step=register_step,
    operations=frozenset({"read", "write", "cas"}),
    reads=frozenset({"read"}),
    partition=_named_key,
    lacks=_register_lacks,
)
KV = Model(
    name="kv",
    summary="Text under keys: get, put, append.",
    initial="",
    step=kv_step,
    operations=frozenset({"get", "put", "append"}),
    reads=frozenset({"get"}),
    partition=_named_key,
    leads=lambda state, f, answer: (answer or "").startswith(state),
    resets=frozenset({"put"}),
    lacks=_kv_lacks,
)
COUNTER = Model(
    name="counter",
    summary="A sum: add, read, and next (the number after the last one).",
    initial=0,
    step=counter_step,
    operations=frozenset({"add", "read", "next"}),
    reads=frozenset({"read"}),
    partition=_named_key,
    lacks=_counter_lacks,
)
APPROVAL = Model(
    name="approval",
    summary="A payment: submitted once, then approved, rejected or cancelled once.",
    initial="new",
    step=approval_step,
    operations=frozenset({"submit", "read", *ENDS}),
    reads=frozenset({"read"}),
    argument=lambda operation: None,
    answer=lambda operation: (operation.result or {}).get("status") if operation.f == "read" else True,
    partition=_subject,
    tells=_refused_by_state,
)
ACCOUNT = Model(
    name="account",
    summary="A balance that never goes below zero: deposit, withdraw, read.",
    initial=0,
    step=account_step,
    operations=frozenset({"deposit", "withdraw", "read"}),
    reads=frozenset({"read"}),
    argument=_amount,
    answer=lambda operation: (operation.result or {}).get("amount") if operation.f == "read" else True,
    partition=_subject,
    tells=_refused,
    lacks=_account_lacks,
)

MODELS: Mapping[str, Model] = {m.name: m for m in (REGISTER, KV, COUNTER, APPROVAL, ACCOUNT)}


def model_named(name: str) -> Model:
    """Return the model. Raises UsageError with the nearest name if there is none."""
    try:
        return MODELS[name]
    except KeyError:
        raise UsageError(f"no model is called {name!r}{nearest(name, MODELS)}; known: {', '.join(sorted(MODELS))}") from None
