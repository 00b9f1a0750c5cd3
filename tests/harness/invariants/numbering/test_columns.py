"""Which operations issue numbers, what they were told, which of it the books hold, and how a place and a number are named."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from harness.invariants.numbering.columns import acknowledged, issuing, number_name, place_name, printed_like, stored, unstored
from harness.model import Books, History, Operation, Outcome
from harness.model.policy import Policy

PLAIN = Policy(name="plain")
PRINTED = Policy(name="printed", format="INV-{00000}")
NO_ISSUE = ["void", "cancel", "delete", "renumber", "read", "get", "list", "find", "seed", "cleanup", "release"]


def told(f: str = "create", outcome: Outcome = Outcome.OK, token: str = "a", **result: Any) -> Operation:
    return Operation(process=1, client=1, f=f, token=token, arguments={}, invoked=1, completed=2, outcome=outcome, result=result)


def documents(*rows: dict[str, Any], policy: Policy = PLAIN) -> pl.DataFrame:
    return stored(Books.of(documents=list(rows)), policy)


@pytest.mark.parametrize("f", NO_ISSUE)
def test_what_only_speaks_of_a_number_does_not_issue_it(f: str) -> None:
    assert issuing(History.of([told(f, number=1)])) == ["create"]


@pytest.mark.parametrize("result", [{"number": 1}, {"text": "INV-1"}, {"number": 1, "text": "INV-1"}])
def test_whatever_else_answers_with_a_number_or_its_print_issues_it(result: dict[str, Any]) -> None:
    history = History.of([told("confirm", **result), told("post", **result), told("post", **result), told("submit")])
    assert issuing(history) == ["confirm", "create", "post"]


def test_told_is_who_succeeded_with_an_operation_that_issues() -> None:
    history = History.of(
        [
            *(told(token="number", number=1), told(token="print", text="1"), told(token="nothing")),
            *(told(token="failed", outcome=Outcome.FAIL, number=1), told("void", token="void", number=1)),
        ]
    )
    found = acknowledged(history, documents(), PLAIN)
    assert found["token"].to_list() == ["number", "print"]
    assert found.select("scope", "period").unique().rows() == [("", "")]


def test_where_the_answer_names_no_place_that_of_its_document_is_taken() -> None:
    books = documents(
        {"id": "1", "token": "a", "scope": "x", "period": "p"},
        {"id": "2", "token": "a", "scope": "x", "period": "p"},
        {"id": "3", "token": "b", "scope": "y", "period": "q"},
        {"id": "4", "scope": "z", "period": "z"},
    )
    history = History.of(
        [
            told(token="a", number=1),
            told(token="b", number=1, scope="own"),
            told(token="b", number=1, period="own"),
            told(token="b", number=1, scope="own", period="own"),
            told(token="c", number=1),
        ]
    )
    places = acknowledged(history, books, PLAIN).select("scope", "period").rows()
    assert places == [("x", "p"), ("own", "q"), ("y", "own"), ("own", "own"), ("", "")]
    whole = History.of([told(token="a", number=1, scope="own", period="own")])
    assert acknowledged(whole, books, PLAIN).select("scope", "period").rows() == [("own", "own")]


def test_what_a_target_leaves_empty_is_filled_in() -> None:
    found = documents({"number": 7}, {"id": "9", "scope": "x", "period": "p", "status": "void", "number": 8})
    assert found.select("scope", "period", "status", "row").rows() == [("", "", "issued", "#0"), ("x", "p", "void", "9")]


def test_a_number_is_read_from_its_print_where_there_is_no_other() -> None:
    rows: list[dict[str, Any]] = [
        {"text": "INV-00007"},
        {"text": "INV-00007", "number": 8},
        {"text": "torn"},
        {"text": f"INV-{10**20}"},
    ]
    assert documents(*rows, policy=PRINTED)["number"].to_list() == [7, 8, None, None]
    assert documents(*rows)["number"].to_list() == [None, 8, None, None]


@pytest.mark.parametrize(
    ("row", "gone"),
    [
        ({"token": "a", "number": 1, "text": "1"}, []),
        ({"token": "a", "number": 2, "text": "2"}, ["number", "print"]),
        ({"token": "b", "number": 1, "text": "1"}, ["number", "print"]),
        ({"number": 1, "text": "1", "scope": "x"}, []),
        ({"number": 2, "text": "2", "scope": "x"}, ["number", "print"]),
        ({"number": 1, "text": "1", "scope": "y"}, ["number", "print"]),
    ],
)
def test_a_number_is_stored_under_its_token_or_without_tokens_in_its_scope(row: dict[str, Any], gone: list[str]) -> None:
    history = History.of([told("create", scope="x", number=1), told("print", scope="x", text="1")])
    known = acknowledged(history, documents(), PLAIN).with_columns(token=pl.lit("a"), f=pl.Series(["number", "print"]))
    assert unstored(known, documents(row))["f"].to_list() == gone


def test_places_and_numbers_as_people_read_them() -> None:
    assert [place_name("x", ""), place_name("x", "2026"), place_name("", "2026")] == ["x", "x in 2026", "the only scope in 2026"]
    assert [number_name("INV-1", 1), number_name(None, 1), number_name("", 1)] == ["INV-1", "number 1", ""]


@pytest.mark.parametrize(
    ("policy", "text", "number", "printed"),
    [
        (PRINTED, "INV-00007", 7, "INV-00012"),
        (PRINTED, "INV-00007", 8, "number 12"),
        (PRINTED, "2026/0007", 7, "2026/0012"),
        (PLAIN, "PAY2026-0007", 7, "PAY2026-0012"),
        (PLAIN, "0007-2026", 7, "0012-2026"),
        (PLAIN, "none", 7, "number 12"),
        (PLAIN, None, 7, "number 12"),
    ],
)
def test_a_number_that_no_document_holds_is_printed_like_its_neighbour(
    policy: Policy, text: str | None, number: int, printed: str
) -> None:
    assert printed_like(policy, text, number, 12) == printed
