"""The playbook of a MongoDB connection: what is said, what is held, what goes on."""

from __future__ import annotations

import itertools
from typing import Any

import bson
import pytest
from bson.binary import Binary
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.wire.base import ConnectionOpened, Decision, Fate, Result, Status, StepKind, Tunnelled
from harness.wire.conversation import CloseClient, CloseServer, KillServer, Report, ToClient, ToServer
from harness.wire.mongo import frames
from harness.wire.mongo.session import Attempts, MongoSession, result_of
from tests.harness.wire.mongo.said import LSID, SESSION, documents, legacy_query, legacy_reply, msg, op
from tests.harness.wire.playbook import Play, done, step, to_client, to_server

ADDRESS = "127.0.0.1:7777"
FIND: dict[str, Any] = {"find": "t", "filter": {"_id": 7}, "lsid": LSID, "$db": "shop"}
HELLO = {
    "hello": 1,
    "topologyVersion": {"processId": 1, "counter": 2},
    "maxAwaitTimeMS": 10_000,
    "compression": ["zstd", "zlib"],
    "client": {"application": {"name": "till"}, "driver": {"name": "x"}},
    "speculativeAuthenticate": {"saslStart": 1},
}
SET = {
    "isWritablePrimary": True,
    "topologyVersion": {"processId": 1, "counter": 2},
    "hosts": ["far:1", "farther:2"],
    "passives": ["far:3"],
    "setName": "rs",
    "primary": "far:1",
    "me": "far:1",
    "compression": ["zlib"],
    "ok": 1.0,
}


def connection(attempts: Attempts | None = None, *, controlled: bool = True) -> Play:
    return Play(MongoSession(ADDRESS, attempts or Attempts()), controlled=controlled)


def test_the_greeting_loses_compression_and_streaming_and_keeps_the_rest() -> None:
    commands = connection().client(msg(HELLO, flags=frames.EXHAUST_ALLOWED | frames.CHECKSUM, checksum=b"1234"))
    assert to_server(commands) == msg({k: HELLO[k] for k in ("hello", "client", "speculativeAuthenticate")})


def test_the_reply_to_a_greeting_names_the_proxy_as_the_only_member() -> None:
    play = connection()
    play.client(msg(HELLO, request=5))
    commands = play.server(msg(SET, request=9, response_to=5, flags=frames.CHECKSUM, checksum=b"1234"))
    told = {"isWritablePrimary": True, "hosts": [ADDRESS], "setName": "rs", "primary": ADDRESS, "me": ADDRESS, "ok": 1.0}
    assert commands == [ToClient(msg(told, request=9, response_to=5))]


def test_a_secondary_names_no_primary() -> None:
    play = connection()
    play.client(msg({"hello": 1}))
    told = documents(to_client(play.server(msg({**SET, "isWritablePrimary": False}, response_to=1))))
    assert "primary" not in told[0]


def test_a_legacy_greeting_is_rewritten_too() -> None:
    play = connection()
    commands = play.client(legacy_query({"isMaster": 1, "compression": ["zlib"]}))
    assert commands == [ToServer(legacy_query({"isMaster": 1}))]
    told = play.server(legacy_reply({"ismaster": True, "primary": "far:1", "hosts": ["far:1"], "ok": 1.0}))
    want = {"ismaster": True, "primary": ADDRESS, "hosts": [ADDRESS], "ok": 1.0}
    assert told == [ToClient(legacy_reply(want))]


def test_a_driver_that_wants_a_load_balancer_is_refused_with_a_sentence() -> None:
    commands = connection().client(msg({"hello": 1, "loadBalanced": True}, request=3))
    (reply,) = documents(to_client(commands))
    assert reply["ok"] == 0
    assert "remove loadBalanced=true" in reply["errmsg"]
    assert commands[-2:] == [CloseClient(), CloseServer()]


@pytest.mark.parametrize("name", ["ping", "endSessions", "saslStart", "buildInfo", "getParameter", "killCursors"])
def test_what_drivers_say_by_themselves_is_never_held(name: str) -> None:
    data = msg({name: 1, "$db": "admin"})
    assert connection().client(data) == [ToServer(data)]


def test_the_first_real_command_opens_the_connection_and_is_a_step() -> None:
    play = connection()
    play.client(msg(HELLO))
    play.server(msg(SET, response_to=1))
    commands = play.client(msg(FIND, request=2))
    assert commands[0] == Report(ConnectionOpened(connection=1, backend=4321, application_name="till", peer_port=5))
    held = step(commands)
    assert (held.text, held.fingerprint) == ("find t filter: {_id: 7}", "find t filter: {_id: ?}")
    assert (held.parameters, held.kind, held.session, held.status) == ((7,), StepKind.READ, SESSION.hex(), Status.IDLE)
    assert held.body == FIND
    assert play.decide() == [ToServer(msg(FIND, request=2))]
    reply = {"cursor": {"id": 0, "ns": "shop.t", "firstBatch": [{"_id": 7, "n": 1}]}, "ok": 1.0}
    commands = play.server(msg(reply, request=50, response_to=2))
    assert to_client(commands) == msg(reply, request=50, response_to=2)
    assert done(commands).result == Result(rows=1, first_rows=(("{_id: 7, n: 1}",),))


