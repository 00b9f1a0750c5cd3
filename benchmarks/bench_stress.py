"""Stress engine against pgbench: transactions per second of the same SQL, same server, in turn.

Three kinds of transaction: one statement on rows of its own (the client's own cost shows most), the gapless create in one
statement, and the same through the reference (SQLAlchemy, idempotency token, printing, answer).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from harness.engines.stress import StressEngine, StressPlan
from harness.model import Call, Program, ProgramScenario, Seat
from harness.stores import Database, StoreKind, StoreOptions, open_store
from harness.stores.embedded_postgres import postgres_binaries
from harness.targets.base import Checkpoint

SECONDS = 4.0
CLIENTS = (1, 2, 4, 8)

SCHEMA = """
CREATE TABLE counters (scope text, period text, value bigint NOT NULL, PRIMARY KEY (scope, period));
CREATE TABLE documents (id bigint GENERATED ALWAYS AS IDENTITY (CACHE 50), scope text, period text, number bigint, text text,
  token text UNIQUE, amount bigint);
CREATE SEQUENCE tokens CACHE 1000;
"""

GAPLESS = """
WITH taken AS (INSERT INTO counters VALUES ('acme/invoice', '', 1)
  ON CONFLICT (scope, period) DO UPDATE SET value = counters.value + 1 RETURNING value)
INSERT INTO documents (scope, period, number, text, token, amount)
SELECT 'acme/invoice', '', value, 'INV-' || lpad(value::text, 5, '0'), nextval('tokens')::text, 100 FROM taken RETURNING id
"""
INSERT = """
INSERT INTO documents (scope, period, number, text, token, amount)
VALUES ('acme/invoice', '', 1, 'INV-00001', nextval('tokens')::text, 100) RETURNING id
"""


class Statement:
    """A connection that runs one prepared statement."""

    def __init__(self, url: str, sql: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.prepare_threshold = 0
        self._cursor = self._connection.cursor()
        self._sql = sql.encode()

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> Mapping[str, Any]:
        return {"number": self._cursor.execute(self._sql).fetchone()[0]}

    def vanish(self) -> None:
        self._connection.close()

    def close(self) -> None:
        self._connection.close()


@dataclass(frozen=True, kw_only=True)
class StatementTarget:
    """The smallest target there is: a statement."""

    sql: str
    name: str = "benchmark"
    store: str = "postgres"
    operations: frozenset[str] = frozenset({"create"})
    settings: Mapping[str, Any] = field(default_factory=dict)

    def install(self, database: Database | None) -> None:
        assert database is not None
        with psycopg.connect(database.url) as connection:
            connection.execute(SCHEMA.encode())

    def connect(self, database: Database | None, client: int) -> Statement:
        assert database is not None
        return Statement(database.url, self.sql)

    def books(self) -> list[Any]:
        return []


def creates(seat: Seat) -> Program:
    """Create for ever."""
    for n in count():
        yield Call(f="create", token=seat.token(n), arguments={"amount": 100})


SCENARIO = ProgramScenario(name="benchmark", summary="create for ever", behaviour=creates)


def stress(target: Any, database: Database, clients: int) -> float:
    """Return the operations per second of the stress engine, recording included."""
    with tempfile.TemporaryDirectory() as folder:
        plan = StressPlan(
            target=target,
            database=database,
            scenario=SCENARIO,
            clients=clients,
            processes=clients,
            ops=None,
            duration=SECONDS,
            budget=SECONDS + 30,
            seed=1,
            folder=Path(folder),
        )
        last: list[Any] = []
        outcome = StressEngine(plan, last.append).run()
        return float(last[-1].ok / outcome.seconds)


def pgbench(sql: str, database: Database, clients: int) -> float:
    """Return the transactions per second of pgbench running the same prepared statement."""
    return run_pgbench(" ".join(sql.split()) + ";\n", database, clients, SECONDS)


def run_pgbench(text: str, database: Database, clients: int, seconds: float, *, mode: str = "prepared") -> float:
    """Return the transactions per second of pgbench running a script; ``mode`` is how it sends a statement."""
    parts = urlsplit(database.url)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(text)
        script.flush()
        done = subprocess.run(
            [
                postgres_binaries()["pgbench"],
                *("-n", "-M", mode, "-T", str(int(seconds)), "-c", str(clients), "-j", str(min(clients, 2))),
                *("-h", str(parts.hostname), "-p", str(parts.port), "-U", str(parts.username), "-f", script.name),
                database.name,
            ],
            capture_output=True,
            text=True,
            check=False,
            env={"PGPASSWORD": parts.password or "", "PATH": "/usr/bin:/bin"},
        )
    if done.returncode:
        raise RuntimeError(f"pgbench: {done.stderr.strip()}")
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


def main() -> None:
    """Print the table."""
    store = open_store(StoreKind.POSTGRES, "embedded", StoreOptions(connections=100))
    try:
        print(f"{'transaction':<28}{'clients':>8}{'pgbench/s':>12}{'stress/s':>12}{'ratio':>8}")
        for name, sql in (("insert, one statement", INSERT), ("gapless, one statement", GAPLESS)):
            for clients in CLIENTS:
                target = StatementTarget(sql=sql)
                rates = []
                for measure in (lambda d, c=clients, q=sql: pgbench(q, d, c), lambda d, c=clients, t=target: stress(t, d, c)):
                    database = store.create_database()
                    target.install(database)
                    rates.append(measure(database))
                    store.drop_database(database)
                print(f"{name:<28}{clients:>8}{rates[0]:>12,.0f}{rates[1]:>12,.0f}{rates[1] / rates[0]:>8.2f}", flush=True)
    finally:
        store.close()


if __name__ == "__main__":
    main()
