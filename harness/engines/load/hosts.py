"""The master's side of plain Locust with several workers, which may be on several hosts.

Every worker is told the plan and its place, and is asked for the time again and again. When the test is over each is told to
end, in good order and before Locust itself tells it, because Locust's messages are no longer heard later. A worker that sees the
run folder hands its final word in there; from any other it is fetched, with the history, piece by piece, over Locust's
messages. A worker whose evidence does not arrive is lost.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import pickle
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gevent
import psutil
from gevent.event import AsyncResult
from locust.runners import MasterRunner

from harness.engines.load.clocks import Exchange, skew_of
from harness.engines.load.plan import LoadPlan
from harness.recording.recorder import boot, now

PLAN, TAKEN, CLOCK, END, FINAL, FETCH, PART, DONE = (
    f"racegate_{name}" for name in ("plan", "taken", "clock", "end", "final", "fetch", "part", "done")
)
"""What master and workers say to each other, by Locust's messages."""

VERSION = version("racegate")
"""Master and workers need the same: the plan is made of its objects."""

MARK = ".here"
"""A file beside the histories by which a worker sees that its file system is the master's."""

FINAL_LIMIT = 45.0
"""Seconds, beyond the grace, within which a worker must give its final word after it was told to end."""

SILENCE = 15.0
"""Seconds without an answer after which a worker that owes one is lost; it is asked for the time every three."""

BURST = 8
"""Exchanges of the time, close together."""

BURST_PAUSE = 0.02
BURSTS_EVERY = 3.0

LOOK = 0.05

log = logging.getLogger("racegate")


def pid_space() -> str:
    """Return what names the space in which this process's number means something."""
    with contextlib.suppress(OSError):
        return f"{boot()} {Path('/proc/self/ns/pid').readlink()}"
    return ""


@dataclass
class Worker:
    """One worker as the master knows it. Times are ns, on our clock."""

    client: str
    rank: int
    taken: Mapping[str, Any] = field(default_factory=dict)
    process: psutil.Process | None = None
    final: Mapping[str, Any] | None = None
    announced: Mapping[str, Any] | None = None
    lost: str | None = None
    heard: float = 0.0
    bursts: list[list[Exchange]] = field(default_factory=lambda: [[]])
    part: AsyncResult | None = None
    skew: tuple[int, int] = (0, 0)
    over: bool = False

    @property
    def elsewhere(self) -> bool:
        """Whether its history has to be fetched."""
        return not self.taken.get("shared", False)

    @property
    def other_clock(self) -> bool:
        """Whether its times are another clock's."""
        return self.taken.get("boot") is None or self.taken["boot"] != boot()


