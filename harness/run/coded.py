"""Explores code that a test brings along: Python callables with any driver, lists of SQL statements, requests to a service.

::

    result = explore(
        database=database,
        setup=["CREATE TABLE invoices (number int)"],
        clients=[create_invoice, create_invoice],
        invariants=[numbers_are_unique],
    )
    result.check()

Each client is called with the URL of a proxy that holds every statement; the invariants see the real database when all clients
are done. They fail by raising AssertionError, or by returning False or a sentence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from harness.engines.explore import ExploreEngine, ExplorePlan, Found
from harness.engines.explore.diagram import lanes, rows_of
from harness.engines.explore.engine import fingerprints
from harness.engines.explore.moves import Choices, fault_plan
from harness.engines.explore.piece import MANY_CLIENTS
from harness.engines.explore.token import Schedule, compare, decode, encode
from harness.model.errors import UsageError
from harness.model.finding import Verdict
from harness.run.code_piece import Actor, Client, CodePiece, Invariant, Request, Seen, control, part_of, set_up
from harness.stores.base import Database

__all__ = ["Actor", "Client", "Exploration", "Invariant", "Repeated", "Request", "Seen", "explore", "replay"]

REPLAYED = "replayed"
"""The coverage of an exploration that ended with the schedule that it was given first."""


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """What an exploration of code found. ``coverage`` is ``exhaustive``, ``preemptions<=N``, ``sampled N`` or `REPLAYED`."""

    verdict: Verdict
    explored: int
    failing: int
    diverged: int
    coverage: str
    seconds: float
    clients: int
    message: str = ""
    token: str = ""
    waited_outside: Sequence[int] = ()
    """Clients that at some time waited inside the application: for a connection of a pool that is too small, or for a lock."""
    steps: Sequence[Mapping[str, Any]] = ()

    @property
    def diagram(self) -> str:
        """The failing interleaving as lanes, with what is wrong below; empty if there is none."""
        return lanes(self.steps, clients=self.clients, sentence=self.message) if self.steps else ""

    def check(self) -> None:
        """Raise AssertionError with diagram and token if an interleaving broke an invariant, or if nothing was explored."""
        if self.verdict is Verdict.FAIL:
            raise AssertionError(f"{self.message}\n\n{self.diagram}\n\nreplay: {self.token}")
        if self.verdict is Verdict.UNKNOWN:
            raise AssertionError(
                f"the time ended after {self.explored} interleavings, before enough were tried: nothing is known"
            )


def explore(
    *,
    database: Database,
    clients: Sequence[Actor],
    invariants: Sequence[Invariant],
    setup: Callable[[str], Any] | Sequence[str] = (),
    service: Callable[[str], AbstractContextManager[Any]] | None = None,
    budget: float = 30.0,
    seed: int = 0,
    reduce: bool = True,
    stop_at_first: bool = True,
    faults: str = "",
    max_faults: int = 1,
    most: int | None = None,
    first: str = "",
) -> Exploration:
    """Try one interleaving of the clients' statements after another.

    Args:
        database: a disposable database of a store that racegate started, or of a URL that was marked as disposable.
        clients: callables that get the proxied URL, `Client`, `Request`, or lists of SQL statements; mixed as you like.
        invariants: what must hold when all clients are done.
        setup: statements, or a callable that gets the real URL; done once, before the state is remembered that every
            interleaving begins with.
        service: starts the service that `Request` clients ask, as a context manager; gets the proxied URL.
        budget: seconds.
        seed: of what is drawn when the tree is too large.
        reduce: try independent statements in one order only.
        stop_at_first: end with the first failure.
        faults: what may go wrong, as in ``lose_reply,kill_backend``.
        max_faults: how many faults an interleaving may have.
        most: so many interleavings at most; then the same are tried every time. The verdict is unknown if the budget ends before.
        first: the token of a schedule to try before all others; one that is of other clients is passed over.

    Raises:
        UsageError: there are no clients or no invariants, or a fault does not exist.
        EnvironmentProblem: the store or the proxy failed, or there is traffic past the proxy.
    """
    plan = ExplorePlan(
        database=database,
        seed=seed,
        budget=budget,
        reduce=reduce,
        stop_at_first=stop_at_first,
        most=most,
        faults=fault_plan(faults, max_faults),
    )
    with _played(plan, clients, invariants, setup, service) as (engine, piece):
        if first and (again := _again(engine, piece, first)) is not None:
            return again
        outcome = engine.explore()
        found = engine.shrink(outcome.found, until=_soon(budget)) if outcome.found else None
        token = _token(found, piece, seed) if found else ""
    known = outcome.explored and not outcome.out_of_time
    verdict = Verdict.FAIL if found else Verdict.PASS if known else Verdict.UNKNOWN
    return Exploration(
        verdict=verdict,
        explored=outcome.explored,
        failing=outcome.failing,
        diverged=outcome.diverged,
        coverage=outcome.coverage,
        seconds=outcome.seconds,
        clients=len(clients),
        message=found.findings[0].message if found else "",
        token=token,
        waited_outside=outcome.outside,
        steps=rows_of(found.run) if found else (),
    )


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """What repeating a schedule showed: it broke ``again`` times of ``times``; ``diverged`` says where it took another way."""

    again: int
    times: int
    diverged: str | None
    message: str = ""
    steps: Sequence[Mapping[str, Any]] = ()
    clients: int = 0

    @property
    def diagram(self) -> str:
        """The interleaving as lanes, with what is wrong below."""
        return lanes(self.steps, clients=self.clients, sentence=self.message or "nothing is wrong")


def replay(
    token: str,
    *,
    database: Database,
    clients: Sequence[Actor],
    invariants: Sequence[Invariant],
    setup: Callable[[str], Any] | Sequence[str] = (),
    service: Callable[[str], AbstractContextManager[Any]] | None = None,
    times: int = 5,
) -> Repeated:
    """Repeat the schedule of a token with the same clients, ``times`` times.

    Raises:
        UsageError: the token is damaged, or is of another number of clients.
    """
    schedule = decode(token)
    if schedule.clients != len(clients):
        raise UsageError(f"the schedule is of {schedule.clients} clients, and {len(clients)} were given")
    kinds = ",".join(sorted(set(schedule.faults.values())))
    plan = ExplorePlan(database=database, faults=fault_plan(kinds, len(schedule.faults)))
    again, diverged, message = 0, None, ""
    rows: Sequence[Mapping[str, Any]] = ()
    with _played(plan, clients, invariants, setup, service) as (engine, _):
        for _n in range(times):
            found = engine.replay(schedule.moves)
            diverged = diverged or compare(schedule.steps, fingerprints(found.run))
            again += bool(found.findings)
            message = found.findings[0].message if found.findings else message
            rows = rows_of(found.run, wrong=bool(found.findings)) if found.findings or not rows else rows
    return Repeated(again=again, times=times, diverged=diverged, message=message, steps=rows, clients=len(clients))


def _again(engine: ExploreEngine, piece: CodePiece, token: str) -> Exploration | None:
    """Repeat a schedule; None if it breaks nothing, or cannot be repeated by these clients."""
    began = time.monotonic()
    try:
        schedule = decode(token)
    except UsageError:
        return None  # of another version
    if schedule.clients != piece.clients:
        return None
    found = engine.replay(schedule.moves)
    if not found.findings:
        return None
    return Exploration(
        verdict=Verdict.FAIL,
        explored=1,
        failing=1,
        diverged=int(compare(schedule.steps, fingerprints(found.run)) is not None),
        coverage=REPLAYED,
        seconds=time.monotonic() - began,
        clients=piece.clients,
        message=found.findings[0].message,
        token=_token(found, piece, schedule.seed),
        steps=rows_of(found.run),
    )


def _soon(budget: float) -> float:
    return time.monotonic() + min(budget, 10.0)


def _token(found: Found, piece: CodePiece, seed: int) -> str:
    choices = Choices.of(found.run.moves)
    return encode(
        Schedule(
            scenario="code",
            target="code",
            clients=piece.clients,
            operations=1,
            seed=seed,
            policy="",
            choices=choices.clients,
            steps=tuple(mark for mark, _ in fingerprints(found.run)),
            faults=choices.faults,
        )
    )


@contextmanager
def _played(
    plan: ExplorePlan,
    clients: Sequence[Actor],
    invariants: Sequence[Invariant],
    setup: Callable[[str], Any] | Sequence[str],
    service: Callable[[str], AbstractContextManager[Any]] | None,
) -> Iterator[tuple[ExploreEngine, CodePiece]]:
    if not clients or not invariants:
        raise UsageError("give at least one client and one invariant: without them nothing is explored or checked")
    set_up(plan.database, setup)
    with control(plan.database) as connection, ExitStack() as stack:
        piece = CodePiece([part_of(c) for c in clients], list(invariants), plan.database, connection)
        piece.alike = _alike(clients)
        if service is None:
            piece.here = frozenset(n for n, actor in enumerate(clients) if not isinstance(actor, Request))
        engine = ExploreEngine(plan, piece)
        try:
            if service is not None:
                stack.enter_context(service(engine.url))
        except BaseException:
            engine.close()
            raise
        yield stack.enter_context(engine), piece


def _alike(clients: Sequence[Actor]) -> list[frozenset[int]]:
    """Return the sets of clients that are the same object, where there are enough of them for their order to matter."""
    groups: dict[int, set[int]] = {}
    for number, actor in enumerate(clients):
        groups.setdefault(id(actor), set()).add(number)
    return [frozenset(group) for group in groups.values() if len(group) >= MANY_CLIENTS]
