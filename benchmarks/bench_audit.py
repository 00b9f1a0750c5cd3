"""Audit: seconds and peak memory of racegate audit on ten million documents in PostgreSQL (RACEGATE_BENCH_DOCUMENTS for more).

The documents have scope, period, printed number, token, status, date and amount; one is there twice and one is missing. The
command runs in a process of its own, as a user runs it; the peak is that process's resident set.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

DOCUMENTS = 10_000_000
SCOPES = 1_000
BOOKS = """
policy = { name = "bench", format = "INV-{00000}", continuity = "gapless", scope_keys = ["company"] }
[books.documents]
sql = "SELECT id, company AS scope, number, text, token, status, dated, amount FROM invoices"
[books.counters]
sql = "SELECT company AS scope, value FROM counters"
"""
FILL = """
    CREATE TABLE invoices (id bigint, company text, number bigint, text text, token text, status text, dated timestamptz,
                           amount bigint);
    INSERT INTO invoices SELECT n, 'company-' || n % {scopes}, n / {scopes} + 1, 'INV-' || lpad((n / {scopes} + 1)::text, 5, '0'),
        'c' || n % 7 || '-' || n, 'issued', timestamptz '2026-01-01' + n * interval '1 second', 100 + n % 1000
        FROM generate_series(0, {last}) n;
    CREATE TABLE counters AS SELECT company, max(number) AS value FROM invoices GROUP BY company;
    DELETE FROM invoices WHERE id = {last} / 2;
    UPDATE invoices SET number = number - 1, text = 'INV-' || lpad((number - 1)::text, 5, '0') WHERE id = {last} / 3;
"""


def measured(command: list[str]) -> tuple[float, float, float, int]:
    """Run a command; return seconds, those that it computed itself, its own peak in MB, and its exit status."""
    began = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)


def main() -> None:
    """Fill a database, audit it, print the figures."""
    import psycopg

    from harness.stores import StoreKind, StoreOptions, open_store

    documents = int(os.environ.get("RACEGATE_BENCH_DOCUMENTS", DOCUMENTS))
    store = open_store(StoreKind.POSTGRES, "embedded", StoreOptions())
    try:
        database = store.create_database()
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute(FILL.format(scopes=SCOPES, last=documents - 1).encode())
        with tempfile.TemporaryDirectory() as folder:
            config, out = Path(folder) / "racegate.toml", Path(folder) / "found.json"
            config.write_text(BOOKS)
            words = ["audit", "--postgres", database.url, "--config", str(config), "--json", str(out)]
            words += ["--timeout", "3600"]  # seconds; the default is for databases that others work with
            seconds, computed, peak, status = measured(
                [sys.executable, "-c", "from harness.cli.main import entry; entry()", *words]
            )
            found = json.loads(out.read_text())
    finally:
        store.close()
    findings = ", ".join(f"{f['invariant']} ({f['total']})" for f in found["findings"])
    spent = f"{seconds:.1f} s ({computed:.1f} s of its own), peak {peak:.0f} MB"
    print(f"{found['rows']['documents']:>12,} documents: {spent}, exit status {status}; {findings}")


if __name__ == "__main__":
    main()
