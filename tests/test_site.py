"""The documentation builds strictly, says what the code says, and its how-tos do what they show."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from harness.cli.main import main
from harness.invariants import REGISTRY
from harness.stores import Database

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_that_are_made_from_the_code_are_current(generate: ModuleType) -> None:
    for name, page in generate.PAGES.items():
        assert (ROOT / "docs" / name).read_text() == page(), f"docs/{name} is old: run python docs/generate.py"


def test_every_invariant_is_explained_with_its_bug(generate: ModuleType) -> None:
    assert {i for i in REGISTRY if not i.startswith("X-")} == set(generate.BUGS)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "tutorials" / "node-pg.html").exists()


SHOP = """
    CREATE TABLE invoices (id serial PRIMARY KEY, company_id int, invoice_number text, created_at timestamptz DEFAULT now());
    INSERT INTO invoices (company_id, invoice_number) SELECT 1, 'INV-' || lpad(n::text, 5, '0') FROM generate_series(1, 12) n;
"""


def test_the_how_tos_do_what_they_show(
    postgres_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", postgres_database.url)
    shown = []
    for page in ("your-own-service.md", "audit.md"):
        for block in re.findall(r"```console\n(.*?)```", (ROOT / "docs" / "how-to" / page).read_text(), re.DOTALL):
            shown += [line.removeprefix("$ racegate ") for line in block.splitlines()]
    assert [main(shlex.split(command)) for command in shown] == [0] * len(shown)
    assert len(shown) == 3
    assert "PASS" in capsys.readouterr().out
