"""The search for an order agrees with trying all of them, and with everybody's verdicts."""

from __future__ import annotations

import csv
import gzip
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

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
    check_linearizable,
    describe,
    explained,
    model_named,
    search_all,
)
from harness.invariants.linearizability.shrinking import shrink, smallest
from harness.invariants.numbering.exact import check_numbers
from harness.model import Failure, History, Operation, Outcome, UsageError, Verdict
from harness.recording.formats import read_history

PORCUPINE = Path(__file__).parents[2] / "corpus" / "porcupine"

REGISTER, KV, COUNTER = MODELS["register"], MODELS["kv"], MODELS["counter"]
APPROVAL, ACCOUNT = MODELS["approval"], MODELS["account"]


def call(f: str, argument: Any, answer: Any, invoked: int, returned: int | None, at: int = 0) -> Call:
    return Call(at=at, f=f, argument=argument, answer=answer, invoked=invoked, returned=returned)


def calls(*parts: tuple[str, Any, Any, int, int | None]) -> list[Call]:
    return [call(*part, at=at) for at, part in enumerate(parts)]


def searched(operations: Sequence[Call], model: Model) -> bool:
    """Try every order in which the operations may have taken effect. An unknown one may never have."""

    def place(left: frozenset[int], state: Any) -> bool:
        if all(operations[at].returned is None for at in left):
            return True
        first_return = min(operations[at].returned for at in left if operations[at].returned is not None)
        for at in left:
            o = operations[at]
            if o.invoked > first_return:
                continue
            following = model.step(state, o.f, o.argument, o.answer)
            if following is not IMPOSSIBLE and place(left - {at}, following):
                return True
        return False

    return place(frozenset(range(len(operations))), model.initial)


def some_operation(model: Model, chance: random.Random) -> tuple[str, Any, Any]:
    """Return an operation with an answer that fits some state."""
    f = chance.choice(sorted(model.operations))
    value, other = chance.randrange(3), chance.randrange(3)
    options: dict[str, dict[str, tuple[Any, Any]]] = {
        "register": {
            "read": (None, chance.choice([None, 0, 1, 2])),
            "write": (value, value),
            "cas": ((value, other), chance.choice([True, False])),
        },
        "kv": {
            "get": (None, "".join(chance.choices("ab", k=chance.randrange(4)))),
            "put": ("ab"[value % 2], None),
            "append": ("ab"[value % 2], None),
        },
        "counter": {"read": (None, value), "add": (1, None), "next": (None, value + 1)},
        "approval": dict.fromkeys(APPROVAL.operations, (None, chance.choice([True, REFUSED])))
        | {"read": (None, chance.choice(["new", "awaiting_approval", "paid", "rejected"]))},
        "account": {
            "read": (None, value),
            "deposit": (1 + value % 2, True),
            "withdraw": (1 + value % 2, chance.choice([True, REFUSED])),
        },
    }
    return f, *options[model.name][f]


