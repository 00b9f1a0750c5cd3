"""Programs that nobody wrote find the catalogue's bugs, shrink to its interleavings, and leave correct variants alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.model import UsageError, Verdict
from harness.plugin.races import Defaults, RaceFound, Races
from harness.plugin.saved import SavedSchedules
from harness.run.explored import explore
from harness.run.program_search import ProgramFound, ProgramsPassed, search_programs, world_for
from harness.run.programs import World
from harness.run.registry import scenarios
from harness.run.request import build_request
from harness.run.stores import Stores

RIGHT = {
    "numbering_program": "pg.counter_row",
    "payments_program": "pg.approve_in_one_transaction",
    "orders_program": "pg.balance_from_one_row",
    "sales_program": "pg.sell_in_one_transaction",
}


def found(target: str, stores: Stores, out: Path, **more: Any) -> ProgramFound | ProgramsPassed:
    return search_programs(f"reference:{target}", stores, out=out, **more)


@pytest.mark.parametrize("name", [s.name for s in scenarios().values() if isinstance(s, World)])
def test_everything_on_the_menu_can_be_done_on_a_correct_target_and_breaks_nothing(
    racegate_stores: Stores, tmp_path: Path, name: str
) -> None:
    world = scenarios()[name]
    assert isinstance(world, World)
    text = " | ".join(" ".join(list(world.menu)[n::2]) for n in (0, 1))
    request = build_request(
        scenario=name, target=f"reference:{RIGHT[name]}", chosen={"program": text}, clients=2, out=tmp_path, engine="explore"
    )

    result = explore(request, racegate_stores, operations=len(world.menu), most=3)

    assert result.verdict is Verdict.PASS, result.findings
    assert sum(result.operations.values()) == len(world.menu)


def test_a_general_program_finds_a_race_and_shrinks_to_two_clients_with_one_operation_each(
    racegate_stores: Stores, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"

    first = found("pg.count_plus_one", racegate_stores, tmp_path, database=kept)

    assert isinstance(first, ProgramFound)
    assert (str(first.plan), first.trial.invariant) == ("create:c0 | create:c0", "N-UNIQ")
    assert first.first.size >= first.plan.size
    again = found("pg.count_plus_one", racegate_stores, tmp_path, database=kept, drawn_from=99)
    assert isinstance(again, ProgramFound)
    assert again.plan == first.plan
    assert again.first == first.plan, "the smallest program is tried first next time"


def test_a_correct_variant_is_left_alone_whatever_is_drawn(racegate_stores: Stores, tmp_path: Path) -> None:
    seen = found("pg.counter_row", racegate_stores, tmp_path, examples=12, most=6)

    assert isinstance(seen, ProgramsPassed)
    assert seen.tried >= 8
    assert seen.times > seen.tried


def test_at_full_speed_the_result_is_a_rate(racegate_stores: Stores, tmp_path: Path) -> None:
    seen = found(
        "pg.increment_then_refresh", racegate_stores, tmp_path, engine="stress", clients=2, operations=2, examples=60, most=30
    )

    assert isinstance(seen, ProgramFound)
    assert seen.trial.times == 100
    assert seen.trial.rate == f"fails {seen.trial.failed} of 100"
    assert seen.trial.invariant == "N-UNIQ"
    assert len(seen.plan.clients) == 2


def test_a_test_that_fails_shows_the_program_its_interleaving_and_the_token(racegate_stores: Stores, tmp_path: Path) -> None:
    races = Races(
        "test_it",
        stores=racegate_stores,
        database=racegate_stores.get("postgres").create_database,
        saved=SavedSchedules(tmp_path / "saved"),
        defaults=Defaults(),
        out=tmp_path / "runs",
    )

    with pytest.raises(RaceFound, match=r"N-UNIQ: .*\(program: create:(c0|new) \| create:\1\)") as told:
        races.programs(target="reference:pg.load_add_save")

    assert "client 1" in told.value.diagram
    with pytest.raises(RaceFound, match="2 of 2 broke again"):
        races.replay(told.value.token, times=2)


def test_a_world_is_found_by_what_the_target_offers() -> None:
    assert world_for("reference:pg.blind_status").name == "payments_program"
    assert world_for("reference:mongo.counter_document").name == "numbering_program"
    with pytest.raises(UsageError, match="no world is called 'number_program'"):
        world_for("reference:pg.counter_row", "number_program")
    with pytest.raises(UsageError, match="fits no world"):
        world_for("reference:pg.counter_row", "sales_program")
