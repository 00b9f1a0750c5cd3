"""The cases of numbering: the catalogue's rows and their twins, with and without the unique index, at each isolation level.

In N20 (``mongo.counter_without_scope_as_id``) both upserts happen inside the server, where no wire reaches: the explorer cannot
bring it about. 50 first documents raced for by 16 clients show it in 9 of 20 runs, so its cases race for 600.
"""

from __future__ import annotations

from typing import Any

from reference_impl.cases import RC, RR, SERIALIZABLE, Case, at_stricter_levels, case

DUPLICATE = ("N-UNIQ",)
ERROR = ("L-RETRY",)
INDEXED: dict[str, Any] = {"unique_index": True}
DAILY: dict[str, Any] = {
    "scenario": "period_rollover",
    "scenario_settings": {"document_type": "sale"},
    "policy": "branch-daily",
}
# More scopes than a quiet machine needs: on a busy one clients come too late for most, and it is the creates that count.
FIRSTS: dict[str, Any] = {"scenario": "first_documents", "scenario_settings": {"scopes": 1200, "pace": 0.03}, "ops": 6400}
LINGERS = "mongo.counter_in_transaction"


def _case(
    id: str, variant: str, expect: str, spoke: tuple[str, ...] = (), *, scenario: str = "concurrent_creates", **more: Any
) -> Case:
    return case(id, variant, scenario, expect, *spoke, area="numbering", **more)


def _both(row: str, variant: str, *, without: tuple[str, ...] = DUPLICATE, with_index: tuple[str, ...] = ERROR) -> list[Case]:
    """A unique index changes the class of a bug, it does not remove it."""
    store = variant.split(".", maxsplit=1)[0]
    return [
        _case(f"{row}-{store}", variant, "fail", without, settings={"unique_index": False}),
        _case(f"{row}-{store}-indexed", variant, "fail", with_index, settings={"unique_index": True}),
    ]


def _right(
    variant: str, *, scenarios: tuple[str, ...], isolations: tuple[str, ...] = (), policy: str | None = None
) -> list[Case]:
    """A correct variant is quiet in every scenario, with and without the index, at every level that is listed."""
    name = variant.replace(".", "-")
    cases = [
        _case(
            f"OK-{name}-{scenario}{'-indexed' if index else ''}",
            variant,
            "pass",
            scenario=scenario,
            settings={"unique_index": index},
            # The transaction of a client that vanished blocks its scope on MongoDB until the server gives up on it.
            scenario_settings={"vanish": 0.004} if variant == LINGERS and scenario == "creates_with_rollback" else {},
            policy=policy if scenario == "concurrent_creates" else None,
        )
        for scenario in scenarios
        for index in (False, True)
    ]
    return cases + [
        _case(f"OK-{name}-{level}", variant, "pass", settings={"isolation": level}, policy=policy) for level in isolations
    ]


JOBS = ("creates_with_voids", "posts_in_two_series", "counter_introduced")
EVERYWHERE = (
    "concurrent_creates",
    "creates_with_rollback",
    "retried_creates",
    "first_documents",
    "period_rollover",
    "padding_overflow",
    "creates_with_deletes",
)
STRICTER = (RR, SERIALIZABLE)
WITHOUT_DELETES = EVERYWHERE[:-1]
"""The highest number is no memory: whoever counts on from it gives a deleted document's number again (N43)."""

