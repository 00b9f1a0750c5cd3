"""The cases of term payments, their keys and their outbox: every row with its twins, at the settings that decide it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from reference_impl.cases import (
    LEVELS,
    MATRIX_OPS,
    RC,
    RR,
    SERIALIZABLE,
    Case,
    CaseFile,
    at_stricter_levels,
    case,
    right_id,
    stage,
)

_case = partial(case, area="payments", ops=1000)

TWICE: dict[str, Any] = {"ops": 2000, "scenario_settings": {"payments": 1000}}
"""Where the two of a pair lose step on a busy machine, the usual number of payments may bring them together five times only."""

PG_BROKEN = [
    _case("P01", "pg.lock_without_transaction", "double_approval", "fail", "P-ONCE", "P-CONS"),
    _case("P01-twin", "pg.lock_without_transaction", "double_approval", "pass", transaction=True),
    _case("P02-pg", "pg.exists_then_insert", "double_submit", "fail", "P-PEND1", **TWICE),
    _case("P02-pg-indexed", "pg.exists_then_insert", "double_submit", "fail", "L-RETRY", unique_index=True, **TWICE),
    _case("P02-locked-repeatable_read", "pg.lock_the_term", "double_submit", "fail", "P-PEND1", isolation=RR),
    _case("P02-locked-twin", "pg.lock_the_term", "double_submit", "pass", isolation=RR, unique_index=True),
    _case("P04-pg", "pg.guard_by_json_number", "double_submit", "fail", "P-PEND1"),
    _case("P05", "pg.guard_with_null_term", "submit_without_term", "fail", "P-PEND1"),
    _case("P06-pg", "pg.approve_without_recheck", "two_pendings_of_one_term", "fail", "P-NOOVER"),
    _case("P07", "pg.absolute_balance", "refund_against_approval", "fail", "P-CONS"),
    _case("P10-pg", "pg.blind_status", "approve_against_reject", "fail", "P-TERM1"),
    _case("P11-pg", "pg.blind_status", "approve_against_cancel", "fail", "P-TERM1", "P-CONS"),
    _case("P14", "pg.refund_by_sum", "refund_twice", "fail", "P-REFUND"),
    _case("P15", "pg.resolution_row", "approve_against_cancel", "fail", "P-TERM1"),
    _case("P15-twin", "pg.resolution_row", "approve_against_cancel", "pass", unique_index=True),
    _case("P16-pg", "pg.webhook_without_dedup", "redelivered_webhook", "fail", "P-ONCE"),
    _case("P17", "pg.key_inserted_last", "key_reuse", "fail", "P-ONCE"),
    _case("P17-indexed", "pg.key_inserted_last", "key_reuse", "fail", "L-RETRY", unique_index=True),
    _case("P18", "pg.key_without_fingerprint", "key_reuse", "fail", "P-KEYMATCH"),
    _case("P19", "pg.key_is_all_that_is_known", "key_expiry", "fail", "P-ONCE"),
    _case("P19-twin", "pg.key_is_all_that_is_known", "key_expiry", "pass", unique_index=True),
    _case("P20", "pg.key_lock_taken_over", "key_expiry", "fail", "P-ONCE"),
    _case("P20-twin", "pg.key_lock_taken_over", "key_expiry", "pass", unique_index=True),
    _case("P21", "pg.key_committed_first", "key_reuse", "fail", "P-ONCE"),
    _case("P22", "pg.key_stores_any_failure", "key_reuse", "fail", "P-ONCE"),
    _case("P23", "pg.float_balance", "accounts_and_small_payments", "fail", "P-EXACT", clients=1),
    _case("P24", "pg.rounded_split", "accounts_and_small_payments", "fail", "P-SPLIT", clients=1),
    _case("P25", "pg.validates_account_balance", "overpayment_across_terms", "fail", "P-NOOVER"),
    _case("P26", "pg.side_effect_first", "audit_and_outbox_delivery", "fail", "P-ONCE", "A-MATCH"),
    _case("A01", "pg.audit_afterwards", "audit_and_outbox_delivery", "fail", "A-MATCH", area="audit", ops=3000),
    _case("A01-before", "pg.side_effect_first", "audit_and_outbox_delivery", "fail", "A-MATCH", area="audit"),
    _case("A02", "pg.poll_by_cursor", "audit_and_outbox_delivery", "fail", "A-DELIVER", area="audit", ops=2000),
    _case("A03", "pg.consumer_without_dedup", "audit_and_outbox_delivery", "fail", "P-ONCE", area="audit"),
]

PG_RIGHT_FROM = {
    "P02-pg": SERIALIZABLE,
    "P02-pg-indexed": SERIALIZABLE,
    "P06-pg": None,
    "P07": RR,
    "P10-pg": RR,
    "P11-pg": RR,
    "P14": RR,
    "P15": RR,
    "P16-pg": None,
    "P17": RR,
    "P17-indexed": RR,
    "P20": None,
    "P21": None,
    "P22": None,
    "P26": None,
}

CUTTING = ("key_reuse", "audit_and_outbox_delivery")
"""Scenarios that cut clients off. MongoDB keeps a cut-off transaction for seconds, so few are cut there."""

FEW = {"vanish": 0.01}
TOLD: dict[str, Any] = {"area": "audit", "scenario_settings": FEW}

MONGO_BROKEN = [
    _case("P01-mongo", "mongo.blind_status", "double_approval", "fail", "P-ONCE", "P-CONS"),
    _case("P01-mongo-twin", "mongo.blind_status", "double_approval", "pass", transaction=True),
    _case("P02-mongo", "mongo.guard_then_insert", "double_submit", "fail", "P-PEND1", transaction=False, **TWICE),
    _case(
        "P02-mongo-indexed",
        "mongo.guard_then_insert",
        "double_submit",
        "fail",
        "L-RETRY",
        transaction=False,
        unique_index=True,
        **TWICE,
    ),
    _case("P27", "mongo.guard_then_insert", "double_submit", "fail", "P-PEND1", note="a snapshot does not stop a second insert"),
    _case("P27-twin", "mongo.guard_then_insert", "double_submit", "pass", unique_index=True),
    _case("P04-mongo", "mongo.guard_by_json_number", "double_submit", "fail", "P-PEND1"),
    _case("P06-mongo", "mongo.approve_without_recheck", "two_pendings_of_one_term", "fail", "P-NOOVER"),
    _case("P09", "mongo.replace_document", "refund_against_approval", "fail", "P-CONS"),
    _case("P09-twin", "mongo.replace_document", "refund_against_approval", "pass", transaction=True),
    _case("P10-mongo", "mongo.blind_status", "approve_against_reject", "fail", "P-TERM1"),
    _case("P10-mongo-twin", "mongo.blind_status", "approve_against_reject", "pass", transaction=True),
    _case("P11-mongo", "mongo.blind_status", "approve_against_cancel", "fail", "P-TERM1", "P-CONS"),
    _case("P15-mongo", "mongo.resolution_document", "approve_against_cancel", "fail", "P-TERM1"),
    _case("P15-mongo-twin", "mongo.resolution_document", "approve_against_cancel", "pass", unique_index=True),
    _case("P16-mongo", "mongo.webhook_without_dedup", "redelivered_webhook", "fail", "P-ONCE"),
    _case("P17-mongo", "mongo.token_looked_up_first", "key_reuse", "fail", "P-ONCE", scenario_settings=FEW),
    _case("P18-mongo", "mongo.fingerprint_ignored", "key_reuse", "fail", "P-KEYMATCH", scenario_settings=FEW),
    _case("P19-mongo", "mongo.forgotten_with_key", "key_expiry", "fail", "P-ONCE"),
    _case("P20-mongo", "mongo.key_taken_over", "key_expiry", "fail", "P-ONCE"),
    _case("P21-mongo", "mongo.key_committed_first", "key_reuse", "fail", "P-ONCE", ops=3000, scenario_settings=FEW),
    _case("P22-mongo", "mongo.key_stores_any_failure", "key_reuse", "fail", "P-ONCE", scenario_settings=FEW),
    _case("P24-mongo", "mongo.rounded_split", "accounts_and_small_payments", "fail", "P-SPLIT", clients=1),
    _case("P25-mongo", "mongo.validates_account_balance", "overpayment_across_terms", "fail", "P-NOOVER"),
    _case(
        "P26-mongo", "mongo.side_effect_first", "audit_and_outbox_delivery", "fail", "P-ONCE", "A-MATCH", scenario_settings=FEW
    ),
    _case("A01-mongo", "mongo.audit_afterwards", "audit_and_outbox_delivery", "fail", "A-MATCH", ops=4000, **TOLD),
    _case("A01-mongo-before", "mongo.audit_without_session", "audit_and_outbox_delivery", "fail", "A-MATCH", **TOLD),
    _case("A03-mongo", "mongo.consumer_without_dedup", "audit_and_outbox_delivery", "fail", "P-ONCE", **TOLD),
]

EVERYWHERE = (
    "double_submit",
    "submit_without_term",
    "double_approval",
    "approve_against_reject",
    "approve_against_cancel",
    "two_pendings_of_one_term",
    "overpayment_across_terms",
    "refund_twice",
    "refund_against_approval",
    "redelivered_webhook",
    "accounts_and_small_payments",
    "key_reuse",
    "key_expiry",
    "audit_and_outbox_delivery",
)


FOUGHT_OVER: Mapping[str, Any] = {"payments": MATRIX_OPS // 2}
"""Payments of a run of the matrix: each is met by two calls or more."""

ENDLESS = ("overpayment_across_terms", "accounts_and_small_payments", "key_expiry")
"""Scenarios that run on until the operations are used up."""


def _right(variant: str, *, indexed: tuple[bool, ...] = (False, True), levels: tuple[str, ...] = (RC,)) -> list[Case]:
    """A correct variant is quiet in every scenario, at these settings."""
    return [
        _case(
            right_id(variant, scenario, indexed=index, level=level),
            variant,
            scenario,
            "pass",
            area="audit" if scenario == "audit_and_outbox_delivery" else "payments",
            unique_index=index,
            **({"isolation": level} if variant.startswith("pg.") else {}),
            **_size(variant, scenario),
        )
        for scenario in EVERYWHERE
        for index in indexed
        for level in levels
    ]


def _size(variant: str, scenario: str) -> Mapping[str, Any]:
    """Return how much a run of the matrix does; the bugs of a cut connection need the whole size."""
    if scenario in CUTTING:
        return {"scenario_settings": FEW} if variant.startswith("mongo.") else {}
    return {"ops": MATRIX_OPS, "scenario_settings": {} if scenario in ENDLESS else FOUGHT_OVER}


PG_RIGHT = [
    *_right("pg.approve_in_one_transaction", levels=LEVELS),
    *_right("pg.lock_the_term"),
    *_right("pg.lock_the_term", indexed=(True,), levels=(RR, SERIALIZABLE)),
]

MONGO_RIGHT = _right("mongo.approve_in_transaction")

CASES = (*PG_BROKEN, *at_stricter_levels(PG_BROKEN, PG_RIGHT_FROM), *MONGO_BROKEN, *PG_RIGHT, *MONGO_RIGHT)


_stage = partial(stage, area="payments", ops=1000)

CASE_FILES = (
    CaseFile(
        title="Term payments that await approval",
        stages=(
            _stage(
                "term-payments-original",
                "original",
                "pg.approve_without_recheck",
                "two_pendings_of_one_term",
                "P-NOOVER",
                "P-PEND1",
                note="Two payments for one term await approval; both are approved.",
            ),
            _stage(
                "term-payments-fix",
                "published fix",
                "pg.lock_without_transaction",
                "double_approval",
                "P-ONCE",
                "P-CONS",
                note="A guard before the insert, and lockForUpdate() without a transaction: the lock ends with its statement.",
            ),
            _stage(
                "term-payments-true",
                "true fix",
                "pg.approve_in_one_transaction",
                "double_approval",
                note="Conditional updates in one transaction; what awaits approval is kept on the term.",
            ),
        ),
    ),
)
