"""The proxy's only I/O: carries out, on asyncio, what the gates command.

One thread with one event loop holds everything; protocols and transports (not streams) keep the cost of a statement to four
system calls and a few Python calls, and uvloop is a fifth faster at those than asyncio's own loop. Whoever decides may run in
that thread (`WireProxy.control` with a callback), and then no other thread is woken between a step's arrival and its release.
Events are handed out one at a time, never from within the handling of another.
"""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import uvloop

from harness.model.errors import EnvironmentProblem, RacegateError, UsageError
from harness.wire.base import (
    HOLD_LIMIT,
    CancelSent,
    ConnectionClosed,
    ConnectionOpened,
    Decision,
    Event,
    Step,
    Tunnelled,
)
from harness.wire.conversation import (
    Cancel,
    CloseClient,
    CloseServer,
    Command,
    KillServer,
    Report,
    Session,
    StartTls,
    ToClient,
    ToServer,
)
from harness.wire.gate import Gate

T = TypeVar("T")

CONNECT_LIMIT = 10.0
"""Seconds to reach the store."""

KEPT_TUNNELS = 1000


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The store's side: how to reach it, to read its protocol, and to end a session by force.

    ``path`` is a socket in the file system and wins over host and port. ``session`` makes the reader of a new
    connection; it is told the proxy's own port. ``kill`` is given backend and session of a step and may block; when it
    returns, the store closes the connection, or (``cut``) the proxy has to.
    """

    host: str
    port: int
    session: Callable[[int], Session]
    kill: Callable[[int, str], None]
    url: Callable[[int], str]
    shown: Callable[[int], str]
    path: str | None = None
    cut: bool = False
    close: Callable[[], None] = lambda: None
    tls: ssl.SSLContext | None = None
    """With which clients that ask for TLS are answered."""


class _Side(asyncio.Protocol):
    """One of the two sockets of a link."""

    def __init__(self, link: _Link) -> None:
        self.link = link
        self.transport: asyncio.Transport | None = None

    def pause_writing(self) -> None:
        self._other_reads(False)

    def resume_writing(self) -> None:
        self._other_reads(True)

    def _other_reads(self, on: bool) -> None:
        other = self.link.server if self is self.link.client else self.link.client
        if other.transport is not None and not other.transport.is_closing():
            if on:
                other.transport.resume_reading()
            else:
                other.transport.pause_reading()


class _ClientSide(_Side):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.link.accepted(self.transport)

    def data_received(self, data: bytes) -> None:
        self.link.run(self.link.gate.client_data(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.link.client_lost()


class _ServerSide(_Side):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.link.connected(self.transport)

    def data_received(self, data: bytes) -> None:
        self.link.run(self.link.gate.server_data(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.link.server_lost("the store closed the connection" if exc is None else f"the store's side: {exc}")


class _Link:
    """One connection of the application and the one to the store that belongs to it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.number = proxy.next_number()
        self.client = _ClientSide(self)
        self.server = _ServerSide(self)
        self.session = proxy.upstream.session(proxy.port)
        self.gate: Gate
        self._unsent: list[bytes | bytearray] = []
        self._client_over = False
        self._server_over = False
        self._ending = False
        self._reason = ""

    def accepted(self, transport: asyncio.Transport) -> None:
        peer = transport.get_extra_info("peername")
        self.gate = Gate(
            connection=self.number,
            session=self.session,
            clock=time.perf_counter,
            controlled=self.proxy.controlled,
            peer_port=peer[1] if peer else 0,
        )
        self.proxy.links[self.number] = self
        self.proxy.keep(self._connect())

    async def _connect(self) -> None:
        loop, upstream = asyncio.get_running_loop(), self.proxy.upstream
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                if upstream.path is not None:
                    await loop.create_unix_connection(lambda: self.server, upstream.path)
                else:
                    await loop.create_connection(lambda: self.server, upstream.host, upstream.port)
        except OSError as e:
            self.server_lost(f"the store cannot be reached: {e or type(e).__name__}")

    def connected(self, transport: asyncio.Transport) -> None:
        own = transport.get_extra_info("sockname")
        self.gate.backend = own[1] if isinstance(own, tuple) else 0
        if self._unsent:
            transport.write(b"".join(self._unsent))
            self._unsent = []
        if self._ending and transport.can_write_eof():
            transport.write_eof()

    def run(self, commands: Sequence[Command]) -> None:
        """Carry out."""
        for command in commands:
            if isinstance(command, ToClient):
                if self.client.transport is not None and not self._client_over:
                    self.client.transport.write(command.data)
            elif isinstance(command, ToServer):
                if self.server.transport is None:
                    self._unsent.append(command.data)
                elif not self._server_over and not self._ending:
                    self.server.transport.write(command.data)
            elif isinstance(command, Report):
                self.proxy.report(command.event)
            else:
                self._carry_out(command)

    def _carry_out(self, command: CloseClient | CloseServer | KillServer | StartTls | Cancel) -> None:
        """Carry out what is rare."""
        if isinstance(command, CloseClient):
            if self.client.transport is not None:
                self.client.transport.close()
        elif isinstance(command, CloseServer):
            self._end_server()
        elif isinstance(command, KillServer):
            self.proxy.keep(self._kill(command.session))
        elif isinstance(command, StartTls):
            self._start_tls(command.data)
        else:
            self.proxy.report(CancelSent(connection=self.proxy.owner_of(command.key)))

    def _start_tls(self, answer: bytes) -> None:
        plain = self.client.transport
        assert plain is not None
        plain.write(answer)
        plain.pause_reading()  # the handshake is not for us: it may come before the next turn of the loop
        self.proxy.keep(self._shake_hands(plain))

    async def _shake_hands(self, plain: asyncio.Transport) -> None:
        context = self.proxy.upstream.tls
        assert context is not None
        try:
            found = await asyncio.get_running_loop().start_tls(plain, self.client, context, server_side=True)
        except (OSError, ssl.SSLError) as e:
            self._reason = f"no TLS with the application: {e}"
            plain.abort()
        else:
            self.client.transport = found

    def _end_server(self) -> None:
        self._ending = True
        if self.server.transport is not None and not self._server_over and self.server.transport.can_write_eof():
            self.server.transport.write_eof()

    async def _kill(self, session: str) -> None:
        opened = self.gate.opened
        backend = opened.backend if opened is not None else 0
        try:
            await asyncio.get_running_loop().run_in_executor(None, self.proxy.upstream.kill, backend, session)
        except RacegateError as e:
            self.proxy.trouble = self.proxy.trouble or e
            self._abort_server()
        else:
            if self.proxy.upstream.cut:
                self._abort_server()

    def _abort_server(self) -> None:
        if self.server.transport is not None:
            self.server.transport.abort()

    def client_lost(self) -> None:
        """The application's socket is closed."""
        self._client_over = True
        self._reason = self._reason or "the application closed the connection"
        self.run(self.gate.client_gone())
        self._perhaps_forget()

    def server_lost(self, reason: str) -> None:
        """The store's socket is closed, or never came to be."""
        self._server_over = True
        self._reason = self._reason or reason
        self.run(self.gate.server_gone())
        self._perhaps_forget()

    def abort(self) -> None:
        """Cut both sides at once, at the end of everything."""
        for side in (self.client, self.server):
            if side.transport is not None:
                side.transport.abort()

    def _perhaps_forget(self) -> None:
        if self._client_over and self._server_over:
            self.proxy.links.pop(self.number, None)
            if self.gate.opened is not None:
                self.proxy.report(ConnectionClosed(connection=self.number, reason=self._reason))


