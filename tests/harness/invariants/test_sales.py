"""What clients were told of sales and voids, against what left the stock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.config.policy import load_policy
from harness.invariants.judge import judge
from harness.model import Books, History, Operation, Outcome

FIRST, SECOND = "InvMain11_22_2025_0001", "InvMain11_22_2025_0002"


def done(f: str, at: int, outcome: Outcome = Outcome.OK, result: dict[str, Any] | None = None, **arguments: Any) -> Operation:
    return Operation(
        process=at,
        client=at,
        f=f,
        token=f"t{at}",
        arguments=arguments,
        invoked=at,
        completed=None if outcome is Outcome.INFO else at + 9,
        outcome=outcome,
        result=result,
    )


def sold(at: int, text: str) -> Operation:
    return done("sell", at, result={"text": text}, item="i", quantity=2)


def void(text: str, outcome: Outcome = Outcome.OK) -> Operation:
    return done("void_sale", 3, outcome, text=text, reason="returned")


def said(*operations: Operation, quantity: int, sold: int, **tables: list[dict[str, Any]]) -> list[str]:
    """Return what S-STOCK says of five pieces, of which so many are left and so many count as sold."""
    books = Books.of(stock=[{"item": "i", "opening": 5, "quantity": quantity, "sold": sold}], **tables)
    judgement = judge(History.of(operations), books, load_policy("gapless"), ["S-STOCK"])
    return [f.message for f in judgement.findings if f.invariant == "S-STOCK"]


def test_what_a_void_gave_back_is_not_missed() -> None:
    assert said(sold(1, FIRST), sold(2, SECOND), void(FIRST), quantity=3, sold=2) == []


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.INFO])
def test_a_void_of_which_nobody_heard_the_end_may_have_given_back_or_not(outcome: Outcome) -> None:
    operations = (sold(1, FIRST), sold(2, SECOND), void(FIRST, outcome))
    assert said(*operations, quantity=3, sold=2) == []
    assert said(*operations, quantity=1, sold=4) == []


def test_a_void_that_was_refused_gave_nothing_back() -> None:
    assert said(sold(1, FIRST), sold(2, SECOND), void(FIRST, Outcome.FAIL), quantity=3, sold=2) == [
        "4 of item i were acknowledged as sold and only 2 left the stock"
    ]


def test_a_void_gives_back_one_sale_and_not_another() -> None:
    assert said(sold(1, FIRST), sold(2, SECOND), void(FIRST), quantity=5, sold=0) == [
        "2 of item i were acknowledged as sold and only 0 left the stock"
    ]


def test_a_number_that_only_the_repeated_sale_was_told_is_the_same_sales() -> None:
    lost = replace(sold(1, FIRST), outcome=Outcome.OK, result=None)  # the reply was lost; the books told that it happened
    again = replace(sold(2, FIRST), token=lost.token)
    assert said(lost, again, void(FIRST), quantity=5, sold=0) == []
    assert said(lost, again, void(SECOND), quantity=5, sold=0) == [
        "2 of item i were acknowledged as sold and only 0 left the stock"
    ]


def test_a_void_of_a_sale_that_nobody_was_told_the_number_of_may_have_given_anything_back() -> None:
    silent = replace(sold(1, FIRST), result={"number": 1})
    assert said(silent, sold(2, SECOND), void(FIRST), quantity=3, sold=2) == []
    assert said(silent, sold(2, SECOND), void(FIRST), quantity=3, sold=4) != []


def test_sales_and_voids_of_one_print_do_not_multiply() -> None:
    sales = [replace(sold(1, FIRST), token=f"s{n}") for n in range(1000)]
    voids = [replace(void(FIRST), token=f"v{n}") for n in range(1000)]
    assert said(*sales, *voids, quantity=5, sold=0) == []


def test_a_sale_that_is_void_in_the_books_is_not_missed_whoever_voided_it() -> None:
    sale = {"number": 1, "text": FIRST, "token": "t1"}
    assert said(sold(1, FIRST), quantity=5, sold=0, documents=[{**sale, "status": "void"}]) == []
    assert said(sold(1, FIRST), quantity=5, sold=0, documents=[{**sale, "status": "issued"}]) != []


def test_more_in_stock_than_there_was_is_told_so() -> None:
    assert said(sold(1, FIRST), void(FIRST), quantity=6, sold=0) == [
        "1 more of item i came back than had left the stock (5 to 6), and its sales make 0",
    ]


@pytest.mark.parametrize(("owes", "sold", "told"), [(300, 300, []), (300, None, []), (0, 300, ["owes 0.00, and its unpaid"])])
def test_a_customer_owes_what_its_sales_make_where_the_books_tell(owes: int, sold: int | None, told: list[str]) -> None:
    books = Books.of(customers=[{"id": "c", "limit": 500, "open_amount": owes, "sold": sold}])
    judgement = judge(History.of([]), books, load_policy("gapless"), ["S-CREDIT"])
    messages = [f.message for f in judgement.findings if f.invariant == "S-CREDIT"]
    assert len(messages) == len(told)
    assert all(part in message for part, message in zip(told, messages, strict=True))


@pytest.mark.parametrize("rule", ["N-UNIQ", "N-DURABLE", "N-IMMUT", "N-VOID"])
def test_a_void_that_answers_with_the_number_did_not_issue_it_and_ends_it(rule: str) -> None:
    place = {"scope": "Main/sale", "period": "2025-11-22", "number": 1, "text": FIRST}
    issued = done("sell", 1, result=place)
    document = {"id": "1", **place, "token": issued.token, "status": "void", "reason": "returned"}
    for answer in (place, {"text": "CN-77"}, {}):
        ended = done("void_sale", 2, result=answer, text=FIRST)
        judgement = judge(History.of([issued, ended]), Books.of(documents=[document]), load_policy("gapless"), [rule])
        assert judgement.findings == []


def test_what_went_back_twice_differs_from_what_was_sold() -> None:
    assert said(sold(1, FIRST), sold(2, SECOND), void(FIRST), quantity=5, sold=2) == [
        "0 of item i left the stock (5 to 5), and its sales make 2",
        "2 of item i were acknowledged as sold and only 0 left the stock",
    ]
