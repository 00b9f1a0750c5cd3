"""Everything that the exact check says, not only its verdict, is what a plain loop over the rows finds."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import polars as pl
import pytest

from harness.invariants.numbering.exact import KEPT, NumberCheck, _Part, _parts, check_numbers

Row = dict[str, Any]
Place = tuple[str, str]

SCHEMA = {
    **{"scope": pl.String(), "period": pl.String(), "number": pl.Int64(), "token": pl.String()},
    **{"invoked": pl.Int64(), "completed": pl.Int64(), "outcome": pl.String()},
}
NEVER = 10**9


def expected(rows: list[Row], *, start: int, ordered: bool) -> dict[str, Any]:
    """Find it slowly."""
    issued: dict[Place, list[Row]] = defaultdict(list)
    for at, row in enumerate(rows):
        if row["outcome"] == "ok" and row["number"] is not None:
            issued[row["scope"] or "", row["period"] or ""].append({**row, "token": row["token"] or at})
    told: dict[str, Any] = {"repeated": [], "late": [], "lacking": [], "below": [], "places": len(issued)}
    told["numbers"] = sum(map(len, issued.values()))
    for place in sorted(issued):
        told["below"] += [(*place, row["number"]) for row in issued[place] if row["number"] < start]
        here = [row for row in issued[place] if row["number"] >= start]
        numbers = sorted({row["number"] for row in here})
        for number in numbers:
            mine = [row for row in here if row["number"] == number]
            if len({row["token"] for row in mine}) > 1:
                told["repeated"].append((*place, number, len({row["token"] for row in mine})))
            above = returned([row for row in here if row["number"] > number])
            invoked = max(begun(token, mine, rows) for token in {row["token"] for row in mine})
            if ordered and invoked > above:
                told["late"].append((*place, number, invoked, above))
        if lacks := lacking(place, numbers, here, rows, start, ordered):
            told["lacking"].append((*place, *lacks))
    return told


def returned(rows: list[Row]) -> int:
    return min((NEVER if row["completed"] is None else row["completed"] for row in rows), default=NEVER)


def begun(token: Any, mine: list[Row], rows: list[Row]) -> int:
    unanswered = [row["invoked"] for row in rows if row["token"] == token and row["outcome"] == "info"]
    return min([row["invoked"] for row in mine if row["token"] == token] + unanswered)


def lacking(
    place: Place, numbers: list[int], here: list[Row], rows: list[Row], start: int, ordered: bool
) -> tuple[int, ...] | None:
    """Return the first run of missing numbers that too few operations can have taken, and the most that nobody can have taken."""
    first: tuple[int, ...] | None = None
    worst, needed, before = 0, 0, start - 1
    for number in numbers:
        if number - before > 1:
            needed += number - before - 1
            deadline = returned([row for row in here if row["number"] >= number]) if ordered else NEVER
            there = sum(1 for row in rows if may_have_taken(row, place) and row["invoked"] <= deadline)
            if needed > there:
                first = first or (before + 1, number - 1, needed, there)
                worst = max(worst, needed - there)
        before = number
    return (*first, worst) if first else None


def may_have_taken(row: Row, place: Place) -> bool:
    if row["outcome"] != "info" or row["scope"] not in (None, place[0]):
        return False
    return row["scope"] is None or row["period"] in (None, place[1])


def found(rows: list[Row], **how: Any) -> dict[str, Any]:
    check = check_numbers(pl.DataFrame(rows, schema=SCHEMA).lazy(), **how)
    told = {name: getattr(check, name).rows() for name in ("repeated", "late", "lacking", "below")}
    totals = {name: len(told[name]) for name in ("repeated", "late", "below")} | {"lacking": sum(r[-1] for r in told["lacking"])}
    assert check.totals == totals
    return {**told, "below": sorted(told["below"]), "places": check.places, "numbers": check.numbers}


def some_rows(chance: random.Random, start: int) -> list[Row]:
    """Several places, numbers with holes and repetitions, late ones, unknown outcomes here and nobody knows where."""
    scopes, periods = chance.choice([(["a"], [""]), (["a", "b"], [""]), (["a", "b", "c"], ["", "p", "q"]), (["m"], ["p", "q"])])
    far = chance.random() < 0.15
    rows: list[Row] = []
    for _ in range(chance.randint(0, 14)):
        scope, period = chance.choice([*scopes, None] if chance.random() < 0.2 else scopes), chance.choice(periods)
        begin = 1000 + chance.randint(0, 30)
        number = start + chance.randint(-1 if chance.random() < 0.2 else 0, 7) + (200_000 if far and chance.random() < 0.3 else 0)
        row: Row = {"scope": scope, "period": chance.choice([period, None]) if chance.random() < 0.2 else period}
        row |= {"token": chance.choice([f"t{chance.randint(0, 9)}", f"u{len(rows)}", None]), "invoked": begin}
        outcome = chance.choice(["ok", "ok", "ok", "info", "fail"])
        row |= {"completed": chance.choice([begin + chance.randint(0, 12)] * 5 + [None]), "outcome": outcome}
        rows.append({**row, "number": chance.choice([number] * 8 + [None]) if outcome != "info" else None})
    return rows


@pytest.mark.parametrize("seed", range(6))
def test_it_says_what_a_plain_loop_finds(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(40):
        start = chance.choice([1, 1, 100])
        rows = some_rows(chance, start)
        ordered, batch = chance.random() < 0.8, chance.choice([1, 2, 3, 5, 9, 14, 20, 1 << 22])
        wanted = expected(rows, start=start, ordered=ordered)
        wanted["below"].sort()
        assert found(rows, start=start, ordered=ordered, batch=batch) == wanted, (rows, start, ordered, batch)


def places(*counts_and_highs: tuple[int, int]) -> pl.DataFrame:
    return pl.DataFrame(list(counts_and_highs), schema={"count": pl.Int64(), "high": pl.Int64()}, orient="row")


def part(first: int, last: int, low: int, high: int, *, dense: bool = True) -> _Part:
    return _Part(first=first, last=last, low=low, high=high, dense=dense)


def test_places_share_a_part_as_long_as_they_fit() -> None:
    assert _parts(places((4, 4), (6, 6), (1, 1)), 1, 10, 5) == [part(0, 1, 1, 6), part(2, 2, 1, 1)]
    assert _parts(places((6, 6), (3, 3), (1, 1)), 1, 10, 5) == [part(0, 2, 1, 6)]
    assert _parts(places((6, 6), (5, 5), (4, 4), (1, 1)), 1, 10, 5) == [part(0, 0, 1, 6), part(1, 3, 1, 5)]


def test_a_place_that_is_too_large_is_cut() -> None:
    assert _parts(places((10, 10)), 1, 10, 5) == [part(0, 0, 1, 10)]
    assert _parts(places((21, 21), (1, 1)), 1, 10, 5) == [
        *(part(0, 0, 1, 10), part(0, 0, 11, 20), part(0, 0, 21, 21)),
        part(1, 1, 1, 1),
    ]
    assert _parts(places((11, 110)), 100, 10, 5) == [part(0, 0, 100, 109), part(0, 0, 110, 110)]


def test_a_place_without_a_number_from_the_start_on_has_no_part_and_ends_the_one_before() -> None:
    assert _parts(places((2, 101), (1, 99), (1, 100)), 100, 10, 5) == [part(0, 0, 100, 101), part(2, 2, 100, 100)]


def test_a_place_that_is_not_dense_is_by_itself() -> None:
    bound = 4 * 2 + (1 << 16)
    assert _parts(places((2, bound), (1, 1)), 1, 1 << 22, 5) == [part(0, 1, 1, bound)]
    assert _parts(places((1, 1), (2, bound + 1), (1, 1)), 1, 1 << 22, 5) == [
        *(part(0, 0, 1, 1), part(1, 1, 1, bound + 1, dense=False)),
        part(2, 2, 1, 1),
    ]
    assert [p.dense for p in _parts(places((40_000, 1 + (1 << 17))), 1, 1 << 22, 5)] == [True]


def test_no_more_places_share_a_part_than_64_bits_can_tell_apart() -> None:
    four = places((1, 1), (1, 1), (1, 1), (1, 1))
    assert _parts(four, 1, 10, 1 << 61) == [part(0, 1, 1, 1), part(2, 3, 1, 1)]
    assert _parts(four, 1, 10, 1 << 63) == [part(at, at, 1, 1) for at in range(4)]


def check(*rows: tuple[str, int, int | None, int], batch: int = 1 << 22) -> NumberCheck:
    """Acknowledged numbers: scope, invoked, completed and number, each of an intent of its own."""
    listed = [
        {"scope": s, "period": "", "token": f"t{at}", "invoked": i, "completed": c, "number": n, "outcome": "ok"}
        for at, (s, i, c, n) in enumerate(rows)
    ]
    return check_numbers(pl.DataFrame(listed, schema=SCHEMA).lazy(), batch=batch)


def test_the_times_of_one_place_do_not_reach_into_those_of_another() -> None:
    """Each place has a range of its own, from the first invocation of all to the last."""
    assert check(("a", 50, 60, 1), ("a", 90, 100, 2), ("b", 0, 10, 1)).valid
    assert check(("a", 0, 10, 1), ("a", 95, 100, 2), ("b", 0, 10, 1), ("b", 90, 100, 2)).valid
    assert check(("a", 0, 10, 1), ("a", 90, None, 2), ("b", 0, 5, 1)).valid
    assert check(("a", 0, 1, 1), ("b", 0, 200, 1), ("b", 150, 160, 2)).valid


def test_an_attempt_of_a_scope_is_found_for_places_of_a_later_part() -> None:
    ok: Row = {"period": "", "invoked": 5, "completed": 6, "outcome": "ok"}
    rows = [{**ok, "scope": "a", "number": n, "token": f"a{n}"} for n in range(1, 6)]
    rows += [{**ok, "scope": "b", "number": 2, "token": "b2"}, {**ok, "scope": "c", "number": 1, "token": "c1"}]
    tried: Row = {"period": None, "number": None, "token": "x", "invoked": 0, "completed": None, "outcome": "info"}

    assert found([*rows, {**tried, "scope": "b"}], batch=5)["lacking"] == []
    assert found([*rows, {**tried, "scope": "c"}], batch=5)["lacking"] == [("b", "", 1, 1, 1, 0, 1)]


def test_an_intent_counts_from_the_first_of_its_unanswered_attempts() -> None:
    a: Row = {"scope": "a", "period": "", "token": "a", "number": None, "completed": None, "outcome": "info"}
    b: Row = {**a, "token": "b", "number": 2, "invoked": 6, "completed": 10, "outcome": "ok"}
    answered: Row = {**b, "token": "a", "number": 1, "invoked": 20, "completed": 30}
    assert found([{**a, "invoked": 0}, {**a, "invoked": 11}, b, answered])["late"] == []
    assert found([{**a, "invoked": 11}, b, answered])["late"] == [("a", "", 1, 11, 10)]
    assert found([{**a, "invoked": 10}, b, answered])["late"] == []


def test_of_many_examples_the_first_are_kept() -> None:
    late = check(*[("a", 2 * n, 2 * n + 1, 3000 - n) for n in range(1200)])
    assert (late.totals["late"], late.late.height) == (1199, KEPT)
    assert late.late["number"][0] == 1801
    twice = [("a", 0, 1, n // 2 + 1) for n in range(2400)]
    for batch in (1 << 22, 500):
        repeated = check(*twice, batch=batch)
        assert (repeated.totals["repeated"], repeated.repeated.height) == (1200, KEPT)
        assert repeated.repeated["number"].to_list() == list(range(1, KEPT + 1))
    below = check(*[("a", 0, 1, -n) for n in range(1200)])
    assert (below.totals["below"], below.below.height, below.below["number"][0]) == (1200, KEPT, 0)
