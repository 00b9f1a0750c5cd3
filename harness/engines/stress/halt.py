"""Lets clients stand still at a named point of their operation until what is to happen there has happened.

A small memory-mapped file, shared by the worker processes and whoever hurts the servers: the first word says at which point
clients are to stand, and each client has a word that says whether it stands there, or did in the operation that it is at.
"""

from __future__ import annotations

import mmap
import struct
import threading
from collections.abc import Sequence
from pathlib import Path

_WORD = struct.Struct("=q")

_STANDING, _GONE_ON = 1, 2

_LOOK = 0.005
"""Seconds between two looks of a client that stands still."""


class Halt:
    """The points of a run at which clients may be made to stand.

    Args:
        path: the file, made if it is not there.
        clients: how many there are.
        points: the names of the points, the same everywhere.
    """

    def __init__(self, path: Path, *, clients: int, points: Sequence[str]) -> None:
        self._points = tuple(dict.fromkeys(points))
        self._clients = clients
        size = _WORD.size * (1 + clients)
        if not path.exists():
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)

    def ask(self, point: str) -> None:
        """Let every client that comes to the point from now on stand still there."""
        self._set(0, 1 + self._points.index(point))

    def lift(self) -> None:
        """Let everybody go on."""
        self._set(0, 0)

    def standing(self) -> list[int]:
        """Return the clients that stand still."""
        return [client for client in range(self._clients) if self._get(1 + client) == _STANDING]

    def waiting(self) -> bool:
        """Tell whether anybody who stood still has yet to hear how the operation ended."""
        return any(self._get(1 + client) for client in range(self._clients))

    def pass_by(self, client: int, point: str, over: threading.Event) -> None:
        """A client has come to a point: go on at once, or when `lift` says so, or when the race is over."""
        asked = self._get(0)
        if not asked or self._points[asked - 1] != point:
            return
        self._set(1 + client, _STANDING)
        while self._get(0) == asked and not over.wait(_LOOK):
            pass
        self._set(1 + client, _GONE_ON)

    def heard(self, client: int) -> None:
        """A client has heard how its operation ended."""
        self._set(1 + client, 0)

    def close(self) -> None:
        """Release the map. The file stays with the run."""
        self._map.close()

    def _get(self, word: int) -> int:
        (value,) = _WORD.unpack_from(self._map, word * _WORD.size)
        return int(value)

    def _set(self, word: int, value: int) -> None:
        _WORD.pack_into(self._map, word * _WORD.size, value)
