"""A driver that would freeze a process of greenlets is refused, and says why."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.engines.load.drivers import imported_too_early, refuse_frozen
from harness.model import EnvironmentProblem

CHECK = "from harness.engines.load.drivers import refuse_frozen; refuse_frozen(); print('cooperates')"


def run(program: str, **environment: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    return done.stdout.strip(), done.stderr.strip().splitlines()[-1] if done.stderr else ""


def test_a_driver_imported_after_locust_cooperates() -> None:
    assert run(f"import locust, psycopg; {CHECK}") == ("cooperates", "")


def test_a_driver_imported_before_locust_is_refused() -> None:
    _, says = run(f"import psycopg, locust; {CHECK}")

    assert "psycopg waits in C" in says
    assert "import locust first" in says


def test_a_driver_that_was_told_to_wait_in_c_is_refused() -> None:
    _, says = run(f"import locust, psycopg; {CHECK}", PSYCOPG_WAIT_FUNC="wait_c")

    assert "unset PSYCOPG_WAIT_FUNC" in says


def test_drivers_that_were_there_before_the_patches_are_named() -> None:
    assert imported_too_early(["os", "pymongo", "json"]) == ["pymongo"]
    with pytest.raises(EnvironmentProblem, match="pymongo was imported before Locust"):
        refuse_frozen(["pymongo"])
