"""The catalogue as a whole: each row on PostgreSQL or MongoDB has its cases, and what is broken has a quiet neighbour."""

from __future__ import annotations

import pytest

from harness.run.cases import cases

AREAS = (
    ("N", 46, {13, 14, 16, 17, 19, 24, 30, 41}),
    ("P", 27, {3, 8, 12, 13}),
    ("O", 6, set()),
    ("S", 5, {2}),
    ("A", 3, {2}),
)
"""The rows of each area up to the last, without numbers that are not in use or concern MySQL alone."""
ROWS = [f"{area}{n:02d}" for area, last, without in AREAS for n in range(1, last + 1) if n not in without]


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_catalogue_is_expected_to_fail_by_an_invariant(row: str) -> None:
    broken = [case for case in cases() if case.expect == "fail" and case.id.split("-")[0] == row]
    assert broken
    assert all(case.invariants for case in broken)


def test_each_broken_case_has_a_quiet_neighbour_on_its_store_and_in_its_scenario() -> None:
    quiet = {(case.store, case.scenario) for case in cases() if case.expect == "pass"}
    assert [case.id for case in cases() if case.expect == "fail" and (case.store, case.scenario) not in quiet] == []
