"""What is played on the stage: clients that do something, and what came of it when they are done."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from harness.engines.client import Client
from harness.model.books import TABLES, Books
from harness.model.finding import Finding
from harness.model.history import History
from harness.model.operation import Call, Failure, Operation, Outcome
from harness.model.scenario import Scenario, Seat
from harness.stores.base import Database
from harness.targets.base import BooksQuery, Target
from harness.targets.books_reader import Rows, books_of
from harness.targets.http import HttpTarget

MANY_CLIENTS = 3
"""From here on clients that do the same are told apart by their turn only: each n of them make n! orders one."""


class Ending(Protocol):
    """What came of one interleaving."""

    @property
    def key(self) -> Hashable | None:
        """Equal for endings that are judged alike; None if that cannot be told."""

    @property
    def history(self) -> History:
        """What the clients did and were told."""

    @property
    def books(self) -> Books:
        """What the store holds."""


class Piece(Protocol):
    """Clients and what they do, the same in every interleaving."""

    clients: int
    alike: Sequence[frozenset[int]]
    """Sets of clients that do the same but for names."""

    @property
    def here(self) -> frozenset[int]:
        """Clients whose code runs in their own thread: being killed ends it. `ClientKilled` is what they see of it."""

    @property
    def queries(self) -> Sequence[BooksQuery]:
        """How the books are read."""

    def enter(self, client: int, url: str) -> None:
        """Connect a client to the store at ``url``, if it keeps a connection. Called in its own thread, like `perform`."""

    def entered(self, client: int) -> bool:
        """Tell whether the client has its connection (or keeps none)."""

    def perform(self, client: int, alive: Callable[[], bool]) -> None:
        """Do a client's part; stop where ``alive`` says no."""

    def leave(self, client: int) -> None:
        """Disconnect a client."""

    def remember(self, tables: Mapping[str, Rows]) -> None:
        """Note what the books hold before every interleaving."""

    def begin(self) -> None:
        """Forget the last interleaving."""

    def ending(self, tables: Mapping[str, Rows]) -> Ending:
        """Return what came of the interleaving, given the books' rows."""

    def judge(self, ending: Ending) -> Sequence[Finding]:
        """Say what is wrong."""


