"""A service of this test's own: in a thread of this process, over a database of its own."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pymongo
import urllib3
import uvicorn

from harness.run.serving import listen
from harness.stores.base import Database, StoreKind
from reference_impl.service import SERVICE


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Status, body and kind of an answer."""

    status: int
    body: Any
    kind: str

    @property
    def code(self) -> tuple[int, str]:
        """Status and code of a problem."""
        return self.status, self.body["code"]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A service that answers, and its database."""

    url: str
    database: Database
    variant: str

    def post(self, operation: str, arguments: Mapping[str, Any], *, key: str | None = None) -> Answer:
        """Ask for an operation; each request has a key of its own unless one is given."""
        return self.send(operation, json.dumps(arguments).encode(), {"Idempotency-Key": key or secrets.token_hex(8)})

    def send(self, operation: str, body: bytes, headers: Mapping[str, str], *, method: str = "POST") -> Answer:
        """Send any bytes."""
        sent = {"Content-Type": "application/json", **headers}
        seen = urllib3.request(method, f"{self.url}/{operation}", body=body, headers=sent, retries=False, timeout=30)
        kind = seen.headers.get("Content-Type", "").partition(";")[0]
        return Answer(status=seen.status, body=json.loads(seen.data) if "json" in kind else seen.data.decode(), kind=kind)

    def send_headers(self, path: str, body: bytes, headers: Sequence[tuple[str, str]]) -> int:
        """Send headers as they are, also twice; return the status."""
        connection = http.client.HTTPConnection(self.url.partition("://")[2], timeout=30)
        connection.putrequest("POST", f"/{path}", skip_accept_encoding=True)
        for name, value in [("Content-Length", str(len(body))), *headers]:
            connection.putheader(name, value)
        connection.endheaders(body)
        status = connection.getresponse().status
        connection.close()
        return status

    def get(self, path: str) -> Answer:
        """Ask for a page."""
        return self.send(path, b"", {}, method="GET")

    def everything(self) -> dict[str, list[str]]:
        """Return all rows of all tables, or all documents of all collections, as text: what "nothing changed" means."""
        if self.database.kind is StoreKind.POSTGRES:
            with psycopg.connect(self.database.url) as connection:
                tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = ANY(current_schemas(false))")
                names = [name for (name,) in tables]
                return {n: sorted(row for (row,) in connection.execute(f"SELECT t::text FROM {n} t".encode())) for n in names}
        with pymongo.MongoClient[Any](self.database.url, tz_aware=True) as client:
            base = client.get_default_database()
            return {name: sorted(map(repr, base[name].find())) for name in base.list_collection_names()}


@contextmanager
def served(
    variant: str, database: Database, *, connections: int = 8, line: socket.socket | None = None, **settings: Any
) -> Iterator[Running]:
    """Serve a variant until the block ends, on any free port if no bound socket is given."""
    SERVICE.prepare(variant, settings, database.url)
    line = line or listen(0)
    application = SERVICE.application(variant, settings, database.url, connections)
    # A connection that the server closes after some quiet is used by a client that has not heard of it yet.
    config = uvicorn.Config(
        application, log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=3, timeout_keep_alive=600
    )
    server, ready = uvicorn.Server(config), threading.Event()

    def run() -> None:
        try:
            server.run(sockets=[line])
        finally:
            ready.set()

    begin = server.startup

    async def startup(sockets: Any = None) -> None:
        await begin(sockets)
        ready.set()

    server.startup = startup  # type: ignore[method-assign]  # the only way to be told
    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(30)
        assert server.started, "the service did not start"
        yield Running(url=f"http://127.0.0.1:{line.getsockname()[1]}", database=database, variant=variant)
    finally:
        server.should_exit = True
        thread.join(15)
        line.close()
    assert not thread.is_alive()
