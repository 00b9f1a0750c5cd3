"""A small service for tests: creates numbered invoices on PostgreSQL, over HTTP, with a pool of connections.

``BUG=1`` in the environment numbers them by counting; otherwise a counter row does. ``HEARTBEAT=1`` makes it write to the
database of its own accord all the time, as services with jobs do. ``SLOW=1`` makes it take a fifth of a second before it begins
a transaction. Asked to end, it answers what it was asked before, as services in production do. It knows nothing of racegate.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg

SCHEMA = """
    CREATE TABLE IF NOT EXISTS invoices (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, company text NOT NULL,
        number bigint NOT NULL, reference text NOT NULL, cents bigint NOT NULL, created timestamptz NOT NULL DEFAULT now());
    CREATE TABLE IF NOT EXISTS counters (company text PRIMARY KEY, value bigint NOT NULL);
"""
BROKEN = os.environ.get("BUG") == "1"
pool: queue.LifoQueue[psycopg.Connection[Any]] = queue.LifoQueue()


def create(company: str, reference: str, cents: int) -> int:
    if os.environ.get("SLOW") == "1":
        threading.Event().wait(0.2)
    try:
        connection = pool.get_nowait()
    except queue.Empty:
        connection = psycopg.connect(os.environ["DATABASE_URL"])
    with connection.transaction():
        if BROKEN:
            found = connection.execute("SELECT count(*) + 1 FROM invoices WHERE company = %s", (company,))
        else:
            found = connection.execute(
                "INSERT INTO counters VALUES (%s, 1) "
                "ON CONFLICT (company) DO UPDATE SET value = counters.value + 1 RETURNING value",
                (company,),
            )
        [number] = found.fetchone() or [0]
        connection.execute(
            "INSERT INTO invoices (company, number, reference, cents) VALUES (%s, %s, %s, %s)",
            (company, number, reference, cents),
        )
    pool.put(connection)
    return int(number)


def beat() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        while not threading.Event().wait(0.02):
            connection.execute("UPDATE heartbeat SET beats = beats + 1")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    """An answer is one segment: a second one would wait 40 ms for the acknowledgement of the first."""

    def do_GET(self) -> None:
        with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
            connection.execute("SELECT 1 AS healthy")
        self.answer(200, {"ok": True})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("Authorization") != f"Bearer {os.environ.get('API_TOKEN', '')}":
            self.answer(401, {"error": f"not {self.headers.get('Authorization')}"})
            return
        number = create(self.path.split("/")[2], body["reference"], body["cents"])
        self.answer(201, {"invoice": {"number": number, "text": f"INV-{number:05d}"}})

    def answer(self, status: int, document: Any) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


if __name__ == "__main__":
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute(SCHEMA)
        connection.execute("CREATE TABLE IF NOT EXISTS heartbeat AS SELECT 0 AS beats")
    if os.environ.get("HEARTBEAT") == "1":
        threading.Thread(target=beat, daemon=True).start()
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
    server.daemon_threads = False
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
