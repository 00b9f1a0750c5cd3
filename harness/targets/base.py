"""What a system under test looks like to the engines.

The reference implementation, a user's Python object and an HTTP service all end up behind these protocols. They are
structural: a target's package need not import racegate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.stores.base import Database

Checkpoint = Callable[[str], None]
"""Called by a target at a named point of an operation (``number_taken``, ``before_commit``): where faults are injected.

A target that has no such points never calls it.
"""


class Connection(Protocol):
    """One client's own connection to the target. Used by one thread at a time."""

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> Mapping[str, Any]:
        """Carry out one operation and return its answer.

        The answer uses the names of `harness.model.history.COLUMNS` where they fit (``scope``, ``period``, ``number``,
        ``text``, ``subject``, ``amount``), plus ``attempts`` and anything worth showing.

        Raises:
            Exception: the operation is not ok. `harness.targets.classify` turns it into an outcome: an exception with
                a ``refusal`` attribute (a stable code) is a business "no"; driver errors are looked up in one table;
                anything else is ``info``. An ``attempts`` attribute, if present, is recorded.
        """

    def vanish(self) -> None:
        """Cut the connection without a goodbye, as a client that lost power does. No rollback, no close message."""

    def close(self) -> None:
        """Close the connection in an orderly way."""


@dataclass(frozen=True, kw_only=True)
class BooksQuery:
    """How one canonical table is read: a single SELECT, or one MongoDB aggregation.

    The columns that it returns carry the names of `harness.model.books.TABLES`; others are an error.
    """

    table: str
    sql: str | None = None
    collection: str | None = None
    pipeline: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


class Target(Protocol):
    """A system under test.

    It may have an attribute ``preload``: names of modules that its clients' processes share from before they are forked,
    instead of each importing them. A module that opens connections when it is imported is none of them.
    """

    name: str
    """As the user wrote it: ``reference:pg.counter_row``."""
    store: str | None
    """``postgres``, ``mongo``, or None when the target brings its own."""
    operations: frozenset[str]
    settings: Mapping[str, Any]
    """All settings with the values in force: isolation, unique_index, write_concern ..."""

    def install(self, database: Database | None) -> None:
        """Create what the target needs (schema, indexes, sequences) in a fresh database."""

    def connect(self, database: Database | None, client: int) -> Connection:
        """Open one client's connection. Called in the process that will use it."""

    def books(self) -> Sequence[Any]:
        """Return the `BooksQuery` of every canonical table that the target keeps (or objects with its attributes)."""


class TargetProvider(Protocol):
    """What an entry point in the group ``racegate.targets`` names: a family of targets, by variant."""

    def names(self) -> Sequence[str]:
        """Return the variants' names: ``pg.count_plus_one``."""

    def settings(self, variant: str) -> Mapping[str, Any]:
        """Return the variant's settings as `harness.model.Setting` values or objects with the same attributes."""

    def describe(self, variant: str) -> str:
        """Return one sentence on how the variant works."""

    def target(self, variant: str, settings: Mapping[str, Any]) -> Target:
        """Return the variant with these settings; settings not given take their defaults."""
