"""What the search counts, when it gives up, what is kept while a history shrinks, and how calls are written."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from harness.invariants.linearizability import (
    IMPOSSIBLE,
    MODELS,
    REFUSED,
    UNKNOWN,
    Call,
    Limits,
    Model,
    Search,
    calls_of,
    describe,
    explained,
    partitions,
    search_all,
)
from harness.invariants.linearizability.partitions import _used_up
from harness.invariants.linearizability.shrinking import _until, shrink, smallest
from harness.model import Failure, History, Operation, Outcome, Verdict

REGISTER, KV, COUNTER = MODELS["register"], MODELS["kv"], MODELS["counter"]


def calls(*parts: tuple[str, Any, Any, int, int | None]) -> list[Call]:
    return [
        Call(at=at, f=f, argument=argument, answer=answer, invoked=invoked, returned=returned)
        for at, (f, argument, answer, invoked, returned) in enumerate(parts)
    ]


def operation(
    f: str, arguments: Mapping[str, Any], outcome: Outcome, *, result: Any = None, failure: Failure | None = None
) -> Operation:
    """One that somebody recorded, from 1 to 2."""
    return Operation(
        process=1,
        client=1,
        f=f,
        token="t",
        arguments=arguments,
        invoked=1,
        completed=2,
        outcome=outcome,
        result=result,
        failure=failure,
    )


def hard(count: int) -> list[Call]:
    """Concurrent adds of different amounts, and a read that none of their sums explains: every subset has to be tried."""
    adds = [("add", 2**i, None, 0, 1000 + i) for i in range(count)]
    return calls(*adds, ("read", None, 2**count + 1, 0, 999))


WRITES = calls(("write", 1, 1, 0, 1), ("write", 2, 2, 0, 5), ("read", None, 1, 2, 3))
READS = calls(("write", 1, 1, 0, 4), ("read", None, None, 0, 1), ("read", None, 1, 2, 3), ("write", 3, UNKNOWN, 0, None))


def test_every_object_counts() -> None:
    one, other = Search(WRITES, REGISTER), Search(READS, REGISTER)
    assert one.advance(10_000) is True
    assert other.advance(10_000) is True
    found = search_all({"x": WRITES, "y": READS, "z": calls(("write", 1, UNKNOWN, 0, None))}, REGISTER)
    assert (found.verdict, found.partitions, found.undecided, found.operations) == (Verdict.PASS, 3, 0, 8)
    assert (found.steps, found.configurations) == (one.steps + other.steps, one.configurations + other.configurations)
    assert {key: list(order) for key, order in found.orders.items()} == {"x": one.longest, "y": other.longest, "z": []}
    assert (found.why, found.stuck) == (None, None)


def test_only_what_was_decided_has_an_order() -> None:
    easy = calls(("read", None, 0, 0, 1))
    some = search_all({"a": hard(18), "easy": easy}, COUNTER, Limits(steps=10_000))
    assert dict(some.orders) == {"easy": [0]}


def test_time_is_up_after_the_last_moment() -> None:
    ticks = itertools.count(0.0, 1.0)
    search_all({"a": hard(18)}, COUNTER, Limits(seconds=3.0), clock=lambda: next(ticks))
    assert next(ticks) == 5.0  # begun at 0, looked at 1, 2, 3 and 4


@pytest.mark.parametrize(
    ("limits", "steps", "configurations", "said"),
    [
        (Limits(), (10**9, 10**9), (0, 0), None),
        (Limits(steps=10), (4, 5), (0, 0), None),
        (Limits(steps=10), (4, 6), (0, 0), "10 steps of search were used up"),
        (Limits(megabytes=0.0007), (0, 0), (1, 1), None),
        (Limits(megabytes=0.0007), (0, 0), (1, 2), "0.0007 MB of memory were used up"),
        (Limits(megabytes=1000), (0, 0), (2_857_142, 0), None),
        (Limits(megabytes=1000), (0, 0), (2_857_143, 0), "1000 MB of memory were used up"),
    ],
)
def test_a_limit_holds_for_all_objects_together(
    limits: Limits, steps: tuple[int, int], configurations: tuple[int, int], said: str | None
) -> None:
    searches: Any = {
        n: SimpleNamespace(steps=s, configurations=c) for n, (s, c) in enumerate(zip(steps, configurations, strict=True))
    }
    assert _used_up(limits, searches, False) == said
    assert _used_up(limits, searches, True) == f"{limits.seconds:g} s of search were used up"


def test_where_an_explanation_takes_too_long_the_first_one_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [("append", str(j), str(j), 10 * i, 10 * i + 9 - j) for i in range(4) for j in range(5)]
    history = calls(*many, ("get", None, "x", 80, 81))
    stuck = search_all({"a": history}, KV).stuck
    assert stuck is not None
    monkeypatch.setattr(partitions, "EXPLAINING", 1)
    assert explained(history, stuck, KV) is stuck


def test_values_are_compared_as_plain_ones() -> None:
    value = {"b": [1, {"c": 2}], "a": "x"}
    write = Operation(
        process=1, client=1, f="write", token="t", arguments={"value": value}, invoked=1, completed=2, outcome=Outcome.OK
    )
    (call,) = calls_of(History.of([write]), REGISTER)[None]
    assert call.argument == (("a", "x"), ("b", (1, (("c", 2),))))


def test_calls_as_people_read_them() -> None:
    said = [
        describe(c)
        for c in calls(("deposit", 5, True, 0, 1), ("read", None, True, 0, 1), ("add", 2, None, 0, 1), ("cas", 1, 2, 0, 1))
    ]
    assert said == ["deposit 5", "read -> True", "add 2", "cas 1 -> 2"]
    letters = "".join(chr(ord("A") + n) for n in range(61))
    assert describe(calls(("put", letters[:60], None, 0, 1))[0]) == f"put {letters[:60]}"
    assert describe(calls(("put", letters, None, 0, 1))[0]) == f"put {letters[:28]}...{letters[-28:]}"


TWICE = calls(
    *(("write", 1, 1, 0, 1), ("write", 2, 2, 2, 3), ("read", None, 1, 4, 5), ("write", 7, 7, 5, 6)),
    *(("read", None, 1, 7, 8), ("write", 9, UNKNOWN, 9, None)),
)


@pytest.mark.parametrize("stuck", [2, 4])
def test_shrinking_keeps_the_operation_that_is_explained(stuck: int) -> None:
    small = shrink(TWICE, REGISTER, stuck=TWICE[stuck])
    assert TWICE[stuck] in small
    assert [describe(c) for c in small][::2] == ["write 1", "read -> 1"]
    assert len(small) == 3


def test_what_began_after_it_had_returned_goes_at_once_if_the_rest_is_wrong() -> None:
    assert _until(TWICE[2], TWICE, REGISTER) == TWICE[:4]
    assert _until(TWICE[1], TWICE, REGISTER) == TWICE
    assert _until(TWICE[5], TWICE, REGISTER) == TWICE
    assert _until(None, TWICE, REGISTER) == TWICE


def test_shrinking_may_go_on_until_the_last_moment() -> None:
    ticks = itertools.count(0.0, 1.0)
    shrink(TWICE, REGISTER, seconds=2.0, clock=lambda: next(ticks))
    assert next(ticks) == 4.0  # begun at 0, looked at 1, 2 and 3


def test_what_is_wrong_because_of_time_stays_so_beside_unknown_outcomes() -> None:
    history = calls(
        *(("write", 1, UNKNOWN, 0, None), ("write", 2, 2, 2, 3), ("read", None, 1, 4, 5)),
        *(("read", None, 2, 6, 7), ("read", None, 1, 8, 9)),
    )
    small = shrink(history, REGISTER)
    assert [describe(c) for c in small] == ["write 1 (outcome unknown)", "write 2", "read -> 1", "read -> 2"]
    assert Search(small, REGISTER).advance(10_000) is False


@pytest.mark.parametrize("model", [REGISTER, KV, COUNTER], ids=lambda model: model.name)
def test_what_was_refused_did_not_happen_where_a_refusal_tells_nothing(model: Model) -> None:
    for f in model.operations:
        refused = operation(f, {}, Outcome.FAIL, failure=Failure(code="already_decided", message="no", refusal=True))
        assert calls_of(History.of([refused]), model) == {}


def test_what_nobody_knows_cannot_have_happened_where_it_is_impossible() -> None:
    """A piece that may have been taken is no help to a read, if there was none to take when it was."""

    def step(state: int, f: str, argument: Any, answer: Any) -> Any:
        if f == "read":
            return state if answer == state else IMPOSSIBLE
        if f == "fill":
            return argument
        return state - 1 if state else IMPOSSIBLE

    shelf = Model(
        name="shelf",
        summary="Pieces, of which one can be taken if there is one.",
        initial=0,
        step=step,
        operations=frozenset({"fill", "take", "read"}),
        reads=frozenset({"read"}),
    )
    emptied = calls(("fill", 1, None, 0, 1), ("fill", 0, None, 2, 3), ("take", None, UNKNOWN, 4, None), ("read", None, 1, 5, 6))
    filled = calls(("fill", 1, None, 0, 1), ("fill", 2, None, 2, 3), ("take", None, UNKNOWN, 4, None), ("read", None, 1, 5, 6))

    assert Search(emptied, shelf).advance(1000) is False
    assert Search(filled, shelf).advance(1000) is True


def test_what_begins_in_the_moment_in_which_a_read_ends_may_be_what_it_saw() -> None:
    before = (("put", "y", None, 0, 1), ("get", None, "y", 2, 3), ("get", None, "x", 4, 5))
    seen = calls(*before, ("put", "x", None, 5, 6))
    too_late = calls(*before, ("put", "x", None, 6, 7))

    assert Search(seen, KV).advance(1000) is True
    assert Search(too_late, KV).advance(1000) is False


def test_an_item_that_could_not_be_spared_is_tried_again_when_another_is_gone() -> None:
    wrong = [[0, 1, 2], [0, 1], [1]]
    assert smallest([0, 1, 2], lambda part: list(part) in wrong, lambda: False) == [1]


def test_a_single_item_is_as_small_as_it_gets() -> None:
    looks = itertools.count()
    assert smallest([7], lambda part: True, lambda: next(looks) > 10) == [7]
    assert next(looks) < 10


def test_what_failed_without_a_refusal_tells_nothing_of_an_account() -> None:
    failed = operation(
        "withdraw",
        {"subject": "a", "amount": 1},
        Outcome.FAIL,
        failure=Failure(code="40001", message="rolled back", refusal=False),
    )
    assert calls_of(History.of([failed]), MODELS["account"]) == {}


@pytest.mark.parametrize(
    ("model", "f", "arguments", "result"),
    [
        ("kv", "get", {"key": "x"}, {"value": None}),
        ("kv", "put", {"key": "x", "value": ""}, {}),
        ("counter", "read", {}, {"value": 3}),
        ("counter", "add", {"value": 0}, {}),
        ("counter", "next", {}, None),
        ("account", "deposit", {"subject": "a", "amount": 0}, {}),
        ("account", "read", {"subject": "a"}, {"amount": 0}),
    ],
)
def test_the_least_that_a_model_takes_is_taken(
    model: str, f: str, arguments: dict[str, Any], result: dict[str, Any] | None
) -> None:
    """``result`` None: nobody knows what became of it."""
    told = operation(f, arguments, Outcome.INFO if result is None else Outcome.OK, result=result)
    [[taken]] = calls_of(History.of([told]), MODELS[model]).values()
    assert (taken.f, taken.returned) == (f, None if result is None else 2)


@pytest.mark.parametrize(
    ("model", "f", "result", "answer"),
    [("approval", "read", {"status": "paid"}, "paid"), ("account", "read", {"amount": 7}, 7), ("approval", "approve", {}, True)],
)
def test_an_answer_is_what_the_model_asks_for(model: str, f: str, result: dict[str, Any], answer: Any) -> None:
    told = operation(f, {"subject": "a", "amount": 1}, Outcome.OK, result=result)
    assert [call.answer for call in calls_of(History.of([told]), MODELS[model])["a"]] == [answer]
    nothing = operation(
        "withdraw", {"subject": "a", "amount": 1}, Outcome.FAIL, failure=Failure(code="insufficient", message="no", refusal=True)
    )
    assert [call.answer for call in calls_of(History.of([nothing]), MODELS["account"])["a"]] == [REFUSED]
