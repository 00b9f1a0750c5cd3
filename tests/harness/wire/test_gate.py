"""What each decision does, and what the gate makes of a client or a store that goes away."""

from __future__ import annotations

import pytest

from harness.model.errors import UsageError
from harness.wire.base import (
    ConnectionClosed,
    ConnectionClosing,
    Decision,
    Fate,
    Result,
    Status,
    StepDone,
    Tunnelled,
)
from harness.wire.conversation import CloseClient, CloseServer, KillServer, Report, ToClient, ToServer
from harness.wire.gate import PLANS, Move, move_of
from harness.wire.postgres.session import PostgresSession
from tests.harness.wire.playbook import Play, done, events, step, to_client, to_server
from tests.harness.wire.postgres.said import AUTHENTICATED, BYE, error, key, query, ready, startup, tag

COMMIT = query("COMMIT")


def committing() -> Play:
    """A connection whose COMMIT is held."""
    play = Play(PostgresSession())
    play.client(startup(user="ann"))
    play.server(AUTHENTICATED, key(77), ready())
    play.client(query("BEGIN"))
    play.decide()
    play.server(tag("BEGIN"), ready("T"))
    play.client(COMMIT)
    return play


def test_every_decision_has_a_plan() -> None:
    assert set(PLANS) == set(Decision)


@pytest.mark.parametrize(
    ("controlled", "gated", "waiting", "move"),
    [
        (False, True, True, Move.FORWARD),
        (True, True, False, Move.HOLD),
        (True, False, False, Move.FORWARD),
        (True, True, True, None),
        (True, False, True, None),
    ],
)
def test_a_unit_is_forwarded_held_or_left_waiting(controlled: bool, gated: bool, waiting: bool, move: Move | None) -> None:
    assert move_of(controlled=controlled, gated=gated, waiting=waiting) is move


def test_a_lost_request_never_reaches_the_store() -> None:
    play = committing()
    commands = play.decide(Decision.LOSE_REQUEST)
    assert to_server(commands) == b""
    assert done(commands).fate is Fate.REQUEST_LOST
    assert commands[-2:] == [CloseClient(), CloseServer()]


def test_a_lost_reply_is_withheld_until_the_store_is_done_and_then_both_sides_close() -> None:
    play = committing()
    assert play.decide(Decision.LOSE_REPLY) == [ToServer(COMMIT)]
    assert play.server(tag("COMMIT")) == []
    commands = play.server(ready())
    assert to_client(commands) == b""
    assert (done(commands).fate, done(commands).result) == (Fate.REPLY_LOST, Result(tag="COMMIT"))
    assert commands[-2:] == [CloseClient(), CloseServer()]


def test_a_dead_client_sends_nothing_more() -> None:
    play = committing()
    commands = play.decide(Decision.KILL_CLIENT)
    assert (to_server(commands), done(commands).fate) == (b"", Fate.CLIENT_KILLED)
    assert commands[-2:] == [CloseClient(), CloseServer()]
    assert play.client(query("SELECT 1")) == []


def test_a_backend_killed_with_the_step_under_way_answers_nobody() -> None:
    play = committing()
    assert play.decide(Decision.KILL_BACKEND) == [ToServer(COMMIT), KillServer("77")]
    assert play.server(tag("COMMIT"), ready(), error("57P01")) == []
    commands = play.gate.server_gone()
    assert (done(commands).fate, done(commands).result.tag) == (Fate.BACKEND_KILLED, "COMMIT")
    assert CloseClient() in commands


def test_a_backend_killed_first_never_sees_the_step_and_its_last_words_reach_the_client() -> None:
    play = committing()
    assert play.decide(Decision.KILL_BACKEND_FIRST) == [KillServer("77")]
    assert play.server(error("57P01")) == [ToClient(error("57P01"))]
    commands = play.gate.server_gone()
    assert (to_server(commands), done(commands).fate) == (b"", Fate.BACKEND_KILLED)


