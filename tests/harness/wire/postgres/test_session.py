"""The playbook of a PostgreSQL connection: what is said, what is held, what goes on."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.wire.base import (
    ConnectionClosing,
    ConnectionOpened,
    Fate,
    Result,
    Status,
    Step,
    StepArrived,
    StepKind,
    Tunnelled,
)
from harness.wire.conversation import Cancel, CloseClient, CloseServer, Report, StartTls, ToClient, ToServer
from harness.wire.postgres.session import PostgresSession
from tests.harness.wire.playbook import Play, done, events, step, to_client, to_server
from tests.harness.wire.postgres import said
from tests.harness.wire.postgres.said import (
    AUTHENTICATED,
    BOUND,
    BYE,
    COPY_DONE,
    COPY_IN,
    FLUSH,
    NO_DATA,
    PARSED,
    SYNC,
    bind,
    close_statement,
    columns,
    copy_data,
    describe,
    error,
    execute,
    key,
    notice,
    parse,
    query,
    ready,
    row,
    startup,
    tag,
)

GREETING = startup(user="ann", database="shop", application_name="till")
PLAIN = 1 << 16


def opened(*, controlled: bool = True) -> Play:
    """A connection that is ready, in autocommit."""
    play = Play(PostgresSession(), controlled=controlled)
    play.client(GREETING)
    play.server(AUTHENTICATED, key(77), ready())
    return play


def in_transaction() -> Play:
    play = opened()
    play.client(query("BEGIN"))
    play.decide()
    play.server(tag("BEGIN"), ready("T"))
    return play


# Start-up


def test_encryption_is_declined_and_the_greeting_goes_on_as_it_was_said() -> None:
    play = Play(PostgresSession())
    assert play.client(said.request(80877104)) == [ToClient(b"N")]
    assert play.client(said.request(80877103), GREETING) == [ToClient(b"N"), ToServer(GREETING)]


def test_tls_begins_before_the_greeting_and_nothing_may_be_said_in_between() -> None:
    play = Play(PostgresSession(tls=True))
    assert play.client(said.request(80877103)) == [StartTls(b"S")]
    assert play.client(GREETING) == [ToServer(GREETING)]
    hasty = Play(PostgresSession(tls=True))
    commands = hasty.client(said.request(80877103), GREETING)
    assert to_server(commands) == b""
    assert commands[-2:] == [CloseClient(), CloseServer()]


def test_a_password_exchange_passes_and_the_first_ready_opens_the_connection() -> None:
    play = Play(PostgresSession())
    play.client(GREETING)
    ask, answer = said.message("R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"), said.message("p", b"secret")
    assert play.server(ask) == [ToClient(ask)]
    assert play.client(answer) == [ToServer(answer)]
    last = AUTHENTICATED + key(77) + ready()
    assert play.server(last) == [
        ToClient(last),
        Report(ConnectionOpened(connection=1, backend=77, application_name="till", user="ann", peer_port=5)),
    ]


def test_what_a_hasty_client_says_before_it_is_let_in_waits() -> None:
    play = Play(PostgresSession())
    assert play.client(GREETING, query("SELECT a FROM t")) == [ToServer(GREETING)]
    assert step(play.server(AUTHENTICATED, ready())).text == "SELECT a FROM t"


def test_version_3_2_with_a_long_key_and_a_negotiation_passes() -> None:
    play = Play(PostgresSession())
    greeting = startup(version=3 << 16 | 2, user="ann")
    assert play.client(greeting) == [ToServer(greeting)]
    negotiation = said.message("v", struct.pack("!ii", 0, 0))
    last = negotiation + AUTHENTICATED + key(77, b"k" * 32) + ready()
    assert to_client(play.server(last)) == last
    assert play.gate.opened is not None
    assert play.gate.opened.backend == 77


def test_a_cancel_request_goes_on_at_once() -> None:
    data = said.request(80877102, struct.pack("!i", 77) + b"\1\2\3\4")
    assert Play(PostgresSession()).client(data) == [ToServer(data), Cancel(data, (77, b"\1\2\3\4"))]


def test_channel_binding_is_taken_from_the_offer_when_the_proxy_ends_tls() -> None:
    play = Play(PostgresSession(strip_binding=True))
    play.client(GREETING)
    offer = said.message("R", struct.pack("!i", 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
    assert to_client(play.server(offer[:9])) == b""
    stripped = said.message("R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0")
    assert to_client(play.server(offer[9:])) == stripped
    last = AUTHENTICATED + ready()
    assert to_client(play.server(last + notice("hi")[:7])) == last + notice("hi")[:7]
    assert to_client(play.server(notice("hi")[7:])) == notice("hi")[7:]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x16\x03\x01\x00\xff", "a TLS handshake without a request for it"),
        (b"GET / HTTP/1.1\r\n\r\n", "no start-up message of 1195725856 bytes"),
        (startup(version=2 << 16, user="u"), "protocol 2.0"),
        (startup(user="u", replication="database"), "a replication connection"),
    ],
)
def test_a_start_that_is_not_understood_is_passed_on_unread_and_said_so(data: bytes, reason: str) -> None:
    play = Play(PostgresSession())
    assert play.client(data) == [Report(Tunnelled(connection=1, reason=reason)), ToServer(data)]
    assert play.client(b"anything") == [ToServer(b"anything")]
    assert play.server(b"\0\1\2") == [ToClient(b"\0\1\2")]


# Steps


def test_a_simple_query_is_a_step_that_ends_when_the_server_is_ready() -> None:
    play = opened()
    held = step(play.client(query("SELECT n FROM counters WHERE id = 7")))
    assert held == Step(
        connection=1,
        index=0,
        text="SELECT n FROM counters WHERE id = 7",
        fingerprint="SELECT n FROM counters WHERE id = ?",
        kind=StepKind.READ,
        session="77",
    )
    assert play.decide() == [ToServer(query("SELECT n FROM counters WHERE id = 7"))]
    play.now = 0.5
    answer = columns("n") + row(b"1") + row(b"2") + row(b"3") + row(b"4") + tag("SELECT 4")
    assert play.server(answer) == [ToClient(answer)]
    ended = done(play.server(ready()))
    assert ended.step is held
    assert ended.result == Result(tag="SELECT 4", rows=4, count=4, first_rows=(("1",), ("2",), ("3",)))
    assert (ended.status, ended.elapsed) == (Status.IDLE, 0.5)


def test_an_error_is_an_answer_and_names_its_class() -> None:
    play = in_transaction()
    play.client(query("UPDATE t SET n = 1"))
    play.decide()
    ended = done(play.server(error("40001", "could not serialize"), ready("E")))
    assert ended.result == Result(error="40001", message="could not serialize")
    assert ended.status is Status.FAILED


def test_an_extended_round_trip_is_one_step_with_its_parameters() -> None:
    play = opened()
    data = parse("UPDATE t SET n = $1 WHERE id = $2", oids=[23, 0]) + bind(struct.pack("!i", 5), b"\0", binary=True)
    held = step(play.client(data + describe("", "P") + execute() + SYNC))
    assert held.text == "UPDATE t SET n = $1 WHERE id = $2"
    assert held.parameters == (5, b"\0")
    assert held.kind is StepKind.WRITE
    assert to_server(play.decide()) == data + describe("", "P") + execute() + SYNC
    ended = done(play.server(PARSED, BOUND, NO_DATA, tag("UPDATE 1"), ready()))
    assert ended.result == Result(tag="UPDATE 1", count=1)


def test_preparing_is_not_a_step_and_teaches_the_types() -> None:
    play = opened()
    prepared = parse("SELECT n FROM t WHERE id = $1", "s1") + describe("s1") + SYNC
    assert play.client(prepared) == [ToServer(prepared)]
    answer = PARSED + said.parameter_types(20) + columns("n", oid=20) + ready()
    assert play.server(answer) == [ToClient(answer)]
    run = bind(struct.pack("!q", 9), statement="s1", binary=True, binary_results=True) + execute() + SYNC
    assert step(play.client(run)).parameters == (9,)
    play.decide()
    ended = done(play.server(BOUND, row(struct.pack("!q", 6)), tag("SELECT 1"), ready()))
    assert ended.result.first_rows == ((6,),)


def test_a_name_that_is_used_again_names_the_newer_statement() -> None:
    play = opened()
    first = parse("SELECT a FROM t") + bind() + execute() + SYNC
    second = parse("SELECT b FROM t") + bind() + execute() + SYNC
    assert step(play.client(first, second)).text == "SELECT a FROM t"
    play.decide()
    assert step(play.server(PARSED, BOUND, tag("SELECT 0"), ready())).text == "SELECT b FROM t"


def test_one_sync_for_many_statements_is_one_step() -> None:
    play = opened()
    data = parse("BEGIN") + bind() + execute() + parse("INSERT INTO t VALUES ($1)") + bind(b"1") + execute()
    data += parse("COMMIT") + bind() + execute() + SYNC
    held = step(play.client(data))
    assert (held.text, held.statements, held.parameters) == ("BEGIN; INSERT INTO t VALUES ($1); COMMIT", 3, ("1",))
    assert held.kind is StepKind.COMMIT


def test_several_statements_in_one_query_are_one_step_and_counted() -> None:
    held = step(opened().client(query("UPDATE t SET a = 1; SELECT a FROM t")))
    assert (held.statements, held.fingerprint) == (2, "UPDATE t SET a = ?; SELECT a FROM t")


def test_pipelined_steps_go_one_at_a_time_and_each_waits_for_the_one_before() -> None:
    play = opened()
    one, two = query("SELECT a FROM t"), query("SELECT b FROM t")
    commands = play.client(one, two, BYE)
    assert [e.step.text for e in events(commands) if isinstance(e, StepArrived)] == ["SELECT a FROM t"]
    assert play.decide() == [ToServer(one)]
    assert step(play.server(tag("SELECT 0"), ready())).text == "SELECT b FROM t"
    assert play.decide() == [ToServer(two)]
    last = play.server(tag("SELECT 0"), ready())
    assert to_server(last) == BYE
    assert events(last)[-1] == ConnectionClosing(connection=1, in_transaction=False)


def test_in_passthrough_everything_goes_at_once_and_nothing_is_reported() -> None:
    play = opened(controlled=False)
    data = query("SELECT a FROM t") + parse("SELECT 1") + bind() + execute() + SYNC
    commands = play.client(data)
    assert (to_server(commands), events(commands)) == (data, [])
    assert events(play.server(tag("SELECT 0"), ready(), PARSED, BOUND, tag("SELECT 1"), ready())) == []


def test_control_taken_in_the_middle_waits_for_what_is_under_way() -> None:
    play = opened(controlled=False)
    play.client(query("SELECT a FROM t"))
    play.gate.set_controlled(True)
    assert play.client(query("SELECT b FROM t")) == []
    assert step(play.server(tag("SELECT 0"), ready())).text == "SELECT b FROM t"


def test_control_given_up_lets_go_what_is_held_and_queued() -> None:
    play = opened()
    play.client(query("SELECT a FROM t"), query("SELECT b FROM t"))
    assert to_server(play.gate.set_controlled(False)) == query("SELECT a FROM t") + query("SELECT b FROM t")


# Flush


def test_a_flush_ends_a_step_whose_answers_are_counted() -> None:
    play = in_transaction()
    data = parse("SELECT n FROM t") + bind() + describe("", "P") + execute() + FLUSH
    held = step(play.client(data))
    assert held.text == "SELECT n FROM t"
    play.decide()
    assert events(play.server(PARSED, BOUND, columns("n"), row(b"1"))) == []
    ended = done(play.server(notice("hi"), tag("SELECT 1")))
    assert (ended.result.first_rows, ended.status) == ((("1",),), Status.IN_TRANSACTION)
    assert play.client(SYNC) == [ToServer(SYNC)]
    assert events(play.server(ready("T"))) == []


def test_a_sync_that_commits_what_was_flushed_before_is_a_step() -> None:
    play = opened()
    play.client(parse("INSERT INTO t VALUES (1)") + bind() + execute() + FLUSH)
    play.decide()
    play.server(PARSED, BOUND, tag("INSERT 0 1"))
    held = step(play.client(SYNC))
    assert (held.text, held.kind) == ("SYNC", StepKind.COMMIT)
    play.decide()
    assert done(play.server(ready())).status is Status.IDLE


def test_after_an_error_the_server_skips_to_sync_and_so_does_the_count() -> None:
    play = opened()
    play.client(parse("INSERT INTO t VALUES (1)") + bind() + execute() + FLUSH)
    play.decide()
    assert done(play.server(PARSED, BOUND, error("23505"))).result.error == "23505"
    more = parse("SELECT a FROM t") + bind() + execute() + FLUSH
    assert play.client(more, SYNC) == [ToServer(more), ToServer(SYNC)]
    play.server(ready())
    assert step(play.client(query("SELECT b FROM t"))).text == "SELECT b FROM t"


def test_a_portal_with_a_row_limit_is_a_step_each_time() -> None:
    play = in_transaction()
    data = parse("SELECT n FROM t") + bind(portal="c") + execute("c", 2) + SYNC
    play.client(data)
    play.decide()
    assert done(play.server(PARSED, BOUND, row(b"1"), row(b"2"), said.SUSPENDED, ready("T"))).result.rows == 2
    assert step(play.client(execute("c", 2) + SYNC)).text == "SELECT n FROM t"


def test_a_flushed_step_tells_where_the_transaction_stands() -> None:
    play = opened()
    play.client(parse("BEGIN") + bind() + execute() + FLUSH)
    play.decide()
    assert done(play.server(PARSED, BOUND, tag("BEGIN"))).status is Status.IN_TRANSACTION
    assert play.client(SYNC) == [ToServer(SYNC)]
    play.server(ready("T"))
    play.client(parse("UPDATE t SET a = 1") + bind() + execute() + FLUSH)
    play.decide()
    assert done(play.server(PARSED, BOUND, error("40001"))).status is Status.FAILED


def test_names_are_forgotten_when_they_are_closed_and_portals_when_the_transaction_ends() -> None:
    play = in_transaction()
    play.client(parse("SELECT a FROM t", "s") + bind(statement="s", portal="c") + execute("c", 1) + SYNC)
    play.decide()
    play.server(PARSED, BOUND, row(b"1"), said.SUSPENDED, ready("T"))
    assert step(play.client(execute("c", 1) + SYNC)).text == "SELECT a FROM t"
    play.decide()
    play.server(row(b"1"), said.SUSPENDED, ready("I"))
    assert step(play.client(execute("c", 1) + SYNC)).text == "(unknown statement)"
    play.decide()
    play.server(error("34000"), ready())
    play.client(close_statement("s") + SYNC)
    play.server(said.CLOSED, ready())
    assert step(play.client(bind(statement="s") + execute() + SYNC)).text == "(unknown statement)"


@pytest.mark.parametrize(
    ("formats", "shown"), [((), "\0\0\0\7"), ((0,), "\0\0\0\7"), ((1,), 7), ((0, 1), "\0\0\0\7"), ((1, 0), 7)]
)
def test_rows_of_a_prepared_statement_are_read_in_the_formats_that_were_asked_for(
    formats: tuple[int, ...], shown: object
) -> None:
    play = in_transaction()
    play.client(parse("SELECT a, b FROM t", "s") + describe("s") + SYNC)
    play.server(PARSED, said.parameter_types(), columns("a", "b", oid=23), ready("T"))
    tail = struct.pack(f"!HHH{len(formats)}h", 0, 0, len(formats), *formats)
    play.client(said.message("B", b"\0s\0" + tail) + execute() + SYNC)
    play.decide()
    ended = done(play.server(BOUND, row(b"\0\0\0\7", None), tag("SELECT 1"), ready("T")))
    assert ended.result.first_rows == ((shown, None),)


# COPY, asynchronous messages, replication


def test_copying_in_is_one_step_and_its_data_is_not_held() -> None:
    play = opened()
    play.client(query("COPY t FROM STDIN"))
    play.decide()
    assert events(play.server(COPY_IN)) == []
    assert play.client(copy_data(b"1\n"), copy_data(b"2\n")) == [ToServer(copy_data(b"1\n")), ToServer(copy_data(b"2\n"))]
    assert play.client(COPY_DONE) == [ToServer(COPY_DONE)]
    assert done(play.server(tag("COPY 2"), ready())).result.count == 2


def test_a_client_that_does_not_wait_to_be_asked_for_its_data_is_held_with_it() -> None:
    play = opened()
    said_ = query("COPY t FROM STDIN") + copy_data(b"1\n")
    assert step(play.client(said_)).text == "COPY t FROM STDIN"
    assert play.client(copy_data(b"2\n"), COPY_DONE) == []
    assert to_server(play.decide()) == said_ + copy_data(b"2\n") + COPY_DONE
    assert done(play.server(COPY_IN, tag("COPY 2"), ready())).result.count == 2
    assert play.client(copy_data(b"late")) == [ToServer(copy_data(b"late"))]


def test_data_and_sync_that_were_not_asked_for_are_answered_twice_if_the_copy_fails() -> None:
    play = opened()
    data = parse("COPY t FROM STDIN") + bind() + execute() + SYNC + copy_data(b"1\n") + COPY_DONE + SYNC
    play.client(data, query("SELECT a FROM t"))
    assert to_server(play.decide()) == data
    assert events(play.server(PARSED, BOUND, error("42P01"), ready())) == []
    assert step(play.server(ready())).text == "SELECT a FROM t"


def test_the_sync_after_a_copy_in_the_extended_protocol_belongs_to_the_copy() -> None:
    play = opened()
    play.client(parse("COPY t FROM STDIN") + bind() + execute() + SYNC)
    play.decide()
    play.server(PARSED, BOUND, COPY_IN)
    assert play.client(copy_data(b"1\n"), COPY_DONE, SYNC, query("SELECT a FROM t")) == [
        ToServer(copy_data(b"1\n")),
        ToServer(COPY_DONE),
        ToServer(SYNC),
    ]
    assert step(play.server(tag("COPY 1"), ready())).text == "SELECT a FROM t"


def test_notices_settings_and_notifications_complete_nothing() -> None:
    play = opened()
    play.client(query("UPDATE t SET a = 1"))
    play.decide()
    chatter = notice("hi") + said.message("A", struct.pack("!i", 1) + b"c\0p\0") + said.message("S", b"TimeZone\0UTC\0")
    assert play.server(chatter) == [ToClient(chatter)]
    assert done(play.server(tag("UPDATE 1"), ready())).result.tag == "UPDATE 1"


def test_a_replication_stream_is_passed_on_unread() -> None:
    play = opened()
    play.client(query("START_REPLICATION SLOT s LOGICAL 0/0"))
    play.decide()
    assert [type(e) for e in events(play.server(said.COPY_BOTH))][-1] is Tunnelled
    assert play.client(b"raw") == [ToServer(b"raw")]


def test_what_is_no_message_is_passed_on_after_what_was_said_before_it() -> None:
    play = opened()
    play.client(query("SELECT a FROM t"), parse("SELECT b"), b"??????")
    assert play.client(b"!") == []
    commands = play.decide()
    assert to_server(commands) == query("SELECT a FROM t") + parse("SELECT b") + b"??????!"
    assert done(commands).fate is Fate.UNACKNOWLEDGED


# Housekeeping


def test_housekeeping_goes_by_itself_outside_a_transaction() -> None:
    play = opened()
    assert play.client(query("SELECT 1")) == [ToServer(query("SELECT 1"))]
    assert events(play.server(tag("SELECT 1"), ready())) == []


def test_a_sign_of_life_inside_a_transaction_is_a_step_because_it_takes_the_snapshot() -> None:
    held = step(in_transaction().client(query("SELECT 1")))
    assert (held.housekeeping, held.status) == (True, Status.IN_TRANSACTION)


def test_a_setting_inside_a_transaction_goes_by_itself() -> None:
    assert in_transaction().client(query("SET LOCAL lock_timeout = 5")) == [ToServer(query("SET LOCAL lock_timeout = 5"))]


def test_a_rollback_is_real_inside_a_transaction_and_housekeeping_outside() -> None:
    assert step(in_transaction().client(query("ROLLBACK"))).kind is StepKind.ROLLBACK
    assert opened().client(query("ROLLBACK")) == [ToServer(query("ROLLBACK"))]


def test_a_reset_that_drops_session_locks_is_a_step() -> None:
    play = opened()
    play.client(query("SELECT pg_advisory_lock(1)"))
    play.decide()
    play.server(tag("SELECT 1"), ready())
    assert step(play.client(query("DISCARD ALL"))).text == "DISCARD ALL"
    play.decide()
    play.server(tag("DISCARD ALL"), ready())
    assert to_server(play.client(query("SELECT 1"))) == query("SELECT 1")


def test_a_step_tells_the_isolation_that_its_session_chose() -> None:
    play = opened()
    assert step(play.client(query("BEGIN"))).isolation == ""
    play = opened()
    play.client(query("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
    play.server(tag("SET"), ready())
    assert step(play.client(query("BEGIN"))).isolation == "serializable"


@pytest.mark.parametrize(
    "given",
    [{"options": r"-c default_transaction_isolation=repeatable\ read"}, {"default_transaction_isolation": "repeatable read"}],
)
def test_the_isolation_may_be_chosen_at_the_start(given: dict[str, str]) -> None:
    play = Play(PostgresSession(), controlled=True)
    play.client(startup(user="ann", database="shop", **given))
    play.server(AUTHENTICATED, key(77), ready())
    assert step(play.client(query("BEGIN"))).isolation == "repeatable read"


def test_a_goodbye_inside_a_transaction_says_that_it_rolls_back() -> None:
    assert events(in_transaction().client(BYE)) == [ConnectionClosing(connection=1, in_transaction=True)]


# Properties

SAID = st.lists(
    st.sampled_from(
        [
            query("SELECT a FROM t"),
            query("SELECT 1"),
            parse("SELECT a FROM t WHERE id = $1", "s") + describe("s") + SYNC,
            parse("SELECT b FROM t") + bind() + execute() + SYNC,
            parse("INSERT INTO t VALUES ($1)") + bind(b"1") + execute() + FLUSH + SYNC,
            SYNC,
            BYE,
        ]
    ),
    max_size=8,
)


@given(SAID, st.lists(st.integers(0, 500), max_size=10))
@settings(deadline=None)
def test_any_chunking_makes_the_same_units_in_the_same_bytes(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    chunks = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert _units(chunks) == _units([data])
    assert b"".join(_units(chunks)) == data


def _units(chunks: list[bytes]) -> list[bytes]:
    session = PostgresSession()
    session.client_data(GREETING)
    session.server_data(AUTHENTICATED + ready())
    return [item.data for chunk in chunks for item in session.client_data(chunk) if hasattr(item, "replies")]


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=12), st.booleans())
@settings(deadline=None)
def test_no_bytes_crash_it_and_in_passthrough_none_is_kept_back_once_it_is_unread(
    said_: list[tuple[bool, bytes]], greeted: bool
) -> None:
    play = opened(controlled=False) if greeted else Play(PostgresSession(), controlled=False)
    sent, passed, unread = b"", b"", False
    for by_client, data in said_:
        commands = play.client(data) if by_client else play.server(data)
        unread = unread or any(isinstance(e, Tunnelled) for e in events(commands))
        sent += data if by_client else b""
        passed += to_server(commands)
        assert sent.startswith(passed) or not greeted
    if unread and greeted:
        assert passed == sent


CAPTURED = [
    (True, GREETING),
    (False, AUTHENTICATED + key(77) + ready()),
    (True, parse("SELECT a FROM t WHERE id = $1", "s") + describe("s") + SYNC),
    (False, PARSED + said.parameter_types(20) + columns("a") + ready()),
    (True, bind(b"1", statement="s") + execute() + FLUSH),
    (False, BOUND + row(b"x") + tag("SELECT 1")),
    (True, SYNC + query("COPY t FROM STDIN")),
    (False, ready() + COPY_IN),
    (True, copy_data(b"1") + COPY_DONE + BYE),
    (False, error("22P02") + ready()),
]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=300)
def test_mutated_conversations_do_not_crash_it(mutations: list[tuple[int, int, int]]) -> None:
    spoken = [(by_client, bytearray(data)) for by_client, data in CAPTURED]
    for which, at, value in mutations:
        data = spoken[which][1]
        data[at % len(data)] = value
    play = Play(PostgresSession())
    for by_client, data in spoken:
        _ = play.client(bytes(data)) if by_client else play.server(bytes(data))
        while play.gate.held is not None:
            play.decide()
