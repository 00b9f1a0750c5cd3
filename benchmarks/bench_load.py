"""Load with history, live checks and verdict against the same plain locustfile, over HTTP; and against pgbench on the store.

Rounds alternate, because the machine is shared, and each ratio is of neighbours. The server is as small as a server can be, so
that the generator is the bottleneck and every microsecond that recording costs is seen. There are two plain locustfiles: one with
Locust's FastHttpUser, as people write them, and one with the HTTP client that racegate's users have, which tells what recording
costs alone. What a generator uses of the CPU for a request is told as well: it does not depend on who else is at work.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from harness.stores import StoreKind, StoreOptions, open_store
from harness.stores.embedded_postgres import postgres_binaries
from harness.stores.ports import free_port

SECONDS = 8
ROUNDS = 5
USERS = 10
AIM = 0.97
"""The least share of the plain locustfile's requests per second, and of the rate without live checks."""

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

SAME_CLIENT = """
import itertools, json, time
from locust import User, task
from harness.engines.load.http import FastPool
class Plain(User):
    def on_start(self):
        self.intents, self.pool = itertools.count(), FastPool("{url}", 10.0)
    @task
    def create(self):
        body = {{"company": "company-0", "amount": 100, "token": f"c-{{next(self.intents)}}"}}
        began = time.perf_counter()
        answer = self.pool.request(
            "POST", "/invoices", body=json.dumps(body).encode(), headers={{"Content-Type": "application/json"}}
        )
        content = answer.read(1_000_000)
        wrong = None if "number" in json.loads(content) else ValueError("no number")
        took = 1e3 * (time.perf_counter() - began)
        self.environment.events.request.fire(
            request_type="POST", name="create", response_time=took, response_length=len(content), exception=wrong, context={{}}
        )
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
    """Compare over HTTP."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (folder / "fast.py").write_text(PLAIN.format(url=url))
    (folder / "same.py").write_text(SAME_CLIENT.format(url=url))
    (folder / "racegate.toml").write_text(CONFIG.format(url=url))
    config = ["--config", str(folder / "racegate.toml")]
    ways = {
        "plain, FastHttpUser": lambda: plain(folder / "fast.py"),
        "plain, our client": lambda: plain(folder / "same.py"),
        "racegate": lambda: recorded(folder, config),
        "racegate --no-live": lambda: recorded(folder, [*config, "--no-live"]),
    }
    with subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        rates = in_turn(ways, "over HTTP")
        server.terminate()
    compare(rates, "racegate", "plain, FastHttpUser")
    compare(rates, "racegate", "plain, our client")
    compare(rates, "racegate", "racegate --no-live")
    if wrk := shutil.which("wrk"):
        print(f"wrk, the server's own ceiling: {ceiling_of(wrk, url)}")


def in_turn(ways: Mapping[str, Callable[[], tuple[float, float]]], title: str) -> dict[str, list[float]]:
    """Go each way in turn, print a table, and return the rates; each way gives requests per second and CPU us of each."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, go in ways.items():
            rate, cost = go()
            rates[name].append(rate)
            costs[name].append(cost)
    print(f"{title:20} {'requests/s':>11} {'CPU us/request':>15}   (median of {ROUNDS} rounds, {SECONDS} s, {USERS} users)")
    for name, found in rates.items():
        print(f"{name:20} {statistics.median(found):11.0f} {statistics.median(costs[name]):15.0f}")
    return rates


def compare(rates: Mapping[str, Sequence[float]], ours: str, theirs: str) -> None:
    """Print the ratio of two ways, round by round."""
    ratios = [one / other for one, other in zip(rates[ours], rates[theirs], strict=True)]
    middle = statistics.median(ratios)
    kept = "kept" if middle >= AIM else "NOT KEPT"
    print(f"{ours} / {theirs}: {middle:.3f} ({', '.join(f'{r:.2f}' for r in ratios)}); aim >= {AIM}: {kept}")


def plain(file: Path) -> tuple[float, float]:
    """Return requests per second of a plain locustfile, and the CPU microseconds of each."""
    words = ["locust", "-f", str(file), "--headless", "-u", str(USERS), "-r", str(USERS)]
    text, cpu = called([sys.executable, "-m", *words, "-t", f"{SECONDS}s", "--json"])
    [stats] = json.loads(text[text.index("[") :])
    made = stats["num_requests"]
    assert not stats["num_failures"], stats
    return made / (stats["last_request_timestamp"] - stats["start_time"]), 1e6 * cpu / made


def recorded(folder: Path, what: Sequence[str]) -> tuple[float, float]:
    """Return requests per second of a judged run, and the CPU microseconds of each, judging included."""
    load, cpu = judged(folder, what)
    made = load["counts"]["invoked"]
    return made / min(load["seconds"], SECONDS), 1e6 * cpu / made


def judged(folder: Path, what: Sequence[str]) -> tuple[dict[str, Any], float]:
    """Return what is kept of a run of ours, and the CPU seconds that it used."""
    words = ["load", "concurrent_creates", *what, "--json", "-", "--users", str(USERS), "--duration", f"{SECONDS}s"]
    words += ["--out", str(folder / "runs"), "--seed", "1"]
    text, cpu = called([sys.executable, "-c", f"import sys; from harness.cli.main import main; sys.exit(main({words!r}))"])
    found: dict[str, Any] = orjson.loads(text)["facts"]["load"]
    return found, cpu


def ceiling_of(wrk: str, url: str) -> str:
    """Return what wrk says of the server."""
    done = subprocess.run([wrk, "-t1", f"-c{USERS}", "-d4s", url], capture_output=True, text=True, check=True)
    return next(line.strip() for line in done.stdout.splitlines() if "Requests/sec" in line)


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
    target = ["--target", "reference:pg.counter_row"]
    load, _ = judged(folder, target)
    rate = load["counts"]["ok"] / load["seconds"]
    cpu = max(g["cpu_mean"] for g in load["generator"])
    print(
        f"\non the store: {rate:.0f} creates/s at {100 * cpu:.0f} % of a core, "
        f"so the generator's own ceiling is about {rate / cpu:.0f}/s"
    )
    print(f"pgbench, SELECT 1 with {USERS} clients: {ceiling:.0f}/s\n")
    ways = {"live checks": lambda: recorded(folder, target), "--no-live": lambda: recorded(folder, [*target, "--no-live"])}
    compare(in_turn(ways, "on the store"), "live checks", "--no-live")


if __name__ == "__main__":
    main()
