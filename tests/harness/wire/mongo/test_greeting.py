from __future__ import annotations

from harness.wire.mongo.greeting import reply_through, request_through, wants_load_balancer


def test_what_would_make_the_driver_leave_or_stream_or_compress_is_taken_out() -> None:
    command = {"hello": 1, "compression": ["zlib"], "topologyVersion": {}, "maxAwaitTimeMS": 5, "helloOk": True}
    assert request_through(command) == {"hello": 1, "helloOk": True}


def test_a_standalone_server_says_what_it_said() -> None:
    reply = {"isWritablePrimary": True, "maxWireVersion": 17, "ok": 1.0}
    assert reply_through(reply, "127.0.0.1:7") == reply


def test_members_that_cannot_be_reached_through_the_proxy_are_not_named() -> None:
    reply = {"hosts": ["a:1", "b:2"], "passives": ["c:3"], "arbiters": ["d:4"], "primary": "b:2", "me": "a:1"}
    assert reply_through(reply, "127.0.0.1:7") == {"hosts": ["127.0.0.1:7"], "me": "127.0.0.1:7"}


def test_only_a_greeting_that_says_so_wants_a_load_balancer() -> None:
    assert wants_load_balancer({"hello": 1, "loadBalanced": True})
    assert not wants_load_balancer({"hello": 1})
