"""Ports for servers that are started a moment later, and may be away for a while and come back."""

from __future__ import annotations

import os
import socket
import threading
from functools import cache
from pathlib import Path

from harness.model.errors import EnvironmentProblem

FIRST, LAST = 15_000, 65_536
"""Below, well-known servers listen."""

ENOUGH = 4096
"""Ports that the system gives nobody by itself must be so many, or all are taken into account."""

LOCAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

STRIDE = 7919
"""Processes that begin one after another begin so far apart."""

_next: dict[int, int] = {}
"""Where a process goes on, by its identity: one that was forked goes its own way."""
_giving = threading.Lock()


def free_port() -> int:
    """Return a loopback port that is free now. It may be taken before it is used: whoever uses it tries again.

    It is none of those that the system gives to whoever asks for any port and to every connection, so nobody else comes upon it
    by chance before the server listens, or while it is away. The process is given none again before it had all the others.

    Raises:
        EnvironmentProblem: there is none.
    """
    ports = unassigned(_assigned())
    process = os.getpid()
    with _giving:
        for _ in ports:
            n = _next.get(process, process * STRIDE)
            _next[process] = n + 1
            port = ports[n % len(ports)]
            if _is_free(port):
                return port
    raise EnvironmentProblem(f"no free port on 127.0.0.1 from {ports[0]} to {ports[-1]}; end some servers or connections")


def unassigned(assigned: range) -> range:
    """Return the ports outside of those that the system assigns by itself; all of them if that leaves too few."""
    below, above = range(FIRST, min(assigned.start, LAST)), range(max(assigned.stop, FIRST), LAST)
    return next((ports for ports in (below, above) if len(ports) >= ENOUGH), range(FIRST, LAST))


@cache
def _assigned() -> range:
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
