"""A client's thread, and the end of a client that is killed in it."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness.engines.client import ClientKilled
from harness.engines.explore.worker import Worker

PATIENCE = 20.0


@pytest.fixture
def said() -> queue.SimpleQueue[tuple[str, Any]]:
    return queue.SimpleQueue()


@pytest.fixture
def worker(said: queue.SimpleQueue[tuple[str, Any]]) -> Iterator[Worker]:
    made = Worker(3, said.put)
    yield made
    made.close()


def test_the_end_of_a_job_is_said(worker: Worker, said: queue.SimpleQueue[tuple[str, Any]]) -> None:
    worker.do(lambda: None)

    assert said.get(timeout=PATIENCE) == ("done", 3)


def test_what_a_job_raises_is_said_before_its_end(worker: Worker, said: queue.SimpleQueue[tuple[str, Any]]) -> None:
    def job() -> None:
        raise ValueError("no")

    worker.do(job)

    assert str(said.get(timeout=PATIENCE)[1]) == "no"
    assert said.get(timeout=PATIENCE) == ("done", 3)


def test_a_job_that_would_go_on_for_ever_ends_when_it_is_killed(worker: Worker, said: queue.SimpleQueue[tuple[str, Any]]) -> None:
    begun = threading.Event()

    def job() -> None:
        begun.set()
        while True:
            try:
                time.sleep(0.001)
            except Exception:  # noqa: BLE001 - a driver that tries again whatever happens
                continue

    worker.do(job)
    assert begun.wait(PATIENCE)
    worker.kill()

    assert said.get(timeout=PATIENCE) == ("done", 3)
    worker.do(lambda: None)
    assert said.get(timeout=PATIENCE) == ("done", 3), "the thread lives on"


def test_a_kill_that_the_job_sees_comes_once(worker: Worker, said: queue.SimpleQueue[tuple[str, Any]]) -> None:
    begun, seen = threading.Event(), []

    def job() -> None:
        try:
            begun.set()
            while True:
                time.sleep(0.001)
        except ClientKilled:
            seen.append(1)

    worker.do(job)
    assert begun.wait(PATIENCE)
    worker.kill()
    worker.kill()

    assert said.get(timeout=PATIENCE) == ("done", 3)
    assert seen == [1]


def test_whoever_is_done_is_not_killed(worker: Worker, said: queue.SimpleQueue[tuple[str, Any]]) -> None:
    for _ in range(200):
        worker.do(lambda: None)
        worker.kill()  # before, during or after
        assert said.get(timeout=PATIENCE) == ("done", 3)


def test_traced_code_still_runs_afterwards(worker: Worker, said: queue.SimpleQueue[tuple[str, Any]]) -> None:
    """CPython 3.11 hangs in a traced function while it looks for an exception that was called off."""
    for _ in range(50):
        worker.do(lambda: None)
        worker.kill()
        assert said.get(timeout=PATIENCE) == ("done", 3)

    def traced() -> int:
        return 1

    before = sys.gettrace()
    sys.settrace(lambda frame, event, argument: None)
    try:
        assert traced() == 1
    finally:
        sys.settrace(before)