def test_documents_in_a_sequence_are_part_of_the_command() -> None:
    held = step(connection().client(msg({"insert": "t", "ordered": True}, sequences={"documents": [{"a": 1}, {"a": 2}]})))
    assert held.text == "insert t documents: [{a: 1}, {a: 2}]"
    assert held.fingerprint == "insert t documents: ?"
    assert held.parameters == (1, 2)


def transaction(name: str, value: Any, **more: Any) -> dict[str, Any]:
    return {name: value, "lsid": LSID, "txnNumber": 4, "autocommit": False, "$db": "shop", **more}


def test_a_transaction_begins_with_its_first_command_and_ends_with_its_commit() -> None:
    play = connection()
    updates = {"updates": [{"q": {"_id": 1}, "u": {"$inc": {"n": 1}}}]}
    first = step(play.client(msg(transaction("update", "t", startTransaction=True, **updates))))
    assert (first.status, first.kind) == (Status.IDLE, StepKind.WRITE)
    play.decide()
    ended = done(play.server(msg({"n": 1, "nModified": 1, "ok": 1.0}, response_to=1)))
    assert (ended.status, ended.result) == (Status.IN_TRANSACTION, Result(tag="n: 1, nModified: 1", count=1))
    last = step(play.client(msg(transaction("commitTransaction", 1))))
    assert (last.status, last.kind) == (Status.IN_TRANSACTION, StepKind.COMMIT)
    play.decide()
    assert done(play.server(msg({"ok": 1.0}, response_to=1))).status is Status.IDLE


def test_a_write_conflict_fails_the_transaction() -> None:
    play = connection()
    play.client(msg(transaction("update", "t")))
    play.decide()
    reply = {"ok": 0.0, "code": 112, "errmsg": "WriteConflict", "errorLabels": ["TransientTransactionError"]}
    ended = done(play.server(msg(reply, response_to=1)))
    assert (ended.result.error, ended.status) == ("mongo:112", Status.FAILED)


def test_further_batches_are_steps_only_inside_a_transaction() -> None:
    more = {"getMore": 5, "collection": "t", "lsid": LSID, "$db": "shop"}
    assert to_server(connection().client(msg(more))) == msg(more)
    assert step(connection().client(msg(transaction("getMore", 5, collection="t")))).fingerprint == "getMore t"


def test_a_retryable_write_sent_again_over_another_connection_is_the_second_attempt() -> None:
    attempts = Attempts()
    write = {"insert": "t", "documents": [{"_id": 1}], "lsid": LSID, "txnNumber": 3, "$db": "shop"}
    first, second = connection(attempts), connection(attempts)
    assert step(first.client(msg(write))).attempt == 1
    first.decide(Decision.LOSE_REPLY)
    assert CloseClient() in first.server(msg({"n": 1, "ok": 1.0}, response_to=1))
    assert step(second.client(msg(write))).attempt == 2
    assert step(connection(attempts).client(msg({**write, "txnNumber": 4}))).attempt == 1


def test_commits_are_counted_and_statements_of_a_transaction_are_not() -> None:
    attempts = Attempts()
    numbers = [
        step(connection(attempts).client(msg(transaction(name, 1)))).attempt
        for name in ("find", "find", "commitTransaction", "commitTransaction", "abortTransaction")
    ]
    assert numbers == [1, 1, 1, 2, 1]


def test_the_oldest_attempts_are_forgotten_rather_than_kept_for_ever() -> None:
    attempts = Attempts(limit=2)
    assert [attempts.count((k,)) for k in "aabca"] == [1, 2, 1, 1, 1]


def test_an_unacknowledged_write_is_done_when_the_server_says_so_to_the_proxy_alone() -> None:
    play = connection()
    data = msg({"insert": "t", "writeConcern": {"w": 0}}, flags=frames.MORE_TO_COME, sequences={"documents": [{"a": 1}]})
    assert step(play.client(data, msg(FIND, request=2))).acknowledged is False
    asking = msg({"insert": "t", "writeConcern": {"w": 0}}, sequences={"documents": [{"a": 1}]})
    assert play.decide() == [ToServer(asking)]
    commands = play.server(msg({"n": 1, "ok": 1.0}, request=90, response_to=1))
    assert to_client(commands) == b""
    assert (done(commands).fate, done(commands).result.tag) == (Fate.UNACKNOWLEDGED, "n: 1")
    assert step(commands).text.startswith("find t")


def test_a_stream_of_answers_is_one_step_that_ends_with_the_last() -> None:
    play = connection()
    play.client(msg(FIND, flags=frames.EXHAUST_ALLOWED))
    play.decide()
    batch = {"cursor": {"id": 5, "nextBatch": [{"a": 1}]}, "ok": 1.0}
    first = msg(batch, request=50, response_to=1, flags=frames.MORE_TO_COME)
    assert play.server(first) == [ToClient(first)]
    assert done(play.server(msg(batch, request=51, response_to=50))).fate is Fate.ANSWERED


