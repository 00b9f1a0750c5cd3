"""Servers as child processes: an unprivileged user to run them as, a place for their data, and a supervisor each."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import queue
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.model.errors import EnvironmentProblem
from harness.stores.redaction import redact

SUPERVISOR = Path(__file__).with_name("supervisor.py")

LOCK = "supervised"
"""A file in each data folder, locked while its supervisor lives."""

STALE_AFTER = 3600
"""Seconds after which a data folder that no supervisor holds is swept: a fresh one may not have its supervisor yet."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """Whom a server runs as: ``uid`` and ``gid``, or None for the user that racegate runs as."""

    uid: int | None
    gid: int | None

    def owns(self, path: Path) -> None:
        """Hand a folder over to the account."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


@cache
def server_account() -> Account:
    """Return an unprivileged account when racegate runs as root (PostgreSQL refuses to run as root), else our own.

    Raises:
        EnvironmentProblem: there is no user ``nobody``.
    """
    if os.geteuid() != 0:
        return Account(uid=None, gid=None)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise EnvironmentProblem(
            "racegate runs as root and there is no user 'nobody' to run a server as; run it as an ordinary user"
        ) from None
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


@cache
def base_folder() -> Path:
    """Return the folder that holds cached templates and the data of running servers.

    It lies in the system's temporary folder, where an unprivileged server can reach it, and belongs to us alone.

    Raises:
        EnvironmentProblem: it cannot be made, or somebody else made it first.
    """
    path = Path(tempfile.gettempdir()) / f"racegate-{os.geteuid()}"
    try:
        path.mkdir(mode=0o711, exist_ok=True)
        found = path.lstat()
    except OSError as e:
        raise EnvironmentProblem(f"cannot make {path}: {e.strerror}; set TMPDIR to a folder that can be written") from e
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise EnvironmentProblem(f"{path} belongs to somebody else or can be written by others; remove it or set TMPDIR")
    return path


def data_folder(kind: str) -> Path:
    """Make a fresh folder for one server's data, owned by the server's account. Sweeps what dead runs left long ago."""
    base = base_folder()
    _sweep(base)
    try:
        path = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=base))
    except OSError as e:
        raise EnvironmentProblem(f"cannot make a data folder in {base}: {e.strerror}; set TMPDIR elsewhere") from e
    server_account().owns(path)
    return path


def _sweep(base: Path) -> None:
    for path in base.glob("*-*"):
        try:
            if not path.name.startswith("cache") and time.time() - path.stat().st_mtime > STALE_AFTER and not _held(path):
                shutil.rmtree(path, ignore_errors=True)
        except FileNotFoundError:
            continue


def _held(folder: Path) -> bool:
    """Whether a supervisor lives that will remove the folder: it holds a lock on a file in it."""
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def reachable(root: Path, *parts: str) -> Path:
    """Return a folder that holds these parts of ``root`` where the server's account can reach them: ``root`` itself, or a copy.

    A virtual environment below a private home folder is closed to the unprivileged account that root's servers run as. The
    parts keep their places relative to one another, because programs find their libraries so.
    """
    account = server_account()
    if account.uid is None or all(p.stat().st_mode & stat.S_IXOTH for p in (root, *root.parents)):
        return root
    stamps = [f"{part} {(root / part).stat().st_mtime_ns}" for part in parts]
    key = hashlib.sha256(f"{root} {stamps}".encode()).hexdigest()[:12]

    def copy(to: Path) -> None:
        for part in parts:
            shutil.copytree(root / part, to / part, symlinks=True)
            for folder in (to / part).relative_to(to).parents:
                (to / folder).chmod(0o755)  # whatever our umask is

    return cached(f"cache-programs-{key}", copy, mode=0o755)


