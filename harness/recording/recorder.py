"""Appends one process's events to its history file as they happen.

Each event is one ``write`` of one whole line in append mode, without a buffer of ours: once the call returns the line is
in the kernel, so neither the death of this process nor of its parent loses it. (A power cut would; the store on the
same machine would not survive that either.)
"""

from __future__ import annotations

import errno
import os
import threading
import time
import zlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.model.errors import EnvironmentProblem
from harness.model.operation import Failure, Operation, Outcome
from harness.recording import format as lines

now = time.monotonic_ns
"""The machine-wide monotonic clock, in nanoseconds."""


@cache
def boot() -> str | None:
    """Return what names the machine's boot, within which its monotonic clock counts; None where nothing does.

    In a time namespace whose clock is set otherwise (time_namespaces(7)) the offset, in seconds and ns, belongs to the name.
    """
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text().strip() or None
    except OSError:
        return None
    offset = _clock_offset()
    return name and (f"{name}/{offset}" if offset else name)


def _clock_offset() -> str:
    try:
        rows = [line.split() for line in Path("/proc/self/timens_offsets").read_text().splitlines()]
    except OSError:  # a kernel without time namespaces
        return ""
    return "".join(f"{seconds}+{ns}" for clock, seconds, ns in rows if clock == "monotonic" and (seconds, ns) != ("0", "0"))


class Recorder:
    """Writes one file of events. Safe to use from several threads: a line is one ``write``, and they take turns.

    Raises:
        EnvironmentProblem: the file cannot be made or written, for example because the disk is full.
    """

    def __init__(self, path: Path, *, worker: int) -> None:
        self._path = path
        self._events = 0  # lines, the header among them
        self._crc = 0
        self._turn = threading.Lock()
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as e:
            raise EnvironmentProblem(f"cannot write the history to {path}: {e.strerror}; choose another --out") from e
        self._write(lines.header(worker=worker, pid=os.getpid(), opened=now(), boot=boot()))

    def invoke(self, *, process: int, client: int, f: str, token: str, arguments: Mapping[str, Any]) -> int:
        """Record an invocation and return its time in ns. Call it before the operation starts."""
        at = now()
        self._write(lines.invocation(process=process, client=client, f=f, token=token, arguments=arguments, time=at))
        return at

    def complete(
        self,
        *,
        process: int,
        client: int,
        f: str,
        token: str,
        outcome: Outcome,
        at: int,
        attempts: int = 1,
        result: Mapping[str, Any] | None = None,
        failure: Failure | None = None,
    ) -> None:
        """Record a completion that was seen at ``at`` ns. Call it after the operation returned."""
        self._write(
            lines.completion(
                process=process,
                client=client,
                f=f,
                token=token,
                outcome=outcome.value,
                time=at,
                attempts=attempts,
                result=result,
                failure=failure,
            )
        )

    def close(self) -> None:
        """Write the ending and close the file."""
        if self._fd < 0:
            return
        self._write(lines.ending(events=self._events - 1, crc=self._crc))
        os.close(self._fd)
        self._fd = -1

    def _write(self, line: bytes) -> None:
        try:
            with self._turn:
                written = os.write(self._fd, line)
                self._crc = zlib.crc32(line, self._crc)
                self._events += 1
        except OSError as e:
            raise self._unwritable(e) from e
        if written != len(line):
            raise self._unwritable(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _unwritable(self, e: OSError) -> EnvironmentProblem:
        return EnvironmentProblem(
            f"the history could not be written to {self._path}: {e.strerror}; what was recorded before is kept there. "
            f"Free some space or choose another --out"
        )


def write_history(path: Path, operations: Iterable[Operation]) -> None:
    """Write operations that are over, at the times that they have, as a recorder would have.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    events: list[tuple[int, int, bytes]] = []
    for at, o in enumerate(operations):
        line = lines.invocation(process=o.process, client=o.client, f=o.f, token=o.token, arguments=o.arguments, time=o.invoked)
        events.append((o.invoked, 2 * at, line))
        if o.completed is None:
            continue
        line = lines.completion(
            process=o.process,
            client=o.client,
            f=o.f,
            token=o.token,
            outcome=o.outcome.value,
            time=o.completed,
            attempts=o.attempts,
            result=o.result,
            failure=o.failure,
        )
        events.append((o.completed, 2 * at + 1, line))
    opened = min((time for time, _, _ in events), default=now())
    head = lines.header(worker=0, pid=os.getpid(), opened=opened, boot=boot())
    body = b"".join([head, *(line for _, _, line in sorted(events))])
    try:
        path.write_bytes(body + lines.ending(events=len(events), crc=zlib.crc32(body)))
    except OSError as e:
        raise EnvironmentProblem(f"cannot write the history to {path}: {e.strerror}; choose another --out") from e
