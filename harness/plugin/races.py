"""What a test does with the fixture ``racegate``: explore, stress, replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engines.explore.diagram import lanes
from harness.engines.explore.moves import fault_plan
from harness.engines.explore.token import decode
from harness.model import Finding, FindingClass, UsageError, Verdict
from harness.plugin.saved import SavedSchedules
from harness.run import coded, explored
from harness.run.code_piece import Actor, Invariant
from harness.run.coded import Exploration, Repeated
from harness.run.execute import execute
from harness.run.explored import Replay
from harness.run.hammered import Hammered, hammer
from harness.run.request import build_request
from harness.run.result import RunResult
from harness.run.run_request import RunRequest
from harness.run.stores import Stores
from harness.stores.base import Database

if TYPE_CHECKING:
    from harness.run.program_search import ProgramsPassed

HUNT_SECONDS = 10.0
"""To find an interleaving for a failure of stress."""

HUNT_MOST = 500


class RaceFound(AssertionError):
    """An interleaving broke an invariant. ``token`` replays it (empty where none is known), ``diagram`` shows it."""

    def __init__(self, message: str, *, diagram: str = "", token: str = "", note: str = "") -> None:
        self.message = message
        self.diagram = diagram
        self.token = token
        again = f"again: racegate.replay({token!r}, ...)" if token else ""
        super().__init__("\n\n".join(part for part in (message, diagram, again, note) if part))


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a marker, the command line or nobody chose. ``budget`` is in seconds for each race."""

    budget: float = 10.0
    engine: str = "explore"
    seed: int = 0
    times: int = 50


