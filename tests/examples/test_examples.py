"""Each example: its bug is found at full speed and by exploring, through the unmodified service; its fix is quiet."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.stores import Database
from harness.stores.base import StoreKind

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
EXAMPLES = Path(__file__).parents[2] / "examples"
NPM_LIMIT = 240


@dataclass(frozen=True, kw_only=True)
class Example:
    """An example: its folder, the setting that is its bug and the one that is its fix, and what the bug breaks."""

    name: str
    bug: str
    fix: str
    breaks: frozenset[str]


NODE = [
    Example(
        name="express-mongoose",
        bug='NUMBERING = "count"',
        fix='NUMBERING = "counter"',
        breaks=frozenset({"N-UNIQ"}),
    ),
    Example(name="node-pg", bug='LOCKING = "none"', fix='LOCKING = "row"', breaks=frozenset({"O-DRIFT", "O-INST", "P-NOOVER"})),
]
DJANGO = Example(name="django", bug='LOCKING = "none"', fix='LOCKING = "row"', breaks=frozenset({"P-CONS", "P-ONCE"}))
PHP = Example(
    name="php-pdo", bug='NUMBERING = "refresh"', fix='NUMBERING = "returning"', breaks=frozenset({"N-UNIQ", "N-GAPLESS"})
)
REFERENCE = Example(name="reference", bug="pg.count_plus_one", fix="pg.counter_row", breaks=frozenset({"N-UNIQ"}))

Installed = Callable[[str], Path]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Copies an example and installs what it needs beside it; skipped where there is no Node, or npm reaches no registry."""
    made: dict[str, Path] = {}

    def install(name: str) -> Path:
        if name in made:
            return made[name]
        folder = tmp_path_factory.mktemp("example") / name
        shutil.copytree(EXAMPLES / name, folder)
        if (folder / "package.json").exists():
            if shutil.which("node") is None or shutil.which("npm") is None:
                pytest.skip("node or npm is not installed: the examples in Node are not tested")
            command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefer-offline"]
            try:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_LIMIT, check=False)
            except subprocess.TimeoutExpired:
                pytest.skip(f"npm install did not end within {NPM_LIMIT} s: the examples in Node are not tested")
            if done.returncode:
                pytest.skip(f"npm install failed: the examples in Node are not tested ({done.stderr.strip().splitlines()[-1]})")
        made[name] = folder
        return folder

    return install


def configured(folder: Path, example: Example, database: Database, *, fixed: bool) -> Path:
    """Write the example's configuration with its switch turned, on a database that is there already."""
    text = (folder / "racegate.toml").read_text()
    assert example.bug in text
    text = text.replace(example.bug, example.fix) if fixed else text
    text = text.replace('command = "python service.py"', f'command = ["{sys.executable}", "service.py"]')
    where = f'= "{database.url}"\ndisposable = "{database.name}"'
    path = folder / f"{'fixed' if fixed else 'broken'}.toml"
    path.write_text(text.replace('= "embedded"', where, 1))
    return path


def outcome(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    result = folder / "result.json"
    status = main([*words, "--seed", "1", "--out", str(folder / "runs"), "--json", str(result)])
    return status, json.loads(result.read_text())


def check(example: Example, folder: Path, database: Database) -> None:
    broken, fixed = (configured(folder, example, database, fixed=fixed) for fixed in (False, True))

    status, stressed = outcome(folder, "run", "--config", str(broken))
    assert status == 1
    assert example.breaks & {f["invariant"] for f in stressed["findings"]}

    status, explored = outcome(folder, "explore", "--config", str(broken), "--set", few(stressed))
    assert (status, explored["schedules"]["diverged"]) == (1, 0)
    assert example.breaks & {f["invariant"] for f in explored["findings"]}

    status, stressed = outcome(folder, "run", "--config", str(fixed))
    assert (status, stressed["verdict"]) == (0, "pass"), stressed["findings"]

    status, explored = outcome(folder, "explore", "--config", str(fixed), "--set", few(stressed))
    assert (status, explored["verdict"], explored["schedules"]["coverage"]) == (0, "pass", "exhaustive"), explored["findings"]


def commands(page: str) -> list[str]:
    """Return what a tutorial has its reader type."""
    text = (TUTORIALS / f"{page}.md").read_text()
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def follow(example: Example, folder: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what the example's tutorial says: the bug is found by each command before the fix is turned on, and by none after."""
    configured(folder, example, database, fixed=False).replace(folder / "racegate.toml")
    monkeypatch.chdir(folder)
    fixed = False
    seen: list[tuple[bool, str]] = []
    for command in commands(example.name):
        words = shlex.split(command)
        if words[0] == "sed":
            subprocess.run(words, check=True)
            fixed = True
        elif words[0] == "racegate":
            status, result = outcome(folder, *words[1:])
            found = {f["invariant"] for f in result["findings"]}
            assert status == (0 if fixed else 1), (command, result["findings"])
            assert fixed or example.breaks & found, command
            seen.append((fixed, words[1]))
            if words[1] == "explore":
                assert result["schedules"]["diverged"] == 0
                assert not fixed or result["schedules"]["coverage"] == "exhaustive"
        else:
            assert command == "npm install", command
    assert seen == [(False, "run"), (False, "explore"), (True, "run"), (True, "explore")]


def few(result: dict[str, Any]) -> str:
    """Return the setting that makes the scene small enough to be put back for every interleaving."""
    known = result["facts"]["scenario_settings"]
    return next(f"{name}={value}" for name, value in (("orders", 1), ("payments", 1), ("scopes", 1)) if name in known)


@pytest.mark.parametrize("example", NODE, ids=lambda e: e.name)
def test_an_example_in_node_is_caught_and_its_fix_is_quiet(
    example: Example, installed: Installed, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = installed(example.name)
    kind = StoreKind.MONGO if "mongo =" in (folder / "racegate.toml").read_text() else StoreKind.POSTGRES
    follow(example, folder, request.getfixturevalue(f"{kind.value}_database"), monkeypatch)


def test_the_example_in_django_is_caught_and_its_fix_is_quiet(
    installed: Installed, postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(DJANGO, installed("django"), postgres_database, monkeypatch)


def test_the_example_in_php_is_caught_and_its_fix_is_quiet(
    installed: Installed, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("php") is None:
        pytest.skip("php is not installed: the example in PHP is not tested")
    drivers = subprocess.run(
        ["php", "-r", "echo implode(' ', PDO::getAvailableDrivers());"], capture_output=True, text=True, check=False
    )
    if "pgsql" not in drivers.stdout.split():
        pytest.skip("php has no pdo_pgsql: the example in PHP is not tested")
    follow(PHP, installed("php-pdo"), request.getfixturevalue("postgres_database"), monkeypatch)


def test_the_reference_service_is_caught_and_its_fix_is_quiet(
    installed: Installed, postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    check(REFERENCE, installed("reference"), postgres_database)
