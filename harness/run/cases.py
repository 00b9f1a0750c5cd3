"""Cases: variant x scenario x settings with the verdict that is expected, and the runs that hold us to it.

Cases are found through the entry point group ``racegate.cases``, the documents' demonstrations through
``racegate.demos``. A case is met when the verdict is the expected one and, for an expected failure, one of the invariants
that it names has spoken. Nothing here looks at a variant's name to decide anything.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from harness.model import UsageError, Verdict
from harness.run.execute import execute
from harness.run.explored import explore
from harness.run.registry import entries
from harness.run.request import build_request
from harness.run.result import RunResult
from harness.run.run_request import RunRequest
from harness.run.stores import Stores


class Case(Protocol):
    """What an entry of the catalogue says. Attributes only, so that a target's package need not import racegate."""

    id: str
    """The catalogue's row and what tells this case from the row's others: ``N01-pg-indexed``."""
    area: str
    store: str
    variant: str
    scenario: str
    settings: Mapping[str, Any]
    scenario_settings: Mapping[str, Any]
    expect: str
    """``pass`` or ``fail``."""
    invariants: tuple[str, ...]
    """Any of these must speak when ``expect`` is ``fail``."""
    engine: str
    """``stress``, or ``explore`` for a window that is too rare to be hit at full speed."""
    clients: int
    ops: int
    policy: str | None
    note: str


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """What a case did: the result of its run, whether that is what was expected, and the seconds it took."""

    case: Case
    seed: int
    result: RunResult
    seconds: float

    @property
    def spoke(self) -> list[str]:
        """The invariants that found a violation or a liveness problem."""
        return sorted({f.invariant for f in self.result.findings if f.finding_class in ("violation", "liveness")})

    @property
    def met(self) -> bool:
        """Whether the run ended as expected."""
        if self.result.verdict is not Verdict(self.case.expect):
            return False
        wanted = set(self.case.invariants)
        return self.case.expect == "pass" or not wanted or bool(wanted & set(self.spoke))

    @property
    def first_sentence(self) -> str:
        """What went wrong first, in one sentence, or an empty string."""
        told = [f.message for f in self.result.findings if f.invariant in self.case.invariants]
        told += [f.message for f in self.result.findings if f.finding_class != "cost"]
        return told[0] if told else ""


@cache
def cases() -> Sequence[Case]:
    """Return all cases. Raises UsageError when two have the same id."""
    found: dict[str, Case] = {}
    for members in entries("racegate.cases").values():
        for case in members:
            if case.id in found:
                raise UsageError(f"two cases are called {case.id!r}: rename one")
            found[case.id] = case
    return list(found.values())


def command_of(case: Case, seed: int) -> str:
    """Return the command that runs this case alone."""
    words = ["racegate", "run", case.scenario, "--target", case.variant, "--clients", case.clients, "--ops", case.ops]
    for name, value in {**case.settings, **case.scenario_settings}.items():
        words += ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    if case.policy:
        words += ["--policy", case.policy]
    return shlex.join(str(word) for word in [*words, "--seed", seed])


def request_of(case: Case, *, seed: int, out: Path) -> RunRequest:
    """Return the run that this case asks for."""
    return build_request(
        scenario=case.scenario,
        target=case.variant,
        chosen={**case.settings, **case.scenario_settings},
        policy=case.policy,
        clients=case.clients,
        ops=case.ops,
        seed=seed,
        out=out,
        engine=case.engine,
        command=command_of(case, seed),
    )


def run_cases(
    chosen: Sequence[tuple[Case, int]],
    stores: Stores,
    *,
    out: Path,
    jobs: int,
    began: Callable[[Case], None] = lambda case: None,
) -> Iterator[CaseResult]:
    """Run cases, each with its seed, ``jobs`` at a time, and yield their results in the order given."""

    def one(case: Case, seed: int) -> CaseResult:
        began(case)
        start = time.perf_counter()
        request = request_of(case, seed=seed, out=out)
        result = explore(request, stores) if case.engine == "explore" else execute(request, stores)
        return CaseResult(case=case, seed=seed, result=result, seconds=time.perf_counter() - start)

    with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="case") as pool:
        waiting: list[Future[CaseResult]] = [pool.submit(one, case, seed) for case, seed in chosen]
        try:
            for future in waiting:
                yield future.result()
        finally:
            for future in waiting:
                future.cancel()
