"""Where processes for clients come from: one server that has imported what they need, and is forked for each."""

from __future__ import annotations

import multiprocessing as mp
from multiprocessing.context import ForkServerContext
from typing import Any

COMMON = ("harness.engines.stress.worker", "psycopg", "pymongo", "sqlalchemy")


def forks(target: Any, *modules: str) -> ForkServerContext:
    """Return what makes processes for clients of this target.

    The server imports the common modules, these and those that the target names in its ``preload``, when the first process is
    made; what it has not imported, each process does, which takes a tenth of a second each.
    """
    context = mp.get_context("forkserver")
    context.set_forkserver_preload([*COMMON, *modules, *getattr(target, "preload", ())])
    return context
