"""How the parent and a process of Locust's talk: frames over a socket pair.

A frame is its length in four bytes and that many bytes. The parent's orders are pickled, because a plan is made of objects;
what a process says is JSON. The end of the stream means that the other side is gone.
"""

from __future__ import annotations

import pickle
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

_LENGTH = struct.Struct(">I")


def _as_json(message: Any) -> bytes:
    return orjson.dumps(message, default=str)


class Frames:
    """Joins received bytes to frames, however they were cut."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes in and yield every frame that they complete."""
        self._held += data
        while len(self._held) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._held)
            end = _LENGTH.size + length
            if len(self._held) < end:
                return
            frame = bytes(self._held[_LENGTH.size : end])
            del self._held[:end]
            yield frame


class Channel:
    """One end. Several threads or greenlets may send; one receives.

    Args:
        end: this end of the socket pair.
        encode: makes bytes of what is sent.
        decode: makes a message of what is received.
    """

    def __init__(self, end: socket.socket, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]) -> None:
        self._end = end
        self._encode = encode
        self._decode = decode
        self._frames = Frames()
        self._ready: deque[bytes] = deque()
        self._sending = threading.Lock()

    @classmethod
    def of_parent(cls, end: socket.socket) -> Channel:
        """Return the end that orders."""
        return cls(end, pickle.dumps, orjson.loads)

    @classmethod
    def of_process(cls, end: socket.socket) -> Channel:
        """Return the end that obeys."""
        return cls(end, _as_json, pickle.loads)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._end.fileno()

    def send(self, message: Any) -> bool:
        """Send a message; tell whether the other side is still there to receive it. Raises what encoding raises."""
        frame = self._encode(message)
        try:
            with self._sending:
                self._end.sendall(_LENGTH.pack(len(frame)) + frame)
        except OSError:
            return False
        return True

    def receive(self) -> Any:
        """Wait for one message and return it. Raises EOFError when there is none: the other side is gone."""
        while not self._ready:
            if not self._read():
                raise EOFError
        return self._decode(self._ready.popleft())

    def receive_some(self) -> list[Mapping[str, Any]] | None:
        """Wait for bytes and return the messages that they complete, perhaps none; None at the end of the stream."""
        if not self._ready and not self._read():
            return None
        frames, self._ready = self._ready, deque()
        return [self._decode(frame) for frame in frames]

    def close(self) -> None:
        """Close this end."""
        self._end.close()

    def _read(self) -> bool:
        try:
            data = self._end.recv(1 << 16)
        except OSError:
            return False
        self._ready.extend(self._frames.feed(data))
        return bool(data)
