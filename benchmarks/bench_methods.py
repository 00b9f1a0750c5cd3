"""Documents per second by numbering method, on both stores, with and without other work in the same operation.

The other work is a pause of two milliseconds, as for a call to another service or a page of invoice lines. Where it stands
decides what a gapless counter costs: after the number was drawn everybody waits for it, before that nobody does. Rounds are
interleaved and medians taken, so that what else the machine does falls on all methods alike.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

from benchmarks.fleet import AT, Fleet, nothing
from harness.stores import StoreKind, StoreOptions, open_store

SECONDS = 1.0
ROUNDS = 3
CLIENTS = (1, 8)
WORK = 0.002

PLACE = {"company": "acme", "document_type": "invoice", "branch": "Main", "at": AT, "amount": 100}
PLAIN = {"isolation": "read_committed", "unique_index": False}
ON_MONGO = {"write_concern": "majority", "unique_index": False}


def create(connection: Any, client: int, n: int) -> None:
    """Create a document."""
    connection.call("create", PLACE, f"{client}-{n}", nothing)


def create_and_work(connection: Any, client: int, n: int) -> None:
    """Create a document, with other work after its number was drawn."""
    connection.call("create", PLACE, f"{client}-{n}", lambda point: time.sleep(WORK) if point == "number_taken" else None)


def work_and_create(connection: Any, client: int, n: int) -> None:
    """Do the other work, then create a document."""
    time.sleep(WORK)
    create(connection, client, n)


METHODS = (
    ("native sequence", "pg.native_sequence", create, "gaps"),
    ("counter row", "pg.counter_row", create, "gapless"),
    ("counter row, one statement", "pg.counter_row_one_statement", create, "gapless"),
    ("block allocation, 20 a block", "pg.block_allocation", create, "gaps accounted for"),
    ("MongoDB counter", "mongo.counter_document", create, "gaps"),
    ("MongoDB transaction", "mongo.counter_in_transaction", create, "gapless"),
    ("native sequence, then work", "pg.native_sequence", create_and_work, "gaps"),
    ("counter row early, then work", "pg.counter_row", create_and_work, "gapless"),
    ("work, then counter row last", "pg.counter_row", work_and_create, "gapless"),
    ("block allocation, then work", "pg.block_allocation", create_and_work, "gaps accounted for"),
    ("MongoDB counter, then work", "mongo.counter_document", create_and_work, "gaps"),
    ("MongoDB transaction, then work", "mongo.counter_in_transaction", create_and_work, "gapless"),
)


def main() -> None:
    """Print the table."""
    stores = {
        "pg": open_store(StoreKind.POSTGRES, "embedded", StoreOptions(connections=60, fsync=True)),
        "mongo": open_store(StoreKind.MONGO, "embedded", StoreOptions(connections=60, fsync=True)),
    }
    rates: dict[tuple[str, int], list[float]] = {(name, c): [] for name, *_ in METHODS for c in CLIENTS}
    try:
        for _ in range(ROUNDS):
            for name, variant, job, _ in METHODS:
                store = stores[variant.split(".")[0]]
                fleet = Fleet(variant=variant, job=job, settings=PLAIN if variant.startswith("pg") else ON_MONGO)
                for clients in CLIENTS:
                    database = store.create_database()
                    fleet.install(database)
                    rates[name, clients].append(fleet.rate(database, clients, SECONDS))
                    store.drop_database(database)
                print(f"  {name}: {', '.join(f'{rates[name, c][-1]:,.0f}' for c in CLIENTS)}", file=sys.stderr, flush=True)
    finally:
        for store in stores.values():
            store.close()
    print(f"{'method':<34}{'numbers':<22}" + "".join(f"{f'{c} client' + 's' * (c > 1):>12}" for c in CLIENTS))
    for name, _, _, kind in METHODS:
        figures = "".join(f"{statistics.median(rates[name, c]):>12,.0f}" for c in CLIENTS)
        print(f"{name:<34}{kind:<22}{figures}")


if __name__ == "__main__":
    main()
