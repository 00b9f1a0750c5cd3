"""A client's thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any


class Worker:
    """A client's thread, kept from run to run."""

    def __init__(self, number: int, say: Callable[[tuple[str, Any]], None]) -> None:
        self.number = number
        self._say = say
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"client {number}", daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], None]) -> None:
        """Run a job on this thread; its end is reported as ``("done", number)``."""
        self._jobs.put(job)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException as e:  # noqa: BLE001 - handed to the scheduler, which raises it
                self._say(("trouble", e))
            self._say(("done", self.number))

    def close(self) -> None:
        """End the thread."""
        self._jobs.put(None)
