"""The variants of sales by name."""

from __future__ import annotations

from typing import Any

from reference_impl.sales import broken_postgres as wrong
from reference_impl.sales import mongo
from reference_impl.sales.postgres import SellInOneTransaction
from reference_impl.sales.requests import OPERATIONS
from reference_impl.variants import ISOLATION, TRANSACTION, UNIQUE_INDEX, Setting, variant

STOCK_CHECK = Setting(default=False, help="CHECK (quantity >= 0) as second line of defence", choices=(True, False))
WORK = Setting(default=0, help="milliseconds that a sale computes something while it holds its locks; never a call to elsewhere")

POSTGRES = {"isolation": ISOLATION, "unique_index": UNIQUE_INDEX, "stock_check": STOCK_CHECK, "work_ms": WORK}

ON_POSTGRES: tuple[tuple[str, type[SellInOneTransaction], dict[str, Any]], ...] = (
    ("sell_in_one_transaction", SellInOneTransaction, {}),
    ("read_then_sell", wrong.ReadThenSell, {}),
    ("credit_by_sum", wrong.CreditBySum, {}),
    ("void_writes_back", wrong.VoidWritesBack, {}),
    ("void_by_look", wrong.VoidByLook, {}),
    ("void_in_two_transactions", wrong.VoidInTwoTransactions, {}),
    ("number_before_validation", wrong.NumberBeforeValidation, {}),
    ("validate_before_transaction", wrong.ValidateBeforeTransaction, {}),
    ("document_then_counter", wrong.DocumentThenCounter, {}),
    ("number_early", wrong.NumberEarly, {}),
)

MONGO = {"unique_index": UNIQUE_INDEX, "transaction": TRANSACTION}

ON_MONGO: tuple[tuple[str, type[mongo.TakeFromStock], dict[str, Any]], ...] = (
    ("take_from_stock", mongo.TakeFromStock, {}),
    ("read_then_sell", mongo.ReadThenSell, {"transaction": False}),
    ("document_then_counter", mongo.DocumentThenCounter, {}),
)

for _name, _implementation, _defaults in ON_POSTGRES:
    variant(f"pg.{_name}", operations=frozenset(OPERATIONS), settings=POSTGRES, **_defaults)(_implementation)
for _name, _on_mongo, _defaults in ON_MONGO:
    variant(f"mongo.{_name}", operations=mongo.OPERATIONS, settings=MONGO, **_defaults)(_on_mongo)
