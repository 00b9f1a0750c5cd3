"""HTTP for a process of greenlets: one kept-alive connection with the parser that Locust's FastHttpUser uses.

It takes the place of urllib3's pool in `harness.targets.http`, which costs several times as much for a request; what a
generator spends on a request it cannot spend on load, and shows in the latencies. FastHttpUser's own client is not used,
because it sends a request again when a kept-alive connection turns out to be closed: the service may have worked on it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import gevent
from geventhttpclient.response import HTTPSocketResponse
from urllib3.exceptions import HTTPError, ProtocolError


class Unanswered(HTTPError):
    """There was no answer in time."""


class _Headers:
    def __init__(self, response: Any) -> None:
        self._response = response

    def getlist(self, name: str) -> list[str]:
        """Return the value of every header of the name."""
        found = self._response.get(name)
        return [] if found is None else [found] if isinstance(found, str) else list(found)


class Answer:
    """An answer, read to its end."""

    def __init__(self, status: int, response: Any, content: bytes) -> None:
        self.status = status
        self.headers = _Headers(response)
        self._content = content

    def read(self, most: int) -> bytes:
        """Return the content, at most so many bytes of it."""
        return self._content[:most]

    def drain_conn(self) -> None:
        """Do nothing: it was read to its end."""

    def release_conn(self) -> None:
        """Do nothing: the connection is this client's own."""


class FastPool:
    """One client's connection to a service, with the methods of a urllib3 pool that a target uses.

    Args:
        url: where the service is.
        timeout: seconds that a request may take in all.
    """

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._secure else 80)
        self._named = parts.netloc.rpartition("@")[2].encode()
        self._timeout = timeout
        self._socket: Any = None

    def request(self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str], **other: Any) -> Answer:
        """Send one request, never twice, and read its answer; redirects are answers.

        Raises:
            HTTPError: there was no whole answer.
        """
        lines = [f"{method} {path or '/'} HTTP/1.1".encode(), b"Host: " + self._named]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in headers.items()]
        if body is not None or method not in ("GET", "HEAD"):
            lines.append(b"Content-Length: %d" % len(body or b""))
        try:
            with gevent.Timeout(self._timeout, Unanswered(f"no answer within {self._timeout:g} s")):
                if self._socket is None or self._was_closed():
                    self._connect()
                self._socket.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + (body or b""))
                response = HTTPSocketResponse(self._socket, method=method)
                content = bytes(response.read())
        except HTTPError:
            self.close()
            raise
        except Exception as e:
            self.close()
            raise ProtocolError(f"{type(e).__name__}: {e}") from e
        if response.should_close():
            self._socket = None
        return Answer(response.get_code(), response, content)

    def close(self) -> None:
        """Drop the connection."""
        held, self._socket = self._socket, None
        if held is not None:
            held.close()

    def _connect(self) -> None:
        self.close()
        plain = socket.create_connection((self._host, self._port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = ssl.create_default_context().wrap_socket(plain, server_hostname=self._host) if self._secure else plain

    def _was_closed(self) -> bool:
        """Tell whether the service closed the idle connection: then nothing was sent yet, and a new one is right."""
        if self._secure:
            return bool(self._socket.pending())
        try:
            self._socket._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True