class Proxy:
    """A running proxy. See `harness.wire.base.WireProxy` for what each method promises.

    Args:
        upstream: the store's side.
        hold_limit: seconds that a step may be held.

    Raises:
        EnvironmentProblem: no port of the loopback interface could be had.
    """

    def __init__(self, upstream: Upstream, *, hold_limit: float = HOLD_LIMIT) -> None:
        self.upstream = upstream
        self.controlled = False
        self.links: dict[int, _Link] = {}
        self.trouble: BaseException | None = None
        self.port = 0
        self._hold_limit = hold_limit
        self._count = 0
        self._on_event: Callable[[Event], None] | None = None
        self._undelivered: deque[Event] = deque()
        self._delivering = False
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._tunnelled: deque[Tunnelled] = deque(maxlen=KEPT_TUNNELS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = uvloop.new_event_loop()
        self._loop.set_exception_handler(self._failed)
        self._closed = False
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="racegate proxy", daemon=True)
        self._thread.start()
        try:
            started.result()
        except OSError as e:
            upstream.close()
            raise EnvironmentProblem(f"the proxy cannot listen on 127.0.0.1: {e}; free a port and try again") from e
        self.url = upstream.url(self.port)
        self.shown = upstream.shown(self.port)

    # The loop

    def _run(self, started: Future[None]) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            listening = loop.create_server(lambda: _Link(self).client, "127.0.0.1", 0)
            server = cast(asyncio.Server, loop.run_until_complete(listening))
        except OSError as e:
            started.set_exception(e)
            loop.close()
            return
        self.port = server.sockets[0].getsockname()[1]
        self._tick()
        started.set_result(None)
        loop.run_forever()
        server.close()
        for link in list(self.links.values()):
            link.abort()
        for task in self._tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        loop.run_until_complete(asyncio.sleep(0))  # lets aborted transports close their sockets
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    def _tick(self) -> None:
        """Look for steps that were held too long. One timer for all of them: a timer each would cost every step."""
        now = time.perf_counter()
        for link in list(self.links.values()):
            link.run(link.gate.expire(now, self._hold_limit))
        self._loop.call_later(min(1.0, self._hold_limit / 4), self._tick)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, ConnectionError | TimeoutError):
            self.trouble = self.trouble or error or RuntimeError(context.get("message"))

    def keep(self, work: Any) -> None:
        """Start a coroutine, and keep hold of it until it ends."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def next_number(self) -> int:
        """Return a new connection's number."""
        self._count += 1
        return self._count

    def owner_of(self, key: tuple[int, bytes]) -> int | None:
        """Return the connection whose cancel key this is."""
        for number, link in self.links.items():
            if link.gate.opened and link.gate.opened.backend == key[0] and link.session.cancel_key == key[1]:
                return number
        return None

    def report(self, event: Event) -> None:
        """Hand an event to whoever decides; while one is being handled, after that."""
        if isinstance(event, Tunnelled):
            self._tunnelled.append(event)
        if not self.controlled:
            return
        if self._on_event is None:
            self._events.put(event)
            return
        self._undelivered.append(event)
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._undelivered and self._on_event is not None:
                self._on_event(self._undelivered.popleft())
        except BaseException as e:  # noqa: BLE001 - it must not end the loop; the next call from outside raises it
            self.trouble = self.trouble or e
            self._delivering = False
            self._set_mode(False, None)
        finally:
            self._delivering = False

    # What is called from outside

    def control(self, on_event: Callable[[Event], None] | None = None) -> None:
        """Hold every step from now on."""
        self.call_in_loop(lambda: self._set_mode(True, on_event))

    def passthrough(self) -> None:
        """Forward everything."""
        self.call_in_loop(lambda: self._set_mode(False, None))

    def _set_mode(self, controlled: bool, on_event: Callable[[Event], None] | None) -> None:
        self._on_event = on_event
        self._undelivered.clear()
        self.controlled = controlled
        for link in list(self.links.values()):
            link.run(link.gate.set_controlled(controlled))

    def decide(self, step: Step, decision: Decision = Decision.RELEASE) -> None:
        """Do this with a held step."""
        if threading.current_thread() is self._thread:
            self._decide(step, decision)
        else:
            self._raise_trouble()
            self._loop.call_soon_threadsafe(self._decide_if_held, step, decision)

    def _decide(self, step: Step, decision: Decision) -> None:
        link = self.links.get(step.connection)
        if link is None or link.gate.held is None or link.gate.held.step is not step:
            raise UsageError(f"step {step.index} of connection {step.connection} is not held; decide once on each StepArrived")
        link.run(link.gate.decide(decision))

    def _decide_if_held(self, step: Step, decision: Decision) -> None:
        link = self.links.get(step.connection)
        if link is not None and link.gate.held is not None and link.gate.held.step is step:
            link.run(link.gate.decide(decision))

    def next_event(self, timeout: float | None = None) -> Event | None:
        """Return the next event, or None."""
        self._raise_trouble()
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            self._raise_trouble()
            return None

    def open_connections(self) -> Mapping[int, ConnectionOpened]:
        """Return the connections that are open and ready."""
        return self.call_in_loop(lambda: {n: link.gate.opened for n, link in self.links.items() if link.gate.opened is not None})

    def store_ports(self) -> frozenset[int]:
        """Return the ports from which the proxy is connected to the store."""
        return self.call_in_loop(lambda: frozenset(link.gate.backend for link in self.links.values()))

    def connections_made(self) -> int:
        """Return how many connections were made through the proxy since its start."""
        return self.call_in_loop(lambda: self._count)

    def tunnelled(self) -> Sequence[Tunnelled]:
        """Return what was passed on unread."""
        return self.call_in_loop(lambda: list(self._tunnelled))

    def drop_connection(self, connection: int) -> None:
        """Close both sides of a connection."""
        self.call_in_loop(lambda: self._drop(connection))

    def _drop(self, connection: int) -> None:
        if (link := self.links.get(connection)) is not None:
            link.run(link.gate.drop())

    def call_in_loop(self, action: Callable[[], T]) -> T:
        """Run a function in the proxy's thread."""
        if threading.current_thread() is self._thread:
            return action()
        self._raise_trouble()
        done: Future[T] = Future()

        def call() -> None:
            try:
                done.set_result(action())
            except BaseException as e:  # noqa: BLE001 - raised where the caller waits
                done.set_exception(e)

        self._loop.call_soon_threadsafe(call)
        return done.result()

    def post(self, action: Callable[[], None]) -> None:
        """Have a function run in the proxy's thread soon."""
        self._loop.call_soon_threadsafe(action)

    def call_later(self, delay: float, action: Callable[[], None]) -> Callable[[], None]:
        """In the loop: run a function later."""
        return self._loop.call_later(delay, action).cancel

    def _raise_trouble(self) -> None:
        if self._closed:
            raise UsageError("the proxy is closed; open another")
        if (trouble := self.trouble) is not None:
            self.trouble = None
            raise trouble

    def close(self) -> None:
        """Close everything."""
        if self._closed:
            return
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self.upstream.close()
