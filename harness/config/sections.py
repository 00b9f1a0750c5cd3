"""The sections of ``racegate.toml``, as values. Each field says what it means: the published schema is made from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any

from harness.model.books import TABLES


def about(text: str, default: Any = MISSING, *, factory: Callable[[], Any] | Any = MISSING) -> Any:
    """Return a field with its meaning."""
    if factory is not MISSING:
        return field(default_factory=factory, metadata={"about": text})
    return field(default=default, metadata={"about": text})


@dataclass(frozen=True, kw_only=True)
class TargetSection:
    """Where the service is, and how to start it."""

    url: str = about(
        "base URL of the service; with a command, port 0 means any free port, which the service is told in the variable PORT"
    )
    command: str | tuple[str, ...] = about(
        "starts the service; it gets the database's URL in an environment variable (without a command, start it yourself)", ()
    )
    directory: str = about("folder that the command runs in, relative to this file", ".")
    environment: Mapping[str, str] = about("more environment variables for the command", factory=dict)
    database_variable: str = about("environment variable in which the command expects the database's URL", "DATABASE_URL")
    port_variable: str = about("environment variable in which the command expects the port to listen on", "PORT")
    health: str = about("path that answers 2xx or 3xx once the service is ready", "/")
    timeout: float = about("seconds after which a request without an answer has an unknown outcome", 10.0)
    start_limit: float = about("seconds that the service may take to be ready", 60.0)
    headers: Mapping[str, str] = about(
        "headers of every request; {name} stands for what the login answered, ${NAME} for an environment variable", factory=dict
    )
    background: tuple[str, ...] = about(
        "regular expressions of statements that are the service's own (health checks, jobs): explore lets them through", ()
    )


@dataclass(frozen=True, kw_only=True)
class OperationSection:
    """How one operation is a request, and what its answer means.

    Statuses that no list names mean what `harness.targets.classify` says of them.
    """

    path: str = about("path below the URL; {name} stands for an argument, {token} for the client token")
    method: str = about("HTTP method", "POST")
    headers: Mapping[str, str] = about("headers, with placeholders", factory=dict)
    body: Mapping[str, Any] | None = about("body, with placeholders; a text that is one placeholder keeps its type", None)
    encoding: str = about("how the body is sent: json or form", "json")
    ok: tuple[int, ...] = about("statuses that mean that it happened, besides 2xx", ())
    refused: tuple[int, ...] = about("statuses that mean that the business said no and nothing happened", ())
    retryable: tuple[int, ...] = about("statuses that mean that nothing happened and that trying again is right", ())
    unknown: tuple[int, ...] = about("statuses after which nobody knows whether it happened", ())
    refused_when: Mapping[str, str] = about(
        'answers that mean a refusal whatever their status: dotted path = value, such as success = "false"', factory=dict
    )
    answer: Mapping[str, str] = about(
        "where the answer holds number, text, scope, period, document or amount, or replayed, which is true where nothing was "
        "done anew: name = dotted path in the JSON",
        factory=dict,
    )
    constants: Mapping[str, str] = about(
        'what the answer does not hold, made of the arguments: scope = "{company}/invoice"', factory=dict
    )


@dataclass(frozen=True, kw_only=True)
class StoreSection:
    """The service's database. The service writes to it, so its owner repeats its name in ``disposable``."""

    postgres: str | None = about("embedded, container, container:IMAGE, or the URL of the service's PostgreSQL database", None)
    mongo: str | None = about("embedded, container, container:IMAGE, or the URL of the service's MongoDB database", None)
    disposable: str | None = about("the database's name repeated: yes, it may be written to and put back", None)


@dataclass(frozen=True, kw_only=True)
class BooksSection:
    """How one canonical table is read: a SELECT, or a collection with an aggregation pipeline."""

    sql: str | None = about("one SELECT whose columns have the canonical names", None)
    collection: str | None = about("a MongoDB collection", None)
    pipeline: tuple[Mapping[str, Any], ...] = about("the stages that give its documents the canonical names", ())
    source: str | None = about("the table that the rows come from, for the repairs that an audit proposes", None)
    key: str = about("the column of that table that identifies a row, for the same", "id")


@dataclass(frozen=True, kw_only=True)
class RunSection:
    """One thing to run."""

    scenario: str = about("its name; see: racegate list scenarios")
    clients: int = about("concurrent clients at full speed", 16)
    ops: int = about("operations in all", 500)
    settings: Mapping[str, Any] = about("the scenario's settings", factory=dict)
    limits: tuple[str, ...] = about("what racegate load has to keep: p95=200ms, errors=1%, gaps=0.5%, rate=50", ())


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """A whole ``racegate.toml``. ``secrets`` are the values that came from the environment; ``file`` is where it was read."""

    target: TargetSection | None = about("where the service is, and how to start it; an audit needs none", None)
    login: OperationSection | None = about(
        "a request that each client makes first, {client} being its number; cookies are kept, answers are for headers", None
    )
    operations: Mapping[str, OperationSection] = about("how each operation is a request: [operations.NAME]", factory=dict)
    store: StoreSection = about("the service's database", factory=StoreSection)
    books: Mapping[str, BooksSection] = about(
        f"how each canonical table is read: [books.NAME], NAME being one of {', '.join(t for t in TABLES if t != 'inexact')}",
        factory=dict,
    )
    policy: str | Mapping[str, Any] | None = about("what the numbers must obey: a policy's name, or a table of its fields", None)
    runs: tuple[RunSection, ...] = about("what racegate run and racegate explore fire when no scenario is named", ())
    secrets: tuple[str, ...] = field(default=(), repr=False)
    file: str = "racegate.toml"