class OperationList:
    """Takes events as values, for `harness.engines.client.Client`."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._open: dict[int, tuple[int, Mapping[str, Any]]] = {}

    def invoke(self, *, process: int, client: int, f: str, token: str, arguments: Mapping[str, Any]) -> int:
        """Note an invocation."""
        at = time.monotonic_ns()
        self._open[process] = (at, arguments)
        return at

    def complete(
        self,
        *,
        process: int,
        client: int,
        f: str,
        token: str,
        outcome: Outcome,
        at: int,
        attempts: int = 1,
        result: Mapping[str, Any] | None = None,
        failure: Failure | None = None,
    ) -> None:
        """Note the operation that is complete now."""
        invoked, arguments = self._open.pop(process)
        self.operations.append(
            Operation(
                process=process,
                client=client,
                f=f,
                token=token,
                arguments=arguments,
                invoked=invoked,
                completed=at,
                outcome=outcome,
                result=result,
                failure=failure,
                attempts=attempts,
            )
        )


@dataclass
class OperationsEnding:
    """Operations and rows; data frames are made of them only when somebody asks."""

    opening: Sequence[Operation]
    operations: Sequence[Operation]
    tables: Mapping[str, Rows]
    earlier: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @cached_property
    def history(self) -> History:
        """The operations as columns."""
        return History.of([*self.opening, *self.operations])

    @cached_property
    def books(self) -> Books:
        """The rows as typed tables."""
        return replace(books_of(self.tables), earlier=self.earlier)

    @cached_property
    def key(self) -> Hashable:
        """What judging depends on: outcomes and answers, which operation ended before which began, and the books' rows.

        Generated ids are renamed in the order in which they appear, and moments count by their order and day: both differ
        from run to run and mean nothing.
        """
        rename = _Renaming(self.tables)
        return (
            tuple((o.client, o.process, o.f, o.token, o.outcome, _told(o, rename), o.attempts) for o in self.operations),
            frozenset(
                (i, j)
                for i, a in enumerate(self.operations)
                for j, b in enumerate(self.operations)
                if a.completed is not None and a.completed < b.invoked
            ),
            tuple((name, rows.names, rename.rows(name, rows)) for name, rows in sorted(self.tables.items())),
        )


def _told(operation: Operation, rename: _Renaming) -> tuple[Hashable, str | None, str | None]:
    why = operation.failure
    answer = None if operation.result is None else tuple((k, rename.value(k, v)) for k, v in sorted(operation.result.items()))
    return answer, why.code if why else None, rename.text(why.message) if why else None


_GENERATED = re.compile(r"\b(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{24})\b")
_DAY = 86_400_000_000
_REFERENCES = frozenset({"id", "document", "payment", "order", "event", "subject"})
"""Columns, and names in answers, whose values are ids of rows."""


class _Renaming:
    """Names for rows' ids and for moments that are the same in every run.

    An id is named by the place of its row among the table's, ordered by all their other values.
    """

    def __init__(self, tables: Mapping[str, Rows]) -> None:
        self._ids: dict[str, str] = {}
        moments = {
            int(value)
            for name, rows in tables.items()
            for at in self._moments(name, rows)
            for row in rows.rows
            if (value := row[at]) is not None
        }
        self._order = {str(moment): f"{moment // _DAY}#{at}" for at, moment in enumerate(sorted(moments))}
        for name, rows in sorted(tables.items()):
            if "id" in rows.names:
                at = rows.names.index("id")
                without = [(_sortable((*row[:at], *row[at + 1 :])), row[at] or "") for row in rows.rows]
                for n, (_, identity) in enumerate(sorted(without)):
                    self._ids.setdefault(identity, f"{name}#{n}")

    @staticmethod
    def _moments(name: str, rows: Rows) -> list[int]:
        schema = TABLES[name]
        return [at for at, column in enumerate(rows.names) if "Datetime" in str(schema.get(column))]

    def value(self, name: str, value: Any) -> Hashable:
        """Return an answer's value with its ids renamed."""
        if isinstance(value, str):
            return self._reference(name, value)
        return value if isinstance(value, int | float | None) else self.text(repr(value))

    def _reference(self, name: str, value: str) -> str:
        return (self._ids.get(value) if name in _REFERENCES else None) or self.text(value)

    def text(self, text: str) -> str:
        """Return a text with the ids that are plainly generated renamed."""
        return _GENERATED.sub(lambda found: self._ids.setdefault(found[0], f"id{len(self._ids)}"), text)

    def rows(self, name: str, rows: Rows) -> tuple[tuple[str, ...], ...]:
        """Return rows with their ids and moments renamed, in an order that does not depend on them."""
        moments = set(self._moments(name, rows))
        renamed = [
            [
                self._order.get(v or "", v) if at in moments else v and self._reference(column, v)
                for at, (column, v) in enumerate(zip(rows.names, row, strict=True))
            ]
            for row in rows.rows
        ]
        return tuple(sorted(_sortable(row) for row in renamed))


def _sortable(row: Iterable[str | None]) -> tuple[str, ...]:
    return tuple("null" if value is None else f"={value}" for value in row)


Judge = Callable[[History, Books], Sequence[Finding]]


