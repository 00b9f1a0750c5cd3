"""Load with history, live checks and verdict against the same plain locustfile, over HTTP; and against pgbench on the store.

Rounds alternate, because the machine is shared. The server is as small as a server can be, so that the generator is the
bottleneck and every microsecond that recording costs is seen. What a generator uses of the CPU for a request is told as well:
it does not depend on who else is at work.
"""

from __future__ import annotations

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson

from harness.stores import StoreKind, StoreOptions, open_store
from harness.stores.embedded_postgres import postgres_binaries
from harness.stores.process import free_port

SECONDS = 8
ROUNDS = 3
USERS = 10

SERVER = """
import asyncio, itertools, json, sys
numbers = itertools.count(1)
class Answering(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.held = transport, b""
    def data_received(self, data):
        self.held += data
        while (end := self.held.find(b"\\r\\n\\r\\n")) >= 0:
            head = self.held[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15:].split(b"\\r\\n", 1)[0]) if at >= 0 else 0
            if len(self.held) < end + 4 + length:
                return
            self.held = self.held[end + 4 + length:]
            n = next(numbers)
            body = b'{"number":%d,"text":"INV-%05d"}' % (n, n)
            head = b"HTTP/1.1 201 Created\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
            self.transport.write(head % len(body) + body)
async def main():
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", int(sys.argv[1]))
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""

PLAIN = """
import itertools
from locust import FastHttpUser, task
class Plain(FastHttpUser):
    host = "{url}"
    def on_start(self):
        self.intents = itertools.count()
    @task
    def create(self):
        body = {{"company": "company-0", "amount": 100, "token": f"c-{{next(self.intents)}}"}}
        with self.client.post("/invoices", json=body, catch_response=True) as response:
            if "number" not in response.json():
                response.failure("no number")
"""

CONFIG = """
policy = "unique"
[target]
url = "{url}"
health = "/"
[operations.create]
path = "/invoices"
body = {{ company = "{{company}}", amount = "{{amount}}", token = "{{token}}" }}
answer = {{ number = "number", text = "text" }}
constants = {{ scope = "{{company}}/invoice", period = "" }}
"""


def main() -> None:
    """Print both tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        over_http(folder)
        on_the_store(folder)


def over_http(folder: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (folder / "locustfile.py").write_text(PLAIN.format(url=url))
    (folder / "racegate.toml").write_text(CONFIG.format(url=url))
    with subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        rates: dict[str, list[float]] = {"plain": [], "racegate": []}
        costs: dict[str, list[float]] = {"plain": [], "racegate": []}
        for _ in range(ROUNDS):
            for name, run in (("plain", plain), ("racegate", recorded)):
                rate, cost = run(folder)
                rates[name].append(rate)
                costs[name].append(cost)
        server.terminate()
    print(f"{'over HTTP':10} {'requests/s':>11} {'generator us/request':>21}   ({ROUNDS} rounds, {SECONDS} s, {USERS} users)")
    for name, found in rates.items():
        print(f"{name:10} {statistics.median(found):11.0f} {statistics.median(costs[name]):21.0f}")
    ratios = [ours / theirs for ours, theirs in zip(rates["racegate"], rates["plain"], strict=True)]
    print(f"ratio of requests/s {statistics.median(ratios):.2f} ({', '.join(f'{r:.2f}' for r in ratios)}); aim >= 0.97")


def plain(folder: Path) -> tuple[float, float]:
    """Return requests per second of the plain locustfile, and the CPU microseconds of each."""
    words = ["locust", "-f", str(folder / "locustfile.py"), "--headless", "-u", str(USERS), "-r", str(USERS)]
    text, cpu = called([sys.executable, "-m", *words, "-t", f"{SECONDS}s", "--json"])
    [stats] = json.loads(text[text.index("[") :])
    made = stats["num_requests"]
    return made / (stats["last_request_timestamp"] - stats["start_time"]), 1e6 * cpu / made


def recorded(folder: Path) -> tuple[float, float]:
    """Return requests per second of the same load with everything on, and the CPU microseconds of each, judging included."""
    words = ["harness.cli.main", "load", "concurrent_creates", "--config", str(folder / "racegate.toml"), "--json", "-"]
    words += ["--users", str(USERS), "--duration", f"{SECONDS}s", "--out", str(folder / "runs"), "--seed", "1"]
    text, cpu = called([sys.executable, "-c", f"import sys; from harness.cli.main import main; sys.exit(main({words[1:]!r}))"])
    load: dict[str, Any] = orjson.loads(text)["facts"]["load"]
    made = load["counts"]["invoked"]
    return made / min(load["seconds"], SECONDS), 1e6 * cpu / made


def called(command: list[str]) -> tuple[str, float]:
    """Return what a program printed, and the CPU seconds that it and its children used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout, done.stderr
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def on_the_store(folder: Path) -> None:
    store = open_store(StoreKind.POSTGRES, "embedded", StoreOptions(connections=100))
    try:
        database = store.create_database()
        tools = postgres_binaries()
        script = folder / "create.sql"
        script.write_text("SELECT 1")
        done = subprocess.run(
            [
                tools["pgbench"],
                "-n",
                "-M",
                "prepared",
                "-f",
                str(script),
                "-c",
                str(USERS),
                "-j",
                "2",
                "-T",
                "4",
                database.url,
            ],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ},
        )
        match = re.search(r"tps = ([\d.]+)", done.stdout)
        assert match is not None
        ceiling = float(match[1])
    finally:
        store.close()
    words = ["load", "concurrent_creates", "--target", "reference:pg.counter_row", "--users", str(USERS), "--json", "-"]
    words += ["--duration", f"{SECONDS}s", "--out", str(folder / "runs"), "--seed", "1"]
    text, _ = called([sys.executable, "-c", f"import sys; from harness.cli.main import main; sys.exit(main({words!r}))"])
    load = orjson.loads(text)["facts"]["load"]
    rate = load["counts"]["ok"] / load["seconds"]
    cpu = max(g["cpu_mean"] for g in load["generator"])
    print(
        f"\non the store: {rate:.0f} creates/s at {100 * cpu:.0f} % of a core, "
        f"so the generator's own ceiling is about {rate / cpu:.0f}/s"
    )
    print(f"pgbench, SELECT 1 with {USERS} clients: {ceiling:.0f}/s")


if __name__ == "__main__":
    main()
