"""The cases of servers that die: what a client was told is still true afterwards, or it is not.

Of S04 and S05 the cases in which the server dies are here; those in which clients do are in the catalogue of sales.
"""

from __future__ import annotations

from typing import Any

from reference_impl.cases import Case, case

CRASH = "creates_through_a_crash"
PRIMARY = "creates_while_the_primary_dies"
LAG = "creates_with_a_lagging_secondary"
SALES = "sales_through_a_crash"
AT_NUMBER = {"crash_at": "number_taken"}
AT_DOCUMENT = {"crash_at": "document_committed", "crash_after": 30}
ONE_CLIENT: dict[str, Any] = {"clients": 1, "ops": 100, "note": "right, as long as there is one client and nobody dies"}
LOST = ("N-UNIQ", "N-DURABLE")


def _case(id: str, variant: str, scenario: str, expect: str, spoke: tuple[str, ...] = (), **more: Any) -> Case:
    return case(id, variant, scenario, expect, *spoke, area="durability", **{"ops": 800, **more})


CASES = (
    _case("N36", "mongo.counter_document", PRIMARY, "fail", ("N-UNIQ",), settings={"write_concern": "1"}),
    _case("N36-majority", "mongo.counter_document", PRIMARY, "pass"),
    _case("N36-transaction", "mongo.counter_in_transaction", PRIMARY, "pass", ops=400, policy="gapless"),
    _case(
        "N36-paused",
        "mongo.counter_document",
        PRIMARY,
        "fail",
        ("N-UNIQ",),
        settings={"write_concern": "1"},
        scenario_settings={"how": "pause_primary"},
    ),
    _case("N36-paused-majority", "mongo.counter_document", PRIMARY, "pass", scenario_settings={"how": "pause_primary"}),
    _case("N36-stepped-down", "mongo.counter_document", PRIMARY, "pass", scenario_settings={"how": "step_down"}),
    _case("N37", "mongo.count_on_secondary", LAG, "fail", ("N-UNIQ",), clients=1, ops=120),
    _case(
        "N37-indexed", "mongo.count_on_secondary", LAG, "fail", ("L-RETRY",), clients=1, ops=120, settings={"unique_index": True}
    ),
    _case("N37-twin", "mongo.count_plus_one", LAG, "pass", clients=1, ops=120, note="right, as long as there is one client"),
    _case("N37-counter", "mongo.counter_document", LAG, "pass", ops=400),
    _case("CRASH-pg", "pg.counter_row", CRASH, "pass", policy="gapless"),
    _case("CRASH-pg-asynchronous", "pg.asynchronous_commit", CRASH, "fail", LOST),
    _case(
        "S04-crash",
        "pg.counter_on_other_connection",
        CRASH,
        "fail",
        ("N-GAPLESS",),
        policy="gapless",
        scenario_settings=AT_NUMBER,
        note="the server dies between number and document",
    ),
    _case("S04-crash-twin", "pg.counter_row", CRASH, "pass", policy="gapless", scenario_settings=AT_NUMBER),
    _case("S04-crash-commit", "pg.counter_row", CRASH, "pass", policy="gapless", scenario_settings={"crash_at": "before_commit"}),
    _case(
        "S04-crash-mongo",
        "mongo.counter_document",
        CRASH,
        "fail",
        ("N-GAPLESS",),
        policy="gapless",
        scenario_settings=AT_NUMBER,
        note="the server dies between number and document",
    ),
    _case(
        "S04-crash-mongo-twin",
        "mongo.counter_in_transaction",
        CRASH,
        "pass",
        ops=400,
        policy="gapless",
        scenario_settings=AT_NUMBER,
    ),
    _case("CRASH-mongo", "mongo.counter_document", CRASH, "pass"),
    _case("CRASH-mongo-unjournaled", "mongo.counter_document", CRASH, "fail", LOST, settings={"write_concern": "1"}),
    _case("S05-crash", "pg.document_then_counter", SALES, "fail", ("N-UNIQ",), scenario_settings=AT_DOCUMENT, **ONE_CLIENT),
    _case(
        "S05-crash-indexed",
        "pg.document_then_counter",
        SALES,
        "fail",
        ("L-RETRY", "L-PROGRESS"),
        settings={"unique_index": True},
        scenario_settings=AT_DOCUMENT,
        **ONE_CLIENT,
    ),
    _case("S05-crash-twin", "pg.sell_in_one_transaction", SALES, "pass", policy="gapless"),
    _case(
        "S05-crash-commit",
        "pg.sell_in_one_transaction",
        SALES,
        "pass",
        policy="gapless",
        scenario_settings={"crash_at": "before_commit"},
    ),
    _case(
        "S05-crash-mongo", "mongo.document_then_counter", SALES, "fail", ("N-UNIQ",), scenario_settings=AT_DOCUMENT, **ONE_CLIENT
    ),
    _case("S05-crash-mongo-twin", "mongo.take_from_stock", SALES, "pass", ops=300, policy="gapless"),
)
