"""Bad input to every operation on orders is refused with a typed error and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from harness.model import Outcome
from harness.stores import Database
from harness.targets.classify import classify_error
from reference_impl.base.refusal import Refused
from reference_impl.orders.requests import OPERATIONS, understand
from tests.reference_impl.payments.test_requests import AMOUNTS, TEXTS
from tests.reference_impl.stepping import play

GOOD: dict[str, dict[str, Any]] = {
    "open_order": {"subject": "n", "total": 1000, "advance": 100},
    "import_order": {"subject": "m", "total": 1000, "advance": 100, "discount": 0, "twice": True},
    "pay_installment": {"subject": "o", "amount": 100},
    "discount": {"subject": "o", "amount": 100},
    "refund_order": {"subject": "o", "amount": 100},
    "cancel_order": {"subject": "o"},
    "migrate": {"most": 5},
    "repair": {"subject": "o"},
    "verify": {},
    "order": {"subject": "o"},
}


def bad() -> list[tuple[str, dict[str, Any]]]:
    """Return operations with one thing wrong each."""
    wrong: list[tuple[str, dict[str, Any]]] = []
    for f, good in GOOD.items():
        for name in good:
            values: list[Any] = AMOUNTS if name in ("amount", "total") else TEXTS
            if name in ("advance", "discount"):
                values = [v for v in AMOUNTS if v != 0 or isinstance(v, bool)]
            if name == "twice":
                values = [None, 1, "yes"]
            if name == "most":
                values = [-1, 0, 1.5, "10", True, 10**9]
            wrong += [(f, {**good, name: value}) for value in values]
        wrong += [(f, {**good, "amuont": 1}), (f, {**good, "currency": "EUR"}), (f, {**good, "at": "soon"})]
    wrong += [
        ("open_order", {"subject": "n", "total": 1000, "advance": 1001}),
        ("import_order", {"subject": "n", "total": 1000, "advance": 600, "discount": 401}),
        ("pay_installment", {"subject": "o", "amount": 901}),
        ("discount", {"subject": "o", "amount": 901}),
        ("refund_order", {"subject": "o", "amount": 101}),
        ("cancel_order", {"subject": "o"}),
        ("open_order", {"subject": "o", "total": 1000, "advance": 0}),
        ("shown", {"subject": "o"}),
    ]
    for f in ("pay_installment", "discount", "refund_order", "cancel_order", "repair", "order"):
        wrong += [(f, {**GOOD[f], "subject": "nobody"}), (f, {**GOOD[f], "company": "another"})]
    return wrong


@pytest.mark.parametrize("variant", ["pg.balance_from_one_row", "pg.lock_order_then_sum"])
def test_every_bad_request_is_refused_and_changes_nothing(postgres_database: Database, variant: str) -> None:
    with play(variant, postgres_database) as stage:
        a = stage.actor()
        a.does("open_order", "open", subject="o", total=1000, advance=100)
        before = {name: frame.rows() for name, frame in stage.books().tables.items()}
        for n, (f, arguments) in enumerate(bad()):
            with pytest.raises(Refused) as refused:
                a.connection.call(f, arguments, f"bad-{n}", lambda point: None)
            assert classify_error(refused.value)[0] is Outcome.FAIL, (f, arguments)
        assert {name: frame.rows() for name, frame in stage.books().tables.items()} == before
        good = [a.does(f, f"good-{f}", **arguments).outcome for f, arguments in GOOD.items() if f != "cancel_order"]
        assert set(good) == {Outcome.OK}


def test_the_good_requests_are_all_understood() -> None:
    assert set(GOOD) == set(OPERATIONS)
    for f, arguments in GOOD.items():
        assert understand(f, arguments, "t").f == f


@pytest.mark.parametrize(
    ("f", "arguments", "says"),
    [
        ("open_order", {"advance": 110_000}, "Advance exceeds the order's total. Total: ₱1,000.00, advance: ₱1,100.00."),
        (
            "import_order",
            {"advance": 50_000, "discount": 60_000},
            "Advance and discount exceed the order's total. Total: ₱1,000.00, advance: ₱500.00, discount: ₱600.00.",
        ),
        (
            "import_order",
            {"advance": 110_000, "discount": 0},
            "Advance exceeds the order's total. Total: ₱1,000.00, advance: ₱1,100.00.",
        ),
    ],
)
def test_what_exceeds_a_total_is_named(f: str, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused) as refused:
        understand(f, {"subject": "o", "total": 100_000, **arguments}, "t")
    assert str(refused.value) == says
