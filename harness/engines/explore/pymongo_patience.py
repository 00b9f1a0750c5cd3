"""How long pymongo waits before it looks again for a server whose connection broke.

Half a second, lest thousands of clients storm a server that is in trouble. Here there are a few, the server is well, and an
interleaving with a lost connection takes a hundredth of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pymongo import common

SOON = 0.01
"""Seconds."""


@contextmanager
def impatient() -> Iterator[None]:
    """Let clients that are made meanwhile, in this process, look again soon."""
    before = common.MIN_HEARTBEAT_INTERVAL
    common.MIN_HEARTBEAT_INTERVAL = SOON
    try:
        yield
    finally:
        common.MIN_HEARTBEAT_INTERVAL = before
