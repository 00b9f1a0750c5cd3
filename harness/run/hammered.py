"""Code that a test brings along, at full speed: all clients at once, again and again from the same state.

Threads are let go together; what is raced for is in the database, and a thread that waits for it lets the others run. The answer
is a rate, "fails 37 of 100", because at full speed nobody chooses the order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harness.engines.explore.scene import MongoScene, PostgresScene, Scene
from harness.model.errors import UsageError
from harness.model.finding import Verdict
from harness.run.code_piece import Actor, CodePiece, Invariant, control, part_of, set_up
from harness.stores.base import Database, StoreKind

ENOUGH = 10
"""Failures after which more rounds tell nothing new but the rate."""


@dataclass(frozen=True, kw_only=True)
class Hammered:
    """What rounds at full speed showed: an invariant was broken in ``failed`` of ``times`` of them."""

    failed: int
    times: int
    seconds: float
    message: str = ""

    @property
    def verdict(self) -> Verdict:
        """Fail if one failed; unknown if there was none."""
        return Verdict.FAIL if self.failed else Verdict.PASS if self.times else Verdict.UNKNOWN

    @property
    def rate(self) -> str:
        """The result as a rate."""
        return f"fails {self.failed} of {self.times}"

    def check(self) -> None:
        """Raise AssertionError if a round failed, or none was made."""
        if self.verdict is not Verdict.PASS:
            raise AssertionError(f"{self.message or 'no round was made: nothing is known'} ({self.rate})")


def hammer(
    *,
    database: Database,
    clients: Sequence[Actor],
    invariants: Sequence[Invariant],
    setup: Callable[[str], Any] | Sequence[str] = (),
    times: int = 100,
    budget: float = 30.0,
    stop_early: bool = True,
) -> Hammered:
    """Let all clients go at once, ``times`` times, and check the invariants after each.

    Args:
        database: a disposable database.
        clients: as in `harness.run.coded.explore`.
        invariants: what must hold when all clients are done.
        setup: statements, or a callable that gets the URL; done once, before the state of every round's beginning is remembered.
        times: rounds.
        budget: seconds after which no new round begins.
        stop_early: end after `ENOUGH` failures.

    Raises:
        UsageError: there are no clients or no invariants.
    """
    if not clients or not invariants:
        raise UsageError("give at least one client and one invariant: without them nothing is fired or checked")
    set_up(database, setup)
    began = time.monotonic()
    failed, done, message = 0, 0, ""
    with control(database) as connection, ThreadPoolExecutor(len(clients), thread_name_prefix="client") as pool:
        piece = CodePiece([part_of(c) for c in clients], list(invariants), database, connection)
        scene: Scene = PostgresScene(database.url) if database.kind is StoreKind.POSTGRES else MongoScene(database)
        try:
            scene.remember()
            while done < times and (not done or time.monotonic() - began < budget):
                _round(piece, database, pool)
                findings = piece.judge(piece.ending({}))
                done += 1
                failed += bool(findings)
                message = message or (findings[0].message if findings else "")
                if stop_early and failed >= ENOUGH:
                    break
                scene.restore()
        finally:
            for client in range(piece.clients):
                with suppress(Exception):  # a goodbye that fails changes nothing
                    piece.leave(client)
            scene.close()
    return Hammered(failed=failed, times=done, seconds=time.monotonic() - began, message=message)


def _round(piece: CodePiece, database: Database, pool: ThreadPoolExecutor) -> None:
    """Let every client go once, all at the same moment."""
    piece.begin()
    start = threading.Barrier(piece.clients)

    def one(client: int) -> None:
        try:
            if not piece.entered(client):
                piece.enter(client, database.url)
        finally:
            start.wait()
        piece.perform(client, lambda: True)

    for future in [pool.submit(one, client) for client in range(piece.clients)]:
        future.result()
