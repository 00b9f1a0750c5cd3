"""Whether tests on a Docker engine can run here; CI makes sure that they can where it may."""

from __future__ import annotations

from functools import cache

import pytest

from harness.model import EnvironmentProblem
from harness.stores import StoreKind
from harness.stores.docker_engine import Engine
from harness.stores.images import candidates


@cache
def missing() -> str | None:
    """Return what is missing for container tests, in one line, or None."""
    try:
        engine = Engine()
    except EnvironmentProblem as e:
        return str(e)
    try:
        for kind in StoreKind:
            if engine.present(candidates(kind, "")) is None:
                return f"no image for {kind} containers; make images builds one"
    finally:
        engine.close()
    return None


needs_docker = pytest.mark.skipif(missing() is not None, reason=f"no containers here: {missing()}")
