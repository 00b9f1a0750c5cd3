"""MongoDB messages, found in bytes and put together again. No I/O.

After the manual's page "MongoDB Wire Protocol": a header of four little-endian integers (length, request, the request it
answers, operation), then the operation's own bytes. OP_MSG carries one document (section kind 0) and any number of document
sequences (kind 1), and may end in a CRC-32C checksum. A message that is changed loses its checksum, which the protocol
allows; it is never recomputed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

OP_REPLY = 1
OP_QUERY = 2004
OP_COMPRESSED = 2012
OP_MSG = 2013
KNOWN = frozenset({OP_REPLY, OP_QUERY, OP_COMPRESSED, OP_MSG})

LIMIT = 48_000_000 + 16_384
"""A server's ``maxMessageSizeBytes``, and room for what surrounds the documents."""

CHECKSUM = 1 << 0
MORE_TO_COME = 1 << 1
EXHAUST_ALLOWED = 1 << 16

_HEADER = struct.Struct("<iiii")
_INT = struct.Struct("<i")
_FLAGS = struct.Struct("<I")
_SMALLEST_DOCUMENT = 5


class FrameError(Exception):
    """A message's body does not hold what its header promises."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One whole message. ``data`` are its bytes, header included."""

    request: int
    response_to: int
    operation: int
    data: bytes

    @property
    def flags(self) -> int:
        """The flag bits of an OP_MSG."""
        flags: int = _FLAGS.unpack_from(self.data, 16)[0]
        return flags


@dataclass(frozen=True, kw_only=True, slots=True)
class Sections:
    """An OP_MSG taken apart: documents are still BSON."""

    flags: int
    body: bytes
    sequences: dict[str, list[bytes]] = field(default_factory=dict)


class Reader:
    """Finds the messages in the bytes of one direction, however they are chunked.

    When the bytes are not of the protocol, ``error`` says why and stays: from there on everything is kept in `rest`.
    """

    __slots__ = ("_chunks", "_have", "_need", "error")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 0
        self.error: str | None = None

    @property
    def rest(self) -> bytes:
        """Bytes that belong to no whole message."""
        return b"".join(self._chunks)

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that these bytes complete."""
        if self._chunks:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need or self.error:
                return []  # a long message is joined once, when it is whole
            data = b"".join(self._chunks)
        found: list[Message] = []
        at, end = 0, len(data)
        self._need = 0
        while end - at >= _HEADER.size:
            length, request, response_to, operation = _HEADER.unpack_from(data, at)
            if operation not in KNOWN or not _HEADER.size <= length <= LIMIT:
                self.error = f"no operation {operation} of {length} bytes"
                break
            if at + length > end:
                self._need = length
                break
            found.append(Message(request=request, response_to=response_to, operation=operation, data=data[at : at + length]))
            at += length
        self._chunks = [data[at:]] if at < end else []
        self._have = end - at
        return found


def sections_of(message: Message) -> Sections:
    """Take an OP_MSG apart.

    Raises:
        FrameError: it is not whole, has no body or two, or a section of an unknown kind.
    """
    data = message.data
    try:
        (flags,) = _FLAGS.unpack_from(data, 16)
        at, end = 20, len(data) - (4 if flags & CHECKSUM else 0)
        body: bytes | None = None
        sequences: dict[str, list[bytes]] = {}
        while at < end:
            kind = data[at]
            (length,) = _INT.unpack_from(data, at + 1)
            start, after = at + 1, at + 1 + length
            if length < _SMALLEST_DOCUMENT or after > end:
                raise FrameError("a section without its end")
            if kind == 0 and body is None:
                body = data[start:after]
            elif kind == 1:
                name, documents = _sequence(data, start + 4, after)
                sequences.setdefault(name, []).extend(documents)
            else:
                raise FrameError(f"a section of kind {kind}")
            at = after
    except struct.error as e:
        raise FrameError("a message cut short") from e
    if body is None or at != end:
        raise FrameError("a message without a body")
    return Sections(flags=flags, body=body, sequences=sequences)


def _sequence(data: bytes, at: int, end: int) -> tuple[str, list[bytes]]:
    stop = data.find(b"\0", at, end)
    if stop < 0:
        raise FrameError("a document sequence without a name")
    name = data[at:stop].decode("utf-8", "replace")
    at = stop + 1
    documents: list[bytes] = []
    while at < end:
        (length,) = _INT.unpack_from(data, at)
        if length < _SMALLEST_DOCUMENT or at + length > end:
            raise FrameError("a document without its end")
        documents.append(data[at : at + length])
        at += length
    return name, documents


def op_msg(*, request: int, response_to: int, flags: int, body: bytes) -> bytes:
    """Return an OP_MSG with one body section. A checksum flag is cleared: there is none."""
    payload = _FLAGS.pack(flags & ~CHECKSUM) + b"\0" + body
    return _HEADER.pack(16 + len(payload), request, response_to, OP_MSG) + payload


def wanting_an_answer(message: Message) -> bytes:
    """Return an OP_MSG without checksum with the flag cleared that says that no answer is wanted."""
    data = message.data
    return data[:16] + _FLAGS.pack(message.flags & ~MORE_TO_COME) + data[20:]


def query_of(message: Message) -> tuple[str, bytes, int]:
    """Return collection, query document and where that begins, of a legacy OP_QUERY. Raises FrameError."""
    data = message.data
    stop = data.find(b"\0", 20)
    if stop < 0:
        raise FrameError("a query without a collection")
    at = stop + 1 + 8
    return data[20:stop].decode("utf-8", "replace"), _document(data, at), at


def reply_of(message: Message) -> tuple[bytes, int]:
    """Return the first document of a legacy OP_REPLY and where it begins. Raises FrameError."""
    return _document(message.data, 36), 36


def with_document(message: Message, at: int, document: bytes) -> bytes:
    """Return a legacy message with the document at ``at`` replaced."""
    old = len(_document(message.data, at))
    data = message.data[:at] + document + message.data[at + old :]
    return _INT.pack(len(data)) + data[4:]


def _document(data: bytes, at: int) -> bytes:
    try:
        (length,) = _INT.unpack_from(data, at)
    except struct.error as e:
        raise FrameError("a message cut short") from e
    if length < _SMALLEST_DOCUMENT or at + length > len(data):
        raise FrameError("a document without its end")
    return data[at : at + length]


def command_name(body: bytes) -> str:
    """Return a document's first key: of a command, its name. Empty if there is none."""
    stop = body.find(b"\0", 5)
    return body[5:stop].decode("utf-8", "replace") if stop > 5 else ""
