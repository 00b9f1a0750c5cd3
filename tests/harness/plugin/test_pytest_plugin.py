"""The plugin as a user's pytest meets it: in sessions of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

SHOWN = Path(__file__).parents[3] / "docs" / "test_invoice_numbers.py"
LOCK = '        connection.execute("LOCK TABLE invoices IN EXCLUSIVE MODE")\n'


def session(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder, without the options of this repository and the plugins of others, which take long to load."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "RACEGATE_"))}
    others = [word for name in ("randomly", "locust", "schemathesis", "hypothesispytest") for word in ("-p", f"no:{name}")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *others, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_file_that_is_shown_has_20_lines_and_passes_as_it_stands(tmp_path: Path) -> None:
    text = SHOWN.read_text()
    assert len(text.splitlines()) <= 20
    (tmp_path / SHOWN.name).write_text(text)

    done = session(tmp_path)

    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


def test_a_race_fails_with_diagram_and_token_and_is_tried_first_next_time_on_every_worker(tmp_path: Path) -> None:
    text = SHOWN.read_text().replace(LOCK, "")
    (tmp_path / "test_one.py").write_text(text)
    (tmp_path / "test_two.py").write_text(text)

    done = session(tmp_path, "-n", "2", "--junitxml", "junit.xml")

    assert done.returncode == 1
    assert done.stdout.count("AssertionError: a number was issued twice") + done.stdout.count("RaceFound: a number") >= 2
    assert re.search(r"E +client 0 +client 1", done.stdout), done.stdout
    assert "harness/" not in done.stdout, "the traceback ends in the user's own test"
    tokens = set(re.findall(r"racegate\.replay\('(rg1:[\w-]+)'", done.stdout))
    assert len(tokens) == 1, "both find the same interleaving"
    kept = [path.read_text().splitlines() for path in (tmp_path / ".pytest_cache" / "d" / "racegate").iterdir()]
    assert {token for token, _ in kept} == tokens
    assert sorted(name.split("::")[0] for _, name in kept) == ["test_one.py", "test_two.py"]
    failures = [case.findtext("failure", "") for case in ET.parse(tmp_path / "junit.xml").iter("testcase")]
    assert all(tokens & set(re.findall(r"rg1:[\w-]+", failure)) for failure in failures)


def test_a_marker_that_makes_no_sense_is_told(tmp_path: Path) -> None:
    wrong = {
        "bugdet=3": "the marker is racegate(budget=",
        "engine='load'": "no engine is called 'load'",
        "budget='soon'": "is not a",
    }
    tests = [f"@pytest.mark.racegate({w})\ndef test_{n}(racegate):\n    pass\n" for n, w in enumerate(wrong)]
    (tmp_path / "test_it.py").write_text("\n\n".join(["import pytest", *tests]))

    done = session(tmp_path)

    assert "3 errors" in done.stdout
    for told in wrong.values():
        assert told in done.stdout


def test_a_session_that_races_nothing_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_nothing():\n    assert not {'polars', 'psycopg', 'pymongo', 'locust.main'} & set(sys.modules)\n"
    )

    done = session(tmp_path)

    assert done.returncode == 0, done.stdout
