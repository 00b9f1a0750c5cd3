"""Which interleavings are tried, on values: scripts of steps instead of a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engines.explore.footprints import NOTHING, UNKNOWN, Footprint, independent
from harness.engines.explore.search import Follow, Search, preemptions

READ = Footprint(reads=frozenset({"t"}))
INSERT = Footprint(inserts=frozenset({"t"}))
WRITE = Footprint(writes=frozenset({"t"}))
COMMIT_INSERT = replace(INSERT, publishes=True, bare=True)
COMMIT_WRITE = replace(WRITE, publishes=True, bare=True)
COUNT_PLUS_ONE = [NOTHING, READ, INSERT, COMMIT_INSERT]


def interleavings(scripts: list[list[Footprint]], search: Search) -> tuple[list[tuple[int, ...]], int]:
    """Run the search over scripts that never block; return the complete interleavings and how many were cut short."""
    complete, cut = [], 0
    while not search.exhausted:
        search.begin()
        at = [0] * len(scripts)
        choices: list[int] = []
        while enabled := {c: scripts[c][at[c]] for c in range(len(scripts)) if at[c] < len(scripts[c])}:
            chosen = search.choose(enabled)
            if chosen is None:
                cut += 1
                break
            choices.append(chosen)
            at[chosen] += 1
        else:
            complete.append(tuple(choices))
        search.end()
        assert len(complete) + cut < 100_000
    return complete, cut


@pytest.mark.parametrize(("clients", "steps", "count"), [(2, 3, 20), (2, 4, 70), (2, 5, 252), (3, 3, 1680)])
def test_without_reduction_every_interleaving_is_tried_once(clients: int, steps: int, count: int) -> None:
    complete, cut = interleavings([[UNKNOWN] * steps] * clients, Search(reduce=False))

    assert (len(complete), len(set(complete)), cut) == (count, count, 0)


@pytest.mark.parametrize(("clients", "classes"), [(2, 3), (3, 19)])
def test_count_plus_one_has_as_many_executions_as_distinct_classes(clients: int, classes: int) -> None:
    complete, _ = interleavings([COUNT_PLUS_ONE] * clients, Search())

    assert len(complete) == classes


def test_steps_that_touch_nothing_in_common_are_tried_in_one_order_only() -> None:
    one, other = Footprint(writes=frozenset({"a"})), Footprint(writes=frozenset({"b"}))

    assert len(interleavings([[one] * 4, [other] * 4], Search())[0]) == 1


@pytest.mark.parametrize(("bound", "count"), [(0, 2), (1, 8), (2, 26), (3, 44)])
def test_a_preemption_bound_counts_voluntary_switches(bound: int, count: int) -> None:
    complete, _ = interleavings([[UNKNOWN] * 4] * 2, Search(reduce=False, preemptions=bound))

    assert len(set(complete)) == count


def test_a_forced_switch_is_free() -> None:
    could = [{0: None, 1: None}, {1: None}, {1: None}]

    assert preemptions([0, 1, 1], could) == 0
    assert preemptions([0, 1, 0], [{0: None, 1: None}] * 3) == 2


footprints = st.sampled_from([NOTHING, UNKNOWN, READ, INSERT, WRITE, COMMIT_INSERT, COMMIT_WRITE, replace(WRITE, publishes=True)])
scripts = st.lists(st.lists(footprints, min_size=1, max_size=3), min_size=2, max_size=3)


def class_of(choices: tuple[int, ...], scripts: list[list[Footprint]]) -> frozenset[tuple[tuple[int, int], tuple[int, int]]]:
    """Return which pairs of dependent steps happened in which order: what makes two interleavings the same."""
    at = [0] * len(scripts)
    steps = []
    for client in choices:
        steps.append((client, at[client]))
        at[client] += 1
    return frozenset(
        (a, b)
        for n, a in enumerate(steps)
        for b in steps[n + 1 :]
        if a[0] != b[0] and not independent(scripts[a[0]][a[1]], scripts[b[0]][b[1]])
    )


@given(scripts)
def test_reduction_loses_no_class_and_tries_none_twice(scripts: list[list[Footprint]]) -> None:
    every, _ = interleavings(scripts, Search(reduce=False))
    reduced, _ = interleavings(scripts, Search())

    classes = [class_of(choices, scripts) for choices in reduced]
    assert set(classes) == {class_of(choices, scripts) for choices in every}
    assert len(classes) == len(set(classes))


@given(st.integers(1, 5), st.integers(1, 5))
def test_two_scripts_have_as_many_interleavings_as_the_binomial_says(one: int, other: int) -> None:
    complete, _ = interleavings([[UNKNOWN] * one, [UNKNOWN] * other], Search(reduce=False))

    assert len(complete) == comb(one + other, one)


@pytest.mark.parametrize(
    ("one", "other", "swappable"),
    [
        (READ, INSERT, True),
        (READ, COMMIT_INSERT, False),
        (READ, replace(INSERT, publishes=True), False),
        (READ, READ, True),
        (INSERT, INSERT, True),
        (WRITE, WRITE, False),
        (WRITE, INSERT, False),
        (WRITE, COMMIT_WRITE, False),
        (COMMIT_WRITE, COMMIT_WRITE, True),
        (UNKNOWN, READ, False),
        (UNKNOWN, NOTHING, True),
        (replace(READ, serializable=True), WRITE, False),
        (Footprint(at_once=frozenset({"nextval"})), Footprint(at_once=frozenset({"nextval"})), False),
        (Footprint(reads=frozenset({"*"})), COMMIT_WRITE, False),
    ],
)
def test_which_steps_may_be_swapped(one: Footprint, other: Footprint, swappable: bool) -> None:
    assert independent(one, other) is independent(other, one) is swappable


def test_following_choices_goes_on_with_whoever_moved_last() -> None:
    follow = Follow([0, 1])
    both: Mapping[int, Footprint] = {0: NOTHING, 1: NOTHING}

    assert [follow.choose(both) for _ in range(4)] == [0, 1, 1, 1]
    assert follow.strayed is None


def test_following_a_choice_that_is_not_there_says_so() -> None:
    follow = Follow([0, 1, 0])

    assert [follow.choose({0: NOTHING}) for _ in range(3)] == [0, 0, 0]
    assert follow.strayed == 1
