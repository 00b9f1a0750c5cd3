"""An HTTP service as a target: each operation is a request, each client keeps a connection of its own alive.

There are no hidden retries and no redirects: a request that got no answer is ``info``, whatever the reason, because the
service may have worked on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from harness.config.placeholders import dig, fill
from harness.config.service import OperationSection, ServiceConfig
from harness.model.operation import Failure, Outcome
from harness.stores.base import Database
from harness.targets.base import BooksQuery, Checkpoint
from harness.targets.classify import classify_status

LARGEST_ANSWER = 1_000_000
"""Bytes of an answer that are read; no answer to an operation is longer."""


class NotOk(Exception):
    """An answer that is not ok, classified already."""

    def __init__(self, outcome: Outcome, failure: Failure) -> None:
        super().__init__(failure.message)
        self.outcome = outcome
        self.failure = failure


@dataclass(frozen=True, kw_only=True)
class HttpTarget:
    """A service described by a `ServiceConfig`. ``database`` is where its books are read, if it has any."""

    config: ServiceConfig
    database: Database | None = None
    store: None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The service's address, without anything secret."""
        parts = urlsplit(self.config.service.url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"

    @property
    def operations(self) -> frozenset[str]:
        """The operations that the configuration describes."""
        return frozenset(self.config.operations)

    def install(self, database: Database | None) -> None:
        """Do nothing: the service brings its own schema."""

    def connect(self, database: Database | None, client: int) -> HttpConnection:
        """Open a client's own connection pool of one connection."""
        return HttpConnection(self.config)

    def books(self) -> Sequence[BooksQuery]:
        """Return how each canonical table is read."""
        return [
            BooksQuery(table=table, sql=section.sql, collection=section.collection, pipeline=section.pipeline)
            for table, section in self.config.books.items()
        ]


class HttpConnection:
    """One client's kept-alive connection to the service."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        self._base = urlsplit(config.service.url)
        self._pool = urllib3.connectionpool.connection_from_url(
            config.service.url,
            maxsize=1,
            block=True,
            retries=False,
            timeout=urllib3.Timeout(total=config.service.timeout),
            headers={"User-Agent": "racegate", **config.service.headers},
        )

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """Send the operation's request and read its answer. See `harness.targets.base.Connection`."""
        section = self._config.operations[f]
        known = {**arguments, "token": token}
        method, path, headers, body = request_of(section, known)
        try:
            response = self._pool.request(
                method,
                self._base.path.rstrip("/") + path,
                body=body,
                headers={**dict(self._pool.headers or {}), **headers},
                redirect=False,
                preload_content=False,
            )
            content = response.read(LARGEST_ANSWER)
            response.drain_conn()
            response.release_conn()
        except HTTPError as e:
            raise NotOk(Outcome.INFO, Failure(code=f"http:{type(e).__name__}", message=_one_line(str(e)))) from e
        return answer_of(section, known, response.status, content)

    def vanish(self) -> None:
        """Drop the connection."""
        self._pool.close()

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


def request_of(section: OperationSection, arguments: Mapping[str, Any]) -> tuple[str, str, dict[str, str], bytes | None]:
    """Return method, path, headers and body of an operation's request. Arguments in the path are escaped."""
    path = fill(section.path, {name: quote(str(value), safe="") for name, value in arguments.items()})
    headers = {name: str(fill(value, arguments)) for name, value in section.headers.items()}
    if section.body is None:
        return section.method.upper(), path, headers, None
    headers.setdefault("Content-Type", "application/json")
    return section.method.upper(), path, headers, json.dumps(fill(section.body, arguments)).encode()


def answer_of(section: OperationSection, arguments: Mapping[str, Any], status: int, content: bytes) -> dict[str, Any]:
    """Return the answer under our names.

    Raises:
        NotOk: the status means that the operation is not ok, or nobody knows.
    """
    try:
        document = json.loads(content) if content else None
    except ValueError:
        document = None
    outcome, failure = _meaning(section, status, _message(document, content, status))
    if failure is not None:
        raise NotOk(outcome, failure)
    found = {name: str(fill(template, arguments)) for name, template in section.constants.items()}
    found |= {name: dig(document, path) for name, path in section.answer.items()}
    return found


def _meaning(section: OperationSection, status: int, message: str) -> tuple[Outcome, Failure | None]:
    code = f"http:{status}"
    if status in section.ok:
        return Outcome.OK, None
    if status in section.refused:
        return Outcome.FAIL, Failure(code=code, message=message, refusal=True)
    if status in section.retryable:
        return Outcome.FAIL, Failure(code=code, message=message, retryable=True)
    if status in section.unknown:
        return Outcome.INFO, Failure(code=code, message=message)
    return classify_status(status, message)


def _message(document: Any, content: bytes, status: int) -> str:
    for path in ("message", "error.message", "error", "detail", "title"):
        text = dig(document, path)
        if isinstance(text, str) and text:
            return _one_line(text)
    return _one_line(content[:200].decode(errors="replace")) or f"status {status}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
