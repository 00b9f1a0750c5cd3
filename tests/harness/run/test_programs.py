"""Programs in one line of text."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given

from harness.model import Call, Seat, UsageError
from harness.run.program_search import plans
from harness.run.programs import Plan, Step, World, parse_plan
from harness.run.registry import scenarios

MENU = ("create:c0", "create:c1", "void:c0")
WORLD = World(
    name="test_program",
    family="test",
    summary="For a test.",
    scene=[Call(f="seed", token="seed", arguments={})],
    menu={key: Call(f=key.split(":")[0], token="", arguments={"company": key}) for key in MENU},
    invariants=("N-UNIQ",),
    policy="unique",
    example="create:c0 | create:c0",
)


@given(plans([MENU[:2], MENU[2:]]))
def test_every_program_is_a_text_that_means_it(plan: Plan) -> None:
    assert parse_plan(str(plan), MENU).clients == plan.clients


@given(plans([MENU], clients=2, operations=1, faults=["lose_reply"]))
def test_programs_stay_within_what_was_asked_for(plan: Plan) -> None:
    assert 1 <= len(plan.clients) <= 2
    assert plan.longest == 1
    assert plan.faults in ("", "lose_reply")


@pytest.mark.parametrize(("text", "told"), [("", "is empty"), (" | ", "is empty"), ("crate:c0", "did you mean 'create:c0'")])
def test_a_text_that_is_no_program_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_plan(text, MENU)


def calls(text: str, client: int) -> list[Call]:
    settings: dict[str, Any] = {"program": text}
    program = WORLD.program(Seat(client=client, clients=2, random=random.Random(1), settings=settings))
    return list(program)


def test_each_operation_has_a_token_of_its_own_unless_it_is_the_same_request_once_more() -> None:
    text = "create:c0 create:c0~ | create:c0~ create:c0"

    tokens = [[call.token for call in calls(text, client)] for client in (0, 1)]

    assert tokens[0][1] == tokens[1][0]
    assert len({tokens[0][0], tokens[0][1], tokens[1][1]}) == 3


def test_a_client_that_the_program_does_not_name_does_nothing() -> None:
    assert calls("create:c0", 1) == []
    assert Plan(((Step("create:c0"),),)).size == 1


def test_a_world_offers_what_its_scene_and_its_menu_need() -> None:
    assert WORLD.operations == {"seed", "create", "void"}
    assert WORLD.settings["program"].default == WORLD.example
    assert WORLD.scopes == (MENU,)


def test_every_operation_of_our_worlds_belongs_to_a_scope() -> None:
    for world in (s for s in scenarios().values() if isinstance(s, World)):
        assert {key for scope in world.scopes for key in scope} == set(world.menu), world.name
        parse_plan(world.example, world.menu)
