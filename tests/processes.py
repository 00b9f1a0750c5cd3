"""The processes below one that a test hurts, while others come and go: between two questions any of them may have ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil


def descendants(parent: int, word: str) -> list[psutil.Process]:
    """Return the living processes below ``parent`` whose command line has ``word`` in one of its words, the oldest first."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # of which a zombie is one
            if any(word in said for said in process.cmdline()):
                found.append((process.create_time(), process))
    return [process for _, process in sorted(found, key=lambda pair: pair[0])]


def still_running(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run: a zombie does not."""
    running = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
    return running
