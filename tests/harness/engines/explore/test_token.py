"""A schedule travels as one line, and a damaged or foreign one is told apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engines.explore.token import Schedule, compare, decode, encode, short
from harness.model import UsageError


def schedule(choices: tuple[int, ...] = (0, 0, 1, 0)) -> Schedule:
    return Schedule(
        scenario="concurrent_creates",
        target="reference:pg.count_plus_one",
        clients=2,
        operations=1,
        seed=7,
        policy="company-series",
        choices=choices,
        steps=tuple(short(f"statement {n}") for n in range(len(choices))),
        target_settings={"unique_index": False},
    )


@given(st.lists(st.integers(0, 7), max_size=60).map(tuple))
def test_a_token_says_what_it_was_made_of(choices: tuple[int, ...]) -> None:
    assert decode(encode(schedule(choices))) == schedule(choices)


def test_a_token_is_one_word() -> None:
    token = encode(schedule())

    assert token.startswith("rg1:")
    assert len(token.split()) == 1


def test_choices_are_shown_by_their_runs() -> None:
    assert schedule((0, 0, 0, 1, 1, 0)).lanes == "0x3 1x2 0"


@pytest.mark.parametrize("text", ["", "hello", "rg1:", "rg1:!!!", encode(schedule())[:-9], "rg1:eJwDAAAAAAE"])
def test_what_is_no_token_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError, match="schedule"):
        decode(text)


def test_a_replay_that_takes_another_way_says_where() -> None:
    steps = [short("BEGIN"), short("SELECT"), short("COMMIT")]

    assert compare(steps, [(s, "text") for s in steps]) is None
    assert compare(steps, [(steps[0], "BEGIN"), (short("UPDATE"), "UPDATE x")]) == (
        f"diverged at step 2: expected the statement {steps[1]}, saw {short('UPDATE')}: UPDATE x"
    )
    assert compare(steps, [(steps[0], "BEGIN")]) == f"diverged at step 2: expected the statement {steps[1]}, saw the end"
