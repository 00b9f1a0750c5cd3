"""What is said of a wrong history does not change with what is right beside it, and is said in full of several at once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.corpus.reading import HERE, Case, corpus
from tests.corpus.worlds import SECOND, nearest, neighbours, renamed, said, together

CASES = corpus()
WRONG = [c for c in CASES if c.verdict not in ("accept", "skip")]
SAID = HERE / "said.jsonl"
"""What is said of each wrong case, and of each three times over: written by ``python -m tests.corpus``, to be read by people."""


def thrice(case: Case) -> Case:
    """Return the case with two more of it: one later that comes first by name, and one earlier that comes last."""
    return together(case, [renamed(case, "!", later=SECOND, clients=50), renamed(case, "~", later=-SECOND, clients=90)])


def all_said() -> dict[str, list[dict[str, Any]]]:
    """Return what is said of each wrong case by itself, and three times over, backwards."""
    alone = {str(case): said(case) for case in WRONG}
    return alone | {f"3 x {case}": said(backwards(thrice(case))) for case in WRONG if not case.alone}


NEAR = HERE / "near.jsonl"
"""What is said of near neighbours of each case: several in one world, and one by one; and a digest of the evidence."""
WORLDS = (5, 5, 1, 1, 1, 1)
"""Neighbours in each world."""


def near(case: Case) -> list[dict[str, Any]]:
    """Return what is said of worlds of near neighbours of a case."""
    others = iter(nearest(case, sum(WORLDS)))
    told = []
    for size in WORLDS:
        one, *more = [next(others) for _ in range(size)]
        if not case.alone:
            one = together(
                one, [renamed(o, "!~"[n % 2] * (n + 1), later=n * SECOND // 50, clients=50 * n) for n, o in enumerate(more)]
            )
        what = said(one)
        evidence = json.dumps([[f["operations"], f["rows"]] for f in what])
        told.append({"says": [f["says"] for f in what], "evidence": hashlib.sha256(evidence.encode()).hexdigest()[:8]})
    return told


def backwards(case: Case) -> Case:
    """Return the case with the rows of its books in the opposite order."""
    return replace(case, rows={table: items[::-1] for table, items in case.rows.items()})


@pytest.mark.parametrize("case", [c for c in WRONG if not c.alone], ids=str)
def test_what_is_right_beside_it_changes_nothing(case: Case) -> None:
    others = neighbours(case, CASES)
    merged = together(case, [renamed(o, f"~{n}-", later=n * SECOND, clients=50) for n, o in enumerate(others)])
    assert said(merged) == said(case)


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[dict[str, Any]]]:
    return dict(json.loads(line) for line in SAID.read_text().splitlines())


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_the_whole_of_what_is_said_is_as_recorded(case: Case, recorded: dict[str, list[dict[str, Any]]]) -> None:
    assert said(case) == recorded[str(case)]
    if not case.alone:
        assert said(backwards(thrice(case))) == recorded[f"3 x {case}"]


@pytest.fixture(scope="module")
def recorded_near() -> dict[str, list[dict[str, Any]]]:
    return dict(json.loads(line) for line in NEAR.read_text().splitlines())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_said_of_its_nearest_neighbours_is_as_recorded(
    case: Case, recorded_near: dict[str, list[dict[str, Any]]]
) -> None:
    found = near(case)
    assert found == recorded_near[str(case)]
    assert not any("could not be checked" in line for world in found for line in world["says"])
