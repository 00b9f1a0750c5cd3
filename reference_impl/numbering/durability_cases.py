"""The cases of servers that die: what a client was told is still true afterwards, or it is not.

S04 and S05 with clients that die are in the catalogue of sales.
"""

from __future__ import annotations

from typing import Any

from reference_impl.cases import Case, case

CRASH = "creates_through_a_crash"
PRIMARY = "creates_while_the_primary_dies"
LAG = "creates_with_a_lagging_secondary"
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
        note="the server dies between number and document",
    ),
    _case("CRASH-mongo", "mongo.counter_document", CRASH, "pass"),
)