def test_a_step_held_too_long_is_given_up_and_says_whose_fault_it_was() -> None:
    play = committing()
    assert play.gate.expire(29.9, 30.0) == []
    commands = play.gate.expire(30.1, 30.0)
    assert (to_server(commands), done(commands).fate) == (b"", Fate.HOLD_EXPIRED)
    assert commands[-2:] == [CloseClient(), CloseServer()]


def test_a_client_that_hangs_up_while_held_abandons_its_step() -> None:
    commands = committing().gate.client_gone()
    assert [type(c) for c in commands] == [Report, Report, CloseClient, CloseServer]
    assert done(commands).fate is Fate.ABANDONED
    assert events(commands)[-1] == ConnectionClosing(connection=1, in_transaction=True)


def test_a_goodbye_behind_a_held_step_still_reaches_the_store() -> None:
    play = committing()
    assert play.client(BYE) == []
    assert to_server(play.gate.client_gone()) == BYE


def test_a_client_that_hangs_up_while_the_store_works_leaves_it_to_finish() -> None:
    play = committing()
    play.decide()
    assert play.gate.client_gone()[-2:] == [CloseClient(), CloseServer()]
    ended = done(play.server(tag("COMMIT"), ready()))
    assert (ended.fate, ended.result.tag) == (Fate.BROKEN, "COMMIT")


def test_a_store_that_goes_away_breaks_what_is_under_way() -> None:
    play = committing()
    play.decide()
    last_words = error("57P01", "terminating connection")
    assert play.server(last_words) == [ToClient(last_words)]
    ended = done(play.gate.server_gone())
    assert (ended.fate, ended.result.error) == (Fate.BROKEN, "57P01")


def test_a_store_that_goes_away_breaks_what_is_held() -> None:
    ended = done(committing().gate.server_gone())
    assert (ended.fate, ended.status) == (Fate.BROKEN, Status.IN_TRANSACTION)


def test_a_dropped_connection_closes_once() -> None:
    play = committing()
    assert done(play.gate.drop()).fate is Fate.ABANDONED
    assert play.gate.drop() == []
    assert play.gate.client_gone() == []
    assert play.gate.server_gone() == []


def test_a_decision_on_nothing_is_refused_and_changes_nothing() -> None:
    play = committing()
    play.decide()
    with pytest.raises(UsageError, match="connection 1 holds no step to decide on; wait for its StepArrived"):
        play.decide()
    assert done(play.server(tag("COMMIT"), ready())).fate is Fate.ANSWERED


def test_after_a_fault_on_one_step_the_next_connection_is_as_new() -> None:
    play = committing()
    play.decide(Decision.LOSE_REPLY)
    play.server(tag("COMMIT"), ready())
    fresh = committing()
    fresh.decide()
    assert to_client(fresh.server(tag("COMMIT"), ready())) == tag("COMMIT") + ready()


def test_an_answer_that_stops_being_readable_is_passed_on_and_the_step_is_broken() -> None:
    play = committing()
    play.decide(Decision.LOSE_REPLY)
    commands = play.server(b"\xff\xff\xff\xff\xff")
    assert done(commands).fate is Fate.BROKEN
    assert any(isinstance(e, Tunnelled) for e in events(commands))
    assert play.server(b"more") == [ToClient(b"more")]


def test_the_ends_of_steps_never_outnumber_the_steps() -> None:
    play = committing()
    found = [*play.decide(), *play.gate.client_gone(), *play.server(tag("COMMIT"), ready()), *play.gate.server_gone()]
    assert len([e for e in events(found) if isinstance(e, StepDone)]) == 1
    assert not any(isinstance(e, ConnectionClosed) for e in events(found))  # only sockets know that


def test_each_step_has_the_next_index() -> None:
    play = committing()
    assert play.gate.held is not None
    assert play.gate.held.step is not None
    assert play.gate.held.step.index == 1
    play.decide()
    play.server(tag("COMMIT"), ready())
    assert step(play.client(query("SELECT a FROM t"))).index == 2
