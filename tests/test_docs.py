"""What the documentation shows works: every command is run, every piece of Python is executed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from harness.invariants import REGISTRY
from harness.model import Books, History, Policy

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN_HERE = {"make demo": "run by its own test below", "make test": "this is what runs it"}


EXAMPLE_RUN = "2026-11-20T10-00-00"


def in_a_shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a reader would: in a shell, where patterns name files."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        timeout=240,
        env={**os.environ, "PATH": path},
    )


def shown() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                if line.startswith("$ "):
                    found.append((page.name, line.removeprefix("$ ").strip()))
    return found


@pytest.mark.parametrize(("page", "command"), [c for c in dict.fromkeys(shown()) if c[1] not in NOT_RUN_HERE and "<" not in c[1]])
def test_a_command_that_is_shown_runs(page: str, command: str, tmp_path: Path) -> None:
    assert shlex.split(command, comments=True)[0] == "racegate", f"{page} shows {command}"
    if "runs/" in command:  # it shows what is done with a run that was made before
        first = ["racegate", "run", "concurrent_creates", "--target", "reference:pg.count_plus_one", "--ops", "100"]
        in_a_shell(shlex.join(first), tmp_path)
        [made] = (tmp_path / "runs").iterdir()
        made.rename(tmp_path / "runs" / EXAMPLE_RUN)

    done = in_a_shell(command, tmp_path)

    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_shows_what_it_promises(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("racegate")), "demo", "--seed", "1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "15 of 15 as expected" in done.stdout
    assert [line.split()[2] for line in done.stdout.splitlines() if line.startswith("published fix")] == ["FAIL"] * 5
    assert [line.split()[2] for line in done.stdout.splitlines() if line.startswith("true fix")] == ["PASS"] * 5


def python_of(page: str) -> str:
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    return str(block)


def executed(page: str) -> dict[str, Any]:
    module = types.ModuleType(page.removesuffix(".md").replace("-", "_"))
    sys.modules[module.__name__] = module
    exec(compile(python_of(page), page, "exec"), module.__dict__)
    return module.__dict__


def test_the_scenario_that_is_shown_is_one() -> None:
    import random

    from harness.model import Seat

    [scenario] = executed("writing-a-scenario.md")["SCENARIOS"]
    settings = {name: setting.default for name, setting in scenario.settings.items()}
    call = next(scenario.program(Seat(client=0, clients=2, random=random.Random(1), settings=settings)))
    assert (call.f, call.token) == ("pay", "invoice-0")


def test_the_invariant_that_is_shown_is_one() -> None:
    try:
        check = executed("writing-an-invariant.md")["amounts_are_positive"]
        books = Books.of(documents=[{"id": "1", "text": "INV-1", "amount": 5}, {"id": "2", "text": "INV-2", "amount": 0}])
        [finding] = check(History.of([]), books, Policy(name="any"))
        assert finding.message == "INV-2 has the amount 0"
    finally:
        REGISTRY.pop("X-POSITIVE", None)
