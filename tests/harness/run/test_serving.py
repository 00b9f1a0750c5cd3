"""The socket that services are served on."""

from __future__ import annotations

import socket

from harness.run.serving import listen


def test_it_is_on_loopback_and_its_connections_send_at_once() -> None:
    """Without, an answer in two segments takes 40 ms: its end waits for the acknowledgement of its beginning."""
    with listen(0) as line:
        line.listen()
        host, port = line.getsockname()
        with socket.create_connection((host, port)), line.accept()[0] as accepted:
            assert host == "127.0.0.1"
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