def cached(name: str, make: Callable[[Path], object], *, mode: int = 0o700) -> Path:
    """Return the cached folder ``name``, making it first if need be. Makers side by side do not disturb one another."""
    final = base_folder() / name
    if final.is_dir():
        return final
    draft = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=base_folder()))
    try:
        server_account().owns(draft)
        draft.chmod(mode if mode == 0o755 else 0o711)
        made = draft / "made"
        make(made)
        try:
            made.rename(final)
        except OSError:
            if not final.is_dir():
                raise
        return final
    except OSError as e:
        raise EnvironmentProblem(f"cannot prepare {final}: {e.strerror}; free some space or set TMPDIR elsewhere") from e
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def keep_log(log: Path, folder: Path | None) -> None:
    """Keep the log of a server that failed in the folder, if there is one: the server's own folder goes with it."""
    if folder is None or not log.exists():
        return
    with contextlib.suppress(OSError):  # what was wrong with the server is told in any case
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{log.parent.name}.log").write_text(redact(log.read_text(errors="replace")), encoding="utf-8")


class SupervisedServer:
    """A server process under its supervisor.

    Args:
        command: the server and its arguments.
        stop_signal: what ends it quickly.
        log: where its output goes.
        remove: folders that are removed when it has stopped.
        service: it is somebody's service and no server of ours: it runs as we do, in ``directory`` with ``environment``, and
            whatever it starts ends with it.
    """

    def __init__(
        self,
        *,
        command: Sequence[str],
        stop_signal: int,
        log: Path,
        remove: Sequence[Path],
        service: bool = False,
        directory: Path = Path("/"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        account = Account(uid=None, gid=None) if service else server_account()
        plan: Mapping[str, object] = {
            "command": list(command),
            "stop_signal": stop_signal,
            "user": account.uid,
            "group": account.gid,
            "log": str(log),
            "remove": [str(path) for path in remove],
            "lock": LOCK,
            "environment": environment or {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "TMPDIR": tempfile.gettempdir()},
            "directory": str(directory),
            "whole_group": service,
        }
        self._log = log
        self._name = Path(command[0]).name
        self._said: queue.Queue[str] = queue.Queue()
        self.pid: int | None = None
        self.exited: int | None = None
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SUPERVISOR)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        self._order(json.dumps(plan))
        threading.Thread(target=self._listen, daemon=True, name=f"{self._name} supervisor").start()

    def _listen(self) -> None:
        assert self._supervisor.stdout is not None
        for line in self._supervisor.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "started":
                self.pid, self.exited = int(rest), None
            elif word == "exited":
                self.exited = int(rest)
            self._said.put(line.strip())

    def _order(self, text: str) -> None:
        assert self._supervisor.stdin is not None
        self._supervisor.stdin.write(text + "\n")
        self._supervisor.stdin.flush()

    def order(self, order: str, *, within: float = 15.0) -> None:
        """Give an order (``kill``, ``stop``, ``start``, ``restart``, ``pause``, ``resume``) and wait until it is carried out."""
        self._order(order)
        limit = time.monotonic() + within
        while True:
            try:
                if self._said.get(timeout=max(limit - time.monotonic(), 0.01)) == f"done {order}":
                    return
            except queue.Empty:
                raise EnvironmentProblem(f"{self._name} did not {order} within {within:.0f} s") from None

    def last_words(self, lines: int = 3) -> str:
        """Return the last lines of the server's log as one line, or that there are none."""
        return self.said(lines) or "it said nothing"

    def said(self, lines: int = 3) -> str:
        """Return the last lines of the server's log as one line; empty if it said nothing."""
        try:
            text = self._log.read_text(errors="replace")
        except OSError:
            return ""
        return " | ".join(text.strip().splitlines()[-lines:])

    def close(self) -> None:
        """Stop the server and wait until nothing of it is left."""
        if self._supervisor.stdin is not None and not self._supervisor.stdin.closed:
            self._supervisor.stdin.close()
        self._supervisor.wait()
        if self._supervisor.stdout is not None:
            self._supervisor.stdout.close()
