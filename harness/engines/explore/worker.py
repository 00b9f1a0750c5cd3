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
            if self._at_work:
                self._raise(ClientKilled)

    def _raise(self, what: type[BaseException] | None) -> None:
        thread = ctypes.c_ulong(self._thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(what) if what else None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._at_work = True
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
        """From here on nobody is killed any more; who was to be, and had ended already, is not."""
        with self._lock:
            self._at_work = False
            self._raise(None)

    def close(self) -> None:
        """End the thread."""
        self._jobs.put(None)
