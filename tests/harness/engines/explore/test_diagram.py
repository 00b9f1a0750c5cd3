"""Interleavings as lanes, on values."""

from __future__ import annotations

from harness.engines.explore.diagram import lanes, rows_of
from harness.engines.explore.footprints import NOTHING, Footprint
from harness.engines.explore.play import Row, Run
from harness.wire.base import Result, Step

COMMIT = Footprint(publishes=True, bare=True)


def row(client: int, text: str, *parameters: str, footprint: Footprint = NOTHING, result: str = "", **more: object) -> Row:
    step = Step(connection=client, index=0, text=text, fingerprint=text, parameters=parameters)
    return Row(client=client, step=step, footprint=footprint, result=Result(tag=result), **more)  # type: ignore[arg-type]


def drawn(*rows: Row, sentence: str = "") -> list[str]:
    return lanes(rows_of(Run(rows=list(rows))), clients=2, sentence=sentence).splitlines()


def test_each_client_has_a_lane_and_each_step_a_row_with_what_came_back_below() -> None:
    lines = drawn(row(0, "SELECT 1", result="SELECT 1"), row(1, "SELECT 2"), sentence="it is wrong")

    assert lines[0].split() == ["client", "0", "client", "1"]
    assert lines[1].startswith("  1 SELECT 1")
    assert lines[2].strip().startswith("-> SELECT 1")
    assert lines[3].index("SELECT 2") == lines[0].index("client 1")
    assert lines[-1] == "    it is wrong"


def test_parameters_stand_in_their_places() -> None:
    assert "WHERE id = 7 AND n = 'a'" in drawn(row(0, "SELECT 1 WHERE id = $2 AND n = $1", "a", "7"))[1]
    assert "n = ''" in drawn(row(0, "SELECT 1 WHERE n = $1", ""))[1], "an empty text can be seen"
    assert "n = 'it''s'" in drawn(row(0, "SELECT 1 WHERE n = $1", "it's"))[1]


def test_a_place_without_its_parameter_stays() -> None:
    assert "WHERE id = $2" in drawn(row(0, "SELECT 1 WHERE id = $2", "1"))[1]


def test_a_wait_says_whose_lock_it_was_if_that_is_known() -> None:
    assert "waits for client 0, then UPDATE 1" in drawn(row(1, "UPDATE t", result="UPDATE 1", blocked=True, holders=(0,)))[2]
    assert "-> waits, then UPDATE 1" in drawn(row(1, "UPDATE t", result="UPDATE 1", blocked=True))[2]


def test_the_last_step_that_made_something_visible_is_marked() -> None:
    lines = drawn(row(0, "COMMIT", footprint=COMMIT), row(1, "COMMIT", footprint=COMMIT), row(0, "SELECT 1"))

    assert [line[:4] for line in lines[1:]] == ["  1 ", "  2!", "  3 "]


def test_a_commit_that_never_arrived_is_not_what_went_wrong() -> None:
    lines = drawn(row(0, "COMMIT", footprint=COMMIT), row(1, "COMMIT", footprint=COMMIT, fault="lose_request"))

    assert [line[:4] for line in lines[1:3]] == ["  1!", "  2 "]
    assert "the connection broke before" in lines[3]


def test_text_of_the_system_under_test_cannot_move_the_cursor() -> None:
    assert "\x1b" not in "".join(drawn(row(0, "SELECT '\x1b[2J'", result="\x1b[31m")))


def test_nothing_is_marked_where_nothing_was_wrong() -> None:
    rows = rows_of(Run(rows=[row(0, "COMMIT", footprint=COMMIT)]), wrong=False)

    assert [r["wrong"] for r in rows] == [False]
