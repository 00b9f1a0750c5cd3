"""Breaks the invariants in every way and tells which mutants no test noticed: python -m tests.mutation [part of a path ...].

``survivors.md`` beside this file lists the mutants that need not be noticed, each with why. The exit status is 1 if another one
lives; 3 if the tests could not be run.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.mutation.mutants import Mutant

ROOT = Path(__file__).resolve().parents[2]
LISTED = Path(__file__).with_name("survivors.md")


def main(arguments: list[str]) -> int:
    """Run the mutants of the modules whose path has one of the given parts in it; all without any."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", help="only modules whose path has one of these in it")
    parser.add_argument("--sample", type=int, metavar="N", help="try only N mutants, drawn with --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="mutants tried at a time")
    parser.add_argument(
        "--unexplained", action="store_true", help=f"leave out those that {LISTED.name} explains: they take longest"
    )
    parser.add_argument("--listed", type=Path, metavar="FILE", help="try only those that this file lists, as survivors.md does")
    asked = parser.parse_args(arguments)
    os.environ.update(CI="1", POLARS_MAX_THREADS="1", PYTHONHASHSEED="0")
    os.chdir(ROOT)

    import pytest

    from tests.mutation.mutants import mutants_of, sources
    from tests.mutation.running import OPTIONS, TESTS, Run

    mutants = [m for path in sources(ROOT, asked.parts) for m in mutants_of(path, ROOT)]
    if asked.listed is not None:
        names = re.findall(r"^- `(.+?)`:", asked.listed.read_text(), re.MULTILINE)
        mutants = [m for m in mutants if m.name in set(names)]
    if asked.unexplained:
        mutants = [m for m in mutants if m.name not in explained(LISTED)]
    if asked.sample is not None:
        drawn = random.Random(asked.seed).sample(range(len(mutants)), min(asked.sample, len(mutants)))
        mutants = [mutants[at] for at in sorted(drawn)]  # neighbours are noticed by the same tests
    began = time.monotonic()

    def tell(mutant: Mutant, noticed: bool, done: int, of: int) -> None:
        if not noticed:
            print(f"\rlives: {mutant.path}:{mutant.lines[0]} {mutant.where}: {mutant.before} -> {mutant.after}", flush=True)
        print(f"\r{done} of {of} mutants, {time.monotonic() - began:.0f} s ", end="", file=sys.stderr, flush=True)

    run = Run(mutants=mutants, root=ROOT, jobs=asked.jobs, tell=tell)
    status = pytest.main([*OPTIONS, *TESTS], plugins=[run])
    if status != 0 or len(run.noticed) < len(mutants):
        print(f"the tests did not run to their end (pytest: {status!r})", file=sys.stderr)
        return 3
    return _told(mutants, run.noticed, time.monotonic() - began)


def _told(mutants: list[Mutant], noticed: dict[str, bool], seconds: float) -> int:
    """Print the shares by module and the survivors that nobody explained; return the exit status."""
    known = explained(LISTED)
    print("\n")
    for path, count in sorted(Counter(m.path.as_posix() for m in mutants).items()):
        dead = sum(noticed[m.name] for m in mutants if m.path.as_posix() == path)
        print(f"{path:<55} {dead:>4} of {count:>4} noticed")
    survivors = [m.name for m in mutants if not noticed[m.name]]
    unexplained = [name for name in survivors if name not in known]
    excused = len(survivors) - len(unexplained)
    share = 1 - len(unexplained) / max(1, len(mutants) - excused)
    print(f"{'all':<55} {len(mutants) - len(survivors):>4} of {len(mutants):>4} noticed, in {seconds:.0f} s")
    print(
        f"survivors: {len(survivors)}, of which {excused} are explained in {LISTED.name}; of all others {share:.1%} are noticed"
    )
    for name in unexplained:
        print(f"- `{name}`: ")
    stale = [name for name in known if noticed.get(name)]
    for name in stale:
        print(f"listed as a survivor, and noticed: {name}")
    return 1 if unexplained or stale else 0


def explained(path: Path) -> dict[str, str]:
    """Return the listed survivors with why they may live."""
    return dict(re.findall(r"^- `(.+?)`: (.+)$", path.read_text() if path.is_file() else "", re.MULTILINE))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
