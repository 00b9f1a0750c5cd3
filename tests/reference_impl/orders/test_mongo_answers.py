"""What the books on MongoDB say of an order is what they say of it on PostgreSQL."""

from __future__ import annotations

import pytest

from harness.model import Outcome
from tests.reference_impl.stepping import play


@pytest.mark.parametrize("variant", ["pg.balance_from_one_row", "mongo.number_from_order"])
def test_an_order_of_which_nothing_is_due_is_paid(request: pytest.FixtureRequest, variant: str) -> None:
    database = request.getfixturevalue("postgres_database" if variant.startswith("pg.") else "mongo_database")
    with play(variant, database) as stage:
        a = stage.actor()
        for order, advance in (("owes", 100), ("pays", 100), ("paid in advance", 1000)):
            a.does("open_order", order, subject=order, total=1000, advance=advance)
        assert a.does("pay_installment", "part", subject="owes", amount=899).outcome is Outcome.OK
        assert a.does("pay_installment", "all", subject="pays", amount=900).outcome is Outcome.OK
        status = stage.books().table("orders").select("id", "status").rows()
        assert dict(status) == {"owes": "open", "pays": "paid", "paid in advance": "paid"}
        more = a.does("pay_installment", "more", subject="pays", amount=1)
        assert more.failure is not None
        assert (more.failure.code, more.failure.refusal) == ("exceeds_balance", True)
