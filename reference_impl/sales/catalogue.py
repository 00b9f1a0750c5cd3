"""The cases of sales: every row with its twins, at the settings that decide it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from reference_impl.cases import LEVELS, MATRIX_OPS, RR, SERIALIZABLE, at_stricter_levels, case, right_id

_case = partial(case, area="sales", ops=960)

BROKEN = [
    _case("S01-pg", "pg.read_then_sell", "oversell", "fail", "S-STOCK"),
    _case("S01-pg-checked", "pg.read_then_sell", "oversell", "fail", "L-RETRY", stock_check=True),
    _case("S01-void", "pg.void_writes_back", "voids_at_once", "fail", "S-STOCK", "S-CREDIT"),
    _case("S01-void-twice", "pg.void_by_look", "voids_at_once", "fail", "S-STOCK", "S-CREDIT"),
    _case("S02", "pg.credit_by_sum", "credit_limit", "fail", "S-CREDIT", ops=1920, scenario_settings={"customers": 120}),
    _case("S03", "pg.validate_before_transaction", "oversell", "fail", "S-STOCK"),
    _case("S03-checked", "pg.validate_before_transaction", "oversell", "fail", "N-GAPBUDGET", stock_check=True),
    _case("S04", "pg.number_before_validation", "sales_with_trouble", "fail", "N-GAPLESS", policy="gapless"),
    _case("S04-budget", "pg.number_before_validation", "sales_with_trouble", "fail", "N-GAPBUDGET"),
    _case("S04-void", "pg.void_in_two_transactions", "voids_with_trouble", "fail", "S-STOCK"),
    _case("S05", "pg.document_then_counter", "sales_with_trouble", "fail", "N-UNIQ"),
    _case("S05-indexed", "pg.document_then_counter", "sales_with_trouble", "fail", "L-RETRY", unique_index=True),
    _case("S06", "pg.number_early", "oversell", "pass", note="right, and slow where the sale takes its time: see the docs"),
]

RIGHT_FROM = {
    "S01-pg": RR,
    "S01-pg-checked": RR,
    "S01-void": RR,
    "S01-void-twice": RR,
    "S02": SERIALIZABLE,
    "S03-checked": None,
    "S04": None,
    "S04-void": None,
    "S05": None,
    "S05-indexed": None,
}

MONGO = [
    _case("S01-mongo", "mongo.read_then_sell", "oversell", "fail", "S-STOCK"),
    _case("S01-mongo-transaction", "mongo.read_then_sell", "oversell", "pass", transaction=True),
    _case("OK-mongo-take_from_stock-oversell", "mongo.take_from_stock", "oversell", "pass", policy="gapless"),
    _case("OK-mongo-take_from_stock-oversell-indexed", "mongo.take_from_stock", "oversell", "pass", unique_index=True),
]

EVERYWHERE: Mapping[str, Mapping[str, Any]] = {
    "oversell": {"ops": MATRIX_OPS},
    "credit_limit": {"ops": MATRIX_OPS},
    "voids_at_once": {"ops": MATRIX_OPS, "scenario_settings": {"sales": MATRIX_OPS // 4}},
    "sales_with_trouble": {},
    "voids_with_trouble": {},
}
"""Every scenario, and how much a run of the matrix does in it; the bugs of a cut connection need the whole size."""

RIGHT = [
    _case(
        right_id("pg.sell_in_one_transaction", scenario, indexed=index, level=level),
        "pg.sell_in_one_transaction",
        scenario,
        "pass",
        unique_index=index,
        isolation=level,
        policy="gapless",
        **size,
    )
    for scenario, size in EVERYWHERE.items()
    for index in (False, True)
    for level in LEVELS
]

CASES = (*BROKEN, *at_stricter_levels(BROKEN, RIGHT_FROM), *MONGO, *RIGHT)
