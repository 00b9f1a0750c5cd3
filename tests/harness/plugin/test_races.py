"""What a test does with the fixture: races of its own code, and of named scenarios."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from harness.model import UsageError, Verdict
from harness.plugin.races import Defaults, RaceFound, Races
from harness.plugin.saved import SavedSchedules
from harness.run.code_piece import Client, Seen
from harness.run.coded import REPLAYED
from harness.run.hammered import hammer
from harness.run.stores import Stores
from harness.stores.base import Database

SETUP = ["CREATE TABLE invoices (number int)"]


def create(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():
        number = connection.execute("SELECT count(*) + 1 FROM invoices").fetchone()
        connection.execute("INSERT INTO invoices VALUES (%s)", number)


def create_in_turn(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():
        connection.execute("LOCK TABLE invoices IN EXCLUSIVE MODE")
        create(connection)


RACY = [Client(connect=lambda url: psycopg.connect(url, autocommit=True), act=create)] * 2
IN_TURN = [Client(connect=lambda url: psycopg.connect(url, autocommit=True), act=create_in_turn)] * 2


def numbers_are_unique(seen: Seen) -> None:
    assert not seen.rows("SELECT 1 FROM invoices GROUP BY number HAVING count(*) > 1"), "a number was issued twice"


INVARIANTS = [numbers_are_unique]


@pytest.fixture
def races(racegate_stores: Stores, racegate_postgres_store: Any, tmp_path: Path) -> Callable[..., Races]:
    """Return what makes the fixture's object, as often as sessions follow one another."""

    def made(**defaults: Any) -> Races:
        return Races(
            "test_it.py::test_it",
            stores=racegate_stores,
            database=racegate_postgres_store.create_database,
            saved=SavedSchedules(tmp_path / "saved"),
            defaults=Defaults(**defaults),
            out=tmp_path / "runs",
        )

    return made


def test_a_race_is_found_saved_tried_first_and_forgotten_when_it_breaks_no_more(
    races: Callable[..., Races], tmp_path: Path
) -> None:
    with pytest.raises(RaceFound, match="a number was issued twice") as first:
        races().explore(setup=SETUP, clients=RACY, invariants=INVARIANTS)
    assert first.value.token
    assert "client 1" in first.value.diagram
    [file] = (tmp_path / "saved").iterdir()

    with pytest.raises(RaceFound, match="is tried first next time") as second:
        races(budget=0.001).explore(setup=SETUP, clients=RACY, invariants=INVARIANTS)
    assert second.value.token == first.value.token

    assert races().explore(setup=SETUP, clients=IN_TURN, invariants=INVARIANTS).verdict is Verdict.PASS
    assert not file.exists()


def test_a_schedule_that_is_given_first_is_the_only_one_that_is_tried(postgres_database: Database) -> None:
    from harness.run import coded

    given: Any = {"database": postgres_database, "clients": RACY, "invariants": INVARIANTS}
    token = coded.explore(**given, setup=SETUP).token

    again = coded.explore(**given, first=token)

    assert (again.coverage, again.explored, again.token, again.diverged) == (REPLAYED, 1, token, 0)
    three = coded.explore(**{**given, "clients": [RACY[0]] * 3}, first=token)
    assert three.coverage != REPLAYED


def test_a_failure_at_full_speed_is_told_as_a_rate_and_made_replayable(races: Callable[..., Races]) -> None:
    with pytest.raises(RaceFound, match=r"a number was issued twice \(fails \d+ of \d+ at full speed\)") as found:
        races(engine="stress", times=300).check(setup=SETUP, clients=RACY * 2, invariants=INVARIANTS)

    assert found.value.token
    with pytest.raises(RaceFound, match="3 of 3 broke again"):
        races().replay(found.value.token, times=3, setup=SETUP, clients=RACY * 2, invariants=INVARIANTS)


def test_what_locks_passes_at_full_speed_from_the_same_state_every_time(postgres_database: Database) -> None:
    def two_are_there(seen: Seen) -> bool:
        return bool(seen.value("SELECT count(*) FROM invoices") == 2)

    found = hammer(
        database=postgres_database, clients=IN_TURN, invariants=[numbers_are_unique, two_are_there], setup=SETUP, times=20
    )

    assert (found.verdict, found.rate) == (Verdict.PASS, "fails 0 of 20")
    found.check()


def test_a_named_scenario_is_explored_and_its_schedule_tried_first(races: Callable[..., Races], tmp_path: Path) -> None:
    named: Any = {"scenario": "concurrent_creates", "target": "reference:pg.count_plus_one", "clients": 2}

    with pytest.raises(RaceFound, match="N-UNIQ") as first:
        races().explore(**named)
    runs = len(list((tmp_path / "runs").iterdir()))
    with pytest.raises(RaceFound, match="N-UNIQ") as second:
        races().explore(**named)

    assert second.value.token == first.value.token
    [again] = sorted((tmp_path / "runs").iterdir())[runs:]
    assert not (again / "result.json").exists(), "it was replayed, not explored"
    assert races().explore(**{**named, "target": "reference:pg.counter_row"}).verdict is Verdict.PASS


def test_a_named_scenario_at_full_speed_is_made_replayable(races: Callable[..., Races]) -> None:
    with pytest.raises(RaceFound, match="N-UNIQ") as found:
        races().stress(scenario="concurrent_creates", target="reference:pg.count_plus_one", clients=4, ops=100)

    assert found.value.token


def test_what_was_not_explored_to_the_end_is_not_a_pass(races: Callable[..., Races]) -> None:
    with pytest.raises(AssertionError, match="nothing is known"):
        races(budget=0.05).explore(setup=SETUP, clients=IN_TURN * 3, invariants=INVARIANTS, most=5000)


def test_a_call_that_makes_no_sense_is_refused(races: Callable[..., Races]) -> None:
    with pytest.raises(UsageError, match="needs target"):
        races().explore(scenario="concurrent_creates", clients=2)
    with pytest.raises(UsageError, match="a number goes with a named scenario"):
        races().explore(clients=2, invariants=INVARIANTS)


def test_a_folder_that_cannot_be_written_to_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for saved in (SavedSchedules(tmp_path / "file" / "below"), SavedSchedules(None)):
        assert not saved.save("race", "rg1:x")
        assert saved.load("race") == ""
        saved.forget("race")
