"""The catalogue as a whole: each row on PostgreSQL or MongoDB has its cases, and what is broken has a quiet neighbour."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.run.cases import cases
from reference_impl.cases import LEVELS, RC

PAGE = Path(__file__).parents[2] / "docs" / "isolation.md"
LINES = [line.strip("|").split("|") for line in PAGE.read_text().splitlines() if re.match(r"\| [A-Z]\d\d", line)]

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


@pytest.mark.parametrize("line", LINES, ids=[line[0].strip() for line in LINES])
def test_the_page_on_isolation_says_what_the_catalogue_expects(line: list[str]) -> None:
    known = {case.id: case for case in cases()}
    ids, _, *told = (cell.strip() for cell in line)
    for id in ids.split(", "):
        levels = [known[id if level == RC else f"{id}-{level}"] for level in LEVELS]
        assert [case.expect == "pass" for case in levels] == [says == "right" for says in told]


def test_the_page_on_isolation_has_every_race_that_is_run_at_each_level() -> None:
    told = {id for line in LINES for id in line[0].strip().split(", ")}
    stricter = {case.id.removesuffix(f"-{level}") for case in cases() for level in LEVELS[1:] if case.id.endswith(f"-{level}")}
    assert {id for id in stricter if not id.startswith("OK-") and not id.endswith("-indexed")} - {"N15", "P02-locked"} == told
