"""Whose a statement is, and who waits outside: every event and every moment of silence is played by hand."""

from __future__ import annotations

from typing import Any

import pytest

from harness.engines.explore.footprints import Footprints, Schema
from harness.engines.explore.moves import Move
from harness.engines.explore.play import ELSEWHERE, LONGEST_SILENCE, OUTSIDE_AFTER, UNCLEAR_AFTER, Ground, Mood, Play, Story
from harness.model.errors import EnvironmentProblem
from harness.wire.base import ConnectionClosing, Decision, Fate, Result, Status, Step, StepArrived, StepDone

HERE = frozenset({0, 1})
POOLED = 7
"""The connection of client 0."""


class Still:
    """A proxy and a worker that do nothing: what comes of it is played."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def decide(self, step: Step, decision: Decision = Decision.RELEASE) -> None:
        """Do nothing."""

    def do(self, job: Any) -> None:
        """Do nothing."""


class Hand:
    """Plays clients. At the beginning client 0 has a statement at the gate, and client 1 was begun a moment ago."""

    def __init__(self, here: frozenset[int] = HERE, clients: int = 2) -> None:
        self._clients = clients
        proxy: Any = Still()
        footprints = Footprints(Schema())
        self.ground = Ground(proxy=proxy, ask=lambda backends: {}, kill=lambda client: None, footprints=footprints, here=here)
        self.begin()

    def begin(self) -> None:
        """Begin another run."""
        self.ground.owner.clear()
        self.play = Play(self.ground, self._clients)
        self.quiet = False
        self._story = self._told()
        next(self._story)
        self.arrives(POOLED)

    def _told(self) -> Story:
        for number in self.play.mood:
            worker: Any = Still(number)
            yield from self.play.start(worker, lambda: None)
        while True:
            self.quiet = True
            yield 0.0
            self.quiet = False
            yield from self.play.until_quiet()

    def arrives(self, connection: int, status: Status = Status.IDLE) -> None:
        step = Step(connection=connection, index=0, text="SELECT 1", fingerprint="", status=status)
        self._story.send(StepArrived(step=step))

    def goes(self, client: int, status: Status = Status.IDLE) -> None:
        """Let a client's statement through, and answer it."""
        self.play.make(Move(client), self.play.moves())
        next(self._story)
        step = self.play.run.rows[-1].step
        self._story.send(StepDone(step=step, fate=Fate.ANSWERED, result=Result(), status=status))

    def ends(self, client: int) -> None:
        self._story.send(("done", client))

    def hangs_up(self, connection: int) -> None:
        self._story.send(ConnectionClosing(connection=connection, in_transaction=False))

    def silence(self, moments: int) -> None:
        for _ in range(moments):
            if not self.quiet:
                next(self._story)

    def waits_outside(self, client: int) -> bool:
        return self.play.mood[client] is Mood.OUTSIDE


@pytest.fixture
def hand() -> Hand:
    """Client 1 waits outside, and client 0 had the answer to its statement."""
    played = Hand()
    played.silence(OUTSIDE_AFTER + 1)
    assert played.waits_outside(1)
    played.goes(0)
    return played


def test_a_connection_that_is_handed_on_before_the_end_of_its_owner_is_heard_is_its_new_owners(hand: Hand) -> None:
    hand.arrives(POOLED)
    hand.ends(0)

    assert hand.quiet
    assert hand.play.held.keys() == {1}
    hand.goes(1)
    assert [row.client for row in hand.play.run.rows] == [0, 1]


def test_a_connection_that_was_just_opened_is_the_one_who_waited_when_the_others_end_is_heard(hand: Hand) -> None:
    hand.arrives(POOLED + 1)
    hand.ends(0)

    assert hand.play.held.keys() == {1}


def test_an_owner_that_goes_on_elsewhere_has_handed_its_connection_on(hand: Hand) -> None:
    hand.ground.owner[POOLED + 1] = 0
    hand.arrives(POOLED)
    hand.arrives(POOLED + 1, Status.IN_TRANSACTION)

    assert {client: step.connection for client, step in hand.play.held.items()} == {0: POOLED + 1, 1: POOLED}


def test_an_owner_that_says_nothing_else_keeps_its_connection(hand: Hand) -> None:
    """Client 1 waits for a lock of the process; client 0 holds it, and makes several statements without a transaction."""
    hand.arrives(POOLED)
    assert not hand.quiet
    hand.silence(UNCLEAR_AFTER + 1)

    assert hand.quiet
    assert hand.play.held.keys() == {0}
    assert hand.waits_outside(1)


def test_a_guess_is_taken_back_when_its_client_ends() -> None:
    """Client 2 waits for a connection of a pool, client 0 hands its own on and says late that it has ended."""
    hand = Hand(here=frozenset({0, 1, 2}), clients=3)
    hand.arrives(POOLED + 1)
    hand.silence(OUTSIDE_AFTER + 1)
    hand.goes(0)
    hand.arrives(POOLED)
    hand.silence(UNCLEAR_AFTER + 1)
    assert hand.play.held.keys() == {0, 1}

    hand.goes(1)
    hand.ends(0)
    hand.ends(1)

    assert hand.play.held.keys() == {2}


def test_a_statement_in_a_transaction_is_its_owners_at_once(hand: Hand) -> None:
    hand.arrives(POOLED, Status.IN_TRANSACTION)

    assert hand.quiet
    assert hand.play.held.keys() == {0}


def test_a_statement_whose_sender_hangs_up_before_it_is_clear_is_nobodys(hand: Hand) -> None:
    hand.arrives(POOLED)
    hand.hangs_up(POOLED)
    hand.ends(0)

    assert hand.play.held == {}


def test_a_statement_that_never_becomes_clear_is_told(hand: Hand) -> None:
    hand.arrives(POOLED + 1)

    with pytest.raises(EnvironmentProblem, match="it is not clear whose it is"):
        hand.silence(UNCLEAR_AFTER + 1)


def test_a_client_in_another_process_is_given_more_time_until_one_has_waited_there() -> None:
    played = Hand(here=frozenset())
    played.silence(OUTSIDE_AFTER + 1)
    assert not played.waits_outside(1), "its process may be held up by what does not hold us up"
    played.silence((ELSEWHERE - 1) * OUTSIDE_AFTER)
    assert played.waits_outside(1)

    played.begin()
    played.silence(OUTSIDE_AFTER + 1)
    assert played.waits_outside(1)


def test_what_clients_of_this_process_waited_for_says_nothing_of_another() -> None:
    played = Hand(here=frozenset({1}))
    played.silence(OUTSIDE_AFTER + 1)

    assert played.waits_outside(1)
    assert not played.ground.waited


class Clock:
    """Each look at it is some seconds after the one before."""

    def __init__(self, step: float) -> None:
        self._now, self._step = 0.0, step

    def monotonic(self) -> float:
        self._now += self._step
        return self._now


def test_on_a_slow_machine_a_client_in_another_process_counts_as_waiting_before_its_pool_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.engines.explore.play.time", Clock(step=LONGEST_SILENCE))
    played = Hand(here=frozenset())
    played.silence(OUTSIDE_AFTER + 1)

    assert played.waits_outside(1)


def test_on_a_slow_machine_whoever_waits_outside_is_not_taken_for_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.engines.explore.play.time", Clock(step=60))
    played = Hand()
    played.silence(OUTSIDE_AFTER + 1)

    assert played.quiet
    assert played.waits_outside(1)
