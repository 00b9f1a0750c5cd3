"""Removes what a store made in the Docker engine when whoever made it is gone: run by path, with the store's token.

It is started before anything else is, and waits for the end of its standard input, which comes when racegate closes it, is
interrupted, or is killed. The word ``tidy`` before that end says that nothing is left. Without it the reaper looks more than
once: the engine may still be making what a dead client asked for. Testcontainers has Ryuk for this, whose image is not to be
had everywhere.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

QUIET_LOOKS = 4
"""So often in a row nothing must be found."""

BETWEEN_LOOKS = 0.5
LIMIT = 60.0
"""Seconds after which an engine that does not obey is given up."""


def main() -> None:
    """Wait, then remove."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.read().strip() == "tidy":
        return
    sys.path[0] = str(Path(__file__).parents[2])  # not this folder, whose names would hide other modules
    import docker  # noqa: PLC0415 - most reapers live long and never need it
    from docker.errors import DockerException  # noqa: PLC0415

    from harness.stores.docker_engine import remove_labelled  # noqa: PLC0415

    limit = time.monotonic() + LIMIT
    quiet = 0
    while quiet < QUIET_LOOKS and time.monotonic() < limit:
        try:
            client = docker.from_env()
            try:
                quiet = 0 if remove_labelled(client, sys.argv[1]) else quiet + 1
            finally:
                client.close()
        except DockerException:
            quiet = 0
        time.sleep(BETWEEN_LOOKS)  # between two looks; a look is the condition


if __name__ == "__main__":
    main()
