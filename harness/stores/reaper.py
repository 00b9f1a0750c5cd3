"""Removes a container when whoever started it is gone: run by path, with the container's id as its argument.

It waits for the end of its standard input, which comes when racegate closes it, is interrupted, or is killed. Testcontainers
has Ryuk for this, whose image is not to be had everywhere.
"""

from __future__ import annotations

import contextlib
import signal
import sys


def main() -> None:
    """Wait, then remove."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    import docker  # noqa: PLC0415 - most reapers live long and do nothing until their end
    import docker.errors  # noqa: PLC0415

    client = docker.from_env()
    with contextlib.suppress(docker.errors.NotFound):
        client.containers.get(sys.argv[1]).remove(force=True, v=True)


if __name__ == "__main__":
    main()
