"""Explores code that a test brings along: Python callables with any driver, lists of SQL statements, requests to a service.

::

    result = explore(
        database=database,
        setup=["CREATE TABLE invoices (number int)"],
        clients=[create_invoice, create_invoice],
        invariants=[numbers_are_unique],
    )
    result.check()

Each client is called with the URL of a proxy that holds every statement; the invariants see the real database when all clients
are done. They fail by raising AssertionError, or by returning False or a sentence.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from harness.engines.client import ClientKilled
from harness.engines.explore import ExploreEngine, ExplorePlan, Found
from harness.engines.explore.diagram import lanes, rows_of
from harness.engines.explore.engine import fingerprints
from harness.engines.explore.moves import Choices, fault_plan
from harness.engines.explore.piece import MANY_CLIENTS, Ending
from harness.engines.explore.token import Schedule, compare, decode, encode
from harness.model.books import Books
from harness.model.errors import UsageError
from harness.model.finding import Finding, FindingClass, Verdict
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


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """What an exploration of code found. ``coverage`` is ``exhaustive``, ``preemptions<=N`` or ``sampled N``."""

    verdict: Verdict
    explored: int
    failing: int
    diverged: int
    coverage: str
    seconds: float
    clients: int
    message: str = ""
    token: str = ""
    waited_outside: Sequence[int] = ()
    """Clients that at some time waited inside the application: for a connection of a pool that is too small, or for a lock."""
    steps: Sequence[Mapping[str, Any]] = ()

    @property
    def diagram(self) -> str:
        """The failing interleaving as lanes, with what is wrong below; empty if there is none."""
        return lanes(self.steps, clients=self.clients, sentence=self.message) if self.steps else ""

    def check(self) -> None:
        """Raise AssertionError with diagram and token if an interleaving broke an invariant, or if nothing was explored."""
        if self.verdict is Verdict.FAIL:
            raise AssertionError(f"{self.message}\n\n{self.diagram}\n\nreplay: {self.token}")
        if self.verdict is Verdict.UNKNOWN:
            raise AssertionError("no interleaving was carried out to its end: nothing is known")


def explore(
    *,
    database: Database,
    clients: Sequence[Actor],
    invariants: Sequence[Invariant],
    setup: Callable[[str], Any] | Sequence[str] = (),
    service: Callable[[str], AbstractContextManager[Any]] | None = None,
    budget: float = 30.0,
    seed: int = 0,
    reduce: bool = True,
    stop_at_first: bool = True,
    faults: str = "",
    max_faults: int = 1,
) -> Exploration:
    """Try one interleaving of the clients' statements after another.

    Args:
        database: a disposable database of a store that racegate started, or of a URL that was marked as disposable.
        clients: callables that get the proxied URL, `Client`, `Request`, or lists of SQL statements; mixed as you like.
        invariants: what must hold when all clients are done.
        setup: statements, or a callable that gets the real URL; done once, before the state is remembered that every
            interleaving begins with.
        service: starts the service that `Request` clients ask, as a context manager; gets the proxied URL.
        budget: seconds.
        seed: of what is drawn when the tree is too large.
        reduce: try independent statements in one order only.
        stop_at_first: end with the first failure.
        faults: what may go wrong, as in ``lose_reply,kill_backend``.
        max_faults: how many faults an interleaving may have.

    Raises:
        UsageError: there are no clients or no invariants, or a fault does not exist.
        EnvironmentProblem: the store or the proxy failed, or there is traffic past the proxy.
    """
    plan = ExplorePlan(
        database=database,
        seed=seed,
        budget=budget,
        reduce=reduce,
        stop_at_first=stop_at_first,
        faults=fault_plan(faults, max_faults),
    )
    with _played(plan, clients, invariants, setup, service) as (engine, piece):
        outcome = engine.explore()
        found = engine.shrink(outcome.found, until=_soon(budget)) if outcome.found else None
        token = _token(found, piece, seed) if found else ""
    verdict = Verdict.FAIL if found else Verdict.PASS if outcome.explored else Verdict.UNKNOWN
    return Exploration(
        verdict=verdict,
        explored=outcome.explored,
        failing=outcome.failing,
        diverged=outcome.diverged,
        coverage=outcome.coverage,
        seconds=outcome.seconds,
        clients=len(clients),
        message=found.findings[0].message if found else "",
        token=token,
        waited_outside=outcome.outside,
        steps=rows_of(found.run) if found else (),
    )


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """What repeating a schedule showed: it broke ``again`` times of ``times``; ``diverged`` says where it took another way."""

    again: int
    times: int
    diverged: str | None
    message: str = ""


def replay(
    token: str,
    *,
    database: Database,
    clients: Sequence[Actor],
    invariants: Sequence[Invariant],
    setup: Callable[[str], Any] | Sequence[str] = (),
    service: Callable[[str], AbstractContextManager[Any]] | None = None,
    times: int = 5,
) -> Repeated:
    """Repeat the schedule of a token with the same clients, ``times`` times.

    Raises:
        UsageError: the token is damaged, or is of another number of clients.
    """
    schedule = decode(token)
    if schedule.clients != len(clients):
        raise UsageError(f"the schedule is of {schedule.clients} clients, and {len(clients)} were given")
    kinds = ",".join(sorted(set(schedule.faults.values())))
    plan = ExplorePlan(database=database, faults=fault_plan(kinds, len(schedule.faults)))
    again, diverged, message = 0, None, ""
    with _played(plan, clients, invariants, setup, service) as (engine, _):
        for _n in range(times):
            found = engine.replay(schedule.moves)
            diverged = diverged or compare(schedule.steps, fingerprints(found.run))
            again += bool(found.findings)
            message = found.findings[0].message if found.findings else message
    return Repeated(again=again, times=times, diverged=diverged, message=message)


def _soon(budget: float) -> float:
    return time.monotonic() + min(budget, 10.0)


def _token(found: Found, piece: _CodePiece, seed: int) -> str:
    choices = Choices.of(found.run.moves)
    return encode(
        Schedule(
            scenario="code",
            target="code",
            clients=piece.clients,
            operations=1,
            seed=seed,
            policy="",
            choices=choices.clients,
            steps=tuple(mark for mark, _ in fingerprints(found.run)),
            faults=choices.faults,
        )
    )


@contextmanager
def _played(
    plan: ExplorePlan,
    clients: Sequence[Actor],
    invariants: Sequence[Invariant],
    setup: Callable[[str], Any] | Sequence[str],
    service: Callable[[str], AbstractContextManager[Any]] | None,
) -> Iterator[tuple[ExploreEngine, _CodePiece]]:
    if not clients or not invariants:
        raise UsageError("give at least one client and one invariant: without them nothing is explored or checked")
    _set_up(plan.database, setup)
    with _control(plan.database) as connection, ExitStack() as stack:
        piece = _CodePiece([_part(c) for c in clients], list(invariants), plan.database, connection)
        piece.alike = _alike(clients)
        if service is None:
            piece.here = frozenset(n for n, actor in enumerate(clients) if not isinstance(actor, Request))
        engine = ExploreEngine(plan, piece)
        try:
            if service is not None:
                stack.enter_context(service(engine.url))
        except BaseException:
            engine.close()
            raise
        yield stack.enter_context(engine), piece


def _alike(clients: Sequence[Actor]) -> list[frozenset[int]]:
    """Return the sets of clients that are the same object, where there are enough of them for their order to matter."""
    groups: dict[int, set[int]] = {}
    for number, actor in enumerate(clients):
        groups.setdefault(id(actor), set()).add(number)
    return [frozenset(group) for group in groups.values() if len(group) >= MANY_CLIENTS]


def _set_up(database: Database, setup: Callable[[str], Any] | Sequence[str]) -> None:
    if callable(setup):
        setup(database.url)
    elif setup:
        with _control(database) as connection:
            for statement in setup:
                connection.execute(statement)


@contextmanager
def _control(database: Database) -> Iterator[Any]:
    if database.kind is StoreKind.POSTGRES:
        import psycopg  # noqa: PLC0415 - only code on PostgreSQL pays for it

        with psycopg.connect(database.url, autocommit=True, application_name=CONTROL) as connection:
            yield connection
    else:
        import pymongo  # noqa: PLC0415

        client: Any = pymongo.MongoClient(database.url, appname=CONTROL)
        with client:
            yield client[database.name]


def _part(actor: Actor) -> Client:
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
class _Answers:
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


class _CodePiece:
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

    def ending(self, tables: Mapping[str, Rows]) -> _Answers:
        """Return the answers, in the clients' order."""
        return _Answers([self._answers.get(client) for client in range(self.clients)])

    def judge(self, ending: Ending) -> Sequence[Finding]:
        """Ask every invariant."""
        assert isinstance(ending, _Answers)
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
