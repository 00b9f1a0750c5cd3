"""MongoDB messages for scripts: what a driver or a server says, as bytes."""

from __future__ import annotations

import struct
from typing import Any

import bson
from bson.binary import Binary

SESSION = bytes(range(16))
LSID = {"id": Binary(SESSION, 4)}


def op(operation: int, body: bytes, *, request: int = 1, response_to: int = 0) -> bytes:
    return struct.pack("<iiii", 16 + len(body), request, response_to, operation) + body


def msg(
    command: dict[str, Any],
    *,
    request: int = 1,
    response_to: int = 0,
    flags: int = 0,
    sequences: dict[str, list[dict[str, Any]]] | None = None,
    checksum: bytes = b"",
) -> bytes:
    body = struct.pack("<I", flags) + b"\0" + bson.encode(command)
    for name, documents in (sequences or {}).items():
        data = name.encode() + b"\0" + b"".join(bson.encode(d) for d in documents)
        body += b"\1" + struct.pack("<i", len(data) + 4) + data
    return op(2013, body + checksum, request=request, response_to=response_to)


def legacy_query(command: dict[str, Any], *, collection: str = "admin.$cmd", request: int = 1) -> bytes:
    body = struct.pack("<i", 0) + collection.encode() + b"\0" + struct.pack("<ii", 0, -1) + bson.encode(command)
    return op(2004, body, request=request)


def legacy_reply(document: dict[str, Any], *, response_to: int = 1) -> bytes:
    body = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(document)
    return op(1, body, request=900, response_to=response_to)


def documents(data: bytes) -> list[dict[str, Any]]:
    """Return the first document of each message."""
    found = []
    while data:
        (length,) = struct.unpack_from("<i", data)
        one, data = data[:length], data[length:]
        (operation,) = struct.unpack_from("<i", one, 12)
        at = {2013: 21, 1: 36}.get(operation) or one.index(b"\0", 20) + 9
        found.append(bson.decode(one[at : at + struct.unpack_from("<i", one, at)[0]]))
    return found
