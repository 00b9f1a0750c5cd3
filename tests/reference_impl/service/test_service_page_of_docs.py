"""docs/service.md is a session that really happens: every command is run, every answer is the one that is shown."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.cli.test_serve_command import serving

ROOT = Path(__file__).parents[3]
SHOWN = re.findall(r"```shell-session\n(.*?)```", (ROOT / "docs" / "service.md").read_text(), re.DOTALL)
SESSION = [
    (command, answer.strip()) for block in SHOWN for command, _, answer in (c.partition("\n") for c in block.split("$ ")[1:])
]


def said(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The service that the page starts, on a port of its own."""
    [words] = [command.split() for command, _ in SESSION if command.startswith("racegate serve")]
    with serving(*words[2:-2]) as (_, url):
        yield url


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: the session of docs/service.md is not tried")
def test_the_session_happens_as_it_is_shown(address: str) -> None:
    asked = [(command, answer) for command, answer in SESSION if command.startswith("curl")]

    assert len(asked) >= 7
    for command, answer in asked:
        assert said(command.replace("localhost:8000", address), ROOT).stdout.strip() == answer, command


def test_the_example_fails_as_the_page_says(tmp_path: Path) -> None:
    [command] = [command for command, _ in SESSION if command.startswith("racegate explore")]

    done = said(command.replace("examples/", f"{ROOT}/examples/"), tmp_path)

    assert done.returncode == 1, done.stderr
    assert "INV-00001 was issued twice" in done.stdout
