"""The words and the evidence of findings: exact, and capped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from harness.invariants.telling import listed, moment, money, rows, shown, times, violation, whom
from harness.model import Failure, History, Operation, Outcome

HISTORY = History.of([], open_at=1_000_000_000)


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (0, "0.00"),
        (1, "0.01"),
        (-1, "-0.01"),
        (99, "0.99"),
        (100, "1.00"),
        (-10_050, "-100.50"),
        (123_456_789, "1,234,567.89"),
        (None, "nothing"),
    ],
)
def test_money_is_said_to_the_last_minor_unit(amount: int | None, said: str) -> None:
    assert money(amount) == said


def test_moments_count_from_the_start_of_the_recording() -> None:
    said = [moment(HISTORY, at) for at in (1_000_000_000, 1_020_000_000, 10**15 + 10**9, None)]
    assert said == ["+0.000 s", "+0.020 s", "+1000000.000 s", "never"]


@pytest.mark.parametrize(
    ("client", "completed", "said"),
    [
        (0, 1_500_000_000, "client 0 at +0.500 s"),
        (1, None, "client 1 at +0.200 s"),
        (-1, 1_500_000_000, "the opening at +0.500 s"),
    ],
)
def test_who_did_it_and_when_it_was_answered_or_else_sent(client: int, completed: int | None, said: str) -> None:
    assert whom(HISTORY, {"client": client, "completed": completed, "invoked": 1_200_000_000}) == said


@pytest.mark.parametrize(
    ("parts", "said"), [("", "none"), ("a", "a"), ("ab", "a and b"), ("abc", "a, b and c"), ("abcde", "a, b, c and 2 more")]
)
def test_a_list_names_three(parts: str, said: str) -> None:
    assert listed(parts) == said


def test_twice_is_a_word() -> None:
    assert [times(2), times(3)] == ["twice", "3 times"]


def operation(at: int, **more: Any) -> Operation:
    plain: dict[str, Any] = {"process": 1, "client": 2, "f": "create", "token": f"t{at:02}", "outcome": Outcome.OK}
    return Operation(arguments={}, invoked=1_000_000_000 + at, completed=2_000_000_000, **{**plain, **more})


def test_an_operation_is_shown_with_all_that_is_known_of_it() -> None:
    result = {"scope": "x", "period": "p", "number": 7, "text": "7", "subject": "s", "amount": 5}
    failure = Failure(code="40001", message="again", retryable=True)
    history = History.of(
        [operation(0, result=result), operation(1, outcome=Outcome.FAIL, failure=failure)], open_at=1_000_000_000
    )
    done, failed = shown(history, history.operations)
    plain = {"process": 1, "client": 2, "f": "create", "attempts": 1, "invoked": "+0.000 s", "completed": "+1.000 s"}
    assert {k: v for k, v in done.items() if k != "result"} == {**plain, **result, "token": "t00", "outcome": "ok"}
    assert "number" in done["result"]
    assert failed == {**plain, "token": "t01", "outcome": "fail", "code": "40001", "message": "again"}


def test_the_first_nine_operations_and_rows_are_shown() -> None:
    history = History.of([operation(at) for at in range(20, 0, -1)])
    assert [o["token"] for o in shown(history, history.operations)] == [f"t{at:02}" for at in range(1, 10)]
    assert [row["n"] for row in rows(pl.DataFrame({"n": range(20)}))] == list(range(9))


def test_rows_are_plain_values_without_what_is_empty() -> None:
    frame = pl.DataFrame({"at": [datetime(2026, 11, 20, tzinfo=UTC)], "none": [None], "n": [0]})
    assert rows(frame) == [{"at": "2026-11-20T00:00:00+00:00", "n": 0}]


@pytest.mark.parametrize(("total", "said"), [(1, "wrong"), (2, "wrong (1 more like it)"), (3, "wrong (2 more like it)")])
def test_a_violation_counts_what_is_like_its_example(total: int, said: str) -> None:
    books = {"documents": [{"id": "1"}]}
    found = violation("N-X", "wrong", total=total, operations=[{"token": "a"}], books=books)
    assert (found.message, found.total, dict(found.evidence)) == (said, total, {"operations": [{"token": "a"}], "rows": books})
    assert dict(violation("N-X", "wrong", total=1).evidence) == {"operations": [], "rows": {}}
