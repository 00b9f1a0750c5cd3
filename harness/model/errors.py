"""Errors by whose fault they are, with the exit status that each one means.

A message names what was wrong, what was expected and what to do, on one line. Anything that is not one of
these and reaches the command line is a bug in racegate and is reported as such.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class ExitStatus(IntEnum):
    """What every command exits with."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    ENVIRONMENT = 3
    UNKNOWN = 4


class RacegateError(Exception):
    """Base of every error that racegate raises on purpose."""

    exit_status = ExitStatus.ENVIRONMENT


class UsageError(RacegateError):
    """The call or its configuration is wrong: the user can mend it."""

    exit_status = ExitStatus.USAGE


class EnvironmentProblem(RacegateError):
    """The machine, a store or a file is not in a state to work with: not reachable, full, missing."""

    exit_status = ExitStatus.ENVIRONMENT


class DamagedHistory(EnvironmentProblem):
    """A history file holds something that no recorder wrote. A torn last line is not damage."""


class UnsafeStore(UsageError):
    """A writing run was pointed at a store that nobody marked as disposable."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint naming the closest known name, or an empty string: ``"; did you mean 'x'?"``."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
