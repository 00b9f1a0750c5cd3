"""Programs that nobody wrote: drawn whole by Hypothesis, tried on a target, and shrunk to what breaks it.

The whole program is drawn first, as one value, and executed afterwards. What a program showed is remembered for the search, so
that Hypothesis, which runs a failing example again and again while it shrinks, meets the same answer every time: a search ends
with a smallest program and never as flaky. Failing programs are kept in a folder (Hypothesis's example database) and tried first
next time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from harness.model import UsageError
from harness.run.program_trials import ExploredTrials, StressedTrials, Trial, Trials
from harness.run.programs import Plan, Step, World
from harness.run.registry import scenarios, split_target
from harness.run.request import build_request
from harness.run.run_request import RunRequest
from harness.run.stores import Stores

MOST_CLIENTS = 3
MOST_OPERATIONS = 2
FAULTS = ("lose_reply", "kill_client")


def plans(
    scopes: Sequence[Sequence[str]],
    *,
    clients: int = MOST_CLIENTS,
    operations: int = MOST_OPERATIONS,
    faults: Sequence[str] = (),
) -> st.SearchStrategy[Plan]:
    """Return the strategy of all programs over a world's keys. They shrink to fewer clients and operations, and to no faults.

    Args:
        scopes: keys of operations that meet; those that come first are what others shrink to.
        clients: at most.
        operations: of each client, at most.
        faults: those that may be allowed.
    """

    @st.composite
    def drawn(draw: st.DrawFn) -> Plan:
        # One scope or two at a time: operations that have nothing to do with one another do not race.
        chosen = draw(st.lists(st.sampled_from([tuple(scope) for scope in scopes]), min_size=1, max_size=2, unique=True))
        some = list(dict.fromkeys(key for scope in chosen for key in scope))
        step = st.builds(Step, st.sampled_from(some), st.sampled_from([False, False, False, True]))
        steps = st.lists(step, min_size=1, max_size=operations).map(tuple)
        doing = draw(st.lists(steps, min_size=1, max_size=clients))
        return Plan(tuple(doing), faults=draw(st.sampled_from(["", *faults])))

    return drawn()


@dataclass(frozen=True, kw_only=True)
class ProgramFound:
    """A smallest program that breaks an invariant. ``first`` is the program that showed it, ``tried`` how many were tried."""

    world: str
    plan: Plan
    trial: Trial
    first: Plan
    first_trial: Trial
    tried: int

    @property
    def message(self) -> str:
        """What is wrong, with the program."""
        broken = self.trial.findings[0]
        return f"{broken.invariant}: {broken.message} (program: {self.plan})"


@dataclass(frozen=True, kw_only=True)
class ProgramsPassed:
    """No program broke anything: ``tried`` different ones, with ``times`` interleavings or rounds in all."""

    world: str
    tried: int
    times: int


@dataclass
class _Seen:
    """What a search has seen: it answers for a program that was tried before."""

    trials: Trials
    wanted: frozenset[str]
    answers: dict[Plan, Trial] = field(default_factory=dict)
    first: Plan | None = None

    def fails(self, plan: Plan) -> bool:
        """Tell whether a program breaks what the first failing one broke: shrinking must not slip to something else."""
        if plan not in self.answers:
            self.answers[plan] = self.trials.attempt(plan)
        found = self.answers[plan]
        broken = [f.invariant for f in found.findings if not self.wanted or f.invariant in self.wanted]
        if not broken:
            return False
        if self.first is None:
            self.first, self.wanted = plan, frozenset(broken[:1])
        return True

    def told(self, trial: Trial) -> Trial:
        """Return a trial with what was looked for first among its findings."""
        return replace(trial, findings=sorted(trial.findings, key=lambda f: f.invariant not in self.wanted))


def world_for(target: str, name: str = "") -> World:
    """Return the world that fits a target, or the named one.

    Raises:
        UsageError: there is none, or the target does not offer its operations.
    """
    provider, variant = split_target(target)
    offered = provider.target(variant, {}).operations
    worlds = [s for s in scenarios().values() if isinstance(s, World)]
    fitting = [w for w in worlds if w.operations <= offered and name in ("", w.name)]
    if not fitting:
        told = f"no world is called {name!r}" if name and name not in {w.name for w in worlds} else f"{target} fits no world"
        raise UsageError(
            f"{told}; worlds are {', '.join(w.name for w in worlds)}, and a target offers all operations of its world"
        )
    return fitting[0]


def search_programs(
    target: str,
    stores: Stores,
    *,
    world: str = "",
    engine: str = "explore",
    chosen: dict[str, Any] | None = None,
    policy: str | None = None,
    clients: int = MOST_CLIENTS,
    operations: int = MOST_OPERATIONS,
    faults: Sequence[str] = (),
    examples: int = 100,
    most: int = 20,
    drawn_from: int = 0,
    wanted: Sequence[str] = (),
    database: Path | None = None,
    out: Path = Path("runs"),
) -> ProgramFound | ProgramsPassed:
    """Look for a program that breaks an invariant on a target, and shrink it.

    Args:
        target: its name.
        stores: where.
        world: name of a world; default: the one that fits the target.
        engine: ``explore`` tries interleavings, ``stress`` makes rounds on real processes.
        chosen: settings of the target.
        policy: instead of the world's.
        clients: of a program, at most.
        operations: of each client, at most.
        faults: that the explorer may choose from.
        examples: programs that are drawn.
        most: interleavings, or rounds, of one program.
        drawn_from: the seed. The same seed draws the same programs.
        wanted: only these invariants are of interest; default: all.
        database: folder of failing programs; they are tried first.
        out: where a run folder is made.

    Raises:
        UsageError: names that do not exist or do not fit.
        EnvironmentProblem: a store failed.
    """
    found_world = world_for(target, world)
    request = build_request(
        scenario=found_world.name, target=target, chosen=chosen, policy=policy, clients=clients, seed=drawn_from, out=out
    )
    strategy = plans(found_world.scopes, clients=clients, operations=operations, faults=faults if engine == "explore" else ())
    with _trials(engine, request, stores, most) as trials:
        seen = _Seen(trials, frozenset(wanted))
        plan = _smallest(seen.fails, strategy, examples=examples, drawn_from=drawn_from, database=database)
        if plan is None or seen.first is None:
            return ProgramsPassed(
                world=found_world.name, tried=len(seen.answers), times=sum(t.times for t in seen.answers.values())
            )
        evidence = seen.answers[plan]
        trial = trials.rate(plan, max(most, 100)) if isinstance(trials, StressedTrials) else evidence
        return ProgramFound(
            world=found_world.name,
            plan=plan,
            trial=seen.told(replace(trial, findings=trial.findings or evidence.findings)),
            first=seen.first,
            first_trial=seen.told(seen.answers[seen.first]),
            tried=len(seen.answers),
        )


def _trials(engine: str, request: RunRequest, stores: Stores, most: int) -> ExploredTrials | StressedTrials:
    if engine not in ("explore", "stress"):
        raise UsageError(f"no engine is called {engine!r}; programs are tried by explore or stress")
    kind = ExploredTrials if engine == "explore" else StressedTrials
    return kind(request, stores, most=most)


def _smallest(
    fails: Callable[[Plan], bool], strategy: st.SearchStrategy[Plan], *, examples: int, drawn_from: int, database: Path | None
) -> Plan | None:
    """Have Hypothesis look for the smallest program that fails; None if none does."""
    kept = DirectoryBasedExampleDatabase(database) if database is not None else None
    smallest: list[Plan] = []

    @settings(  # outermost: a seed alone would switch the database off
        max_examples=examples,
        database=kept,
        deadline=None,
        report_multiple_bugs=False,
        print_blob=False,
        phases=[Phase.reuse, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @seed(drawn_from)
    @given(strategy)
    def programs_hold(plan: Plan) -> None:
        if fails(plan):
            smallest[:] = [plan]
            raise _FailsError

    try:
        programs_hold()
    except _FailsError:
        return smallest[0]
    return None


class _FailsError(Exception):
    """Tells Hypothesis that a program fails."""
