"""Programs that nobody wrote, against the catalogue: do they find its bugs, and shrink to its interleavings?

For each case the general strategy of its world draws programs, and Hypothesis shrinks the one that breaks what the case names.
Then the case's own scenario is explored, and the two shortest interleavings are held beside each other, statement by statement.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.run.cases import Case, cases
from harness.run.explored import explore
from harness.run.program_search import ProgramFound, search_programs
from harness.run.request import build_request
from harness.run.result import RunResult
from harness.run.stores import Stores
from harness.stores import StoreOptions

IDS = (
    "N01-pg",
    "N01-mongo",
    "N04-pg",
    "N06-pg",
    "N18",
    "P01",
    "P02-pg",
    "P07",
    "P14",
    "O05",
    "O06",
    "S01-pg",
    "S02",
)
SCENES = {"period_rollover": {}, "first_documents": {"scopes": 1}}
SMALL = {"payments": 1, "orders": 1, "items": 1, "stock": 1, "customers": 1}


def interleaving(result: RunResult) -> list[tuple[int, str]]:
    """Return the statements of the shortest failing interleaving, clients named in the order of their first step."""
    found = next((f for f in result.findings if f.schedule is not None), None)
    steps: Sequence[Any] = found.evidence["steps"] if found else ()
    order = list(dict.fromkeys(s["client"] for s in steps))
    return [(order.index(s["client"]), s["statement"].split("{", maxsplit=1)[0]) for s in steps]  # MongoDB's have values in them


def alike(a: list[tuple[int, str]], b: list[tuple[int, str]]) -> bool:
    """Tell whether both clients do the same in both, and take turns as often: two of the shortest, which need not be one."""
    switches = [sum(x[0] != y[0] for x, y in pairwise(steps)) for steps in (a, b)]
    return sorted(a) == sorted(b) and switches[0] == switches[1]


def explored(case: Case, stores: Stores, out: Path, scenario: str, chosen: dict[str, Any], operations: int) -> RunResult:
    request = build_request(
        scenario=scenario,
        target=case.variant,
        chosen={**case.settings, **chosen},
        clients=2,
        budget=60,
        seed=1,
        out=out,
        engine="explore",
    )
    return explore(request, stores, operations=operations, most=2000)


def measure(case: Case, stores: Stores, out: Path) -> list[str]:
    began = time.perf_counter()
    found = search_programs(
        case.variant, stores, chosen=dict(case.settings), wanted=case.invariants, examples=150, drawn_from=1, out=out
    )
    seconds = time.perf_counter() - began
    if not isinstance(found, ProgramFound):
        return [case.id, "not found", "", f"{found.tried}", f"{seconds:.1f}", ""]
    own = explored(case, stores, out, found.world, {"program": str(found.plan)}, found.plan.longest)
    from harness.run.registry import scenario_named

    scene = {name: value for name, value in SMALL.items() if name in scenario_named(case.scenario).settings}
    theirs = explored(case, stores, out, case.scenario, {**SCENES.get(case.scenario, {}), **scene}, 1)
    if not interleaving(theirs):
        theirs = explored(case, stores, out, case.scenario, {**SCENES.get(case.scenario, {}), **scene}, 2)
    a, b = interleaving(own), interleaving(theirs)
    same = "the same" if a == b else "same statements, as many switches" if alike(a, b) else "other"
    if same == "other" and "-v" in sys.argv:
        print(a, b, sep="\n")
    steps = f"{len(a)} and {len(b)} steps: {same}"
    return [case.id, found.trial.invariant, str(found.plan), f"{found.tried}", f"{seconds:.1f}", steps]


def main(ids: Sequence[str] = IDS) -> None:
    by_id = {case.id: case for case in cases()}
    print("case | breaks | smallest program | programs tried | seconds | interleaving of program and catalogue", flush=True)
    with Stores({}, StoreOptions(connections=100)) as stores, tempfile.TemporaryDirectory() as out:
        for wanted in ids:
            print(" | ".join(measure(by_id[wanted], stores, Path(out))), flush=True)


if __name__ == "__main__":
    main([word for word in sys.argv[1:] if word != "-v"] or IDS)
