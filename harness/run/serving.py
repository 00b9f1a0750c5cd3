"""Runs an ASGI application on the loopback interface until somebody asks it to stop."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

from harness.model.errors import EnvironmentProblem

HOST = "127.0.0.1"

GRACE = 3
"""Seconds that requests may take to finish after the service was asked to stop."""


def listen(port: int) -> socket.socket:
    """Return a socket that is bound to a port of the loopback interface; 0 takes any free one.

    Raises:
        EnvironmentProblem: somebody else has the port, or it needs rights that we do not have.
    """
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. asyncio leaves it out for sockets that were made without a protocol's number, and an answer's
    # second segment then waits up to 40 ms for the acknowledgement of the first.
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        line.bind((HOST, port))
    except OSError as e:
        line.close()
        raise EnvironmentProblem(f"port {port} cannot be used: {e.strerror}; choose another with --port, or --port 0") from e
    return line


def serve(application: Any, line: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; requests that are under way then may finish for `GRACE` seconds.

    Args:
        application: an ASGI application.
        line: a bound socket; it is closed at the end.
        ready: called with the URL when the application has started.

    Raises:
        EnvironmentProblem: the application did not start.
    """
    server = _Server(
        uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE,
            lifespan="on",
            server_header=False,
        ),
        lambda: ready(f"http://{HOST}:{line.getsockname()[1]}"),
    )
    with _signals_only_stop(server), line:
        try:
            server.run(sockets=[line])
        except SystemExit as e:  # how uvicorn says that the application did not start
            raise EnvironmentProblem("the service did not start; its reason is above") from e
    if not server.started and not server.was_asked_to_stop:
        raise EnvironmentProblem("the service did not start; its reason is above")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self.was_asked_to_stop = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop in good order however often it is asked for: `GRACE` bounds it."""
        self.should_exit = self.was_asked_to_stop = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


@contextmanager
def _signals_only_stop(server: _Server) -> Iterator[None]:
    """Being asked to stop is no failure here, also before uvicorn listens to signals and while what we opened is closed.

    Whoever still asks `GRACE` seconds after the service has ended means the process: then the usual handlers are back.
    """
    kept = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}

    def put_back() -> None:
        for number, handler in kept.items():
            signal.signal(number, handler)

    try:
        yield
    finally:
        if server.was_asked_to_stop:
            patient_until = time.monotonic() + GRACE

            def again(number: int, frame: FrameType | None) -> None:
                if time.monotonic() > patient_until:
                    put_back()
                    signal.raise_signal(number)

            for number in kept:
                signal.signal(number, again)
        else:
            put_back()
