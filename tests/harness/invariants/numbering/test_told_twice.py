"""Who is named for a number that was issued twice: as many as it was issued times, and nothing that nobody knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.config.policy import load_policy
from harness.invariants import judge
from harness.model import Books, History, Operation, Outcome


def created(token: str, number: int, at: int, outcome: Outcome = Outcome.OK, **answer: Any) -> Operation:
    """Return a create by client ``at`` that was told a number at that millisecond."""
    return Operation(
        process=at,
        client=at,
        f="create",
        token=token,
        arguments={},
        invoked=at * 1_000_000,
        completed=at * 1_000_000,
        outcome=outcome,
        result={"number": number, **answer} if outcome is Outcome.OK else None,
    )


def invoice(id: str, number: int, token: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": id, "number": number, "token": token, **more}


def said(operations: list[Operation], documents: list[dict[str, Any]], earlier: set[str] | None = None) -> list[str]:
    """Return what N-UNIQ says; ``earlier`` are the rows from before the race, where somebody looked."""
    books = Books.of(documents=documents)
    if earlier is not None:
        books = replace(books, earlier={"documents": frozenset(earlier)})
    history = replace(History.of(operations), open_at=0)
    found = judge(history, books, load_policy("unique"), ["N-UNIQ"]).findings
    return [f.message for f in found if f.invariant == "N-UNIQ"]


TWO = [created("a", 1, 1), created("b", 1, 2)]
BOTH = "by client 1 at +0.001 s and client 2 at +0.002 s"


@pytest.mark.parametrize("earlier", [None, set()], ids=["nobody looked", "nothing was there"])
def test_rows_without_tokens_are_the_answered_requests_own(earlier: set[str] | None) -> None:
    assert said(TWO, [invoice("1", 1), invoice("2", 1)], earlier) == [f"number 1 was issued twice: {BOTH}"]
    assert said(TWO, [invoice("1", 1)], earlier) == [f"number 1 was issued twice: {BOTH}"]
    assert said(TWO[:1], [invoice("1", 1), invoice("2", 2)], earlier) == []


def test_as_many_are_named_as_the_number_was_issued_times() -> None:
    eight = [created(f"c{n}", 1, n) for n in range(1, 9)]
    rows = [invoice(f"{n}", 1) for n in range(1, 9)]
    (line,) = said(eight, rows)
    assert line == ("number 1 was issued 8 times: by client 1 at +0.001 s, client 2 at +0.002 s, client 3 at +0.003 s and 5 more")
    assert said(eight[:1], rows[:1]) == []


def test_a_row_that_is_no_answered_requests_is_counted_once_and_not_said_to_be_older() -> None:
    rows = [invoice(id, 1) for id in ("1", "2", "3")]
    assert said(TWO, rows) == [
        "number 1 was issued 3 times: by client 1 at +0.001 s, client 2 at +0.002 s and one more document without a token"
    ]
    assert said([], rows[:2]) == [
        "number 1 was issued twice: by a document without a token (row 1) and a document without a token (row 2)"
    ]


def test_only_a_row_that_is_known_to_be_older_is_said_to_have_been_there_before() -> None:
    rows = [invoice("1", 1), invoice("2", 1)]
    (line,) = said(TWO[:1], rows, {"1"})
    assert line == "number 1 was issued twice: by client 1 at +0.001 s and a document that was there before (row 1)"
    (line,) = said(TWO[:1], rows, set())
    assert line == "number 1 was issued twice: by client 1 at +0.001 s and one more document without a token"
    assert said(TWO[:1], rows[:1], set()) == []


def test_where_some_rows_have_tokens_one_that_came_without_is_the_request_whose_own_row_is_not_there() -> None:
    other = created("other", 2, 3)
    rows = [invoice("1", 1), invoice("2", 2, "other")]
    assert said([TWO[0], other], rows, set()) == []
    assert said([*TWO, other], rows, set()) == [f"number 1 was issued twice: {BOTH}"]
    assert said([TWO[0], other], [*rows, invoice("3", 1, "a")], set()) == [
        "number 1 was issued twice: by client 1 at +0.001 s and a document without a token (row 1)"
    ]
    there_before = "number 1 was issued twice: by client 1 at +0.001 s and a document that was there before (row 1)"
    assert said([TWO[0], other], rows, {"1"}) == [there_before]
    assert said([TWO[0], other], rows) == [there_before.replace("that was there before", "without a token")]


def test_a_row_whose_token_was_answered_is_laid_to_who_was_answered() -> None:
    told_another = [created("a", 1, 1), created("b", 7, 2)]
    rows = [invoice("1", 1, "a"), invoice("2", 1, "b")]
    assert said(told_another, rows) == [
        "number 1 was issued twice: by client 1 at +0.001 s and client 2 at +0.002 s (row 2)",
    ]
    failed = [TWO[0], created("b", 1, 2, Outcome.FAIL)]
    assert said(failed, rows) == [
        "number 1 was issued twice: by client 1 at +0.001 s and the failed request of client 2 at +0.002 s (row 2)"
    ]
    assert said(TWO[:1], rows) == [
        "number 1 was issued twice: by client 1 at +0.001 s and a request that was never answered (row 2)"
    ]
    assert said(told_another, [invoice("1", 1, "a"), invoice("2", 7, "b")]) == []


def test_who_was_answered_in_another_scope_than_the_row_has_is_shown() -> None:
    """One answer agrees with its row, so that the scope is the service's own doing."""
    asked = [created("a", 1, 1, scope="x"), created("b", 1, 2, scope="x"), created("c", 1, 3, scope="y")]
    rows = [invoice("1", 1, "a", scope="y"), invoice("2", 1, "b", scope="y"), invoice("3", 1, "c", scope="y")]
    found = judge(History.of(asked), Books.of(documents=rows), load_policy("unique"), ["N-UNIQ"]).findings
    assert [o["token"] for o in found[0].evidence["operations"]] == ["a", "b", "c"]
    assert "never answered" not in found[0].message
