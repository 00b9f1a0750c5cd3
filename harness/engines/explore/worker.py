"""A client's thread."""

from __future__ import annotations

import ctypes
import queue
import threading
from collections.abc import Callable
from typing import Any

from harness.engines.client import ClientKilled


class Worker:
    """A client's thread, kept from run to run."""

    def __init__(self, number: int, say: Callable[[tuple[str, Any]], None]) -> None:
        self.number = number
        self._say = say
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._at_work = False
        self._sent = False
        self._thread = threading.Thread(target=self._run, name=f"client {number}", daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], None]) -> None:
        """Run a job on this thread; its end is reported as ``("done", number)``."""
        self._jobs.put(job)

    def kill(self) -> None:
        """Raise `ClientKilled` in the job, wherever it is, as soon as it runs Python again.

        A driver that would go on for minutes to do what its client asked for must not: the client is dead.
        """
        with self._lock:
            if self._at_work and not self._sent and self._thread.ident is not None:
                self._sent = True
                ClientKilled.arrived.discard(self._thread.ident)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident), ctypes.py_object(ClientKilled))

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._sent = False
            self._at_work = True
            try:
                try:
                    job()
                finally:
                    self._rest()
            except ClientKilled:
                self._rest()  # it may have come just there
            except BaseException as e:  # noqa: BLE001 - handed to the scheduler, which raises it
                self._say(("trouble", e))
            self._say(("done", self.number))

    def _rest(self) -> None:
        """From here on nobody is killed any more, and who was to be has been.

        An exception that was sent must arrive: called off (``PyThreadState_SetAsyncExc`` with NULL), CPython 3.11 looks for it
        for ever, in every thread, which makes a traced function that begins hang.
        """
        try:
            with self._lock:
                self._at_work = False
            while self._sent and threading.get_ident() not in ClientKilled.arrived:
                pass
        except ClientKilled:
            self._at_work = False

    def close(self) -> None:
        """End the thread."""
        self._jobs.put(None)
