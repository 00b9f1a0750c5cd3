"""Refuses database drivers that would freeze a process of greenlets.

psycopg chooses how it waits when it is imported: before gevent's patches it waits in C, and then one client's slow statement
stops every other client of the process, its timers included; a row lock held by one of them is never released. Locust
patches when it is imported, so it has to come first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from harness.model.errors import EnvironmentProblem

DRIVERS = ("psycopg", "pymongo", "urllib3")


def imported_too_early(modules: Iterable[str]) -> list[str]:
    """Return the drivers among the modules that were there before the patches."""
    there = set(modules)
    return [name for name in DRIVERS if name in there]


def refuse_frozen(early: Iterable[str] = ()) -> None:
    """Make sure that no driver that is in use freezes the process.

    Args:
        early: drivers that were imported before gevent's patches.

    Raises:
        EnvironmentProblem: one would.
    """
    if names := list(early):
        raise EnvironmentProblem(
            f"{', '.join(names)} was imported before Locust, and would stop every client while one of them waits; "
            "import locust first, before anything that imports a driver"
        )
    waiting = sys.modules.get("psycopg.waiting")
    if waiting is not None and getattr(waiting, "wait", None) is getattr(waiting, "wait_c", object()):
        raise EnvironmentProblem(
            "psycopg waits in C, which stops every client while one of them waits: it was imported before gevent's patches, or "
            "PSYCOPG_WAIT_FUNC says so; import locust first, and unset PSYCOPG_WAIT_FUNC"
        )
