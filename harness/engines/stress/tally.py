"""Counts that outlive the process that counts: a small memory-mapped file, one row per client.

The parent reads progress from it without a message being sent, and still knows after a worker was killed how far each of
its clients had come.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_ROW = struct.Struct("=6q")
_FIELDS = ("invoked", "ok", "fail", "info", "generation", "busy_since")


class Tally:
    """Per client: operations invoked, ok, fail and info; process generations used; and since when (ns) it is busy."""

    def __init__(self, path: Path, *, clients: int) -> None:
        if not path.exists():
            path.write_bytes(bytes(_ROW.size * clients))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _ROW.size * clients)
        self._clients = clients

    def read(self, client: int) -> dict[str, int]:
        """Return the client's counts by name."""
        return dict(zip(_FIELDS, _ROW.unpack_from(self._map, client * _ROW.size), strict=True))

    def add(self, client: int, field: str, amount: int = 1) -> None:
        """Add to one count. Each client has one writer, so no lock is needed."""
        at = client * _ROW.size + _FIELDS.index(field) * 8
        (value,) = struct.unpack_from("=q", self._map, at)
        struct.pack_into("=q", self._map, at, value + amount)

    def set(self, client: int, field: str, value: int) -> None:
        """Set one count."""
        struct.pack_into("=q", self._map, client * _ROW.size + _FIELDS.index(field) * 8, value)

    def totals(self) -> dict[str, int]:
        """Return the sums over all clients of invoked, ok, fail and info."""
        rows = [self.read(client) for client in range(self._clients)]
        return {name: sum(row[name] for row in rows) for name in _FIELDS[:4]}

    def close(self) -> None:
        """Release the map. The file stays with the run."""
        self._map.close()
