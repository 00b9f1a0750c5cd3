"""A service that is tested: started if the configuration says how, and waited for until it is healthy."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError

from harness.config.sections import TargetSection
from harness.model.errors import EnvironmentProblem
from harness.stores.ports import free_port
from harness.stores.process import SupervisedServer
from harness.stores.redaction import redact

ASK_EVERY = 0.05
"""Seconds between two questions whether the service is healthy."""

ASK_TIMEOUT = 2.0
"""Seconds that an answer to that question may take."""


class ServiceProcess:
    """A service that racegate started. Closing it ends it, with all that it started itself.

    Args:
        section: how.
        url: where it will answer; its port is told to the service.
        database_url: what it is to use as its database, or None.
        root: the folder that ``directory`` is relative to.
        log: where its output goes.

    Raises:
        EnvironmentProblem: the program or the folder does not exist.
    """

    def __init__(self, section: TargetSection, *, url: str, database_url: str | None, root: Path, log: Path) -> None:
        command = shlex.split(section.command) if isinstance(section.command, str) else list(section.command)
        directory = (root / section.directory).resolve()
        environment = {**os.environ, **section.environment, section.port_variable: str(urlsplit(url).port or "")}
        if database_url is not None:
            environment[section.database_variable] = database_url
        if not directory.is_dir():
            raise EnvironmentProblem(f"target.directory {directory} is not a folder")
        program = shutil.which(command[0], path=environment.get("PATH"))
        if program is None and (directory / command[0]).exists():
            program = str(directory / command[0])
        if program is None:
            raise EnvironmentProblem(f"target.command needs {command[0]!r}, which is not installed (or not on PATH)")
        self._log = log
        self._server = SupervisedServer(
            command=[program, *command[1:]],
            stop_signal=signal.SIGTERM,
            log=log,
            remove=(),
            service=True,
            directory=directory,
            environment=environment,
        )

    @property
    def exited(self) -> int | None:
        """The status that it ended with, or None while it runs."""
        return self._server.exited

    def last_words(self) -> str:
        """Quote the last lines of its output in one line, or say that there are none."""
        said = self._server.said()
        return f"it said: {redact(said)}" if said else "it said nothing"

    def close(self) -> None:
        """End it."""
        self._server.close()


def address_for(section: TargetSection) -> str:
    """Return the section's URL, with a free port in place of port 0."""
    parts = urlsplit(section.url)
    if parts.port != 0:
        return section.url
    who = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return urlunsplit(parts._replace(netloc=f"{who}{parts.hostname}:{free_port()}"))


def wait_until_healthy(
    url: str,
    section: TargetSection,
    *,
    limit: float,
    process: ServiceProcess | None,
    shown: str,
    connections: Callable[[], int] | None = None,
) -> None:
    """Ask the service until it answers 2xx or 3xx.

    Args:
        url: the base URL.
        section: names the path to ask.
        limit: seconds to wait.
        process: the service, if racegate started it: when it ends there is nothing to wait for.
        shown: the URL for people.
        connections: tells how many were made to the database that the service was given. One that was there before has to be
            started again for that: until it was away, or is connected, it is waited for as long as the limit allows.

    Raises:
        EnvironmentProblem: it ended, or was not healthy in time.
    """
    until = time.monotonic() + limit
    path = urlsplit(url).path.rstrip("/") + section.health
    said, away = "nothing answers", False
    with urllib3.connectionpool.connection_from_url(url, retries=False, timeout=ASK_TIMEOUT) as pool:
        while True:
            if process is not None and process.exited is not None:
                raise EnvironmentProblem(
                    f"the service ended with status {process.exited} before it was healthy; {process.last_words()}"
                )
            late = time.monotonic() > until
            hint = "" if process is not None else "; is it running?"
            try:
                status = pool.request("GET", path, redirect=False).status
            except HTTPError as e:
                away = True
                said = "nothing answers" if "refused" in str(e) else " ".join(str(e).split())[:200]
            else:
                if status < 400 and (away or connections is None or connections() or late):
                    return
                said = f"it answers {status}"
                hint = f"; set target.health (now {section.health}) to a path that answers 2xx or 3xx" if status < 500 else ""
            if late:
                words = f"; {process.last_words()}" if process is not None else ""
                raise EnvironmentProblem(f"{shown}{section.health} is not healthy after {limit:g} s: {redact(said)}{hint}{words}")
            time.sleep(ASK_EVERY)  # between two questions; the condition is what the service answers
