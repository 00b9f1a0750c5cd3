"""Being asked to stop, once and again."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import uvicorn

from harness.run import serving


@pytest.fixture
def server() -> Iterator[serving._Server]:
    """A server that never ran; the process's handlers are as they were afterwards."""
    kept = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    yield serving._Server(uvicorn.Config(lambda: None), lambda: None)
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_service_has_started_stops_it(server: serving._Server, sent: int) -> None:
    with serving._signals_only_stop(server):
        signal.raise_signal(sent)

    assert server.should_exit


def test_a_second_signal_while_the_process_ends_is_no_failure(server: serving._Server) -> None:
    with serving._signals_only_stop(server):
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def test_a_signal_long_after_the_end_means_the_process(server: serving._Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "GRACE", -1)
    with serving._signals_only_stop(server):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_service_that_nobody_stopped_leaves_the_signals_as_they_were(server: serving._Server) -> None:
    with serving._signals_only_stop(server):
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
