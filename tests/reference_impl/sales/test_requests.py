"""Bad input to every operation of sales is refused with a typed error before any connection is touched."""

from __future__ import annotations

from typing import Any

import pytest

from reference_impl.base.arguments import MAX_MONEY
from reference_impl.base.refusal import Refused
from reference_impl.sales.requests import OPERATIONS, understand
from reference_impl.sales.rules import judge_gaps

GOOD: dict[str, dict[str, Any]] = {
    "stock_item": {"subject": "rice", "quantity": 10, "price": 100},
    "add_customer": {"subject": "maria", "limit": 1000},
    "sell": {"branch": "Bambang", "item": "rice", "quantity": 1, "price": 100, "customer": "maria", "discount_bp": 500},
    "void_sale": {"text": "InvBambang11_22_2025_0001", "reason": "returned"},
    "gaps": {"branch": "Bambang"},
    "deliver": {"most": 10},
}
NUMBERS = [-1, 0.5, 100.0, 10**30, "100", "1e3", True, [100], {"PHP": 100}, float("nan")]
TEXTS = ["", 7, 7.5, True, ["acme"], {}, "x" * 300, "a\nb", "a\x00b"]
WRONG = {
    "quantity": [*NUMBERS, 0, None, 10**7],
    "price": [*NUMBERS, 0, None, MAX_MONEY + 1],
    "limit": [*NUMBERS, None, MAX_MONEY + 1],
    "discount_bp": [*NUMBERS, 10_001],
    "most": [*NUMBERS, 0],
}


def bad() -> list[tuple[str, dict[str, Any]]]:
    """Return operations with one thing wrong each."""
    wrong: list[tuple[str, dict[str, Any]]] = [("nonsense", {}), ("__init__", {})]
    for f, good in GOOD.items():
        for name in good:
            wrong += [(f, {**good, name: value}) for value in WRONG.get(name, TEXTS)]
        wrong += [
            (f, {**good, "amuont": 100}),
            (f, {**good, "currency": "USD"}),
            (f, {**good, "at": "yesterday"}),
            (f, {**good, "company": 5}),
        ]
    return wrong


@pytest.mark.parametrize(("f", "arguments"), bad(), ids=lambda value: str(value)[:60])
def test_what_makes_no_sense_is_refused(f: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        understand(f, arguments, "token")
    assert refused.value.refusal in ("invalid_request", "invalid_amount", "foreign_currency", "unknown_operation")


def test_every_operation_is_tried_with_bad_input_and_good_input_is_understood() -> None:
    assert set(GOOD) == set(OPERATIONS)
    for f, arguments in GOOD.items():
        assert understand(f, arguments, "token").f == f


@pytest.mark.parametrize("f", ["sell", "stock_item"])
def test_a_price_times_a_quantity_is_no_more_than_the_largest_amount(f: str) -> None:
    with pytest.raises(Refused) as refused:
        understand(f, {**GOOD[f], "quantity": 2, "price": MAX_MONEY}, "token")
    assert (refused.value.refusal, refused.value.status) == ("invalid_amount", 422)


@pytest.mark.parametrize(
    ("missing", "highest", "judgement"),
    [
        (0, 0, "normal"),
        (1, 7, "watch"),
        (2, 7, "investigate"),
        (3, 100, "normal"),
        (5, 100, "watch"),
        (6, 100, "investigate"),
        (60, 1030, "investigate"),
        (10**6, 10**7, "investigate"),
    ],
)
def test_gaps_are_judged_by_their_share_and_few_numbers_by_chance(missing: int, highest: int, judgement: str) -> None:
    assert judge_gaps(missing=missing, highest=highest) == judgement
