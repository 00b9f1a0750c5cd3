"""The variants of orders by name."""

from __future__ import annotations

from typing import Any

from reference_impl.orders import broken_postgres as wrong
from reference_impl.orders import mongo
from reference_impl.orders.postgres import BalanceFromOneRow
from reference_impl.orders.postgres_locking import LockOrderThenSum
from reference_impl.orders.requests import OPERATIONS
from reference_impl.variants import ISOLATION, TRANSACTION, UNIQUE_INDEX, variant

POSTGRES = {"isolation": ISOLATION, "unique_index": UNIQUE_INDEX}

ON_POSTGRES: tuple[tuple[str, type[BalanceFromOneRow], dict[str, Any]], ...] = (
    ("balance_from_one_row", BalanceFromOneRow, {}),
    ("lock_order_then_sum", LockOrderThenSum, {}),
    ("advance_stored_twice", wrong.AdvanceStoredTwice, {}),
    ("advance_forgotten", wrong.AdvanceForgotten, {}),
    ("migration_by_amount", wrong.MigrationByAmount, {}),
    ("installment_count_plus_one", wrong.CountPlusOne, {}),
    ("stale_balance", wrong.StaleBalance, {}),
    ("pay_within_read_balance", wrong.PayWithinReadBalance, {}),
    ("lock_and_sum_in_one_statement", wrong.LockAndSumInOneStatement, {}),
    ("cancel_by_look", wrong.CancelByLook, {}),
    ("repair_without_installments", wrong.RepairWithoutInstallments, {}),
)

MONGO = {"unique_index": UNIQUE_INDEX, "transaction": TRANSACTION}

ON_MONGO: tuple[tuple[str, type[mongo.NumberFromOrder], dict[str, Any]], ...] = (
    ("number_from_order", mongo.NumberFromOrder, {}),
    ("installment_count_plus_one", mongo.CountPlusOne, {"transaction": False}),
)

for _name, _implementation, _defaults in ON_POSTGRES:
    variant(f"pg.{_name}", operations=frozenset(OPERATIONS), settings=POSTGRES, **_defaults)(_implementation)
for _name, _on_mongo, _defaults in ON_MONGO:
    variant(f"mongo.{_name}", operations=mongo.OPERATIONS, settings=MONGO, **_defaults)(_on_mongo)
