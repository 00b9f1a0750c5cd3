"""Code that a test brings along, as clients: Python callables with any driver, lists of SQL statements, requests to a service.

Each client is called with the URL that it is to use; the invariants see the real database when all clients are done.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harness.engines.client import ClientKilled
from harness.engines.explore.piece import Ending
from harness.model.books import Books
from harness.model.finding import Finding, FindingClass
from harness.model.history import History
from harness.stores.base import Database, StoreKind
from harness.targets.base import BooksQuery
from harness.targets.books_reader import Rows

CONTROL = "racegate control"
"""The application name of connections that do not go through the proxy."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client that keeps its connection from run to run: ``connect`` is called once with the URL, ``act`` in every run."""

    connect: Callable[[str], Any]
    act: Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A client that sends one HTTP request to a running service, and is answered with status and body."""

    url: str
    method: str = "POST"
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 60.0
    """Seconds; a held statement holds the answer up."""


Actor = Callable[[str], Any] | Client | Request | Sequence[str]
Invariant = Callable[["Seen"], Any]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What an invariant is shown: ``answers`` are what each client returned, or the exception that it raised."""

    answers: Sequence[Any]
    database: Database
    connection: Any

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT on the real database (PostgreSQL)."""
        return list(self.connection.execute(statement, parameters or None).fetchall())

    def value(self, statement: str, *parameters: Any) -> Any:
        """Return the single value of a SELECT."""
        return self.rows(statement, *parameters)[0][0]


def set_up(database: Database, setup: Callable[[str], Any] | Sequence[str]) -> None:
    """Do what sets the scene: statements, or a callable that gets the URL."""
    if callable(setup):
        setup(database.url)
    elif setup:
        with control(database) as connection:
            for statement in setup:
                connection.execute(statement)


@contextmanager
def control(database: Database) -> Iterator[Any]:
    """Open a connection that does not go through the proxy, for the scene and the invariants."""
    if database.kind is StoreKind.POSTGRES:
        import psycopg  # noqa: PLC0415 - only code on PostgreSQL pays for it

        with psycopg.connect(database.url, autocommit=True, application_name=CONTROL) as connection:
            yield connection
    else:
        import pymongo  # noqa: PLC0415

        client: Any = pymongo.MongoClient(database.url, appname=CONTROL)
        with client:
            yield client[database.name]


def part_of(actor: Actor) -> Client:
    """Return what an actor is, as a client."""
    if isinstance(actor, Client):
        return actor
    if isinstance(actor, Request):
        return Client(connect=lambda url: None, act=lambda _: _ask(actor))
    if callable(actor):
        return Client(connect=lambda url: url, act=actor)
    statements = list(actor)
    return Client(connect=_open, act=lambda connection: _statements(connection, statements))


def _open(url: str) -> Any:
    import psycopg  # noqa: PLC0415

    return psycopg.connect(url, autocommit=True)


def _statements(connection: Any, statements: Sequence[str]) -> list[list[tuple[str | None, ...]]]:
    """Run statements as they stand, one round trip each, and return their rows as text.

    Straight through libpq: the machinery of a cursor costs more than the statements do.

    Raises:
        psycopg.Error: as the driver would have raised it.
    """
    from psycopg import errors  # noqa: PLC0415
    from psycopg.pq import ExecStatus  # noqa: PLC0415

    found = []
    for statement in statements:
        result = connection.pgconn.exec_(statement.encode())
        if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.EMPTY_QUERY):
            raise errors.error_from_result(result)
        found.append(
            [
                tuple(None if (v := result.get_value(row, column)) is None else v.decode() for column in range(result.nfields))
                for row in range(result.ntuples)
            ]
        )
    return found


def _ask(request: Request) -> tuple[int, str]:
    import urllib3  # noqa: PLC0415

    answer = urllib3.request(
        request.method, request.url, json=request.json, headers=dict(request.headers), timeout=request.timeout, retries=False
    )
    return answer.status, answer.data.decode("utf-8", "replace")


@dataclass(frozen=True)
class Answers:
    """The ending of code: what the clients were answered. What the database holds is asked by the invariants themselves."""

    answers: Sequence[Any]
    key: None = None

    @property
    def history(self) -> History:
        """None that is known."""
        return History.of([])

    @property
    def books(self) -> Books:
        """None that are known."""
        return Books()


class CodePiece:
    """Clients that a test brings along."""

    alike: Sequence[frozenset[int]] = ()
    here: frozenset[int] = frozenset()
    queries: Sequence[BooksQuery] = ()

    def __init__(self, parts: Sequence[Client], invariants: Sequence[Invariant], database: Database, connection: Any) -> None:
        self.clients = len(parts)
        self._parts = parts
        self._invariants = invariants
        self._database = database
        self._connection = connection
        self._handles: dict[int, Any] = {}
        self._answers: dict[int, Any] = {}

    def enter(self, client: int, url: str) -> None:
        """Connect."""
        self._handles[client] = self._parts[client].connect(url)

    def entered(self, client: int) -> bool:
        """Tell whether the connection still stands, as far as the driver says."""
        handle = self._handles.get(client)
        return client in self._handles and getattr(handle, "closed", False) is not True

    def perform(self, client: int, alive: Callable[[], bool]) -> None:
        """Act, and keep the answer or the exception."""
        try:
            self._answers[client] = self._parts[client].act(self._handles[client])
        except (Exception, ClientKilled) as e:  # noqa: BLE001 - an answer like any other; invariants decide what it means
            self._answers[client] = e
            self._tidy(client)

    def _tidy(self, client: int) -> None:
        """A connection left in a transaction is rolled back, as a pool would do."""
        rollback = getattr(self._handles[client], "rollback", None)
        if rollback is not None:
            try:
                rollback()
            except Exception:  # noqa: BLE001 - it is broken; it is replaced before the next run
                self._handles[client].close()

    def leave(self, client: int) -> None:
        """Disconnect."""
        close = getattr(self._handles.pop(client, None), "close", None)
        if close is not None:
            close()

    def remember(self, tables: Mapping[str, Rows]) -> None:
        """There are no books: invariants ask the database."""

    def begin(self) -> None:
        """Forget the answers."""
        self._answers.clear()

    def ending(self, tables: Mapping[str, Rows]) -> Answers:
        """Return the answers, in the clients' order."""
        return Answers([self._answers.get(client) for client in range(self.clients)])

    def judge(self, ending: Ending) -> Sequence[Finding]:
        """Ask every invariant."""
        assert isinstance(ending, Answers)
        seen = Seen(answers=ending.answers, database=self._database, connection=self._connection)
        return [finding for invariant in self._invariants if (finding := _finding(invariant, seen)) is not None]


def _finding(invariant: Invariant, seen: Seen) -> Finding | None:
    name = getattr(invariant, "__name__", type(invariant).__name__)
    try:
        answer = invariant(seen)
    except AssertionError as e:
        answer = str(e).partition("\n")[0] or _source(invariant) or False  # pytest adds lines of its own to an assertion
    if answer is None or answer is True:
        return None
    message = answer if isinstance(answer, str) else f"{name.replace('_', ' ')}: it does not hold"
    return Finding(finding_class=FindingClass.VIOLATION, invariant=name, message=message, evidence={})


def _source(invariant: Invariant) -> str:
    try:
        last = inspect.getsource(invariant).strip().splitlines()[-1].strip()
        return f"{getattr(invariant, '__name__', 'an invariant')} does not hold: {last}"
    except (OSError, TypeError):
        return ""
