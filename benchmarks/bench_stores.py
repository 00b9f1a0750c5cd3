"""Stores: seconds until a server serves, and milliseconds for a fresh database."""

from __future__ import annotations

import time

from harness.stores import StoreKind, StoreOptions, open_store

RUNS = 5


def main() -> None:
    """Print the figures."""
    together = []
    for _ in range(RUNS):
        began = time.perf_counter()
        stores = [open_store(kind, "embedded", StoreOptions()) for kind in StoreKind]
        together.append(time.perf_counter() - began)
        for store in stores:
            store.close()
    print(
        f"both servers, one after the other   median {sorted(together)[RUNS // 2]:.2f} s, worst {max(together):.2f} s (aim < 3)"
    )
    for kind in StoreKind:
        store = open_store(kind, "embedded", StoreOptions())
        began = time.perf_counter()
        for _ in range(RUNS):
            store.drop_database(store.create_database())
        print(f"{kind:<9} fresh database, made and dropped   {(time.perf_counter() - began) / RUNS * 1000:.0f} ms")
        store.close()


if __name__ == "__main__":
    main()
