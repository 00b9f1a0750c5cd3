"""Stands between racegate and a server that it started, so that the server never outlives it.

Run by path with nothing but the standard library, in a session of its own (Ctrl-C in the terminal does not reach it).
It starts the server, obeys one-word orders on standard input (``kill``, ``stop``, ``start``, ``restart``, ``pause``, ``resume``),
and when standard input ends - racegate closed it, was interrupted, or was killed - it stops the server and removes its folders.
If this process itself is killed the kernel kills the server (PR_SET_PDEATHSIG).

Standard input begins with one line of JSON: ``command``, ``stop_signal``, ``user`` and ``group`` (numbers or null),
``log``, ``remove`` (folders), ``lock`` (a file to lock in each of them), ``environment``, ``directory``, ``whole_group``
(what it starts ends with it). Standard output carries ``started PID``, ``exited STATUS`` and ``done ORDER``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import Any

PATIENCE = 5.0
TIDY_PATIENCE = 45.0
"""Seconds for a server that ends in good order: a primary looks for somebody to hand over to first."""

PR_SET_PDEATHSIG = 1


IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What a terminal or a shell may send to all of us: the end of standard input is what counts."""


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies, and hear the signals that the parent ignores."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """The one server process."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.process: subprocess.Popen[bytes] | None = None
        self.stopping = False

    def start(self) -> None:
        """Start the server and a thread that reports its end."""
        plan = self.plan
        with open(plan["log"], "ab") as log:
            self.process = subprocess.Popen(
                plan["command"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=plan["user"],
                group=plan["group"],
                extra_groups=[] if plan["user"] is not None else None,
                cwd=plan["directory"],
                env=plan["environment"],
                start_new_session=plan["whole_group"],
                preexec_fn=die_with_parent,  # noqa: PLW1509 - no lock of another thread is touched in it
            )
        say(f"started {self.process.pid}")
        threading.Thread(target=self.report_end, args=(self.process,), daemon=True).start()

    def report_end(self, process: subprocess.Popen[bytes]) -> None:
        """Say that the server ended by itself."""
        status = process.wait()
        if process is self.process and not self.stopping:
            say(f"exited {status}")

    def stop(self, how: int, *, patience: float = PATIENCE) -> None:
        """Stop the server with this signal, and with SIGKILL when it does not listen."""
        self.stopping = True
        if self.process is None:
            return
        for number, seconds in ((how, patience), (signal.SIGKILL, PATIENCE)):
            self.signal(number)
            try:
                self.process.wait(seconds)
                if self.plan["whole_group"]:
                    self.signal(signal.SIGKILL)  # whatever it left behind
                return
            except subprocess.TimeoutExpired:
                continue

    def crash(self) -> None:
        """Kill the server and every process that it started, as a crash of the machine does, and wait until they are gone.

        PostgreSQL's backends are in sessions of their own, and one that outlives its parent may yet finish a commit.
        """
        self.stopping = True
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGSTOP)  # it starts no more
        below = descendants(self.process.pid)
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.stop(signal.SIGKILL)
        limit = time.monotonic() + PATIENCE
        while any(parents().get(pid, (0, "Z"))[1] != "Z" for pid in below) and time.monotonic() < limit:
            time.sleep(0.005)  # between two looks

    def signal(self, number: int) -> None:
        """Send a signal to the server, or to all that it started."""
        if self.process is None:
            return
        if not self.plan["whole_group"]:
            if self.process.poll() is None:
                self.process.send_signal(number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def obey(self, order: str) -> None:
        """Carry out one order."""
        if order == "kill":
            self.crash()
        elif order == "stop":
            self.stop(signal.SIGTERM, patience=TIDY_PATIENCE)
        elif order == "restart":
            self.stop(self.plan["stop_signal"])
            self.stopping = False
            self.start()
        elif order == "start":
            self.stopping = False
            self.start()
        elif order == "pause" and self.process is not None:
            self.process.send_signal(signal.SIGSTOP)
        elif order == "resume" and self.process is not None:
            self.process.send_signal(signal.SIGCONT)
        say(f"done {order}")


def parents() -> dict[int, tuple[int, str]]:
    """Return every process's parent and state (``Z`` has ended), by its number."""
    found = {}
    if os.path.isdir("/proc/self"):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b") ")[2].split()[:2]
                found[int(name)] = (int(parent), state.decode())
        return found
    for line in subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,state="], capture_output=True, text=True, check=False
    ).stdout.splitlines():
        pid, above, status = line.split()
        found[int(pid)] = (int(above), status[0])
    return found


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and what those started."""
    every = parents()
    below: list[int] = []
    layer = {pid}
    while layer := {child for child, (parent, _) in every.items() if parent in layer}:
        below += layer
    return below


def hold(path: str) -> int:
    """Lock the file until this process ends, so that nobody sweeps its folder away."""
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def say(text: str) -> None:
    """Tell racegate, if it still listens."""
    with contextlib.suppress(OSError):
        os.write(1, (text + "\n").encode())


def main() -> None:
    """Start, obey, and clean up when standard input ends."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    server = Server(json.loads(sys.stdin.readline()))
    held = [hold(os.path.join(folder, server.plan["lock"])) for folder in server.plan["remove"]]
    try:
        server.start()
        for line in sys.stdin:
            server.obey(line.strip())
    finally:
        if server.process is not None:
            server.signal(signal.SIGCONT)
        server.stop(server.plan["stop_signal"])
        for folder in server.plan["remove"]:
            shutil.rmtree(folder, ignore_errors=True)
        for file in held:
            os.close(file)


if __name__ == "__main__":
    main()
