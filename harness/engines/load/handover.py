"""The worker's side of plain Locust: takes the plan, tells the time, and hands over what it recorded.

Where the master's run folder is there under the same path, and is the same (its mark is in it), history and final word are
written there. Elsewhere they are kept in a folder of this host's own until the master has fetched them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import pickle
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gevent.event import Event
from locust.runners import WorkerRunner

from harness.engines.load.hosts import CLOCK, DONE, END, FETCH, FINAL, MARK, PART, PLAN, TAKEN, VERSION, pid_space
from harness.engines.load.plan import LoadPlan
from harness.engines.load.site import Site
from harness.recording.recorder import boot, now

PIECE = 1 << 19
"""Bytes of a history that one message carries."""

FETCHED_LIMIT = 60.0
"""Seconds for which a worker that is told to quit waits until the master has its history."""

log = logging.getLogger("racegate")


class Handover:
    """What one worker owes the master.

    Args:
        runner: Locust's.
        take: makes the site of this process's clients, for a plan, a rank and a number of processes.
    """

    def __init__(self, runner: WorkerRunner, take: Callable[[LoadPlan, int, int], Site]) -> None:
        self._runner, self._take = runner, take
        self._site: Site | None = None
        self._own: Path | None = None
        """The folder of this host's own, while something is in it that the master has not."""
        self._fetched = Event()
        answers: Mapping[str, tuple[Callable[[Mapping[str, Any]], None], bool]] = {
            PLAN: (self._on_plan, False),
            CLOCK: (lambda told: self._say(CLOCK, sent=told["sent"], answered=now()), False),
            END: (lambda told: self._runner.stop(), True),  # in a greenlet of its own: this one answers meanwhile
            FETCH: (self._on_fetch, False),
            DONE: (lambda told: self._on_done(), False),
        }
        for name, (answer, concurrent) in answers.items():
            runner.register_message(name, lambda environment, msg, answer=answer: answer(msg.data), concurrent)

    def hand_in(self) -> None:
        """Give the final word, after the last client left."""
        site, self._site = self._site, None
        if site is None:
            return
        final = json.dumps(site.end())
        if self._own is None:
            path = site.plan.folder / f"final-{site.rank}.json"
            path.with_suffix(".part").write_text(final, encoding="utf-8")
            path.with_suffix(".part").rename(path)
        else:
            with self._history.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self._say(FINAL, final=final, size=self._history.stat().st_size, sha256=digest)
        self._runner.environment.stop_timeout = 0  # Locust would be deaf for that long before it can start again

    def leave(self) -> None:
        """Wait until the master has what it needs; keep it otherwise, and say where."""
        if self._own is not None and not self._fetched.wait(FETCHED_LIMIT):
            log.error("the master did not fetch what was recorded here; it is kept in %s", self._own)

    @property
    def _history(self) -> Path:
        assert self._own is not None
        [file] = self._own.glob("load-*.jsonl")
        return file

    def _say(self, what: str, **more: Any) -> None:
        self._runner.send_message(what, more)

    def _on_plan(self, told: Mapping[str, Any]) -> None:
        self._site, self._own = None, None
        self._fetched.clear()
        try:
            if told["version"] != VERSION:
                raise ValueError(f"it has racegate {VERSION}, and the master {told['version']}; install the same everywhere")
            plan: LoadPlan = pickle.loads(base64.b64decode(told["plan"]))
            shared = _is_shared(Path(told["folder"]), told["mark"])
            if not shared:
                self._own = Path(tempfile.mkdtemp(prefix="racegate-worker-"))
                plan = replace(plan, folder=self._own)
            self._site = self._take(plan, told["rank"], told["processes"])
        except Exception as e:
            log.exception("the plan could not be taken")
            self._say(TAKEN, trouble=f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}")
            return
        self._say(TAKEN, trouble=None, shared=shared, pid=os.getpid(), space=pid_space(), boot=boot(), host=socket.gethostname())

    def _on_fetch(self, told: Mapping[str, Any]) -> None:
        with self._history.open("rb") as file:
            file.seek(told["at"])
            self._say(PART, at=told["at"], data=file.read(PIECE))

    def _on_done(self) -> None:
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
            self._own = None
        self._fetched.set()


def _is_shared(folder: Path, mark: str) -> bool:
    try:
        return (folder / MARK).read_text(encoding="ascii") == mark
    except (OSError, ValueError):
        return False
