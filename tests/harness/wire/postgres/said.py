"""PostgreSQL messages for scripts: what a client or a server says, as bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def message(letter: str, body: bytes = b"") -> bytes:
    return letter.encode() + struct.pack("!i", len(body) + 4) + body


def startup(version: int = 196608, **options: str) -> bytes:
    fields = b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in options.items())
    body = struct.pack("!i", version) + fields + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def request(code: int, rest: bytes = b"") -> bytes:
    return struct.pack("!ii", 8 + len(rest), code) + rest


# the client


def query(sql: str) -> bytes:
    return message("Q", sql.encode() + b"\0")


def parse(sql: str, name: str = "", oids: Sequence[int] = ()) -> bytes:
    return message("P", name.encode() + b"\0" + sql.encode() + b"\0" + struct.pack(f"!H{len(oids)}i", len(oids), *oids))


def bind(
    *values: bytes | None, statement: str = "", portal: str = "", binary: bool = False, binary_results: bool = False
) -> bytes:
    body = portal.encode() + b"\0" + statement.encode() + b"\0"
    body += struct.pack("!Hh", 1, int(binary)) + struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return message("B", body + struct.pack("!Hh", 1, int(binary_results)))


def describe(name: str = "", sort: str = "S") -> bytes:
    return message("D", sort.encode() + name.encode() + b"\0")


def execute(portal: str = "", limit: int = 0) -> bytes:
    return message("E", portal.encode() + b"\0" + struct.pack("!i", limit))


def close_statement(name: str) -> bytes:
    return message("C", b"S" + name.encode() + b"\0")


SYNC = message("S")
FLUSH = message("H")
BYE = message("X")
COPY_DONE = message("c")


def copy_data(data: bytes) -> bytes:
    return message("d", data)


# the server


def ready(status: str = "I") -> bytes:
    return message("Z", status.encode())


def tag(text: str) -> bytes:
    return message("C", text.encode() + b"\0")


def error(code: str, text: str = "no") -> bytes:
    return message("E", b"SERROR\0C" + code.encode() + b"\0M" + text.encode() + b"\0\0")


def notice(text: str) -> bytes:
    return message("N", b"SNOTICE\0C00000\0M" + text.encode() + b"\0\0")


def columns(*names: str, oid: int = 25, binary: bool = False) -> bytes:
    body = struct.pack("!H", len(names))
    for name in names:
        body += name.encode() + b"\0" + struct.pack("!IhIhih", 0, 0, oid, -1, -1, int(binary))
    return message("T", body)


def row(*values: bytes | None) -> bytes:
    body = struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return message("D", body)


def parameter_types(*oids: int) -> bytes:
    return message("t", struct.pack(f"!H{len(oids)}i", len(oids), *oids))


def key(backend: int, secret: bytes = b"\1\2\3\4") -> bytes:
    return message("K", struct.pack("!i", backend) + secret)


AUTHENTICATED = message("R", struct.pack("!i", 0))
PARSED = message("1")
BOUND = message("2")
CLOSED = message("3")
NO_DATA = message("n")
SUSPENDED = message("s")
COPY_IN = message("G", b"\0\0\1\0\0")
COPY_BOTH = message("W", b"\0\0\0")