BROKEN = [
    *_both("N01", "pg.count_plus_one"),
    *_both("N01", "mongo.count_plus_one"),
    *_both("N01t", "pg.latest_text_plus_one"),
    *_both("N01t", "mongo.latest_text_plus_one"),
    _case("N01x", "mongo.count_in_transaction", "fail", DUPLICATE, note="a snapshot does not stop a second insert"),
    _case("N03-pg", "pg.latest_text_plus_one", "fail", DUPLICATE, scenario="padding_overflow", clients=1, ops=30),
    _case("N03-mongo", "mongo.latest_text_plus_one", "fail", DUPLICATE, scenario="padding_overflow", clients=1, ops=30),
    _case("N02-pg", "pg.count_plus_one", "fail", DUPLICATE, scenario="creates_with_deletes", clients=1, ops=60),
    _case("N02-mongo", "mongo.count_plus_one", "fail", DUPLICATE, scenario="creates_with_deletes", clients=1, ops=60),
    _case("N02-twin", "pg.counter_row", "pass", scenario="creates_with_deletes", clients=1, ops=60),
    *_both("N04", "pg.increment_then_refresh"),
    _case("N04-twin", "pg.increment_then_refresh_in_transaction", "pass"),
    *_both("N05", "mongo.increment_then_find"),
    *_both("N06", "pg.load_add_save"),
    *_both("N06", "mongo.load_add_save"),
    _case("N07-pg", "pg.check_next_retry_fallback", "fail", DUPLICATE, settings={"unique_index": False}),
    _case("N07-mongo", "mongo.check_next_retry_fallback", "fail", DUPLICATE, settings={"unique_index": False}),
    _case("N08-pg", "pg.check_next_retry_fallback", "fail", ("N-GAPBUDGET",), settings=INDEXED, policy="budget"),
    _case("N08-mongo", "mongo.check_next_retry_fallback", "fail", ("N-GAPBUDGET",), settings=INDEXED, policy="budget"),
    *_both("N09", "mongo.number_from_the_clock"),
    _case("N10-mongo", "mongo.check_next_retry_fallback", "fail", ("P-ONCE", "N-EXPLAINED"), scenario="retried_creates"),
    _case("N11", "mongo.index_without_scope", "fail", ERROR, scenario="many_scopes", scenario_settings={"opening": 0}),
    _case("N11-twin", "mongo.counter_document", "pass", scenario="many_scopes", settings={"unique_index": True}),
    *_both("N12", "pg.lock_last_row"),
    _case("N15", "pg.advisory_lock_max", "fail", DUPLICATE, settings={"isolation": RR}),
    _case("N15-twin", "pg.advisory_lock_max", "pass", settings={"isolation": RC}),
    _case("N15-serializable", "pg.advisory_lock_max", "pass", settings={"isolation": SERIALIZABLE}),
    _case(
        "N18",
        "pg.select_then_insert_counter",
        "fail",
        ("N-UNIQ", "N-COUNTER1"),
        scenario="first_documents",
        engine="explore",
        clients=2,
        note="at full speed found in 16 of 20 runs of 16 clients",
    ),
    _case("N20", "mongo.counter_without_scope_as_id", "fail", ("N-UNIQ", "N-COUNTER1"), **FIRSTS),
    _case("N20-twin", "mongo.counter_document", "pass", **FIRSTS),
    _case(
        "N21",
        "pg.select_then_insert_counter",
        "fail",
        ("N-UNIQ", "N-COUNTER1"),
        scenario="period_rollover",
        engine="explore",
        clients=2,
        note="a period's counter that is made on its first use",
    ),
    _case("N22", "pg.counter_row_without_retry", "fail", ERROR),
    _case("N22s", "pg.serializable_without_retry", "fail", ERROR),
    _case("N23", "pg.retry_insert_only", "fail", ERROR),
    _case("N23-mongo", "mongo.retry_insert_only", "fail", ERROR),
    _case("N25", "pg.swallowed_error", "fail", ("N-DURABLE", "N-UNIQ")),
    _case("N26", "pg.native_sequence", "fail", ("N-GAPLESS",), scenario="creates_with_rollback", policy="gapless"),
    _case("N26-twin", "pg.counter_row", "pass", scenario="creates_with_rollback", policy="gapless"),
    _case("N27", "pg.counter_on_other_connection", "fail", ("N-GAPLESS",), scenario="creates_with_rollback", policy="gapless"),
    _case("N28", "pg.serial_on_conflict", "fail", ("N-GAPBUDGET",), scenario="retried_creates", policy="budget"),
    _case("N28-twin", "pg.native_sequence_after_check", "pass", scenario="retried_creates", policy="budget"),
    _case("N29", "pg.native_sequence_cached", "fail", ("N-MONO", "N-EXPLAINED"), policy="chronological"),
    _case("N29-twin", "pg.native_sequence", "pass", policy="chronological"),
    _case("N31", "pg.period_from_the_clock", "fail", ("N-PERIOD", "N-UNIQ"), scenario="period_rollover"),
    _case("N31-mongo", "mongo.period_from_the_clock", "fail", ("N-PERIOD", "N-UNIQ"), scenario="period_rollover"),
    _case("N32", "pg.two_time_zones", "fail", ("N-PERIOD",), scenario="period_rollover"),
    _case("N32-mongo", "mongo.two_time_zones", "fail", ("N-PERIOD",), scenario="period_rollover"),
    _case("N32-daily", "pg.two_time_zones", "fail", ("N-PERIOD",), **DAILY),
    _case("N32-twin", "pg.counter_row", "pass", **DAILY),
    _case(
        "N33", "pg.striped_counter", "fail", ("N-MONO", "N-EXPLAINED"), scenario_settings={"opening": 0}, policy="chronological"
    ),
    _case(
        "N33-mongo",
        "mongo.striped_counter",
        "fail",
        ("N-MONO", "N-EXPLAINED"),
        scenario_settings={"opening": 0},
        policy="chronological",
    ),
    _case("N34", "mongo.unique_on_each_shard", "fail", DUPLICATE, note="two collections stand for two shards"),
    _case("N34-twin", "mongo.optimistic_insert_on_shards", "pass"),
    _case("N35", "mongo.unacknowledged_insert", "fail", ("N-DURABLE",)),
    _case("N38-pg", "pg.token_ignored", "fail", ("P-ONCE",), scenario="retried_creates"),
    _case("N38-mongo", "mongo.token_ignored", "fail", ("P-ONCE",), scenario="retried_creates"),
    _case("N40", "pg.share_then_update", "fail", ERROR, clients=4, ops=60),
    _case("N42", "pg.counter_starts_at_zero", "fail", DUPLICATE),
    _case("N42-mongo", "mongo.counter_starts_at_zero", "fail", DUPLICATE),
    _case("N39", "pg.counters_in_any_order", "fail", ERROR, scenario="posts_in_two_series", clients=4, ops=60),
    _case("N42-restart", "pg.counter_reset_on_start", "fail", DUPLICATE, scenario="counter_introduced"),
    _case("N46-mongo", "mongo.cleanup_renumbers", "fail", ("N-IMMUT",), scenario="cleanup_against_creates"),
    _case("N46", "pg.cleanup_renumbers", "fail", ("N-IMMUT",), scenario="cleanup_against_creates"),
    _case("N47-register", "pg.void_without_register", "fail", ("N-VOID",), scenario="creates_with_voids"),
    _case("N47-look", "pg.confirm_by_look", "fail", ("N-VOID",), scenario="reserved_numbers", ops=2000),
    _case("N47-never", "pg.reservations_never_lapse", "fail", ("N-DOC1", "N-GAPLESS"), scenario="reserved_numbers", ops=2000),
    _case("N48-register", "pg.blocks_without_register", "fail", ("N-EXPLAINED",)),
    _case("N48-read", "pg.block_read_then_moved", "fail", DUPLICATE),
    _case("N43", "pg.counter_goes_back", "fail", ("N-UNIQ", "N-IMMUT"), scenario="creates_with_deletes", clients=1, ops=100),
    _case("N43-max", "pg.advisory_lock_max", "fail", ("N-UNIQ", "N-IMMUT"), scenario="creates_with_deletes", clients=1, ops=100),
    _case("N44", "pg.two_allocators", "fail", ("N-GAPLESS",), policy="gapless"),
    _case("N44-mongo", "mongo.two_allocators", "fail", ("N-GAPLESS",), policy="gapless"),
    _case("N45", "mongo.counter_in_transaction_without_retry", "fail", ERROR),
    _case("P17-create", "pg.token_checked_first", "fail", ("P-ONCE",), scenario="retried_creates"),
    _case("P18-create", "pg.payload_not_compared", "fail", ("P-KEYMATCH",), scenario="retried_creates"),
]

