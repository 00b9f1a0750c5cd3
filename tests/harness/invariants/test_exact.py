"""The exact number check agrees with an exhaustive search, and says what is wrong where it is."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.invariants.numbering.exact import NumberCheck, check_numbers

Op = tuple[int, int | None, int | None]
"""Invoked, returned (None: never), number (None: unknown outcome)."""

SCHEMA = {
    **{"scope": pl.String(), "period": pl.String(), "number": pl.Int64(), "token": pl.String()},
    **{"invoked": pl.Int64(), "completed": pl.Int64(), "outcome": pl.String()},
}


def check(histories: dict[tuple[str, str], list[Op]], **how: Any) -> NumberCheck:
    rows = [
        {
            "scope": scope,
            "period": period,
            "number": number,
            "token": f"{scope}{period}{at}",
            "invoked": invoked,
            "completed": returned,
            "outcome": "info" if number is None else "ok",
        }
        for (scope, period), operations in histories.items()
        for at, (invoked, returned, number) in enumerate(operations)
    ]
    return check_numbers(pl.DataFrame(rows, schema=SCHEMA).lazy(), **how)


def wrong_places(found: NumberCheck) -> set[tuple[str, str]]:
    tables = (found.repeated, found.late, found.lacking, found.below)
    return {place for table in tables for place in table.select("scope", "period").iter_rows()}


def searched(operations: list[Op], *, ordered: bool) -> bool:
    """Try every order in which the operations may have taken effect. An unknown one may never have."""

    def place(left: frozenset[int], following: int) -> bool:
        if all(operations[at][2] is None for at in left):
            return True
        for at in left:
            invoked, _, number = operations[at]
            returned = (operations[other][1] for other in left if operations[other][2] is not None)
            if ordered and any(r is not None and r < invoked for r in returned):
                continue  # something else returned before this one began
            if number in (None, following) and place(left - {at}, following + 1):
                return True
        return False

    return place(frozenset(range(len(operations))), 1)


def some_history(chance: random.Random) -> list[Op]:
    """A history of a correct allocator, with unknown outcomes, and mostly corrupted in one place."""
    count = chance.randint(1, 6)
    operations: list[Op] = []
    number = 0
    for _ in range(count):
        effect = chance.randint(0, 20)
        invoked, returned = effect - chance.randint(0, 8), effect + chance.randint(0, 8)
        operations.append((invoked, returned, effect))
    operations.sort(key=lambda o: o[2] or 0)
    history: list[Op] = []
    for invoked, returned, _ in operations:
        if chance.random() < 0.3:
            number += chance.random() < 0.5
            history.append((invoked, None, None))
        else:
            number += 1
            history.append((invoked, returned, number))
    if chance.random() < 0.8:
        at = chance.randrange(count)
        invoked, returned, was = history[at]
        change = chance.choice(["number", "early", "late", "lose"])
        if change == "number" and was is not None:
            history[at] = (invoked, returned, max(0, was + chance.choice([-2, -1, 1, 2])))
        elif change == "early" and returned is not None:
            history[at] = (invoked - 10, max(invoked - 10, returned - 10), was)
        elif change == "late":
            history[at] = (invoked + 10, None if returned is None else returned + 10, was)
        elif change == "lose":
            history.pop(at)
    return history


def compared(seed: int, count: int, **how: Any) -> None:
    chance = random.Random(seed)
    histories = {(f"s{i // 3:04d}", f"p{i % 3}"): some_history(chance) for i in range(count)}
    found = check(histories, **how)
    wrong = wrong_places(found)
    for place, operations in histories.items():
        assert (place not in wrong) == searched(operations, ordered=how.get("ordered", True)), operations


ONLY_GENERATED = settings(max_examples=20, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])


@ONLY_GENERATED
@given(seed=st.integers(0, 2**32), ordered=st.booleans())
def test_it_agrees_with_an_exhaustive_search_on_two_thousand_histories_at_a_time(seed: int, ordered: bool) -> None:
    compared(seed, 2000, ordered=ordered)


@ONLY_GENERATED
@given(seed=st.integers(0, 2**32), batch=st.integers(1, 9))
def test_it_agrees_when_places_are_cut_into_parts(seed: int, batch: int) -> None:
    compared(seed, 40, batch=batch)


def test_both_verdicts_occur_among_them() -> None:
    chance = random.Random(7)
    verdicts = [searched(some_history(chance), ordered=True) for _ in range(400)]
    assert 40 < sum(verdicts) < 360


A = ("a", "")


def test_a_correct_history_is_valid() -> None:
    found = check({A: [(0, 1, 1), (2, 3, 2), (2, 9, 3)]})
    assert found.valid
    assert (found.places, found.numbers) == (1, 3)


def test_nothing_at_all_is_valid_and_says_that_it_saw_nothing() -> None:
    found = check({})
    assert found.valid
    assert (found.places, found.numbers) == (0, 0)


def test_a_number_twice_is_repeated() -> None:
    found = check({A: [(0, 1, 1), (0, 1, 2), (0, 2, 2), (0, 2, 2)]})
    assert found.repeated.to_dicts() == [{"scope": "a", "period": "", "number": 2, "times": 3}]
    assert found.totals == {"repeated": 1, "late": 0, "lacking": 0, "below": 0}


def test_a_number_after_a_higher_one_is_late() -> None:
    found = check({A: [(0, 10, 1), (0, 20, 3), (21, 30, 2)]})
    assert found.late.to_dicts() == [{"scope": "a", "period": "", "number": 2, "invoked": 21, "above": 20}]
    assert check({A: [(0, 10, 1), (0, 20, 3), (20, 30, 2)]}).valid
    assert check({A: [(0, 10, 1), (0, 20, 3), (21, 30, 2)]}, ordered=False).valid


def test_an_answer_that_never_came_puts_nothing_behind_it() -> None:
    """An operation that the books turned into a success has no return."""
    assert check({A: [(0, 10, 1), (0, None, 3), (21, 30, 2)]}).valid
    assert check({A: [(0, 10, 1), (0, None, 3), (40, None, None)]}).valid


def test_a_missing_number_needs_an_operation_that_began_in_time() -> None:
    found = check({A: [(0, 10, 1), (0, 20, 4), (21, None, None), (5, None, None)]})
    assert found.lacking.to_dicts() == [
        {"scope": "a", "period": "", "first": 2, "last": 3, "needed": 2, "there": 1, "unexplained": 1}
    ]
    assert check({A: [(0, 10, 1), (0, 20, 4), (20, None, None), (5, None, None)]}).valid
    assert check({A: [(0, 10, 1), (0, 20, 4), (21, None, None), (5, None, None)]}, ordered=False).valid


def test_the_most_that_nobody_can_have_taken_is_counted() -> None:
    found = check({A: [(0, 10, 3), (0, 50, 7), (20, None, None), (20, None, None)]})
    assert found.lacking["unexplained"].to_list() == [3]  # 1 and 2 before 10; of 4 to 6 only two are taken
    assert found.lacking["first"].to_list() == [1]
    assert found.totals["lacking"] == 3


def test_a_number_below_the_start_is_reported() -> None:
    found = check({A: [(0, 1, 0), (0, 1, 1)]})
    assert found.below.to_dicts() == [{"scope": "a", "period": "", "number": 0}]
    assert not found.valid


def test_the_start_may_be_another() -> None:
    assert check({A: [(0, 1, 100), (2, 3, 101)]}, start=100).valid
    assert check({A: [(0, 1, 101)]}, start=100).lacking["first"].to_list() == [100]
    assert check({A: [(0, 1, 99), (2, 3, 100)]}, start=100).totals["below"] == 1


def test_numbers_that_are_not_dense_are_checked_as_well() -> None:
    found = check({A: [(0, 1, 1), (2, 3, 542_070_123_456), (4, 5, 542_070_123_457), (4, 5, 542_070_123_457)]})
    assert found.lacking.select("first", "last").row(0) == (2, 542_070_123_455)
    assert found.totals["repeated"] == 1


def frame(*rows: tuple[str, int, int | None, int | None, str], scope: str | None = "a") -> pl.LazyFrame:
    """Rows of token, invoked, completed, number and outcome."""
    return pl.DataFrame(
        [
            {"scope": scope, "period": "", "token": t, "invoked": i, "completed": c, "number": n, "outcome": o}
            for t, i, c, n, o in rows
        ],
        schema=SCHEMA,
    ).lazy()


def test_the_same_intent_answered_twice_is_neither_repeated_nor_late() -> None:
    assert check_numbers(frame(("a", 0, 5, 1, "ok"), ("b", 6, 10, 2, "ok"), ("a", 20, 30, 1, "ok"))).valid


def test_an_intent_counts_from_its_first_attempt_even_if_that_was_never_answered() -> None:
    rows = (("a", 0, None, None, "info"), ("b", 6, 10, 2, "ok"), ("a", 20, 30, 1, "ok"))
    assert check_numbers(frame(*rows)).valid
    assert check_numbers(frame(("a", 0, 5, None, "fail"), *rows[1:])).totals["late"] == 1


def test_operations_without_tokens_are_intents_of_their_own() -> None:
    rows = frame(("a", 0, 5, 1, "ok"), ("b", 0, 10, 1, "ok")).with_columns(token=pl.lit(None, pl.String()))
    assert check_numbers(rows).repeated["times"].to_list() == [2]


def test_an_unknown_outcome_of_an_unknown_place_counts_wherever_it_may_belong() -> None:
    rows = pl.concat(
        [
            frame(("a", 0, 5, 2, "ok"), scope="x"),
            frame(("b", 0, 5, 2, "ok"), scope="y"),
            frame(("c", 0, None, None, "info"), scope=None),
        ]
    )
    assert check_numbers(rows).valid
    in_x = pl.concat([frame(("a", 0, 5, 2, "ok"), scope="x"), frame(("b", 0, 5, 2, "ok"), scope="y")])
    known = frame(("c", 0, None, None, "info"), scope="x")
    assert check_numbers(pl.concat([in_x, known])).lacking["scope"].to_list() == ["y"]
    scoped = known.with_columns(period=pl.lit(None, pl.String()))
    assert check_numbers(pl.concat([in_x, scoped])).lacking["scope"].to_list() == ["y"]
    elsewhere = frame(("c", 0, None, None, "info"), scope="z")
    assert check_numbers(pl.concat([in_x, elsewhere])).lacking["scope"].to_list() == ["x", "y"]


def test_attempts_may_burn_more_than_one_number() -> None:
    rows = frame(("a", 0, 5, 4, "ok"), ("b", 0, 5, None, "fail"))
    burnt = pl.when(pl.col("outcome") == "fail").then(3).otherwise(0).cast(pl.Int64())
    assert check_numbers(rows, burnt=burnt).valid
    assert check_numbers(rows, burnt=burnt - 1).lacking["unexplained"].to_list() == [1]


def test_a_history_on_disk_is_read_part_by_part(tmp_path: Any) -> None:
    path = tmp_path / "history.parquet"
    count = 5000
    pl.DataFrame(
        {
            "scope": ["a"] * count,
            "period": [""] * count,
            "number": range(1, count + 1),
            "token": [str(i) for i in range(count)],
            "invoked": range(count),
            "completed": range(10, count + 10),
            "outcome": ["ok"] * count,
        },
        schema_overrides=SCHEMA,
    ).write_parquet(path, row_group_size=512)
    whole = check_numbers(pl.scan_parquet(path))
    cut = check_numbers(pl.scan_parquet(path), batch=700)
    assert whole.valid
    assert cut.valid
    holed = pl.scan_parquet(path).filter(~pl.col("number").is_in([699, 700, 701, 702, 4000]))
    assert check_numbers(holed, batch=700).lacking.to_dicts() == check_numbers(holed).lacking.to_dicts()
    assert check_numbers(holed, batch=700).totals["lacking"] == 5


@pytest.mark.parametrize("batch", [3, 1 << 22])
def test_only_so_many_examples_are_kept_and_all_are_counted(batch: int) -> None:
    twice = [(0, 1, n // 2 + 1) for n in range(2400)]
    found = check({A: twice}, batch=max(batch, 100))
    assert found.totals["repeated"] == 1200
    assert found.repeated.height == 1000
