"""A PostgreSQL server as the proxy's upstream."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from harness.model.errors import EnvironmentProblem, UsageError
from harness.wire.certificates import LocalCertificate
from harness.wire.postgres.blocking import terminate_backend
from harness.wire.postgres.session import PostgresSession
from harness.wire.server import Upstream

_OWN = ("host", "hostaddr", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslnegotiation", "gssencmode")
"""Options of a URL that say how the server is reached, and so are not the application's behind a proxy."""

_TLS_ONLY = ("require", "verify-ca", "verify-full")


def postgres_upstream(url: str, *, tls: bool = False) -> Upstream:
    """Return the server that a URL names as an upstream.

    Args:
        url: ``postgresql://...``
        tls: answer clients that ask for TLS; the server itself is always spoken to without.

    Raises:
        UsageError: the URL names no server that a proxy can stand in front of.
        EnvironmentProblem: no certificate could be made.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.scheme not in ("postgresql", "postgres"):
        raise UsageError(f"a proxy needs a URL that begins with postgresql://, not {parts.scheme or 'nothing'}://")
    host = options.get("host") or parts.hostname or "127.0.0.1"
    if "," in host or "," in (parts.netloc.rpartition("@")[2]):
        raise UsageError("a proxy stands in front of one PostgreSQL server; name one host, not several")
    if options.get("sslmode") in _TLS_ONLY:
        raise UsageError(
            f"the proxy speaks to PostgreSQL without TLS, and the URL says sslmode={options['sslmode']}; use a server "
            "that accepts plain connections, such as --postgres embedded"
        )
    port = int(options.get("port") or parts.port or 5432)
    who = parts.netloc.rpartition("@")[0]
    killer = _Killer(url)
    certificate = LocalCertificate() if tls else None
    trust = {"sslmode": "verify-full", "sslrootcert": str(certificate.authority)} if certificate else {}

    kept = [(k, v) for k, v in parse_qsl(parts.query) if k not in _OWN]
    query = urlencode([*kept, *trust.items()], quote_via=quote)

    def close() -> None:
        killer.close()
        if certificate is not None:
            certificate.close()

    def through(port: int, *, secret: bool) -> str:
        name = who if secret else who.partition(":")[0]
        address = f"{name}@127.0.0.1:{port}" if name else f"127.0.0.1:{port}"
        return urlunsplit((parts.scheme, address, parts.path, query if secret else "", ""))

    return Upstream(
        host=host,
        port=port,
        path=f"{host}/.s.PGSQL.{port}" if host.startswith("/") else None,
        session=lambda _: PostgresSession(tls=tls),
        kill=killer,
        url=lambda p: through(p, secret=True),
        shown=lambda p: through(p, secret=False),
        close=close,
        tls=certificate.context if certificate else None,
    )


class _Killer:
    """Ends backends over a connection of its own, made when it is first needed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._control: Any = None

    def __call__(self, backend: int, session: str) -> None:
        import psycopg  # noqa: PLC0415 - only a run with this fault pays for it

        with self._lock:
            try:
                if self._control is None:
                    self._control = psycopg.connect(self._url, autocommit=True, application_name="racegate control")
                terminate_backend(self._control, backend)
            except psycopg.Error as e:
                raise EnvironmentProblem(f"PostgreSQL did not let the proxy end backend {backend}: {e.sqlstate}") from e

    def close(self) -> None:
        if self._control is not None:
            self._control.close()
