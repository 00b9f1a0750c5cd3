from __future__ import annotations

import contextlib
import itertools
import struct

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.wire.mongo import frames
from harness.wire.mongo.frames import FrameError, Message, Reader, command_name, sections_of
from tests.harness.wire.mongo.said import legacy_query, legacy_reply, msg, op

FIND = {"find": "t", "$db": "shop"}


def one(data: bytes) -> Message:
    (message,) = Reader().feed(data)
    return message


def test_messages_are_found_where_they_are() -> None:
    first, second = msg(FIND, request=7), legacy_reply({"ok": 1.0}, response_to=3)
    assert Reader().feed(first + second) == [
        Message(request=7, response_to=0, operation=frames.OP_MSG, data=first),
        Message(request=900, response_to=3, operation=frames.OP_REPLY, data=second),
    ]


def test_both_kinds_of_section_and_a_checksum_are_taken_apart() -> None:
    rows = [{"_id": 1}, {"_id": 2}]
    data = msg({"insert": "t"}, sequences={"documents": rows}, flags=frames.CHECKSUM, checksum=b"\1\2\3\4")
    sections = sections_of(one(data))
    assert bson.decode(sections.body) == {"insert": "t"}
    assert [bson.decode(d) for d in sections.sequences["documents"]] == rows
    assert command_name(sections.body) == "insert"


def test_a_changed_message_has_no_checksum() -> None:
    body = bson.encode({"ok": 1})
    data = frames.op_msg(request=5, response_to=4, flags=frames.CHECKSUM | frames.MORE_TO_COME, body=body)
    assert one(data) == Message(request=5, response_to=4, operation=frames.OP_MSG, data=data)
    assert (one(data).flags, sections_of(one(data)).body) == (frames.MORE_TO_COME, body)


def test_legacy_greetings_are_taken_apart_and_changed() -> None:
    message = one(legacy_query({"isMaster": 1, "compression": ["zlib"]}))
    collection, document, at = frames.query_of(message)
    assert (collection, bson.decode(document)) == ("admin.$cmd", {"isMaster": 1, "compression": ["zlib"]})
    changed = frames.with_document(message, at, bson.encode({"isMaster": 1}))
    assert changed == legacy_query({"isMaster": 1})
    reply = one(legacy_reply({"ok": 1.0, "me": "far:1"}))
    document, at = frames.reply_of(reply)
    assert frames.with_document(reply, at, bson.encode({"ok": 1.0})) == legacy_reply({"ok": 1.0})


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "no operation 168636718 of 542393671 bytes"),
        (op(2010, b"x" * 10), "no operation 2010 of 26 bytes"),
        (struct.pack("<iiii", 8, 1, 0, 2013), "no operation 2013 of 8 bytes"),
        (struct.pack("<iiii", 1 << 30, 1, 0, 2013), "no operation 2013 of 1073741824 bytes"),
    ],
)
def test_what_is_no_message_is_an_error_that_stays(data: bytes, error: str) -> None:
    reader = Reader()
    assert len(reader.feed(msg(FIND) + data)) == 1
    assert (reader.error, reader.rest) == (error, data)
    assert reader.feed(msg(FIND)) == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "cut short"),
        (b"\0\0\0\0", "without a body"),
        (b"\0\0\0\0\2" + bson.encode({}), "a section of kind 2"),
        (b"\0\0\0\0" + (b"\0" + bson.encode({})) * 2, "a section of kind 0"),
        (b"\0\0\0\0\0\xff\0\0\0", "a section without its end"),
        (b"\0\0\0\0\1\x08\0\0\0abcd", "a document sequence without a name"),
        (b"\0\0\0\0\1\x0a\0\0\0a\0\xff\0\0\0", "a document without its end"),
    ],
)
def test_damaged_sections_are_an_error(body: bytes, error: str) -> None:
    with pytest.raises(FrameError, match=error):
        sections_of(one(op(2013, body)))


@given(
    st.lists(st.binary(max_size=200).map(lambda b: op(2013, b)) | st.just(msg(FIND)), max_size=8),
    st.lists(st.integers(0, 3000), max_size=10),
)
@settings(deadline=None)
def test_any_chunking_gives_the_same_messages_and_joining_them_gives_the_input(said: list[bytes], cuts: list[int]) -> None:
    data = b"".join(said)
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    reader = Reader()
    found = [m for a, b in itertools.pairwise(edges) for m in reader.feed(data[a:b])]
    assert found == Reader().feed(data)
    assert b"".join(m.data for m in found) == data


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_no_bytes_crash_it_and_none_is_lost(data: bytes) -> None:
    reader = Reader()
    found = reader.feed(data)
    assert b"".join(m.data for m in found) + reader.rest == data
    with contextlib.suppress(FrameError):
        sections_of(Message(request=1, response_to=0, operation=2013, data=b"\0" * 16 + data))