class Workers:
    """The workers of one test.

    Args:
        runner: Locust's.
        plan: what they are to do.
    """

    def __init__(self, runner: MasterRunner, plan: LoadPlan) -> None:
        self._runner, self._plan = runner, plan
        self._all = [Worker(client=client, rank=rank) for rank, client in enumerate(sorted(runner.clients))]
        self._by_client = {worker.client: worker for worker in self._all}
        self._mark = secrets.token_hex(16)
        self._comparing: Any = None

    def __len__(self) -> int:
        return len(self._all)

    def begin(self) -> None:
        """Tell every worker the plan, and begin to compare the clocks."""
        (self._plan.folder / MARK).write_text(self._mark, encoding="ascii")
        told = {
            "plan": base64.b64encode(pickle.dumps(self._plan)).decode(),
            "processes": len(self._all),
            "folder": str(self._plan.folder),
            "mark": self._mark,
            "version": VERSION,
        }
        for worker in self._all:
            worker.heard = time.monotonic()
            self._runner.send_message(PLAN, {**told, "rank": worker.rank}, worker.client)
        self._comparing = gevent.spawn(self._compare)

    def hear(self, client: str, kind: str, data: Mapping[str, Any]) -> None:
        """Take in what a worker said. Called by the one greenlet that reads Locust's messages: it must not wait."""
        at = now()
        worker = self._by_client.get(client)
        if worker is None or worker.over:
            return
        worker.heard = time.monotonic()
        if kind == CLOCK:
            worker.bursts[-1].append(Exchange(sent=data["sent"], answered=data["answered"], received=at))
        elif kind == TAKEN:
            self._place(worker, data)
        elif kind == FINAL and worker.announced is None:
            worker.announced = data
            gevent.spawn(self._fetch, worker)
        elif kind == PART and worker.part is not None:
            worker.part.set(data)

    def gather(self) -> dict[str, Any]:
        """Tell every worker to end, and wait for what each has to hand over.

        Returns:
            What the judge is told: ``finals``, ``lost``, and of each worker that is elsewhere or has another clock what became
            of its history (``hosts``).
        """
        for worker in self._all:
            self._runner.send_message(END, {}, worker.client)
        limit = time.monotonic() + self._plan.grace + FINAL_LIMIT
        while open_ones := [worker for worker in self._all if not worker.over]:
            for worker in open_ones:
                self._look(worker, limit)
            gevent.sleep(LOOK)
        self._comparing.kill()
        (self._plan.folder / MARK).unlink(missing_ok=True)
        return {
            "finals": [worker.final for worker in self._all if worker.final is not None],
            "lost": [worker.lost for worker in self._all if worker.lost is not None],
            "hosts": [_host(worker) for worker in self._all if worker.final and (worker.elsewhere or worker.other_clock)],
        }

    def _place(self, worker: Worker, taken: Mapping[str, Any]) -> None:
        if taken.get("trouble"):
            self._lose(worker, f"could not take the plan: {taken['trouble']}")
            return
        worker.taken = taken
        if taken["space"] and taken["space"] == pid_space():
            with contextlib.suppress(psutil.Error):
                worker.process = psutil.Process(taken["pid"])

    def _look(self, worker: Worker, limit: float) -> None:
        """See whether a worker handed in its final word, or can no longer do so."""
        file = self._plan.folder / f"final-{worker.rank}.json"
        if worker.taken and not worker.elsewhere and file.exists():
            if worker.other_clock and not self._compared(worker):
                return
            worker.final = json.loads(file.read_text(encoding="utf-8"))
            worker.over = True
        elif worker.process is not None and not _at_work(worker.process):
            self._lose(worker, "went without a final word")
        elif time.monotonic() - worker.heard > SILENCE:
            self._lose(worker, f"said nothing for {SILENCE:.0f} s")
        elif time.monotonic() > limit and worker.announced is None:
            self._lose(worker, "went without a final word in time")

    def _lose(self, worker: Worker, why: str) -> None:
        worker.lost, worker.over = f"worker {worker.rank} {why}", True
        if worker.process is not None:
            with contextlib.suppress(psutil.Error):
                worker.process.kill()  # the books must not be read while somebody still writes
                worker.process.wait(LOOK)
        self._runner.clients.pop(worker.client, None)  # Locust would wait for its users

    def _compare(self) -> None:
        while True:
            for worker in self._all:
                if worker.bursts[-1]:
                    worker.bursts.append([])
            for _ in range(BURST):
                for worker in self._all:
                    if not worker.over:
                        self._runner.send_message(CLOCK, {"sent": now()}, worker.client)
                gevent.sleep(BURST_PAUSE)
            gevent.sleep(BURSTS_EVERY)

    def _compared(self, worker: Worker) -> bool:
        """Compare the clocks a last time; tell whether the skew is known, else the worker is lost."""
        worker.bursts.append([])
        limit = time.monotonic() + SILENCE
        while len(worker.bursts[-1]) < BURST and time.monotonic() < limit:
            self._runner.send_message(CLOCK, {"sent": now()}, worker.client)
            gevent.sleep(BURST_PAUSE)
        try:
            if not worker.bursts[-1]:
                raise ValueError("its clock could not be compared with ours when it was over")
            worker.skew = skew_of(worker.bursts)
        except ValueError as e:
            self._lose(worker, f"handed in a history that cannot be used: {e}")
            return False
        return True

    def _fetch(self, worker: Worker) -> None:
        """Get a worker's history, and check that it is what was recorded there."""
        announced = worker.announced
        assert announced is not None
        try:
            if worker.other_clock and not self._compared(worker):
                return
            folder = self._plan.folder.parent / "received"
            folder.mkdir(exist_ok=True)
            digest = hashlib.sha256()
            with (folder / f"load-{worker.rank}.jsonl").open("xb") as file:
                for data in self._parts(worker, announced["size"]):
                    file.write(data)
                    digest.update(data)
            if digest.hexdigest() != announced["sha256"]:
                raise ValueError("its checksum is another one")
        except (OSError, ValueError, gevent.Timeout) as e:
            self._lose(worker, f"recorded a history of {announced['size']} bytes that did not arrive ({e})")
            return
        worker.final, worker.over = json.loads(announced["final"]), True
        self._runner.send_message(DONE, {}, worker.client)

    def _parts(self, worker: Worker, size: int) -> Iterator[bytes]:
        at = 0
        while at < size:
            worker.part = AsyncResult()
            self._runner.send_message(FETCH, {"at": at}, worker.client)
            part = worker.part.get(timeout=SILENCE)
            if part["at"] != at or not part["data"]:
                raise ValueError(f"a piece at {at} was asked for and another came")
            yield part["data"]
            at += len(part["data"])


def _host(worker: Worker) -> dict[str, Any]:
    announced = worker.announced or {}
    return {
        "rank": worker.rank,
        "host": worker.taken["host"],
        "fetched": worker.elsewhere,
        "bytes": announced.get("size"),
        "sha256": announced.get("sha256"),
        "skew_ns": list(worker.skew) if worker.other_clock else None,
    }


def _at_work(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
