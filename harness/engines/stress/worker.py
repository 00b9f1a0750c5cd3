"""A worker process: drives its clients, one thread each, and leaves when its parent does."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection as Pipe
from typing import Any

from harness.engines.client import Client
from harness.engines.stress.plan import StressPlan
from harness.engines.stress.tally import Tally
from harness.model.errors import RacegateError
from harness.model.operation import Call, Outcome
from harness.model.scenario import Seat
from harness.recording.recorder import Recorder, now
from harness.targets.base import Connection

SWITCH_INTERVAL = 0.0005
"""Seconds a thread may hold the interpreter: Python's default of 5 ms would serialise the clients of one process."""

CONNECT_TRIES = 20
RECONNECT_TRIES = 240
"""A store that was there may be restarting, and a machine under load takes its time."""

RECONNECT_PAUSE = 0.25


def work(plan: StressPlan, worker: int, life: int, pipe: Pipe) -> None:
    """Run this worker's clients from start to end. Entry point of the process.

    Messages to the parent: ``("ready", None)``, ``("trouble", text)`` for each client that had to give up, ``("full", text)``
    when the history cannot be written, ``("done", None)``. Messages from it: ``go`` and ``stop``. The end of the pipe means
    that the parent is gone: then so is this process, at once.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_INTERVAL)
    go, stop = threading.Event(), threading.Event()
    send = _sender(pipe)
    threading.Thread(target=_obey, args=(pipe, go, stop), daemon=True, name="orders").start()
    tally = Tally(plan.folder / "tally", clients=plan.clients)
    try:
        recorder = Recorder(plan.folder / f"worker-{worker}.{life}.jsonl", worker=worker)
        drivers = [_Driver(plan, client, life, recorder, tally, stop) for client in plan.seats(worker)]
        for driver in drivers:
            driver.client.open()
    except Exception as e:  # noqa: BLE001 - the parent reports it, by name
        send("broken", _told(e))
        return
    threads = [threading.Thread(target=driver.drive, args=(go, send), name=f"client {driver.number}") for driver in drivers]
    for thread in threads:
        thread.start()
    send("ready", None)
    for thread in threads:
        thread.join()
    try:
        recorder.close()
    except RacegateError as e:
        send("full", str(e))
    send("done", None)
    pipe.close()


def _sender(pipe: Pipe) -> Any:
    lock = threading.Lock()

    def send(kind: str, text: str | None) -> None:
        with lock:
            try:
                pipe.send((kind, text))
            except OSError:
                os._exit(1)

    return send


def _obey(pipe: Pipe, go: threading.Event, stop: threading.Event) -> None:
    while True:
        try:
            order = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)
        if order == "go":
            go.set()
        elif order == "stop":
            stop.set()


class _Driver:
    """One client's thread."""

    def __init__(self, plan: StressPlan, number: int, life: int, recorder: Recorder, tally: Tally, stop: threading.Event) -> None:
        self.number = number
        self._plan = plan
        self._tally = tally
        self._stop = stop
        self._halt = plan.halt()
        if self._halt is not None:
            self._halt.heard(number)  # the seat may be that of a client whose process was killed
        self._connected = life > 0
        before = tally.read(number)
        share = plan.share(number)
        self._left = None if share is None else max(share - before["invoked"], 0)
        # A killed process may have used a generation that it could not count.
        generation = before["generation"] + 1 if life else 0
        tally.set(number, "generation", generation)
        self.client = Client(
            number=number,
            clients=plan.clients,
            connect=self._connect,
            record=recorder,
            clock=now,
            generation=generation,
            passing=self._pass_by,
        )
        self._seat = Seat(
            client=number,
            clients=plan.clients,
            random=random.Random(f"{plan.seed}/{number}/{life}"),
            settings=plan.settings,
            life=life,
        )

    def drive(self, go: threading.Event, send: Any) -> None:
        """Perform the scenario's program until it ends, or the parent says stop, or the share is used up and no job half done."""
        go.wait()
        try:
            program = self._plan.scenario.program(self._seat)
            call = next(program, None)
            while call is not None and not self._stop.is_set() and (self._left is None or self._left > 0 or call.goes_on):
                if call.think and self._stop.wait(call.think):
                    break
                operation = self._perform(call)
                try:
                    call = program.send(operation)
                except StopIteration:
                    break
        except RacegateError as e:
            send("full", str(e))
            self._stop.set()
        except Exception as e:  # noqa: BLE001 - a client that cannot go on is reported, the others go on
            send("trouble", f"client {self.number} gave up: {_told(e)}")
        finally:
            self._tally.set(self.number, "busy_since", 0)
            self._close()

    def _pass_by(self, point: str) -> None:
        if self._halt is not None:
            self._halt.pass_by(self.number, point, self._stop)

    def _perform(self, call: Call) -> Any:
        tally, number = self._tally, self.number
        tally.add(number, "invoked")
        tally.set(number, "busy_since", now())
        operation = self.client.perform(call)
        if self._halt is not None:
            self._halt.heard(number)
        tally.set(number, "busy_since", 0)
        tally.add(number, operation.outcome.value)
        if operation.outcome is Outcome.INFO:
            tally.add(number, "generation")
        if self._left is not None:
            self._left -= 1
        return operation

    def _connect(self) -> Connection:
        for _ in range(RECONNECT_TRIES if self._connected else CONNECT_TRIES):
            try:
                connection = self._plan.target.connect(self._plan.database, self.number)
                self._connected = True
                return connection
            except Exception:  # noqa: BLE001 - the store may be restarting; the last error is the one that counts
                if self._stop.wait(RECONNECT_PAUSE):
                    break
        return self._plan.target.connect(self._plan.database, self.number)

    def _close(self) -> None:
        with contextlib.suppress(Exception):  # a goodbye that fails changes nothing: all is recorded
            self.client.close()


def _told(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({last[0].filename.rsplit('/', 1)[-1]}:{last[0].lineno})" if last else ""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}{where}"
