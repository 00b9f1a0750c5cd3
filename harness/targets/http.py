"""An HTTP service as a target: each operation is a request, each client keeps a connection of its own alive.

There are no hidden retries and no redirects: a request that got no answer is ``info``, whatever the reason, because the
service may have worked on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from harness.config.placeholders import dig, fill
from harness.config.sections import OperationSection, ServiceConfig, TargetSection
from harness.model.errors import EnvironmentProblem, UsageError
from harness.model.operation import Failure, Outcome
from harness.stores.base import Database
from harness.stores.redaction import conceal, redact
from harness.targets.base import BooksQuery, Checkpoint
from harness.targets.classify import classify_status

LARGEST_ANSWER = 1_000_000
"""Bytes of an answer that are read; no answer to an operation is longer."""


PoolOf = Callable[[str, float], Any]
"""Makes one client's pool of connections of a URL and the seconds that a request may take; like urllib3's."""


def urllib3_pool(url: str, timeout: float) -> Any:
    """Return a pool of one kept-alive connection that neither retries nor follows."""
    return urllib3.connectionpool.connection_from_url(
        url, maxsize=1, block=True, retries=False, timeout=urllib3.Timeout(total=timeout)
    )


class NotOk(Exception):
    """An answer that is not ok, classified already."""

    def __init__(self, outcome: Outcome, failure: Failure) -> None:
        super().__init__(failure.message)
        self.outcome = outcome
        self.failure = failure


@dataclass(frozen=True, kw_only=True)
class HttpTarget:
    """A service described by a `ServiceConfig`.

    ``label`` is its name in reports, ``url`` where it is reached now (a service that was just started has a port of its own),
    ``store`` the kind of database that its books are read from, if it has any.
    """

    config: ServiceConfig
    url: str
    label: str
    store: str | None = None
    timeout: float = 10.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: ServiceConfig, *, url: str | None = None, store: str | None = None) -> HttpTarget:
        """Return the target that a configuration describes; ``url`` replaces its own.

        Raises:
            UsageError: neither names a URL.
        """
        if config.target is None:
            raise UsageError(f'{config.file} has no [target]; add it with url = "http://127.0.0.1:3000"')
        at = url or config.target.url
        return cls(config=config, url=at, label=shown_url(config.target.url), store=store, timeout=config.target.timeout)

    @property
    def name(self) -> str:
        """The service's address as configured, without anything secret."""
        return self.label

    @property
    def operations(self) -> frozenset[str]:
        """The operations that the configuration describes."""
        return frozenset(self.config.operations)

    @property
    def answers(self) -> Mapping[str, Mapping[str, str]]:
        """Where each operation's answer holds what: name = dotted path."""
        return {f: section.answer for f, section in self.config.operations.items()}

    def check(self, f: str, arguments: Mapping[str, Any], token: str) -> None:
        """Make sure that an operation with these arguments can be made a request. Raises UsageError if not."""
        try:
            request_of(self.config.operations[f], {**arguments, "token": token})
        except UsageError as e:
            raise UsageError(f"{self.config.file}, [operations.{f}]: {e}") from e

    def install(self, database: Database | None) -> None:
        """Do nothing: the service brings its own schema."""

    def connect(self, database: Database | None, client: int, pool_of: PoolOf | None = None) -> HttpConnection:
        """Open a client's own connection, and log in if the configuration says how. ``pool_of`` replaces urllib3."""
        connection = HttpConnection(self, pool_of or urllib3_pool)
        connection.log_in(client)
        return connection

    def books(self) -> Sequence[BooksQuery]:
        """Return how each canonical table is read."""
        return books_queries(self.config)


def books_queries(config: ServiceConfig) -> list[BooksQuery]:
    """Return how each canonical table is read."""
    return [
        BooksQuery(
            table=table,
            sql=section.sql.strip().rstrip(";") if section.sql is not None else None,
            collection=section.collection,
            pipeline=section.pipeline,
        )
        for table, section in config.books.items()
    ]


