"""An HTTP service as a target, against a real server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from harness.config.sections import OperationSection, ServiceConfig, TargetSection
from harness.model import Outcome
from harness.targets.classify import classify_error
from harness.targets.http import HttpTarget


class Invoices(BaseHTTPRequestHandler):
    """Answers as the path says, and remembers what it was asked."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, Any, int]]
    came: threading.Event
    release: threading.Event

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, self.headers["Idempotency-Key"], body, self.client_address[1]))
        self.came.set()
        if "/slow/" in self.path:
            self.release.wait(10)
        if "/gone/" in self.path or "/slow/" in self.path:  # whoever was slow has nobody to answer any more
            self.close_connection = True
            return
        status = 409 if "/taken/" in self.path else 500 if "/broken/" in self.path else 201
        answer = json.dumps({"invoice": {"number": 4, "text": "INV-00004"}, "message": "already\nthere"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[tuple[HttpTarget, type[Invoices]]]:
    """A server and the target that speaks to it."""
    handler = type("Handler", (Invoices,), {"seen": [], "came": threading.Event(), "release": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    config = ServiceConfig(
        target=TargetSection(url=f"http://user:pw@127.0.0.1:{server.server_port}/api/", timeout=60),
        operations={
            "create": OperationSection(
                path="/{company}/invoices",
                headers={"Idempotency-Key": "{token}"},
                body={"amount": "{amount}"},
                answer={"number": "invoice.number", "text": "invoice.text"},
                constants={"scope": "{company}/invoice"},
            )
        },
    )
    yield HttpTarget.of(config), handler
    handler.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_answer_is_read_under_our_names(service: tuple[HttpTarget, type[Invoices]]) -> None:
    target, handler = service
    connection = target.connect(None, 0)

    answers = [connection.call("create", {"company": "a b", "amount": 5}, f"t{n}", lambda point: None) for n in range(2)]
    connection.close()

    assert answers[0] == {"scope": "a b/invoice", "number": 4, "text": "INV-00004"}
    assert [(path, key, body) for path, key, body, _ in handler.seen] == [
        ("/api/a%20b/invoices", "t0", {"amount": 5}),
        ("/api/a%20b/invoices", "t1", {"amount": 5}),
    ]
    assert len({port for *_, port in handler.seen}) == 1, "the connection is kept alive"


@pytest.mark.parametrize(
    ("company", "outcome", "code"),
    [
        ("taken", Outcome.FAIL, "http:409"),
        ("broken", Outcome.INFO, "http:500"),
        ("gone", Outcome.INFO, "http:ProtocolError"),
        ("slow", Outcome.INFO, "http:ReadTimeoutError"),
    ],
)
def test_what_is_not_ok_is_classified_and_never_sent_again(
    service: tuple[HttpTarget, type[Invoices]], company: str, outcome: Outcome, code: str
) -> None:
    target, handler = service
    connection = replace(target, timeout=0.5 if company == "slow" else 60).connect(None, 0)

    with pytest.raises(Exception) as error:  # noqa: PT011 - whatever it is, it is classified below
        connection.call("create", {"company": company, "amount": 5}, "t", lambda point: None)
    connection.vanish()

    seen, failure = classify_error(error.value)
    assert (seen, failure.code) == (outcome, code)
    assert "\n" not in failure.message
    assert handler.came.wait(60)
    assert len(handler.seen) == 1


def test_the_name_shows_no_password(service: tuple[HttpTarget, type[Invoices]]) -> None:
    target, _ = service

    assert target.name.startswith("http://127.0.0.1:")
    assert "pw" not in target.name


class Sessions(BaseHTTPRequestHandler):
    """Gives out a session to each clerk, and wants its cookie and its token back."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, dict[str, str | None], str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.seen.append((self.path, {name: self.headers[name] for name in ("Cookie", "Authorization", "Content-Type")}, body))
        answer = {"access": f"key-of-{body}", "success": "closed" not in body, "number": "17", "error": "the books are closed"}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Set-Cookie", f"session={len(self.seen)}; Path=/; HttpOnly")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def sessions() -> Iterator[tuple[HttpTarget, type[Sessions]]]:
    handler = type("Handler", (Sessions,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    config = ServiceConfig(
        target=TargetSection(url=f"http://127.0.0.1:{server.server_port}", headers={"Authorization": "Bearer {key}"}),
        login=OperationSection(path="/login", body={"user": "clerk{client}"}, encoding="form", answer={"key": "access"}),
        operations={
            "create": OperationSection(
                path="/invoices", body={"note": "{note}"}, refused_when={"success": "false"}, answer={"number": "number"}
            )
        },
    )
    yield HttpTarget.of(config), handler
    server.shutdown()
    thread.join()
    server.server_close()


def test_each_client_logs_in_once_and_keeps_its_own_session(sessions: tuple[HttpTarget, type[Sessions]]) -> None:
    target, handler = sessions
    for client in (4, 5):
        connection = target.connect(None, client)
        assert connection.call("create", {"note": "x"}, "t", lambda point: None) == {"number": 17}
        connection.close()

    assert [body for path, _, body in handler.seen if path == "/login"] == ["user=clerk4", "user=clerk5"]
    created = [headers for path, headers, _ in handler.seen if path == "/invoices"]
    assert [h["Cookie"] for h in created] == ["session=1", "session=3"]
    assert [h["Authorization"] for h in created] == ["Bearer key-of-user=clerk4", "Bearer key-of-user=clerk5"]


def test_a_refusal_with_status_200_is_one(sessions: tuple[HttpTarget, type[Sessions]]) -> None:
    target, _ = sessions
    connection = target.connect(None, 0)

    with pytest.raises(Exception, match="the books are closed") as error:
        connection.call("create", {"note": "closed"}, "t", lambda point: None)
    connection.close()

    outcome, failure = classify_error(error.value)
    assert (outcome, failure.refusal, failure.code) == (Outcome.FAIL, True, "success=false")
