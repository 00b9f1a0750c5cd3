"""Programs tried out on a target: interleaving by interleaving, or at full speed on real processes.

The scene is set once and put back between trials, so that a program costs milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, Self

from harness.engines.client import Client
from harness.engines.explore import ExploreEngine, ExplorePlan
from harness.engines.explore.moves import fault_plan
from harness.engines.explore.piece import OperationList, OperationsEnding, ScenarioPiece
from harness.engines.explore.scene import MongoScene, PostgresScene, Scene
from harness.engines.forks import forks
from harness.model import EnvironmentProblem, Finding, FindingClass, Operation, Seat
from harness.run.explored import OpenedScene
from harness.run.folder import RunFolder
from harness.run.programs import Plan, World
from harness.run.run_request import RunRequest
from harness.run.stores import Stores
from harness.stores.base import Database, StoreKind
from harness.targets.base import Target

NO_LIMIT = 3600.0
"""Seconds. A program's interleavings are bounded by their number, so that a result does not depend on the machine."""

ANSWER_LIMIT = 60.0
"""Seconds that a client process may take for its part of a round."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What trying a program showed: ``failed`` of ``times`` interleavings or rounds broke something, ``findings`` first."""

    failed: int
    times: int
    findings: Sequence[Finding] = ()

    @property
    def rate(self) -> str:
        """The result as a rate."""
        return f"fails {self.failed} of {self.times}"

    @property
    def invariant(self) -> str:
        """What was broken first; an empty string if nothing was."""
        return self.findings[0].invariant if self.findings else ""


class Trials(Protocol):
    """Tries programs. Use it as a context manager."""

    def __enter__(self) -> Self:
        """Open database, target and clients."""

    def __exit__(self, *error: object) -> None:
        """Close them."""

    def attempt(self, plan: Plan) -> Trial:
        """Try a program."""


class ExploredTrials:
    """Tries a program's interleavings until one breaks something, every one was tried, or there were enough.

    Args:
        request: a world on a target; its clients are the most that a program may have.
        stores: where.
        most: interleavings of one program.
    """

    def __init__(self, request: RunRequest, stores: Stores, *, most: int) -> None:
        self._request, self._stores, self._most = request, stores, most
        self._held = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            folder = RunFolder.make(self._request.out)
            scene = opening.enter_context(OpenedScene(self._request, self._stores, folder))
            self._piece = scene.piece(operations=1)
            self._piece.alike = ()
            plan = ExplorePlan(database=scene.database, seed=self._request.seed, budget=NO_LIMIT, most=self._most)
            self._engine = opening.enter_context(ExploreEngine(plan, self._piece))
            self._held = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def attempt(self, plan: Plan) -> Trial:
        """Explore a program."""
        self._piece.settings = {"program": str(plan)}
        self._piece.operations = max(1, plan.longest)
        self._engine.allow(fault_plan(plan.faults, 1))
        outcome = self._engine.explore()
        findings = outcome.found.findings if outcome.found else ()
        return Trial(failed=outcome.failing, times=outcome.explored, findings=findings)


