"""Which old run folders can go. Those that failed, and those that nobody can judge, are kept unless asked otherwise."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.model import EnvironmentProblem, RacegateError
from harness.run.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Old:
    """A run folder that may go. ``age`` is in seconds, ``size`` in bytes."""

    path: Path
    verdict: str
    age: float
    size: int


def to_remove(out: Path, *, older: float, keep: int, failing: bool, now: float | None = None) -> list[Old]:
    """Return the run folders directly below ``out`` that can go, oldest first.

    Args:
        out: the folder that ``--out`` named.
        older: seconds; younger runs stay.
        keep: so many of the newest stay, whatever their age.
        failing: also those that failed or are unknown.
        now: seconds since 1970; default: the clock.
    """
    moment = time.time() if now is None else now
    found = [old for path in sorted(out.glob("*/run.json")) if (old := _old(path.parent, moment)) is not None]
    found.sort(key=lambda o: o.age)
    candidates = [o for o in found[keep:] if o.age > older and (failing or o.verdict == "pass")]
    return sorted(candidates, key=lambda o: -o.age)


def remove(olds: Sequence[Old]) -> None:
    """Delete run folders. Raises EnvironmentProblem for one that cannot be deleted."""
    for old in olds:
        try:
            shutil.rmtree(old.path)
        except OSError as e:
            raise EnvironmentProblem(f"cannot remove {old.path}: {e.strerror}") from e


def _old(path: Path, now: float) -> Old | None:
    folder = RunFolder(path)
    try:
        began = datetime.strptime(folder.read_json("run.json")["began"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except (RacegateError, KeyError, TypeError, ValueError):
        return None  # not one of ours, or damaged: nothing that may be deleted unseen
    try:
        verdict = str(folder.read_json("result.json")["verdict"])
    except (RacegateError, KeyError, TypeError):
        verdict = "unfinished"
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    return Old(path=path, verdict=verdict, age=now - began, size=size)
