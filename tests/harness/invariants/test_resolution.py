"""What the books decide of operations whose outcome nobody knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.invariants.resolution import ambiguous, resolve
from harness.model import Books, History, Operation, Outcome


def unknown(f: str, token: str, at: int = 1, **arguments: Any) -> Operation:
    return Operation(process=at, client=at, f=f, token=token, arguments=arguments, invoked=at, completed=9, outcome=Outcome.INFO)


@pytest.mark.parametrize("f", ["read", "get", "list", "find"])
def test_an_unanswered_read_had_no_effect_whatever_the_books_say(f: str) -> None:
    history = resolve(History.of([unknown(f, "a")]), Books())
    assert history.operations["outcome"].to_list() == ["fail"]
    assert ambiguous(history, Books()) == []


def test_what_happened_takes_what_its_first_row_says_and_what_did_not_stays_as_it_was() -> None:
    row = {"token": "a", "scope": "x", "period": "p", "number": 7, "text": "7", "amount": 5}
    books = Books.of(documents=[{"id": "1", **row}, {"id": "2", **row, "number": 8}, {"id": "3", "token": "z"}])
    history = History.of(
        [unknown("create", "a", scope="y"), unknown("create", "b", 2, scope="y"), unknown("create", "z", 3, scope="y")]
    )
    found = resolve(history, books).operations
    columns = ["token", "outcome", "completed", "scope", "period", "number", "text", "amount"]
    assert found.select(columns).rows() == [
        ("a", "ok", None, "x", "p", 7, "7", 5),
        ("b", "fail", None, "y", None, None, None, None),
        ("z", "ok", None, "y", None, None, None, None),
    ]


def test_operations_stay_in_the_order_in_which_they_were_sent() -> None:
    operations = [unknown(f, f"{f}{at}", at) for at, f in enumerate(["submit", "create", "submit", "create"], 1)]
    assert resolve(History.of(operations), Books.of(payments=[], documents=[])).operations["invoked"].to_list() == [1, 2, 3, 4]


def test_what_is_left_is_counted_and_named() -> None:
    history = History.of([unknown("submit", "a"), unknown("submit", "b"), unknown("create", "c")])
    (found,) = ambiguous(history, Books())
    assert found.message == "nobody knows whether 3 operations happened (create, submit): the books do not tell"
    assert (found.total, len(found.evidence["operations"])) == (3, 3)
    (one,) = ambiguous(History.of([unknown("submit", "a")]), Books())
    assert one.message == "nobody knows whether one operation happened (submit): the books do not tell"


@pytest.mark.parametrize(("trouble", "said"), [("a file is lost", "a file is lost"), (None, "no reason given")])
def test_missing_evidence_says_why(trouble: str | None, said: str) -> None:
    of_history = ambiguous(History.of([], complete=False, trouble=trouble), Books())
    of_books = ambiguous(History.of([]), Books(complete=False, trouble=trouble))
    assert [f.message for f in (*of_history, *of_books)] == [
        f"the history is incomplete: {said}",
        f"the books are incomplete: {said}",
    ]
    assert [f.total for f in (*of_history, *of_books)] == [1, 1]


def test_only_rows_that_the_race_added_tell_whether_a_table_keeps_tokens() -> None:
    rows = [{"id": "1", "token": "old", "number": 1}, {"id": "2", "token": None, "number": 2}]
    history = History.of([unknown("create", "a")])
    whole = Books.of(documents=rows)
    assert resolve(history, whole).operations["outcome"].to_list() == ["fail"]
    seeded = replace(whole, earlier={"documents": frozenset({"1"})})
    assert resolve(history, seeded).operations["outcome"].to_list() == ["info"]
    assert resolve(history, replace(whole, earlier={"documents": frozenset({"2"})})).operations["outcome"].to_list() == ["fail"]


def answered(f: str, token: str, at: int = 1) -> Operation:
    return Operation(
        process=at, client=at, f=f, token=token, arguments={}, invoked=at, completed=9, outcome=Outcome.OK, result={}
    )


def decided(f: str, told: list[tuple[str, str]], *others: Operation) -> str:
    """Return the outcome of an unanswered operation that is not in the audit log, where the log tells of others."""
    audit = [{"id": str(n), "action": action, "token": token} for n, (action, token) in enumerate(told)]
    operations = History.of([unknown(f, "lost"), *others])
    found = resolve(operations, Books.of(audit=audit)).operations
    return str(found.filter(token="lost")["outcome"][0])


def test_the_audit_log_says_of_what_it_tells_that_it_did_not_happen() -> None:
    created, voided = answered("create", "c"), answered("void", "v")
    assert decided("void", [("create", "c"), ("void", "v")], created, voided) == "fail"
    assert decided("void", [("create", "c"), ("void", "v")], created, unknown("void", "v")) == "fail"


def test_the_audit_log_says_nothing_of_what_it_never_tells() -> None:
    created, voided = answered("create", "c"), answered("void", "v")
    assert decided("void", [("create", "c")], created) == "info"
    assert decided("void", [("create", "c")], created, voided) == "info"
    assert decided("void", [("create", "c"), ("void", "old")], created) == "info"
    refused = replace(voided, outcome=Outcome.FAIL, result=None)
    assert decided("void", [("create", "c"), ("void", "v")], created, refused) == "info"
    assert decided("void", [("create", "c"), ("void", "lost")], created) == "ok"


@pytest.mark.parametrize("f", ["deliver", "migrate", "repair", "verify"])
def test_of_what_leaves_no_token_no_rule_needs_to_know_whether_it_happened(f: str) -> None:
    assert decided(f, [("create", "c")], answered("create", "c")) == "fail"
