from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.wire.postgres import frames
from harness.wire.postgres.frames import CLIENT_LIMITS, SERVER_LIMITS, STARTUP, FrameError, Reader, cstring
from tests.harness.wire.postgres.said import SYNC, bind, execute, message, parse, query, ready, row, startup, tag


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def test_messages_are_found_where_they_are() -> None:
    said = [query("SELECT 1"), parse("SELECT $1", "s"), bind(b"7", statement="s"), execute(), SYNC]
    found = Reader(CLIENT_LIMITS).feed(b"".join(said))
    assert found == [(said_[0], said_) for said_ in said]


def test_half_a_message_needs_more() -> None:
    reader = Reader(SERVER_LIMITS)
    data = row(b"x" * 100)
    assert reader.feed(data[:50]) == []
    assert (reader.rest, reader.error) == (data[:50], None)
    assert reader.feed(data[50:]) == [(ord("D"), data)]
    assert reader.rest == b""


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"HTTP/1.1 200 OK", "no message 'H' of 1414811695 bytes"),
        (b"?\0\0\0\4", "no message '?' of 4 bytes"),
        (b"Q\0\0\0\3", "no message 'Q' of 3 bytes"),
        (b"S\0\1\0\0", "no message 'S' of 65536 bytes"),
        (b"Q\xff\xff\xff\xff", "no message 'Q' of -1 bytes"),
    ],
)
def test_what_is_no_message_is_an_error_that_stays(data: bytes, error: str) -> None:
    reader = Reader(CLIENT_LIMITS)
    assert reader.feed(SYNC + data) == [(ord("S"), SYNC)]
    assert reader.error == error
    assert reader.feed(SYNC) == []
    assert reader.rest == data + SYNC


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x16\x03\x01", "a TLS handshake without a request for it"),
        (b"GET / HTTP/1.1\r\n", "no start-up message of 1195725856 bytes"),
        (b"\0\0\0\7", "no start-up message of 7 bytes"),
    ],
)
def test_what_is_no_startup_is_an_error(data: bytes, error: str) -> None:
    reader = Reader(CLIENT_LIMITS, startup=True)
    assert reader.feed(data) == []
    assert reader.error == error


def test_startup_gives_one_message_at_a_time() -> None:
    reader = Reader(CLIENT_LIMITS, startup=True)
    ask = frames.SSL_REQUEST.to_bytes(4, "big")
    first, second = b"\0\0\0\x08" + ask, startup(user="u")
    assert reader.feed(first + second) == [(STARTUP, first)]
    assert reader.feed(b"") == [(STARTUP, second)]


MESSAGES = st.lists(
    st.one_of(
        st.binary(max_size=300).map(lambda b: message("Q", b)),
        st.binary(max_size=300).map(lambda b: message("B", b)),
        st.binary(max_size=30).map(lambda b: message("E", b)),
        st.just(SYNC),
    ),
    max_size=12,
)


@given(MESSAGES, st.lists(st.integers(0, 4000), max_size=12))
@settings(deadline=None)
def test_any_chunking_gives_the_same_messages_and_joining_them_gives_the_input(said: list[bytes], cuts: list[int]) -> None:
    data = b"".join(said)
    reader = Reader(CLIENT_LIMITS)
    found = [m for chunk in chunked(data, cuts) for m in reader.feed(chunk)]
    assert found == Reader(CLIENT_LIMITS).feed(data)
    assert b"".join(m for _, m in found) == data


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6), st.booleans())
@settings(deadline=None)
def test_whatever_the_bytes_are_none_is_lost_and_chunking_does_not_matter(data: bytes, cuts: list[int], startup: bool) -> None:
    reader, whole = Reader(SERVER_LIMITS, startup=startup), Reader(SERVER_LIMITS, startup=startup)
    found = [m for chunk in chunked(data, cuts) for m in reader.feed(chunk)]
    joined = b"".join(m for _, m in found) + reader.rest
    assert joined == data
    if not startup:
        assert (found, reader.rest, reader.error) == (whole.feed(data), whole.rest, whole.error)


def test_a_long_message_in_small_chunks_is_joined_once() -> None:
    data = row(b"x" * 2_000_000) + tag("SELECT 1") + ready()
    reader = Reader(SERVER_LIMITS)
    found = [m for at in range(0, len(data), 1000) for m in reader.feed(data[at : at + 1000])]
    assert [kind for kind, _ in found] == list(b"DCZ")
    assert b"".join(m for _, m in found) == data


def test_a_string_without_an_end_is_an_error() -> None:
    assert cstring(b"ab\0cd\0", 3) == (b"cd", 6)
    with pytest.raises(FrameError, match="a string without an end"):
        cstring(b"abc", 0)
