"""The clean process beside plain Locust: prepares database and scene, waits, and judges.

Entry point: ``python -m harness.run.keeper DESCRIPTOR``.

Locust patches its process, and its listeners swallow errors; stores and invariants do not belong there. What Locust's side
says and is told is in `harness.engines.load.locustfile`. If Locust is killed, what it recorded is judged all the same, with the
verdict ``unknown`` at best.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.config.service import load_service
from harness.engines.load.channel import Channel
from harness.engines.load.engine import LoadOutcome
from harness.engines.stress import Progress
from harness.model import EnvironmentProblem, RacegateError
from harness.recording.recorder import boot
from harness.recording.shifting import shift
from harness.run.execute import Raced, execute
from harness.run.folder import RunFolder
from harness.run.live import HistoryTail
from harness.run.loaded import LoadOptions, for_the_page, plan_of, raced
from harness.run.own_service import OwnService
from harness.run.registry import reports
from harness.run.request import build_request
from harness.run.result import RunResult, exit_status_of
from harness.run.run_request import RunRequest
from harness.run.stores import Stores
from harness.stores import StoreKind, StoreOptions
from harness.stores.base import Database

ROOM = 100
"""Users for whom the store has room at least: the page may ask for more than the command line did."""

LONGEST = 7 * 24 * 3600.0


def main(descriptor: int) -> int:
    """Keep one test and return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is Locust's, which stops its users first
    end = socket.socket(fileno=descriptor)
    end.setblocking(True)  # gevent made it otherwise
    channel = Channel.of_parent(end)
    sys.path[:] = channel.receive()
    asked = channel.receive()
    try:
        result = keep(channel, asked)
    except RacegateError as e:
        status, text = int(e.exit_status), f"racegate: {' '.join(str(e).split())}\n"
        channel.send({"said": "refused", "exit": status, "text": text})
        return status
    assert result.folder is not None
    status = int(exit_status_of([result.verdict]))
    text = reports()["terminal"].render([result.folder], colours=False)
    channel.send({"said": "verdict", "exit": status, "text": text, "result": for_the_page(result)})
    return status


def keep(channel: Channel, asked: Mapping[str, Any]) -> RunResult:
    """Run one test whose users are Locust's, and return what came of it."""
    users = max(asked["users"], ROOM)
    more = {
        "policy": asked["policy"],
        "clients": max(asked["users"], asked["processes"]),
        "processes": asked["processes"],
        "duration": asked["duration"] or LONGEST,
        "budget": LONGEST,
        "seed": asked["seed"],
        "out": Path(asked["out"]),
        "engine": "load",
        "command": asked["command"],
    }
    options = LoadOptions(spawn_rate=float(asked["users"]))

    def race(request: RunRequest, database: Database | None, folder: RunFolder, observe: Callable[[Progress], None]) -> Raced:
        channel.send({"said": "plan", "plan": plan_of(request, options, database, folder)})
        outcome = _outcome(channel, folder)
        tail = HistoryTail(folder.history)
        tail.follow()
        numbers = tail.issued + tail.missing
        live = {"duplicates": tail.duplicates, "gap_rate": tail.missing / numbers if numbers else 0.0}
        return raced(request, options, outcome, live)

    with contextlib.ExitStack() as held:
        stores: Stores
        if asked["config"] is not None:
            config = load_service(Path(asked["config"]))
            service = held.enter_context(OwnService(config, url=None, wire=False, connections=2 * users + 20, say=_say))
            request, stores = build_request(scenario=asked["scenario"], target=service.target, **more), service.stores
        else:
            request = build_request(scenario=asked["scenario"], target=asked["target"], **more)
            specs = {StoreKind.POSTGRES: asked["postgres"], StoreKind.MONGO: asked["mongo"]}
            room = StoreOptions(connections=2 * users + 20, disposable=asked["disposable"])
            stores = held.enter_context(Stores(specs, room))
        return execute(replace(request, duration=asked["duration"]), stores, race=race)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _outcome(channel: Channel, folder: RunFolder) -> LoadOutcome:
    try:
        told = channel.receive()
    except EOFError:
        return LoadOutcome(seconds=0.0, lost=("Locust ended without a word",))
    finals, lost = {final["worker"]: final for final in told["finals"]}, list(told["lost"])
    for host in told["hosts"]:
        try:
            _bring_in(folder, host)
        except RacegateError as e:
            del finals[host["rank"]]
            lost.append(f"worker {host['rank']}: {e}")
        else:
            at, answered = finals[host["rank"]]["last"]
            finals[host["rank"]]["last"] = [at - (host["skew_ns"] or [0])[0] if at else at, answered]
    return LoadOutcome(
        seconds=told["seconds"],
        finals=tuple(finals.values()),
        lost=tuple(lost),
        troubles=tuple(trouble for final in finals.values() for trouble in final["troubles"]),
        stuck=tuple((client, seconds) for final in finals.values() for client, seconds in final["stuck"]),
        requests=told["requests"],
        errors=told["errors"],
        hosts=tuple(told["hosts"]),
    )


def _bring_in(folder: RunFolder, host: Mapping[str, Any]) -> None:
    """Put the history of a worker that is elsewhere, or has another clock, among the others; as recorded it stays as well."""
    name = f"load-{host['rank']}.jsonl"
    received, history = folder.path / "received" / name, folder.history / name
    try:
        if not host["fetched"]:
            received.parent.mkdir(exist_ok=True)
            history.rename(received)
        if host["skew_ns"] is None:
            received.rename(history)
            return
    except OSError as e:
        raise EnvironmentProblem(f"its history cannot be moved to {received}: {e.strerror}") from e
    least, most = host["skew_ns"]
    shift(received, history, least=least, most=most, boot=boot())


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