class StressedTrials:
    """Lets a program's clients go together in processes of their own, again and again from the same scene.

    How often is adapted to what is seen: after the first failure as many rounds as it takes to know the rate, otherwise ``most``.

    Args:
        request: a world on a target; its clients are the most that a program may have, and each has a process.
        stores: where.
        most: rounds of one program that shows nothing.
    """

    def __init__(self, request: RunRequest, stores: Stores, *, most: int) -> None:
        self._request, self._stores, self._most = request, stores, most
        self._held = ExitStack()
        self._crew: list[tuple[Connection, BaseProcess]] = []
        self._judged: dict[Hashable, Sequence[Finding]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            request = self._request
            opened = opening.enter_context(OpenedScene(request, self._stores, RunFolder.make(request.out)))
            self._opened = opened
            self._piece: ScenarioPiece = opened.piece(operations=1)
            queries = self._piece.queries
            database = opened.database
            postgres = database.kind is StoreKind.POSTGRES
            self._scene: Scene = PostgresScene(database.url, queries) if postgres else MongoScene(database, queries)
            opening.callback(self._scene.close)
            self._scene.remember()
            self._piece.remember(self._scene.read())
            forked = forks(request.target, __name__)
            barrier = forked.Barrier(request.clients)
            for number in range(request.clients):
                ours, theirs = forked.Pipe()
                work = (theirs, barrier, request.target, database, request.scenario, number, request.clients)
                process = forked.Process(target=_client, args=work, daemon=True)
                process.start()
                theirs.close()
                opening.callback(_end, ours, process)
                self._crew.append((ours, process))
            for pipe, _ in self._crew:
                _heard(pipe)
            self._held = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def attempt(self, plan: Plan) -> Trial:
        """Make rounds of a program."""
        failed, times = 0, 0
        first: Sequence[Finding] = ()
        wanted = self._most
        while times < wanted:
            findings = self._round(plan)
            times += 1
            if findings:
                failed += 1
                if not first:
                    first = findings
                    wanted = max(times, min(self._most, 4 * times))  # enough to tell a rate from a single accident
        return Trial(failed=failed, times=times, findings=first)

    def rate(self, plan: Plan, times: int) -> Trial:
        """Make a given number of rounds, whatever they show."""
        first: Sequence[Finding] = ()
        failed = 0
        for _ in range(times):
            findings = self._round(plan)
            failed += bool(findings)
            first = first or findings
        return Trial(failed=failed, times=times, findings=first)

    def _round(self, plan: Plan) -> Sequence[Finding]:
        for pipe, _ in self._crew:
            pipe.send(str(plan))
        operations: list[Operation] = []
        for pipe, _ in self._crew:
            operations += _heard(pipe)
        ending = OperationsEnding(self._opened.opening, operations, self._scene.read())
        self._scene.restore()
        return self._judgement(ending)

    def _judgement(self, ending: OperationsEnding) -> Sequence[Finding]:
        """Judge a round, once for all that end alike: judging takes longer than the round itself."""
        if ending.key not in self._judged:
            found = self._piece.judge(ending)
            self._judged[ending.key] = [f for f in found if f.finding_class is not FindingClass.COST]
        return self._judged[ending.key]


def _heard(pipe: Connection) -> list[Operation]:
    """Return what a client process answers. Raises EnvironmentProblem if it does not, or could not connect."""
    answer: Any = None
    with suppress(EOFError, OSError):
        answer = pipe.recv() if pipe.poll(ANSWER_LIMIT) else None
    if not isinstance(answer, list):
        raise EnvironmentProblem(f"a client process did not answer: {answer or f'nothing came in {ANSWER_LIMIT:g} s'}")
    return answer


def _end(pipe: Connection, process: BaseProcess) -> None:
    with suppress(OSError):
        pipe.send(None)
    pipe.close()
    process.join(timeout=5)
    if process.is_alive():
        process.kill()
        process.join()


def _client(pipe: Connection, barrier: Any, target: Target, database: Database, world: World, number: int, clients: int) -> None:
    """A client process: does its part of each program that it is sent, together with the others."""
    import random  # noqa: PLC0415 - only here

    record = OperationList()
    seated = Client(
        number=number,
        clients=clients,
        connect=lambda: target.connect(database, number),
        record=record,
        clock=time.monotonic_ns,
    )
    try:
        seated.open()
        pipe.send([])
        while (text := pipe.recv()) is not None:
            record.operations.clear()
            seat = Seat(client=number, clients=clients, random=random.Random(number), settings={"program": text})
            program = world.program(seat)
            call = next(program, None)
            barrier.wait(timeout=ANSWER_LIMIT)
            while call is not None:
                operation = seated.perform(call)
                try:
                    call = program.send(operation)
                except StopIteration:
                    break
            pipe.send(list(record.operations))
    except Exception as e:  # noqa: BLE001 - told to the parent, which raises it
        with suppress(OSError):
            pipe.send(f"{type(e).__name__}: {e}")
    finally:
        seated.close()