@dataclass(kw_only=True)
class ScenarioPiece:
    """A scenario's clients on a target, ``operations`` calls each.

    ``opening`` is the history of the calls that set the scene, part of every ending. ``database`` is the real one, of which
    `enter` replaces the URL by the proxy's. ``absent`` clients do nothing: shrinking leaves them out.
    """

    target: Target
    database: Database
    scenario: Scenario
    settings: Mapping[str, Any]
    judged: Judge
    clients: int = 2
    operations: int = 1
    seed: int = 0
    opening: Sequence[Operation] = ()
    absent: frozenset[int] = frozenset()
    alike: Sequence[frozenset[int]] = ()
    _earlier: Mapping[str, frozenset[str]] = field(default_factory=dict)
    _called: set[str] = field(default_factory=set)
    _succeeded: set[str] = field(default_factory=set)
    _seated: dict[int, Client] = field(default_factory=dict)
    _record: OperationList = field(default_factory=OperationList)

    @property
    def progressed(self) -> bool:
        """Tell whether each operation that was called succeeded in one interleaving at least."""
        return bool(self._called) and self._called <= self._succeeded

    @property
    def here(self) -> frozenset[int]:
        """Every client of a target that is Python code; none of a service somewhere."""
        target: Any = self.target
        return frozenset() if isinstance(target, HttpTarget) else frozenset(range(self.clients))

    @property
    def queries(self) -> Sequence[BooksQuery]:
        """The target's."""
        return self.target.books()

    def enter(self, client: int, url: str) -> None:
        """Open the client's own connection."""
        proxied = replace(self.database, url=url, shown=url)
        seated = Client(
            number=client,
            clients=self.clients,
            connect=lambda: self.target.connect(proxied, client),
            record=self._record,
            clock=time.monotonic_ns,
        )
        self._seated[client] = seated
        seated.open()

    def entered(self, client: int) -> bool:
        """Tell whether the client has not lost its connection."""
        return self._seated[client].connected

    def perform(self, client: int, alive: Callable[[], bool]) -> None:
        """Make the client's calls, without pauses and what breaks connections or kills: the schedule has its own of both.

        What the business refuses on purpose stays: it happens in the application, where no proxy reaches.
        """
        if client in self.absent:
            return
        program = self.scenario.program(self._seat(client))
        call: Call | None = next(program, None)
        made = 0
        while call is not None and alive() and (made < self.operations or call.goes_on):
            made += 1
            fault = call.fault if call.fault is not None and call.fault.kind == "refuse" else None
            operation = self._seated[client].perform(replace(call, fault=fault, think=0.0))
            try:
                call = program.send(operation)
            except StopIteration:
                return

    def must_stay(self, client: int) -> bool:
        """Tell whether the books are in order only after this client has done its part."""
        first: Call | None = next(self.scenario.program(self._seat(client)), None)
        return first is not None and first.goes_on

    def _seat(self, client: int) -> Seat:
        return Seat(client=client, clients=self.clients, random=random.Random(f"{self.seed}/{client}/0"), settings=self.settings)

    def leave(self, client: int) -> None:
        """Close the connection."""
        self._seated[client].close()

    def remember(self, tables: Mapping[str, Rows]) -> None:
        """Note which rows there are, by their ids."""
        self._earlier = {
            name: frozenset(row[rows.names.index("id")] or "" for row in rows.rows)
            for name, rows in tables.items()
            if "id" in rows.names
        }

    def begin(self) -> None:
        """Forget what was recorded."""
        self._record.operations.clear()

    def ending(self, tables: Mapping[str, Rows]) -> OperationsEnding:
        """Return the operations with the rows."""
        operations = sorted(self._record.operations, key=lambda o: o.invoked)
        self._called |= {o.f for o in operations}
        self._succeeded |= {o.f for o in operations if o.outcome is Outcome.OK}
        return OperationsEnding(opening=self.opening, operations=operations, tables=tables, earlier=self._earlier)

    def judge(self, ending: Ending) -> Sequence[Finding]:
        """Judge history and books."""
        return self.judged(ending.history, ending.books)


def alike(scenario: Scenario, settings: Mapping[str, Any], *, clients: int, seed: int) -> list[frozenset[int]]:
    """Return the sets of clients whose first calls are the same but for their tokens."""
    groups: dict[str, set[int]] = {}
    for client in range(clients):
        seat = Seat(client=client, clients=clients, random=random.Random(f"{seed}/{client}/0"), settings=settings)
        call: Call | None = next(scenario.program(seat), None)
        if call is not None:
            groups.setdefault(repr((call.f, sorted(call.arguments.items()))), set()).add(client)
    return [frozenset(group) for group in groups.values() if len(group) > 1]
