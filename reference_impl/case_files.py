"""The case files: each as it was, as it was fixed, and as it is right."""

from __future__ import annotations

from typing import Any

from reference_impl.cases import CaseFile, Stage, stage


def _stage(
    id: str, name: str, variant: str, spoke: tuple[str, ...], note: str, *, scenario: str = "concurrent_creates", **more: Any
) -> Stage:
    return stage(id, name, variant, scenario, *spoke, note=note, **{"area": "numbering", **more})


SALES: dict[str, Any] = {"area": "sales", "ops": 960}

CASE_FILES = (
    CaseFile(
        title="Payment numbers on MongoDB (PAY + year + 4 digits)",
        stages=(
            _stage(
                "payment-numbers-original",
                "original",
                "mongo.count_plus_one",
                ("N-UNIQ",),
                "Counts the payments and adds one.",
            ),
            _stage(
                "payment-numbers-fix",
                "published fix",
                "mongo.check_next_retry_fallback",
                ("N-EXPLAINED", "N-FMT", "L-RETRY"),
                "Checks whether the number exists, tries the next, retries, falls back to the clock.",
                scenario_settings={"document_type": "payment"},
                policy="payments-yearly",
            ),
            _stage(
                "payment-numbers-true",
                "true fix",
                "mongo.counter_document",
                (),
                "One counter document per scope, incremented and read in one step.",
                scenario_settings={"document_type": "payment"},
                policy="payments-yearly",
            ),
        ),
    ),
    CaseFile(
        title="Invoice sequences per company and document type",
        stages=(
            _stage(
                "invoice-sequences-original",
                "original",
                "pg.count_plus_one",
                ("N-UNIQ",),
                "Counts the invoices and adds one.",
            ),
            _stage(
                "invoice-sequences-fix",
                "published fix",
                "pg.increment_then_refresh",
                ("N-UNIQ",),
                "Increments a sequences row, then reads it back; each statement commits by itself.",
            ),
            _stage(
                "invoice-sequences-true",
                "true fix",
                "pg.counter_row",
                (),
                "INSERT .. ON CONFLICT DO UPDATE .. RETURNING in the invoice's transaction.",
                policy="gapless",
            ),
        ),
    ),
    CaseFile(
        title="Gaps in the invoice numbers of a point of sale",
        stages=(
            _stage(
                "invoice-gaps-original",
                "original",
                "pg.number_before_validation",
                ("N-GAPBUDGET",),
                "The number is drawn first, outside the sale's transaction, and stays drawn when the sale fails.",
                scenario="sales_with_trouble",
                **SALES,
            ),
            _stage(
                "invoice-gaps-fix",
                "published fix",
                "pg.validate_before_transaction",
                ("S-STOCK", "N-GAPBUDGET"),
                "Stock is checked before the number is drawn, in another transaction than the sale.",
                scenario="oversell",
                **SALES,
            ),
            _stage(
                "invoice-gaps-true",
                "true fix",
                "pg.sell_in_one_transaction",
                (),
                "Stock is taken by a conditional update, the number drawn last, and all of it is one transaction.",
                scenario="sales_with_trouble",
                policy="gapless",
                **SALES,
            ),
        ),
    ),
)