def some_history(model: Model, chance: random.Random) -> list[Call]:
    """Operations at random times; most answers come from an order in which they took effect, so that many histories are right."""
    count = chance.randint(1, 6)
    state, parts = model.initial, []
    for effect in sorted(chance.randint(0, 12) for _ in range(count)):
        for _ in range(30):
            f, argument, answer = some_operation(model, chance)
            following = model.step(state, f, argument, answer)
            if following is not IMPOSSIBLE or chance.random() < 0.05:
                break
        if following is not IMPOSSIBLE:
            state = following
        invoked, returned = effect - chance.randint(0, 5), effect + chance.randint(0, 5)
        unknown = f not in model.reads and chance.random() < 0.2
        parts.append((f, argument, UNKNOWN if unknown else answer, invoked, None if unknown else returned))
    chance.shuffle(parts)
    return calls(*parts)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@settings(max_examples=4, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_the_search_agrees_with_trying_every_order_on_a_thousand_histories(model: Model, seed: int) -> None:
    chance = random.Random(seed)
    verdicts = set()
    for _ in range(1000):
        history = some_history(model, chance)
        search = Search(history, model)
        wanted = searched(history, model)
        verdicts.add(wanted)
        assert search.advance(10**9) is wanted, history
        if wanted:
            assert replayed(search.longest, history, model)
    assert verdicts == {True, False}


def replayed(order: Sequence[int], history: Sequence[Call], model: Model) -> bool:
    """Tell whether the order is a proof: it obeys the model and real time and leaves out nothing that returned."""
    state = model.initial
    for at in order:
        state = model.step(state, history[at].f, history[at].argument, history[at].answer)
        if state is IMPOSSIBLE:
            return False
    for first, second in itertools.combinations(order, 2):
        returned = history[second].returned
        if returned is not None and returned < history[first].invoked:
            return False
    return {c.at for c in history if c.returned is not None} <= set(order) and len(set(order)) == len(order)


def test_the_search_agrees_with_the_exact_check_of_numbers() -> None:
    import polars as pl

    chance = random.Random(3)
    next_number = replace(COUNTER, operations=frozenset({"next"}))
    for _ in range(300):
        history = [replace(c, f="next", argument=None) for c in some_history(next_number, chance)]
        history = [c if c.answer is UNKNOWN else replace(c, answer=chance.randrange(1, 5)) for c in history]
        rows = pl.DataFrame(
            {
                "scope": ["s"] * len(history),
                "period": [""] * len(history),
                "number": [None if c.answer is UNKNOWN else c.answer for c in history],
                "token": [str(c.at) for c in history],
                "invoked": [c.invoked for c in history],
                "completed": [c.returned for c in history],
                "outcome": ["info" if c.answer is UNKNOWN else "ok" for c in history],
            },
            schema_overrides={"number": pl.Int64(), "completed": pl.Int64()},
        )
        assert check_numbers(rows.lazy()).valid is Search(history, next_number).advance(10**9)


VERDICTS = [
    (int(row["log"]), row["linearizable"] == "true")
    for row in csv.DictReader((PORCUPINE / "etcd" / "verdicts.csv").read_text().splitlines())
]


@pytest.mark.parametrize(("log", "linearizable"), VERDICTS)
def test_every_etcd_log_has_its_verdict(log: int, linearizable: bool) -> None:
    history = read_history(PORCUPINE / "etcd" / f"etcd_{log:03d}.log").history
    found = check_linearizable(history, REGISTER)
    assert found.verdict is (Verdict.PASS if linearizable else Verdict.FAIL)
    assert found.undecided == 0


@pytest.mark.parametrize("name", ["c01-ok.txt", "c01-bad.txt", "c10-ok.txt", "c10-bad.txt", "c50-ok.txt.gz", "c50-bad.txt.gz"])
def test_every_key_value_history_has_its_verdict(name: str) -> None:
    history = read_history(PORCUPINE / "kv" / name).history
    found = check_linearizable(history, KV)
    assert found.verdict is (Verdict.PASS if "ok" in name else Verdict.FAIL)
    if "ok" in name:
        objects = calls_of(history, KV)
        for key, order in found.orders.items():
            place = {c.at: i for i, c in enumerate(objects[key])}
            renumbered = [replace(c, at=i) for i, c in enumerate(objects[key])]
            assert replayed([place[at] for at in order], renumbered, KV)


def test_the_largest_wrong_key_value_history_takes_few_configurations() -> None:
    history = read_history(PORCUPINE / "kv" / "c50-bad.txt.gz").history
    assert check_linearizable(history, KV).configurations < 20_000


def test_what_cannot_be_placed_is_named_with_the_longest_order_and_the_states_then() -> None:
    history = calls(
        ("write", 1, 1, 0, 1),
        ("write", 2, 2, 2, 3),
        ("read", None, 1, 4, 5),
        ("read", None, 2, 6, 7),
    )
    found = search_all({"x": history}, REGISTER)
    assert found.verdict is Verdict.FAIL
    assert found.stuck is not None
    assert found.stuck.partition == "x"
    assert found.stuck.call == history[2]
    assert list(found.stuck.longest) == [0, 1]
    assert list(found.stuck.states) == [2]


def test_a_first_operation_that_cannot_be_placed_finds_the_initial_state() -> None:
    found = search_all({"x": calls(("read", None, 1, 0, 1))}, REGISTER)
    assert found.stuck is not None
    assert (list(found.stuck.longest), list(found.stuck.states)) == ([], [None])


def test_nothing_to_order_is_unknown() -> None:
    found = search_all({}, REGISTER)
    assert (found.verdict, found.why) == (Verdict.UNKNOWN, "there is no operation to order")


def hard(count: int) -> list[Call]:
    """Concurrent adds of different amounts, and a read that none of their sums explains: every subset has to be tried."""
    adds = [("add", 2**i, None, 0, 1000 + i) for i in range(count)]
    return calls(*adds, ("read", None, 2**count + 1, 0, 999))


def test_a_hard_object_does_not_keep_the_next_from_being_found_wrong() -> None:
    wrong = calls(("read", None, 5, 0, 1))
    found = search_all({"hard": hard(18), "wrong": wrong}, COUNTER)
    assert found.verdict is Verdict.FAIL
    assert found.stuck is not None
    assert found.stuck.partition == "wrong"
    assert found.undecided == 1
    assert found.steps < 20_000


def test_when_steps_run_out_the_verdict_is_unknown_and_counts_the_undecided() -> None:
    easy = calls(("read", None, 0, 0, 1))
    found = search_all({"a": hard(18), "b": hard(18), "c": easy}, COUNTER, Limits(steps=30_000))
    assert found.verdict is Verdict.UNKNOWN
    assert (found.undecided, found.partitions) == (2, 3)
    assert found.why == "30000 steps of search were used up"


def test_when_time_runs_out_the_verdict_is_unknown() -> None:
    seconds: Iterator[float] = itertools.count(0.0, 1.0)
    found = search_all({"a": hard(18)}, COUNTER, Limits(seconds=3.5), clock=lambda: next(seconds))
    assert (found.verdict, found.undecided, found.why) == (Verdict.UNKNOWN, 1, "3.5 s of search were used up")


def test_when_memory_runs_out_the_verdict_is_unknown() -> None:
    many = [c for i in range(7) for c in calls(*(("append", str(j), str(j), 10 * i, 10 * i + 9 - j) for j in range(5)))]
    many = [replace(c, at=i) for i, c in enumerate([*many, call("get", None, "x", 80, 81)])]
    blind = replace(KV, leads=None)
    found = search_all({"a": many}, blind, Limits(megabytes=1))
    assert found.verdict is Verdict.UNKNOWN
    assert found.why == "1 MB of memory were used up"


def test_what_a_model_knows_of_its_reads_spares_the_search_and_changes_no_verdict() -> None:
    many = [c for i in range(7) for c in calls(*(("append", str(j), str(j), 10 * i, 10 * i + 9 - j) for j in range(5)))]
    many = [replace(c, at=i) for i, c in enumerate([*many, call("get", None, "x", 80, 81)])]
    search = Search(many, KV)
    assert search.advance(10_000) is False
    assert search.configurations < 100


COSTS = {
    "register": (381, 2002, 728, 7394, 21, 53),
    "kv": (381, 2827, 754, 7377, 29, 50),
    "counter": (374, 2720, 783, 7082, 30, 74),
    "approval": (351, 1306, 666, 6996, 49, 121),
    "account": (380, 2432, 805, 8345, 20, 37),
}
"""Of 400 histories: how many have an order, steps and configurations of all searches, and sums over what they say of it."""

PAUSES = (9, 5120, 0)
"""Of a hard object under a budget of 40 steps: pauses, steps and configurations."""


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_search_takes_no_more_steps_than_it_did(model: Model) -> None:
    """Change the figures with the search, if they fall: each refinement that gets lost makes them rise."""
    chance = random.Random(model.name)
    searches = [Search(some_history(model, chance), model) for _ in range(400)]
    right = sum(search.advance(10**6) is True for search in searches)
    paused = Search(hard(9), COUNTER)
    pauses = sum(1 for _ in iter(lambda: paused.advance(40), False))
    assert (
        right,
        sum(search.steps for search in searches),
        sum(search.configurations for search in searches),
        sum((at + 1) * (row + 1) for search in searches for at, row in enumerate(search.longest)),
        sum(len(search.states) for search in searches),
        sum(search.stuck.at + 1 for search in searches if search.stuck),
    ) == COSTS[model.name]
    assert (pauses, paused.steps, paused.configurations) == PAUSES


def test_an_explanation_names_the_read_itself() -> None:
    history = calls(("append", "a", "a", 0, 1), ("append", "b", "b", 2, 3), ("get", None, "a", 4, 5))
    found = search_all({"k": history}, KV)
    assert found.stuck is not None
    assert explained(history, found.stuck, KV).call == history[2]


def test_shrinking_leaves_what_is_wrong_because_of_time() -> None:
    history = calls(
        ("write", 1, 1, 0, 1),
        ("write", 3, 3, 1, 2),
        ("write", 2, 2, 3, 4),
        ("read", None, 2, 5, 6),
        ("read", None, 1, 7, 8),
        ("read", None, 1, 9, 10),
    )
    small = shrink(history, REGISTER)
    assert [describe(c) for c in small] == ["write 1", "write 2", "read -> 1"]
    assert Search(small, REGISTER).advance(10**6) is False
    assert searched([replace(c, invoked=0, returned=99) for c in small], REGISTER)


def test_shrinking_what_no_order_explains_at_all_leaves_the_answer_alone() -> None:
    history = calls(("write", 1, 1, 0, 1), ("read", None, 7, 2, 3), ("write", 2, 2, 4, 5))
    assert [describe(c) for c in shrink(history, REGISTER)] == ["read -> 7"]


def test_shrinking_what_is_right_changes_nothing() -> None:
    history = calls(("write", 1, 1, 0, 1), ("read", None, 1, 2, 3))
    assert shrink(history, REGISTER) == history


def test_shrinking_stops_when_its_time_is_up() -> None:
    seconds = itertools.count(0.0, 10.0)
    history = calls(("write", 1, 1, 0, 1), ("write", 2, 2, 2, 3), ("read", None, 1, 4, 5))
    assert shrink(history, REGISTER, clock=lambda: next(seconds)) == history


@given(st.lists(st.integers(0, 20), max_size=30))
def test_the_smallest_part_is_as_small_as_it_can_be(numbers: list[int]) -> None:
    def wrong(part: Sequence[int]) -> bool:
        return sum(part) > 25

    if wrong(numbers):
        left = smallest(numbers, wrong, lambda: False)
        assert wrong(left)
        assert not any(wrong(left[:at] + left[at + 1 :]) for at in range(len(left)))


@pytest.mark.parametrize(
    ("model", "state", "f", "argument", "answer", "following"),
    [
        (REGISTER, 1, "read", None, 1, 1),
        (REGISTER, 1, "read", None, 2, IMPOSSIBLE),
        (REGISTER, 1, "write", 2, 2, 2),
        (REGISTER, 1, "cas", (1, 2), True, 2),
        (REGISTER, 3, "cas", (1, 2), True, IMPOSSIBLE),
        (REGISTER, 1, "cas", (1, 2), False, IMPOSSIBLE),
        (REGISTER, 3, "cas", (1, 2), False, 3),
        (REGISTER, 1, "cas", (1, 2), UNKNOWN, 2),
        (REGISTER, 3, "cas", (1, 2), UNKNOWN, 3),
        (KV, "a", "get", None, "a", "a"),
        (KV, "a", "get", None, "", IMPOSSIBLE),
        (KV, "", "get", None, None, ""),
        (KV, "a", "put", "b", "b", "b"),
        (KV, "a", "append", "b", "b", "ab"),
        (COUNTER, 3, "read", None, 3, 3),
        (COUNTER, 3, "read", None, 4, IMPOSSIBLE),
        (COUNTER, 3, "add", 2, None, 5),
        (COUNTER, 3, "next", None, 4, 4),
        (COUNTER, 3, "next", None, 5, IMPOSSIBLE),
        (COUNTER, 3, "next", None, UNKNOWN, 4),
        (APPROVAL, "new", "submit", None, True, "awaiting_approval"),
        (APPROVAL, "awaiting_approval", "submit", None, True, IMPOSSIBLE),
        (APPROVAL, "awaiting_approval", "submit", None, REFUSED, "awaiting_approval"),
        (APPROVAL, "new", "submit", None, REFUSED, IMPOSSIBLE),
        (APPROVAL, "awaiting_approval", "approve", None, True, "paid"),
        (APPROVAL, "awaiting_approval", "webhook", None, True, "paid"),
        (APPROVAL, "awaiting_approval", "reject", None, True, "rejected"),
        (APPROVAL, "awaiting_approval", "cancel", None, True, "cancelled"),
        (APPROVAL, "paid", "approve", None, True, IMPOSSIBLE),
        (APPROVAL, "paid", "approve", None, REFUSED, "paid"),
        (APPROVAL, "awaiting_approval", "approve", None, REFUSED, IMPOSSIBLE),
        (APPROVAL, "awaiting_approval", "approve", None, UNKNOWN, "paid"),
        (APPROVAL, "paid", "reject", None, UNKNOWN, "paid"),
        (APPROVAL, "paid", "read", None, "paid", "paid"),
        (APPROVAL, "paid", "read", None, "rejected", IMPOSSIBLE),
        (ACCOUNT, 5, "deposit", 3, True, 8),
        (ACCOUNT, 5, "withdraw", 5, True, 0),
        (ACCOUNT, 5, "withdraw", 6, True, IMPOSSIBLE),
        (ACCOUNT, 5, "withdraw", 6, REFUSED, 5),
        (ACCOUNT, 5, "withdraw", 5, REFUSED, IMPOSSIBLE),
        (ACCOUNT, 5, "withdraw", 5, UNKNOWN, 0),
        (ACCOUNT, 5, "withdraw", 6, UNKNOWN, 5),
        (ACCOUNT, 5, "read", None, 5, 5),
        (ACCOUNT, 5, "read", None, 4, IMPOSSIBLE),
    ],
)
def test_each_model_takes_the_steps_that_its_object_takes(
    model: Model, state: Any, f: str, argument: Any, answer: Any, following: Any
) -> None:
    assert model.step(state, f, argument, answer) == following


def operation(f: str, subject: str, span: tuple[int, int | None], outcome: str = "ok", **more: Any) -> Operation:
    return Operation(
        process=more.pop("process", 0),
        client=0,
        f=f,
        token=f"{f}{span}",
        arguments={"subject": subject, **more.pop("arguments", {})},
        invoked=span[0],
        completed=span[1],
        outcome=Outcome(outcome),
        **more,
    )


def test_a_payment_approved_twice_has_no_order() -> None:
    history = History.of(
        [
            operation("submit", "p1", (0, 1)),
            operation("approve", "p1", (2, 9), process=1),
            operation("approve", "p1", (3, 8), process=2),
            operation("submit", "p2", (0, 1), process=3),
        ]
    )
    found = check_linearizable(history, APPROVAL)
    assert found.verdict is Verdict.FAIL
    assert found.stuck is not None
    assert found.stuck.partition == "p1"
    assert found.stuck.states == ["paid"]


def test_the_second_approval_may_be_refused_or_unknown() -> None:
    refused = Failure(code="not_awaiting_approval", message="", refusal=True)
    for second in (
        operation("approve", "p1", (3, 8), "fail", process=2, failure=refused),
        operation("approve", "p1", (3, None), "info", process=2),
        operation("approve", "p1", (3, 8), "fail", process=2, failure=Failure(code="40001", message="", retryable=True)),
    ):
        history = History.of([operation("submit", "p1", (0, 1)), operation("approve", "p1", (2, 9), process=1), second])
        assert check_linearizable(history, APPROVAL).verdict is Verdict.PASS


@pytest.mark.parametrize("code", ["not_awaiting_approval", "already_awaiting_approval", "already_decided"])
def test_a_refusal_that_speaks_of_the_state_must_fit_it(code: str) -> None:
    refused = Failure(code=code, message="", refusal=True)
    history = History.of([operation("submit", "p1", (0, 1)), operation("approve", "p1", (2, 9), "fail", failure=refused)])
    assert check_linearizable(history, APPROVAL).verdict is Verdict.FAIL
    other = replace(refused, code="no_permission")
    history = History.of([operation("submit", "p1", (0, 1)), operation("approve", "p1", (2, 9), "fail", failure=other)])
    assert check_linearizable(history, APPROVAL).verdict is Verdict.PASS


def test_an_account_may_not_pay_out_what_it_does_not_hold() -> None:
    def pay(amount: int, span: tuple[int, int], process: int) -> Operation:
        return operation("withdraw", "a", span, process=process, arguments={"amount": amount})

    deposit = operation("deposit", "a", (0, 1), arguments={"amount": 100})
    assert check_linearizable(History.of([deposit, pay(60, (2, 5), 1), pay(40, (3, 4), 2)]), ACCOUNT).verdict is Verdict.PASS
    assert check_linearizable(History.of([deposit, pay(60, (2, 5), 1), pay(60, (3, 4), 2)]), ACCOUNT).verdict is Verdict.FAIL


def test_an_operation_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the model register knows cas, read, write, and the history has 'enqueue'"):
        check_linearizable(History.of([operation("enqueue", "q", (0, 1))]), REGISTER)


def test_an_unknown_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no model is called 'registr'; did you mean 'register'"):
        model_named("registr")


def test_calls_are_described_as_people_read_them() -> None:
    assert describe(call("write", 3, 3, 0, 1)) == "write 3"
    assert describe(call("read", None, 2, 0, 1)) == "read -> 2"
    assert describe(call("read", None, None, 0, 1)) == "read -> nothing"
    assert describe(call("cas", (1, 2), False, 0, 1)) == "cas (1, 2) (refused)"
    assert describe(call("approve", None, REFUSED, 0, 1)) == "approve (refused)"
    assert describe(call("append", "a", UNKNOWN, 0, None)) == "append a (outcome unknown)"
    long = describe(call("get", None, "x" * 200, 0, 1))
    assert len(long) < 80


def test_a_search_can_be_paused_and_goes_on_where_it_was() -> None:
    search = Search(hard(8), COUNTER)
    paused = 0
    while search.advance(50) is None:
        paused += 1
    assert paused > 3
    assert search.valid is False
    assert search.advance(50) is False


def test_compressed_and_plain_histories_are_the_same(tmp_path: Path) -> None:
    plain = tmp_path / "history.txt"
    plain.write_bytes(gzip.decompress((PORCUPINE / "kv" / "c50-ok.txt.gz").read_bytes()))
    packed = read_history(PORCUPINE / "kv" / "c50-ok.txt.gz").history
    assert read_history(plain).history.operations.equals(packed.operations)


@pytest.mark.parametrize(
    ("model", "f", "arguments", "result", "expected"),
    [
        ("register", "cas", {"value": 3}, {"value": True}, "the old and the new value"),
        ("register", "cas", {"value": [1, 2, 3]}, {"value": True}, "the old and the new value"),
        ("kv", "put", {"key": "x", "value": 3}, {}, "text"),
        ("kv", "get", {"key": "x"}, {"value": 3}, "text"),
        ("counter", "add", {"value": "3"}, {}, "a whole number"),
        ("counter", "add", {"value": True}, {}, "a whole number"),
        ("counter", "next", {}, {}, "a whole number"),
        ("account", "deposit", {"subject": "a"}, {}, "an amount in minor units"),
        ("account", "withdraw", {"subject": "a", "amount": -1}, {}, "an amount in minor units"),
    ],
)
def test_an_operation_that_says_something_else_than_the_model_takes_is_refused(
    model: str, f: str, arguments: dict[str, Any], result: dict[str, Any], expected: str
) -> None:
    odd = Operation(
        process=4, client=4, f=f, token="a", arguments=arguments, invoked=1, completed=2, outcome=Outcome.OK, result=result
    )
    with pytest.raises(UsageError, match=f"the {f} of process 4 has .* the model {model} expects {expected}"):
        check_linearizable(History.of([odd]), MODELS[model])
