"""What a store is opened with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """Settings that mean the same for every way of obtaining a store.

    ``connections`` is how many clients may be connected at once; ``fsync`` makes PostgreSQL survive a crash of the machine
    (slower); ``disposable`` is the name of the database in a URL, repeated by its owner; ``folder`` is where logs of a
    server that failed are kept; ``nodes`` is how many a MongoDB replica set has.
    """

    connections: int = 100
    fsync: bool = False
    nodes: int = 1
    disposable: str | None = None
    folder: Path | None = None
