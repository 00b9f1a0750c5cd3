from __future__ import annotations

import datetime as dt
import math
import struct
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.stores import Database
from harness.wire.postgres.frames import FrameError
from harness.wire.postgres.values import bound, columns_of, decoded, fields_of, row_of
from tests.harness.wire.postgres.said import bind, columns, error, row

IDENTITY = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def test_binary_values_are_what_a_real_server_sends(postgres_database: Database) -> None:
    import psycopg

    asked: dict[str, Any] = {
        "true": True,
        "'-7'::int2": -7,
        "'70000'::int4": 70000,
        "'-9000000000'::int8": -9_000_000_000,
        "'1.5'::float4": 1.5,
        "'2.25'::float8": 2.25,
        "'Grüße'::text": "Grüße",
        "'x'::varchar": "x",
        "12345.678": Decimal("12345.678"),
        "-0.00012": Decimal("-0.00012"),
        "'100000000'::numeric": Decimal(100_000_000),
        "'2026-11-20'::date": dt.date(2026, 11, 20),
        "'infinity'::date": "infinity",
        "'2026-11-20 10:00:00.5'::timestamp": dt.datetime(2026, 11, 20, 10, 0, 0, 500000),
        "'-infinity'::timestamp": "-infinity",
        "'2026-11-20 10:00:00+02'::timestamptz": dt.datetime(2026, 11, 20, 8, tzinfo=dt.UTC),
        f"'{IDENTITY}'::uuid": IDENTITY,
        """'{"a": 1}'::jsonb""": '{"a": 1}',
        "null::int4": None,
    }
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        got = connection.execute(f"SELECT {', '.join(asked)}", binary=True)
        assert got.pgresult is not None
        raw = [decoded(got.pgresult.get_value(0, i), binary=True, oid=got.pgresult.ftype(i)) for i in range(len(asked))]
    assert raw == list(asked.values())


def test_unknown_binary_types_and_damaged_values_stay_bytes() -> None:
    assert decoded(b"\1\2", binary=True, oid=9999) == b"\1\2"
    assert decoded(b"\1\2", binary=True, oid=23) == b"\1\2"
    assert math.isnan(decoded(struct.pack("!hhHh", 0, 0, 0xC000, 0), binary=True, oid=1700))


def test_a_bind_message_is_taken_apart() -> None:
    data = bind(b"7", None, statement="s", portal="p", binary_results=True)
    assert bound(data[5:]) == (b"p", b"s", [(b"7", False), (None, False)], [True])


def test_columns_rows_and_errors_are_taken_apart() -> None:
    described = columns_of(columns("id", "name")[5:])
    assert described == [("id", 25, False), ("name", 25, False)]
    assert row_of(row(b"1", None)[5:], described) == ("1", None)
    assert fields_of(error("40001", "again")[5:]) == {"S": "ERROR", "C": "40001", "M": "again"}


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_damage_is_an_error_and_nothing_worse(data: bytes) -> None:
    for take in (bound, columns_of, lambda d: row_of(d, []), fields_of):
        try:
            take(data)
        except FrameError:
            continue


@given(st.binary(max_size=40), st.sampled_from([16, 20, 23, 701, 1082, 1114, 1184, 1700, 2950, 3802]))
@settings(deadline=None)
def test_no_value_is_too_odd(data: bytes, oid: int) -> None:
    decoded(data, binary=True, oid=oid)


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_bind_message_cut_short_is_an_error(cut: int) -> None:
    data = bind(b"seven", statement="s")[5:]
    with pytest.raises(FrameError):
        bound(data[:-cut])