def test_killing_the_backend_names_the_session_whose_transaction_it_is() -> None:
    play = connection()
    play.client(msg(transaction("commitTransaction", 1)))
    assert play.decide(Decision.KILL_BACKEND_FIRST) == [KillServer(SESSION.hex())]


def test_a_comment_document_carries_tags() -> None:
    assert step(connection().client(msg({**FIND, "comment": {"client": 2}}))).tags == {"client": "2"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (op(2012, b"\0" * 20), "a compressed message"),
        (legacy_query({"find": "t"}, collection="shop.t"), "a legacy query of shop.t"),
        (op(2013, b"\0\0\0\0\7" + b"\0" * 9), "a section without its end"),
        (b"GET / HTTP/1.1\r\n\r\n", "no operation 168636718 of 542393671 bytes"),
    ],
)
def test_what_is_not_understood_is_passed_on_unread_and_said_so(data: bytes, reason: str) -> None:
    play = connection()
    assert play.client(data, b"rest") == [Report(Tunnelled(connection=1, reason=reason)), ToServer(data + b"rest")]
    assert play.client(b"more") == [ToServer(b"more")]
    assert play.server(b"any") == [ToClient(b"any")]


def test_half_an_answer_is_passed_on_when_the_rest_goes_unread() -> None:
    play = connection()
    answer = msg({"ok": 1.0}, response_to=1)
    play.client(msg({"ping": 1}))
    assert play.server(answer[:20]) == []
    assert to_client(play.client(op(2012, b"\0" * 20))) == answer[:20]
    assert play.server(answer[20:]) == [ToClient(answer[20:])]


def test_documents_that_cannot_be_read_are_shown_as_such() -> None:
    broken = b"\x10\0\0\0\x02a\0\xff\xff\xff\x7fabcd\0"
    data = op(2013, b"\0\0\0\0\0" + broken)
    assert step(connection().client(data)).text == "a (unreadable)"


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        ({"n": 0, "writeErrors": [{"code": 11000, "errmsg": "dup"}], "ok": 1.0}, ("mongo:11000", "dup")),
        ({"ok": 1.0, "writeConcernError": {"code": 64, "errmsg": "late"}}, ("mongo:64", "late")),
        ({"ok": 0.0, "errmsg": "no"}, ("mongo:?", "no")),
    ],
)
def test_the_first_error_of_a_reply_counts(reply: dict[str, Any], result: tuple[str, str]) -> None:
    found = result_of(reply)
    assert (found.error, found.message) == result


def test_a_found_and_changed_document_is_shown() -> None:
    assert result_of({"value": {"_id": 1, "n": 2}, "ok": 1.0}).first_rows == (("{_id: 1, n: 2}",),)


@given(
    st.lists(st.sampled_from([msg(HELLO), msg(FIND), msg({"ping": 1}), legacy_query({"isMaster": 1})]), max_size=6),
    st.lists(st.integers(0, 2000), max_size=8),
)
@settings(deadline=None)
def test_any_chunking_makes_the_same_units(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})

    def units(chunks: list[bytes]) -> list[bytes]:
        session = MongoSession(ADDRESS, Attempts())
        return [i.data for c in chunks for i in session.client_data(c) if hasattr(i, "replies")]

    assert units([data[a:b] for a, b in itertools.pairwise(edges)]) == units([data])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=8).filter(lambda t: "\0" not in t)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "$b", "lsid", "q"]), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["find", "insert", "aggregate", "hello", "getMore", "commitTransaction", "lsid", "txnNumber", "client", "comment"]


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5), st.binary(max_size=40), st.integers(0, 3))
@settings(deadline=None)
def test_no_command_and_no_answer_crashes_it(command: dict[str, Any], noise: bytes, flags: int) -> None:
    play = connection()
    for commands in (play.client(msg(command, flags=flags & 2)), play.server(msg(command, response_to=1)), play.client(noise)):
        if play.gate.held is not None:
            play.decide()
        assert isinstance(commands, list)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, 300), st.integers(0, 255)), max_size=5))
@settings(deadline=None)
def test_mutated_conversations_do_not_crash_it(mutations: list[tuple[bool, int, int, int]]) -> None:
    play = connection()
    said = [msg(HELLO), msg(FIND, request=2), msg({"ping": 1}, request=3)]
    answers = [msg(SET, response_to=1), msg({"ok": 1.0}, response_to=2), msg({"ok": 1.0}, response_to=3)]
    for by_client, which, at, value in mutations:
        part = said if by_client else answers
        data = bytearray(part[which])
        data[at % len(data)] = value
        part[which] = bytes(data)
    for question, answer in zip(said, answers, strict=True):
        play.client(question)
        if play.gate.held is not None:
            play.decide()
        play.server(answer)
        if play.gate.held is not None:
            play.decide()


def test_binary_session_ids_of_any_form_are_shown() -> None:
    command = bson.encode({"find": "t", "lsid": {"id": Binary(SESSION, 3)}})
    data = op(2013, b"\0\0\0\0\0" + command)
    assert step(connection().client(data)).session == SESSION.hex()
