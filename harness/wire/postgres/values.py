"""Parameters and results as Python values, for showing and for footprints. Pure.

Text format is text in every type. Of the binary formats only the common types are known; the rest stays ``bytes``.
Formats after the server's ``*_send`` functions.
"""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from harness.wire.postgres.frames import FrameError, cstring

_EPOCH = dt.datetime(2000, 1, 1)
_EPOCH_UTC = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_EPOCH_DATE = dt.date(2000, 1, 1)


def _number(form: str) -> Callable[[bytes], Any]:
    unpack = struct.Struct(form).unpack
    return lambda data: unpack(data)[0]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _numeric(data: bytes) -> Decimal:
    digits, weight, sign, _scale = struct.unpack_from("!hhHh", data)
    if sign & 0xC000 == 0xC000:
        return Decimal({0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}.get(sign, "NaN"))
    value = 0
    for group in struct.unpack_from(f"!{max(digits, 0)}h", data, 8):
        value = value * 10_000 + group
    scaled = Decimal(value).scaleb(4 * (weight - digits + 1))
    return -scaled if sign else scaled


def _after(epoch: dt.datetime) -> Callable[[bytes], Any]:
    unpack = struct.Struct("!q").unpack

    def moment(data: bytes) -> Any:
        try:
            return epoch + dt.timedelta(microseconds=unpack(data)[0])
        except OverflowError:
            return "infinity" if data[:1] == b"\x7f" else "-infinity"

    return moment


def _date(data: bytes) -> Any:
    try:
        return _EPOCH_DATE + dt.timedelta(days=struct.unpack("!i", data)[0])
    except OverflowError:
        return "infinity" if data[:1] == b"\x7f" else "-infinity"


_BINARY: dict[int, Callable[[bytes], Any]] = {
    16: _number("!?"),  # bool
    19: _text,  # name
    20: _number("!q"),  # int8
    21: _number("!h"),  # int2
    23: _number("!i"),  # int4
    25: _text,  # text
    26: _number("!I"),  # oid
    114: _text,  # json
    700: _number("!f"),  # float4
    701: _number("!d"),  # float8
    705: _text,  # unknown
    1042: _text,  # bpchar
    1043: _text,  # varchar
    1082: _date,
    1114: _after(_EPOCH),  # timestamp
    1184: _after(_EPOCH_UTC),  # timestamptz
    1700: _numeric,
    2950: lambda data: uuid.UUID(bytes=data),
    3802: lambda data: _text(data[1:]),  # jsonb: a version, then the text
}


def decoded(data: bytes | None, *, binary: bool, oid: int) -> Any:
    """Return one value: text as ``str``, a known binary type as its Python value, anything else as the bytes."""
    if data is None:
        return None
    if not binary:
        return _text(data)
    try:
        return _BINARY[oid](data)
    except (KeyError, struct.error, ValueError, ArithmeticError):
        return data


def bound(body: bytes) -> tuple[bytes, bytes, list[tuple[bytes | None, bool]], list[bool]]:
    """Return portal, statement, parameters (bytes, whether binary) and result formats of a Bind message's body.

    Raises:
        FrameError: the body is not one of Bind.
    """
    portal, at = cstring(body, 0)
    statement, at = cstring(body, at)
    try:
        (count,) = struct.unpack_from("!H", body, at)
        formats = struct.unpack_from(f"!{count}h", body, at + 2)
        at += 2 + 2 * count
        (values,) = struct.unpack_from("!H", body, at)
        at += 2
        found: list[tuple[bytes | None, bool]] = []
        for i in range(values):
            (length,) = struct.unpack_from("!i", body, at)
            at += 4
            binary = bool(formats[0] if count == 1 else formats[i] if i < count else 0)
            if length < 0:
                found.append((None, binary))
                continue
            if at + length > len(body):
                raise FrameError("a parameter without its end")
            found.append((body[at : at + length], binary))
            at += length
        (count,) = struct.unpack_from("!H", body, at)
        results = struct.unpack_from(f"!{count}h", body, at + 2)
    except struct.error as e:
        raise FrameError("a Bind message cut short") from e
    return portal, statement, found, [bool(f) for f in results]


def columns_of(body: bytes) -> list[tuple[str, int, bool]]:
    """Return name, type and whether binary of each column of a RowDescription's body. Raises FrameError."""
    try:
        (count,) = struct.unpack_from("!H", body)
        at, found = 2, []
        for _ in range(count):
            name, at = cstring(body, at)
            _table, _column, oid, _size, _modifier, binary = struct.unpack_from("!IhIhih", body, at)
            found.append((_text(name), oid, bool(binary)))
            at += 18
    except struct.error as e:
        raise FrameError("a RowDescription cut short") from e
    return found


def row_of(body: bytes, columns: Sequence[tuple[str, int, bool]]) -> tuple[Any, ...]:
    """Return the values of a DataRow's body; without columns everything is taken for text. Raises FrameError."""
    try:
        (count,) = struct.unpack_from("!H", body)
        at, found = 2, []
        for i in range(count):
            (length,) = struct.unpack_from("!i", body, at)
            at += 4
            _, oid, binary = columns[i] if i < len(columns) else ("", 25, False)
            found.append(decoded(None if length < 0 else body[at : at + length], binary=binary, oid=oid))
            at += max(length, 0)
    except struct.error as e:
        raise FrameError("a DataRow cut short") from e
    return tuple(found)


def fields_of(body: bytes) -> dict[str, str]:
    """Return the fields of an ErrorResponse's or NoticeResponse's body by their letter; damage ends the list."""
    found: dict[str, str] = {}
    for part in body.split(b"\0"):
        if not part:
            break
        found[chr(part[0])] = _text(part[1:])
    return found
