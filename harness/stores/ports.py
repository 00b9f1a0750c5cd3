"""Ports for servers that are started a moment later, and may be away for a while and come back."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from harness.model.errors import EnvironmentProblem

CHOICE = range(15_000, 65_536)
"""The ports that are looked at. Most well-known servers listen below."""

ENOUGH = 4096
"""Ports that the system assigns to nobody by itself must be so many, or all are looked at."""

LOCAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

STRIDE = 7919
"""Processes that begin one after another begin so far apart."""

_next: dict[int, int] = {}
"""Where a process goes on, by its identity: one that was forked goes its own way."""
_giving = threading.Lock()


def free_port() -> int:
    """Return a loopback port that is free now. It may be taken before it is used: whoever uses it tries again.

    Where the system leaves enough, it is none of those that it gives to whoever asks for any port and to every connection: nobody
    else comes upon it by chance before the server listens, or while it is away. The process is given none again before it had
    all the others.

    Raises:
        EnvironmentProblem: there is none.
    """
    ports = _ports()
    process = os.getpid()
    with _giving:
        for _ in ports:
            n = _next.get(process, process * STRIDE)
            _next[process] = n + 1
            port = ports[n % len(ports)]
            if _is_free(port):
                return port
    raise EnvironmentProblem(f"no free port on 127.0.0.1 from {ports[0]} to {ports[-1]}; end some servers or connections")


def unassigned(assigned: range) -> Sequence[int]:
    """Return the ports that the system does not assign by itself; all of them if these are too few."""
    others = [port for port in CHOICE if port not in assigned]
    return others if len(others) >= ENOUGH else CHOICE


@cache
def _ports() -> Sequence[int]:
    return unassigned(assigned())


def assigned() -> range:
    """Return the ports that the system assigns by itself."""
    try:
        first, last = LOCAL_RANGE.read_text().split()
        return range(int(first), int(last) + 1)
    except (OSError, ValueError):  # not Linux: the range that IANA names for it
        return range(49_152, 65_536)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
