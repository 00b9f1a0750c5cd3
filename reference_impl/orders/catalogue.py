"""The cases of orders: every row with its twins, at the settings that decide it."""

from __future__ import annotations

from functools import partial

from reference_impl.cases import LEVELS, MATRIX_OPS, RR, CaseFile, at_stricter_levels, case, right_id, stage

_case = partial(case, area="orders", ops=1000)

BROKEN = [
    _case("O01", "pg.advance_stored_twice", "orders_one_by_one", "fail", "O-BAL", clients=1),
    _case("O02", "pg.advance_forgotten", "orders_one_by_one", "fail", "O-BAL", clients=1),
    _case("O03", "pg.migration_by_amount", "migration_against_payments", "fail", "O-CONS"),
    _case("O04-pg", "pg.installment_count_plus_one", "installments_at_once", "fail", "O-INST"),
    _case("O04-pg-indexed", "pg.installment_count_plus_one", "installments_at_once", "fail", "L-RETRY", unique_index=True),
    _case("O05", "pg.stale_balance", "installments_against_discount", "fail", "O-DRIFT"),
    _case("O05-one-statement", "pg.lock_and_sum_in_one_statement", "installments_at_once", "fail", "O-DRIFT", "P-NOOVER"),
    _case("O06", "pg.pay_within_read_balance", "installments_at_once", "fail", "P-NOOVER"),
    _case("O07-cancel", "pg.cancel_by_look", "installments_against_cancel", "fail", "O-CANCEL"),
    _case("O07-repair", "pg.repair_without_installments", "repair_against_payments", "fail", "O-DRIFT"),
]

RIGHT_FROM = {
    "O04-pg": RR,
    "O04-pg-indexed": RR,
    "O05": RR,
    "O05-one-statement": RR,
    "O06": RR,
    "O07-cancel": RR,
}

MONGO = [
    _case("O04-mongo", "mongo.installment_count_plus_one", "installments_at_once", "fail", "O-INST"),
    _case("O04-mongo-indexed", "mongo.installment_count_plus_one", "installments_at_once", "fail", "L-RETRY", unique_index=True),
    _case("O04-mongo-transaction", "mongo.installment_count_plus_one", "installments_at_once", "pass", transaction=True),
    _case("OK-mongo-number_from_order", "mongo.number_from_order", "installments_at_once", "pass"),
    _case("OK-mongo-number_from_order-indexed", "mongo.number_from_order", "installments_at_once", "pass", unique_index=True),
]

EVERYWHERE = (
    "installments_against_discount",
    "installments_at_once",
    "installments_against_cancel",
    "repair_against_payments",
    "orders_one_by_one",
    "migration_against_payments",
)

RIGHT = [
    _case(
        right_id(variant, scenario, indexed=index, level=level),
        variant,
        scenario,
        "pass",
        unique_index=index,
        isolation=level,
        ops=MATRIX_OPS,
    )
    for variant in ("pg.balance_from_one_row", "pg.lock_order_then_sum")
    for scenario in EVERYWHERE
    for index in (False, True)
    for level in LEVELS
]

CASES = (*BROKEN, *at_stricter_levels(BROKEN, RIGHT_FROM), *MONGO, *RIGHT)


_stage = partial(stage, area="orders", ops=1000)

CASE_FILES = (
    CaseFile(
        title="Orders with an advance and installments",
        stages=(
            _stage(
                "order-advance-original",
                "original",
                "pg.advance_forgotten",
                "orders_one_by_one",
                "O-BAL",
                note="The balance expects the advance among the installments, where old orders do not have it.",
            ),
            _stage(
                "order-advance-fix",
                "published fix",
                "pg.stale_balance",
                "installments_against_discount",
                "O-DRIFT",
                "O-BAL",
                note="The right formula, computed in the application from an order that was read without a lock, and stored.",
            ),
            _stage(
                "order-advance-true",
                "true fix",
                "pg.balance_from_one_row",
                "installments_against_discount",
                note="Every change is one conditional update of the order's row; the database derives the balance.",
            ),
        ),
    ),
)