def shown_url(url: str) -> str:
    """Return a URL without user, password and query; port 0 is left out."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"


class HttpConnection:
    """One client's session with the service: a kept-alive connection, and the cookies that it was given."""

    def __init__(self, target: HttpTarget, pool_of: PoolOf) -> None:
        section = target.config.target or TargetSection(url=target.url)
        conceal({str(n): secret for n, secret in enumerate(target.config.secrets)})  # this may be a client's own process
        self._config = target.config
        self._base = urlsplit(target.url).path.rstrip("/")
        self._headers: dict[str, str] = {"User-Agent": "racegate", **section.headers}
        self._cookies: dict[str, str] = {}
        self._pool = pool_of(target.url, target.timeout)
        if user := urlsplit(target.url).username:
            password = unquote(urlsplit(target.url).password or "")
            self._headers |= urllib3.make_headers(basic_auth=f"{unquote(user)}:{password}")

    def log_in(self, client: int) -> None:
        """Make the login request, if there is one; its answers fill the placeholders in the headers.

        Raises:
            EnvironmentProblem: the service does not let the client in.
        """
        if self._config.login is None:
            return
        try:
            told = self._send(self._config.login, {"client": client, "token": f"login-{client}"}, {})
        except NotOk as e:
            raise EnvironmentProblem(f"client {client} could not log in: {e}") from e
        self._headers = {name: str(fill(value, told)) for name, value in self._headers.items()}

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """Send the operation's request and read its answer. See `harness.targets.base.Connection`."""
        return self._send(self._config.operations[f], {**arguments, "token": token}, self._headers)

    def _send(self, section: OperationSection, known: Mapping[str, Any], headers: Mapping[str, str]) -> Mapping[str, Any]:
        method, path, own, body = request_of(section, known)
        sent = {**headers, **own}
        if self._cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        try:
            response = self._pool.request(
                method, self._base + path, body=body, headers=sent, redirect=False, preload_content=False
            )
            content = response.read(LARGEST_ANSWER)
            response.drain_conn()
            response.release_conn()
        except HTTPError as e:
            raise NotOk(Outcome.INFO, Failure(code=f"http:{type(e).__name__}", message=_one_line(str(e)))) from e
        for cookie in response.headers.getlist("Set-Cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name.strip()] = value.strip()
        return answer_of(section, known, response.status, content)

    def vanish(self) -> None:
        """Drop the connection."""
        self._pool.close()

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


def request_of(section: OperationSection, arguments: Mapping[str, Any]) -> tuple[str, str, dict[str, str], bytes | None]:
    """Return method, path, headers and body of an operation's request. Arguments in the path are escaped.

    Raises:
        UsageError: a placeholder names no argument of the operation.
    """
    path = section.path
    if "{" in path:
        path = str(fill(path, {name: quote(str(value), safe="") for name, value in arguments.items()}))
    headers = {name: str(fill(value, arguments)) for name, value in section.headers.items()}
    if section.body is None:
        return section.method.upper(), path, headers, None
    body = fill(section.body, arguments)
    if section.encoding == "form":
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        return section.method.upper(), path, headers, urlencode(body).encode()
    headers.setdefault("Content-Type", "application/json")
    return section.method.upper(), path, headers, json.dumps(body).encode()


def answer_of(section: OperationSection, arguments: Mapping[str, Any], status: int, content: bytes) -> dict[str, Any]:
    """Return the answer under our names.

    Raises:
        NotOk: the status means that the operation is not ok, or nobody knows.
    """
    try:
        document = json.loads(content) if content else None
    except ValueError:
        document = None
    outcome, failure = _meaning(section, status, lambda: _message(document, content, status))
    if failure is not None:
        raise NotOk(outcome, failure)
    for path, value in section.refused_when.items():
        if _plain(dig(document, path)) == value:
            raise NotOk(Outcome.FAIL, Failure(code=f"{path}={value}", message=_message(document, content, status), refusal=True))
    found: dict[str, Any] = {name: str(fill(template, arguments)) for name, template in section.constants.items()}
    for name, path in section.answer.items():
        value = dig(document, path)
        found[name] = _number(value) if name in ("number", "amount") else value
    return found


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)


def _number(value: Any) -> Any:
    """Return a whole number that came as text or as a float as what it is; drivers answer so for large integers."""
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _meaning(section: OperationSection, status: int, message: Callable[[], str]) -> tuple[Outcome, Failure | None]:
    code = f"http:{status}"
    if status in section.ok:
        return Outcome.OK, None
    if status in section.refused:
        return Outcome.FAIL, Failure(code=code, message=message(), refusal=True)
    if status in section.retryable:
        return Outcome.FAIL, Failure(code=code, message=message(), retryable=True)
    if status in section.unknown:
        return Outcome.INFO, Failure(code=code, message=message())
    outcome, failure = classify_status(status, "")
    return outcome, failure and replace(failure, message=message())


def _message(document: Any, content: bytes, status: int) -> str:
    for path in ("message", "error.message", "error", "detail", "title"):
        text = dig(document, path)
        if isinstance(text, str) and text:
            return _one_line(text)
    return _one_line(content[:200].decode(errors="replace")) or f"status {status}"


def _one_line(text: str) -> str:
    return redact(" ".join(text.split())[:500])