class Races:
    """The fixture ``racegate``: races of code that the test brings along, or of named scenarios on named targets.

    Args:
        name: of the test, which saved schedules belong to.
        stores: the session's servers.
        database: opens a fresh database of the default store when a race names none.
        saved: schedules that broke something before.
        defaults: what is not given with a call.
        out: where run folders of named scenarios are made.
    """

    def __init__(
        self,
        name: str,
        *,
        stores: Stores,
        database: Callable[[], Database],
        saved: SavedSchedules,
        defaults: Defaults,
        out: Path,
    ) -> None:
        self._name = name
        self._stores = stores
        self._database = database
        self._saved = saved
        self._defaults = defaults
        self._out = out
        self._count = 0

    def check(self, **race: Any) -> Exploration | Hammered | RunResult:
        """Explore or stress the race, whichever engine the marker or ``--racegate-engine`` says (explore if neither does)."""
        __tracebackhide__ = True
        return self.explore(**race) if self._defaults.engine == "explore" else self.stress(**race)

    def explore(
        self,
        *,
        clients: Sequence[Actor] | int = 2,
        invariants: Sequence[Invariant] = (),
        setup: Callable[[str], Any] | Sequence[str] = (),
        service: Callable[[str], AbstractContextManager[Any]] | None = None,
        database: Database | None = None,
        scenario: str = "",
        target: str = "",
        settings: Mapping[str, Any] | None = None,
        policy: str | None = None,
        operations: int = 1,
        faults: str = "",
        most: int | None = None,
        budget: float | None = None,
        seed: int | None = None,
    ) -> Exploration | RunResult:
        """Try one interleaving after another; the schedule that broke this race last time comes first.

        Args:
            clients: what each client does (see `harness.run.coded.explore`), or how many there are of a named scenario.
            invariants: what must hold afterwards; a named scenario brings its own.
            setup: statements, or a callable that gets the database's URL.
            service: starts the service that requests go to, as a context manager; gets the proxied URL.
            database: default: a fresh one of PostgreSQL.
            scenario: name of a scenario, instead of invariants and setup.
            target: name of the target that it is fired at.
            settings: the scenario's and the target's.
            policy: name or file.
            operations: of each client of a named scenario.
            faults: what may go wrong, as in ``lose_reply,kill_backend``.
            most: so many interleavings at most; then the same are tried every time.
            budget: seconds.
            seed: of what is drawn.

        Raises:
            RaceFound: an interleaving broke an invariant.
            AssertionError: nothing is known.
        """
        __tracebackhide__ = True
        race = self._next()
        seconds, drawn = budget or self._defaults.budget, self._defaults.seed if seed is None else seed
        if scenario:
            request = self._request(scenario, target, clients, settings, policy, engine="explore", budget=seconds, seed=drawn)
            return self._explore_named(race, request, operations=operations, faults=faults, most=most)
        found = coded.explore(
            database=database or self._database(),
            clients=_actors(clients),
            invariants=invariants,
            setup=setup,
            service=service,
            budget=seconds,
            seed=drawn,
            faults=faults,
            most=most,
            first=self._saved.load(race),
        )
        if found.verdict is Verdict.FAIL:
            self._fail(race, found.message, found.diagram, found.token)
        self._saved.forget(race)
        found.check()
        return found

    def stress(
        self,
        *,
        clients: Sequence[Actor] | int = 16,
        invariants: Sequence[Invariant] = (),
        setup: Callable[[str], Any] | Sequence[str] = (),
        database: Database | None = None,
        scenario: str = "",
        target: str = "",
        settings: Mapping[str, Any] | None = None,
        policy: str | None = None,
        ops: int = 300,
        times: int | None = None,
        budget: float | None = None,
        seed: int | None = None,
    ) -> Hammered | RunResult:
        """Let all clients go at full speed, again and again; a failure is handed to the explorer, to make it repeatable.

        Args:
            clients: as for `explore`.
            invariants: as for `explore`.
            setup: as for `explore`.
            database: as for `explore`.
            scenario: as for `explore`.
            target: as for `explore`.
            settings: as for `explore`.
            policy: as for `explore`.
            ops: operations in all, of a named scenario.
            times: rounds, of code.
            budget: seconds after which no round begins.
            seed: of the clients' choices.

        Raises:
            RaceFound: an invariant was broken; the message says how often.
            AssertionError: nothing is known.
        """
        __tracebackhide__ = True
        race = self._next()
        seconds, drawn = budget or self._defaults.budget, self._defaults.seed if seed is None else seed
        if scenario:
            request = self._request(
                scenario, target, clients, settings, policy, engine="stress", budget=300.0, seed=drawn, ops=ops
            )
            return self._stress_named(race, request)
        given: dict[str, Any] = {
            "database": database or self._database(),
            "clients": _actors(clients),
            "invariants": invariants,
            "setup": setup,
        }
        if (token := self._saved.load(race)) and (again := coded.explore(**given, first=token, most=1)).token:
            self._fail(race, again.message, again.diagram, again.token)
        given["setup"] = () if token else setup
        found = hammer(**given, times=times or self._defaults.times, budget=seconds)
        if found.verdict is Verdict.FAIL:
            given["setup"] = ()  # it is there already
            one = coded.explore(**given, budget=HUNT_SECONDS, most=HUNT_MOST)
            note = "" if one.token else f"not replayable: {one.explored} interleavings did not show it"
            self._fail(race, f"{found.message} ({found.rate} at full speed)", one.diagram, one.token, note)
        self._saved.forget(race)
        found.check()
        return found

    def programs(
        self,
        *,
        target: str,
        world: str = "",
        engine: str | None = None,
        settings: Mapping[str, Any] | None = None,
        policy: str | None = None,
        clients: int = 3,
        operations: int = 2,
        faults: Sequence[str] = (),
        examples: int = 50,
        most: int = 20,
        seed: int | None = None,
    ) -> ProgramsPassed:
        """Have Hypothesis draw programs, try each on the target, and shrink the one that breaks something.

        Args:
            target: name of the target.
            world: what programs are made of; default: what fits the target.
            engine: ``explore``, or ``stress`` for rounds on real processes; default: the marker's.
            settings: the target's.
            policy: instead of the world's.
            clients: of a program, at most.
            operations: of each client, at most.
            faults: that the explorer may choose from, such as ``lose_reply``.
            examples: programs that are drawn.
            most: interleavings, or rounds, of one program.
            seed: of what is drawn.

        Raises:
            RaceFound: a program broke an invariant; the message names the smallest one, and how often it failed.
            UsageError: names that do not exist or do not fit.
        """
        __tracebackhide__ = True
        from harness.run.program_search import ProgramsPassed, search_programs  # noqa: PLC0415 - Hypothesis takes long to load

        drawn_from = self._defaults.seed if seed is None else seed
        race = self._next()
        found = search_programs(
            target,
            self._stores,
            world=world,
            engine=engine or self._defaults.engine,
            chosen=dict(settings or {}),
            policy=policy,
            clients=clients,
            operations=operations,
            faults=faults,
            examples=examples,
            most=most,
            drawn_from=drawn_from,
            database=self._saved.folder_of(race),
            out=self._out,
        )
        if isinstance(found, ProgramsPassed):
            return found
        request = build_request(
            scenario=found.world,
            target=target,
            chosen={**(settings or {}), "program": str(found.plan)},
            policy=policy,
            clients=max(2, len(found.plan.clients)),
            budget=self._defaults.budget,
            seed=drawn_from,
            out=self._out,
            engine="explore",
        )
        shown = explored.explore(
            request,
            self._stores,
            operations=found.plan.longest,
            faults=fault_plan(found.plan.faults, 1),
            most=max(HUNT_MOST, most),
        )
        one = _wrong(shown)
        diagram = lanes(one.evidence["steps"], clients=request.clients, sentence=one.message) if one is not None else ""
        token = one.schedule or "" if one is not None else ""
        rate = f"{found.trial.rate}; {found.tried} programs were tried, first to fail: {found.first} ({found.first_trial.rate})"
        raise RaceFound(f"{found.message}; {rate}", diagram=diagram, token=token, note=f"kept in {shown.folder}")

    def replay(self, token: str, *, times: int = 5, **code: Any) -> Repeated | Replay:
        """Repeat a schedule with the same clients, invariants and setup (a named scenario's schedule needs none of them).

        Raises:
            RaceFound: it broke again.
            AssertionError: it could not be repeated as it was.
            UsageError: the token is damaged, or is of another number of clients.
        """
        __tracebackhide__ = True
        found: Repeated | Replay
        schedule = decode(token)
        if schedule.scenario == "code":
            code.setdefault("database", None)
            code["database"] = code["database"] or self._database()
            found = coded.replay(token, times=times, **code)
            diagram, message = found.diagram, found.message
        else:
            found = explored.replay(schedule, self._stores, times=times, out=self._out)
            message = found.findings[0].message if found.findings else ""
            diagram = lanes(found.rows, clients=schedule.clients, sentence=message)
        if found.again:
            raise RaceFound(message, diagram=diagram, token=token, note=f"{found.again} of {found.times} broke again")
        if found.diverged:
            raise AssertionError(f"the schedule could not be repeated, so that nothing is known: {found.diverged}")
        return found

    def _next(self) -> str:
        self._count += 1
        return f"{self._name} #{self._count}"

    def _fail(self, race: str, message: str, diagram: str, token: str, note: str = "") -> None:
        __tracebackhide__ = True
        if token and self._saved.save(race, token):
            note = "the schedule is saved, and is tried first next time"
        raise RaceFound(message, diagram=diagram, token=token, note=note)

    def _request(
        self,
        scenario: str,
        target: str,
        clients: Sequence[Actor] | int,
        settings: Mapping[str, Any] | None,
        policy: str | None,
        **more: Any,
    ) -> RunRequest:
        if not target or not isinstance(clients, int):
            raise UsageError("a named scenario needs target = the name of what it is fired at, and clients = how many")
        return build_request(
            scenario=scenario, target=target, chosen=settings, policy=policy, clients=clients, out=self._out, **more
        )

    def _explore_named(self, race: str, request: RunRequest, *, operations: int, faults: str, most: int | None) -> RunResult:
        __tracebackhide__ = True
        self._repeat_named(race, request)
        result = explored.explore(request, self._stores, operations=operations, faults=fault_plan(faults, 1), most=most or None)
        self._judge(race, result, _wrong(result))
        return result

    def _stress_named(self, race: str, request: RunRequest) -> RunResult:
        __tracebackhide__ = True
        self._repeat_named(race, request)
        result = execute(request, self._stores)
        found = _wrong(result)
        if found is not None and request.target.store is not None:
            small = build_request(
                scenario=request.scenario.name,
                target=request.target.name,
                chosen={**request.settings, **request.target.settings},
                policy=request.policy.name,
                clients=2,
                budget=HUNT_SECONDS,
                seed=request.seed,
                out=self._out,
                engine="explore",
            )
            one = _wrong(explored.explore(small, self._stores, operations=2, most=HUNT_MOST))
            found = one if one is not None and one.invariant in {f.invariant for f in result.findings} else found
        self._judge(race, result, found)
        return result

    def _repeat_named(self, race: str, request: RunRequest) -> None:
        """Try the schedule that was saved, if it is of this scenario and target."""
        __tracebackhide__ = True
        if not (token := self._saved.load(race)):
            return
        try:
            schedule = decode(token)
        except UsageError:
            return  # of another version
        if (schedule.scenario, schedule.target) != (request.scenario.name, request.target.name):
            return
        again = explored.replay(schedule, self._stores, times=1, out=self._out)
        if again.findings:
            message = f"{again.findings[0].invariant}: {again.findings[0].message}"
            self._fail(race, message, lanes(again.rows, clients=schedule.clients, sentence=message), token)

    def _judge(self, race: str, result: RunResult, found: Finding | None) -> None:
        __tracebackhide__ = True
        if found is not None:
            steps, clients = found.evidence.get("steps", ()), found.evidence.get("clients", 0)
            message = f"{found.invariant}: {found.message}"
            diagram = lanes(steps, clients=clients, sentence=message) if steps else ""
            kept = f"kept in {result.folder}"
            self._fail(race, message, diagram, found.schedule or "", kept)
        self._saved.forget(race)
        if result.verdict is not Verdict.PASS:
            why = next(
                (f.message for f in result.findings if f.finding_class is FindingClass.INDETERMINATE), "nothing was checked"
            )
            raise AssertionError(f"{result.scenario} on {result.target}: nothing is known: {why}")


def _actors(clients: Sequence[Actor] | int) -> Sequence[Actor]:
    if isinstance(clients, int):
        raise UsageError("clients is a list of what each client does; a number goes with a named scenario")
    return clients


def _wrong(result: RunResult) -> Finding | None:
    wrong = (FindingClass.VIOLATION, FindingClass.LIVENESS)
    return next((f for f in result.findings if f.finding_class in wrong), None)
