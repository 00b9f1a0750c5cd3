"""PostgreSQL messages, found in bytes. No I/O.

After start-up every message is one letter, a length (four bytes, counting itself) and a body; the messages before that
have no letter. Limits and letters follow the manual's chapter "Frontend/Backend Protocol" and the server's own checks
(``SocketBackend``: messages that need no more are refused above 10,000 bytes), so that garbage is recognised as such
instead of making the reader wait for a gigabyte.
"""

from __future__ import annotations

import struct

STARTUP = 0
"""The kind given to messages that carry no letter: start-up, cancel and encryption requests."""

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102
TLS_HANDSHAKE = b"\x16"
"""First byte of a TLS record: a client that starts TLS without asking (``sslnegotiation=direct``)."""

SMALL_LIMIT = 10_000
LARGE_LIMIT = 0x3FFFFFFF

_unpack_int = struct.Struct("!i").unpack_from


def _limits(small: bytes, large: bytes) -> list[int]:
    """Return by letter how long a message may say it is; 0 for letters that this side never sends."""
    table = [0] * 256
    for letter in small:
        table[letter] = SMALL_LIMIT
    for letter in large:
        table[letter] = LARGE_LIMIT
    return table


CLIENT_LIMITS = _limits(b"CDEHSXc", b"BFPQdfp")
SERVER_LIMITS = _limits(b"123IKWZcns", b"ACDEGHNRSTVdtv")


class FrameError(Exception):
    """A message's body does not hold what its letter promises."""


Message = tuple[int, bytes]
"""One whole message: its letter as a number, and its bytes, header included."""


class Reader:
    """Finds the messages in the bytes of one direction, however they are chunked.

    Each call of `feed` gives the messages that are whole now; `rest` is what waits for more. When the bytes are not of
    the protocol, ``error`` says why and stays: from there on everything is kept in `rest`.

    Args:
        limits: by letter the largest length, `CLIENT_LIMITS` or `SERVER_LIMITS`.
        startup: the next message has no letter. Whoever reads says when that is over.
    """

    __slots__ = ("_chunks", "_have", "_limits", "_need", "error", "startup")

    def __init__(self, limits: list[int], *, startup: bool = False) -> None:
        self._limits = limits
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 0
        self.startup = startup
        self.error: str | None = None

    @property
    def rest(self) -> bytes:
        """Bytes that belong to no whole message."""
        return b"".join(self._chunks)

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that these bytes complete. In start-up at most one: the next may be of another sort."""
        if self._chunks:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need or self.error:
                return []  # a long message is joined once, when it is whole
            data = b"".join(self._chunks)
        at, found = self._startup(data) if self.startup else self._messages(data)
        if at < len(data):
            self._chunks = [data[at:] if at else data]
            self._have = len(data) - at
        elif self._chunks:
            self._chunks = []
            self._have = self._need = 0
        return found

    def _messages(self, data: bytes) -> tuple[int, list[Message]]:
        found: list[Message] = []
        at, end, limits = 0, len(data), self._limits
        self._need = 0
        while end - at >= 5:
            kind = data[at]
            (length,) = _unpack_int(data, at + 1)
            if not 4 <= length <= limits[kind]:
                self.error = f"no message {chr(kind)!r} of {length} bytes"
                break
            after = at + 1 + length
            if after > end:
                self._need = 1 + length
                break
            found.append((kind, data[at:after]))
            at = after
        return at, found

    def _startup(self, data: bytes) -> tuple[int, list[Message]]:
        self._need = 0
        if data[:1] == TLS_HANDSHAKE:
            self.error = "a TLS handshake without a request for it"
            return 0, []
        if len(data) < 4:
            return 0, []
        (length,) = _unpack_int(data, 0)
        if not 8 <= length <= SMALL_LIMIT:
            self.error = f"no start-up message of {length} bytes"
            return 0, []
        if len(data) < length:
            self._need = length
            return 0, []
        return length, [(STARTUP, data[:length])]


def cstring(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the zero-terminated string at ``at`` and where the next field begins. Raises FrameError if it never ends."""
    end = data.find(b"\0", at)
    if end < 0:
        raise FrameError("a string without an end")
    return data[at:end], end + 1
