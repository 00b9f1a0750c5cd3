"""Rows of which there should be one, and there are several."""

import polars as pl
import pytest

from harness.invariants.repeats import most_repeated, told_again
from harness.model import Books

TOLD = pl.DataFrame(
    [
        {"id": "1", "token": "k", "action": "refund"},
        {"id": "2", "token": "k", "action": "approve"},
        {"id": "3", "token": "j", "action": "submit"},
        {"id": "4", "token": "k", "action": "approve"},
        {"id": "5", "token": "j", "action": "submit"},
    ]
)


def test_the_rows_that_agree_most_often_are_given_in_their_order() -> None:
    found = most_repeated(TOLD, "token")
    assert found is not None
    assert list(found.rows["id"]) == ["1", "2", "4"]
    assert found.total == 2


def test_of_two_that_agree_as_often_the_lower_is_given() -> None:
    found = most_repeated(TOLD, "token", "action")
    assert found is not None
    assert list(found.rows["id"]) == ["3", "5"]
    assert found.total == 2


@pytest.mark.parametrize("columns", [["id"], ["id", "token"]])
def test_rows_that_differ_are_no_repeat(columns: list[str]) -> None:
    assert most_repeated(TOLD, *columns) is None


def test_rows_without_a_value_agree_with_one_another() -> None:
    found = most_repeated(TOLD.with_columns(action=pl.lit(None, pl.String())), "token", "action")
    assert found is not None
    assert found.rows.height == 3


def test_two_actions_of_one_intent_are_no_repeat_where_the_books_do_not_give_the_action() -> None:
    assert told_again(TOLD, Books(tables={"audit": TOLD})) is not None
    assert told_again(TOLD, Books(tables={"audit": TOLD}, given={"audit": frozenset({"id", "token"})})) is None
