"""Programs: calls that the scenario declares, the same ones for the same seed, tokens that mean one intent."""

from __future__ import annotations

import itertools
import json
import pickle
import random
from typing import Any

import pytest

from harness.invariants import REGISTRY
from harness.model import Call, Operation, Outcome, Scenario, Seat
from harness.run.knobs import defaults
from harness.run.registry import providers, scenarios
from scenarios.races import NotToldError

FAMILIES = ("payments", "audit", "orders", "sales")
ALL = [s for s in scenarios().values() if s.family in FAMILIES]
every = pytest.mark.parametrize("scenario", ALL, ids=lambda s: s.name)


ANSWER = {"left": 0, "migrated": 1, "text": "INV-00001"}


def played(
    scenario: Scenario, client: int, *, calls: int, seed: int = 1, outcome: Outcome = Outcome.OK, silent: bool = False
) -> list[Call]:
    """Play a program against a target that always answers alike, or with no word more than that it happened."""
    settings = defaults(scenario.settings)
    seat = Seat(client=client, clients=4, random=random.Random(f"{seed}/{client}"), settings=settings)
    program = scenario.program(seat)
    made: list[Call] = []
    call = next(program, None)
    while call is not None and len(made) < calls:
        made.append(call)
        operation = Operation(
            process=client,
            client=client,
            f=call.f,
            token=call.token,
            arguments=call.arguments,
            invoked=0,
            completed=1,
            outcome=outcome,
            result=ANSWER if outcome is Outcome.OK and not silent else None,
        )
        try:
            call = program.send(operation)
        except StopIteration:
            break
    return made


@every
def test_a_program_makes_only_calls_that_its_scenario_declares(scenario: Scenario) -> None:
    made = [c for client in range(4) for outcome in Outcome for c in played(scenario, client, calls=60, outcome=outcome)]
    opening = list(scenario.opening(defaults(scenario.settings)))
    assert {c.f for c in [*made, *opening]} <= scenario.operations
    assert made
    for call in [*made, *opening]:
        json.dumps(call.arguments)


@every
def test_a_seed_repeats_the_choices(scenario: Scenario) -> None:
    assert played(scenario, 1, calls=80) == played(scenario, 1, calls=80)
    assert list(scenario.opening(defaults(scenario.settings))) == list(scenario.opening(defaults(scenario.settings)))


@every
def test_a_token_never_serves_two_operations(scenario: Scenario) -> None:
    made = itertools.chain(
        scenario.opening(defaults(scenario.settings)), *(played(scenario, client, calls=200) for client in range(4))
    )
    names: dict[str, set[str]] = {}
    for call in made:
        names.setdefault(call.token, set()).add(call.f)
    assert all(len(fs) == 1 for fs in names.values())


@every
def test_a_scenario_travels_to_other_processes(scenario: Scenario) -> None:
    assert pickle.loads(pickle.dumps(scenario)).name == scenario.name


@every
def test_a_scenario_names_invariants_that_exist_and_targets_that_offer_it(scenario: Scenario) -> None:
    assert set(scenario.invariants) <= set(REGISTRY)
    provider: Any = providers()["reference"]
    offering = [v for v in provider.names() if scenario.operations <= provider.target(v, {}).operations]
    assert offering


@every
def test_openings_use_each_token_once(scenario: Scenario) -> None:
    tokens = [c.token for c in scenario.opening(defaults(scenario.settings))]
    assert len(tokens) == len(set(tokens))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("creates_with_deletes", "create holds no text"),
        ("creates_with_voids", "create holds no text"),
        ("reserved_numbers", "reserve holds no reserved"),
        ("cleanup_against_creates", "cleanup holds no duplicates"),
        ("voids_with_trouble", "sell holds no text"),
    ],
)
def test_an_answer_without_what_comes_next_says_where_it_can_be_named(name: str, part: str) -> None:
    with pytest.raises(NotToldError, match=rf"the answer of {part}.*\[operations\..*\.answer\]"):
        played(scenarios()[name], 0, calls=60, silent=True)
