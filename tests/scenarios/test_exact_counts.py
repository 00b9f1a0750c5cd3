"""Scenarios whose outcome is known to the last operation, run at full speed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from harness.model import Verdict
from harness.recording.loader import load
from harness.run.execute import execute
from harness.run.request import build_request
from harness.run.result import RunResult
from harness.run.stores import Stores
from harness.stores import Store, StoreOptions


def run(store: Store, out: Path, scenario: str, target: str, **more: Any) -> tuple[RunResult, pl.DataFrame]:
    """Run a scenario and return its result and what the clients saw, without the opening scene."""
    request = build_request(scenario=scenario, target=f"reference:{target}", clients=8, processes=2, seed=1, out=out, **more)
    shared = Stores({}, StoreOptions())
    shared._open[store.kind] = store
    result = execute(request, shared)
    assert result.folder is not None
    history, _ = load(sorted((result.folder / "history").glob("*.jsonl")))
    return result, history.operations.filter(pl.col("client") >= 0)


def counts(operations: pl.DataFrame) -> Counter[str]:
    return Counter(operations["outcome"].to_list())


@pytest.mark.parametrize("variant", ["pg.approve_in_one_transaction", "pg.lock_the_term"])
def test_of_200_payments_each_approved_twice_at_once_200_are_approved_and_200_refused(
    postgres_store: Store, tmp_path: Path, variant: str
) -> None:
    result, seen = run(postgres_store, tmp_path, "double_approval", variant, ops=400, chosen={"payments": 200})
    assert result.verdict is Verdict.PASS
    assert counts(seen) == {"ok": 200, "fail": 200}
    assert set(seen.filter(pl.col("outcome") == "fail")["code"]) == {"not_awaiting_approval"}
    per_payment = seen.filter(pl.col("outcome") == "ok").group_by("subject").len()
    assert (per_payment.height, per_payment["len"].max()) == (200, 1)
    assert result.folder is not None
    terms = pl.read_parquet(result.folder / "books" / "terms.parquet")
    payments = pl.read_parquet(result.folder / "books" / "payments.parquet")
    paid = terms.join(payments, left_on="id", right_on="term", suffix="_paid")
    assert paid.height == 200
    assert (paid["balance"] == paid["opening"] - paid["amount"]).all()


def test_of_100_payments_each_refunded_twice_at_once_100_are_refunded(postgres_store: Store, tmp_path: Path) -> None:
    result, seen = run(
        postgres_store, tmp_path, "refund_twice", "pg.approve_in_one_transaction", ops=200, chosen={"payments": 100}
    )
    assert result.verdict is Verdict.PASS
    assert counts(seen) == {"ok": 100, "fail": 100}
    assert set(seen.filter(pl.col("outcome") == "fail")["code"]) == {"exceeds_captured"}


def test_every_redelivery_is_answered_ok_and_every_event_takes_effect_once(postgres_store: Store, tmp_path: Path) -> None:
    result, seen = run(
        postgres_store, tmp_path, "redelivered_webhook", "pg.approve_in_one_transaction", ops=400, chosen={"payments": 100}
    )
    assert result.verdict is Verdict.PASS
    assert set(counts(seen)) == {"ok"}
    assert result.folder is not None
    audit = pl.read_parquet(result.folder / "books" / "audit.parquet")
    assert audit.filter(pl.col("action") == "webhook").height == 100


def test_of_80_sales_each_voided_twice_at_once_80_are_void_and_their_credit_is_free_again(
    postgres_store: Store, tmp_path: Path
) -> None:
    result, seen = run(
        postgres_store, tmp_path, "voids_at_once", "pg.sell_in_one_transaction", ops=320, chosen={"sales": 80}, policy="gapless"
    )
    assert result.verdict is Verdict.PASS
    assert counts(seen.filter(pl.col("f") == "void_sale")) == {"ok": 80, "fail": 80}
    assert counts(seen.filter(pl.col("f") == "sell")) == {"ok": 160}
    assert set(seen.filter(pl.col("outcome") == "fail")["code"]) == {"sale_void"}
    assert result.folder is not None
    documents = pl.read_parquet(result.folder / "books" / "documents.parquet")
    assert sorted(documents.group_by("status").len().rows()) == [("issued", 160), ("void", 80)]
    assert set(documents.filter(pl.col("status") == "void")["number"]) == {1}
    customers = pl.read_parquet(result.folder / "books" / "customers.parquet")
    assert (customers["open_amount"] == customers["limit"]).all()


def test_of_3_pieces_that_8_clients_want_3_are_sold(postgres_store: Store, tmp_path: Path) -> None:
    result, seen = run(
        postgres_store, tmp_path, "oversell", "pg.sell_in_one_transaction", ops=400, chosen={"items": 40}, policy="gapless"
    )
    assert result.verdict is Verdict.PASS
    assert counts(seen) == {"ok": 120, "fail": 200}
    assert sorted(seen["number"].drop_nulls()) == list(range(1, 121))


def test_of_two_installments_that_fit_once_one_is_paid(postgres_store: Store, tmp_path: Path) -> None:
    result, seen = run(
        postgres_store, tmp_path, "installments_at_once", "pg.balance_from_one_row", ops=400, chosen={"orders": 60}
    )
    assert result.verdict is Verdict.PASS
    assert counts(seen) == {"ok": 180, "fail": 60}


def test_of_50_payments_on_mongodb_each_approved_twice_at_once_50_are_approved(mongo_store: Store, tmp_path: Path) -> None:
    result, seen = run(mongo_store, tmp_path, "double_approval", "mongo.approve_in_transaction", ops=100, chosen={"payments": 50})
    assert result.verdict is Verdict.PASS
    assert counts(seen) == {"ok": 50, "fail": 50}