RIGHT_FROM = {
    "N01-pg": SERIALIZABLE,
    "N01-pg-indexed": SERIALIZABLE,
    "N01t-pg": SERIALIZABLE,
    "N06-pg": RR,
    "N06-pg-indexed": RR,
    "N07-pg": SERIALIZABLE,
    "N12-pg": SERIALIZABLE,
    "N12-pg-indexed": SERIALIZABLE,
    "N23": None,
    "N25": None,
    "N27": None,
    "N28": None,
    "N39": None,
    "N40": None,
    "N42-restart": RR,
    "N46": None,
    "N47-look": RR,
    "N48-read": RR,
    "P17-create": None,
}

RIGHT = [
    *_right("pg.counter_row", scenarios=JOBS),
    *[
        _case(f"OK-{name}-cleanup_against_creates", name.replace("-", "."), "pass", scenario="cleanup_against_creates")
        for name in ("pg-counter_row", "mongo-counter_document")
    ],
    *_right("pg.reserved_number", scenarios=("reserved_numbers",)),
    *_right("pg.block_allocation", scenarios=(*WITHOUT_DELETES, "many_scopes"), isolations=STRICTER, policy="gapless"),
    *_right("pg.counter_row", scenarios=EVERYWHERE, isolations=STRICTER, policy="gapless"),
    *_right("pg.counter_row_one_statement", scenarios=EVERYWHERE, policy="gapless"),
    *_right("pg.increment_then_refresh_in_transaction", scenarios=EVERYWHERE, isolations=STRICTER),
    *_right("pg.native_sequence", scenarios=(*EVERYWHERE, "counter_introduced"), isolations=STRICTER),
    *[
        _case(
            f"OK-{name}-counter_introduced-{level}",
            name.replace("-", "."),
            "pass",
            scenario="counter_introduced",
            settings={"isolation": level},
        )
        for name in ("pg-counter_row", "pg-native_sequence")
        for level in STRICTER
    ],
    *_right("pg.advisory_lock_max", scenarios=WITHOUT_DELETES),
    *_right("pg.serializable_max", scenarios=WITHOUT_DELETES),
    *_right("pg.optimistic_savepoint", scenarios=WITHOUT_DELETES, isolations=STRICTER),
    *_right("mongo.counter_document", scenarios=EVERYWHERE),
    *_right("mongo.counter_in_transaction", scenarios=EVERYWHERE),
    *_right("mongo.counter_document", scenarios=("creates_with_voids", "counter_introduced")),
    *_right("mongo.optimistic_insert", scenarios=WITHOUT_DELETES),
]

CASES = (*BROKEN, *at_stricter_levels(BROKEN, RIGHT_FROM), *RIGHT)
