"""What every business on PostgreSQL has in common: a connection that reads requests, keys them, and carries them out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from sqlalchemy.exc import DBAPIError

from reference_impl.base import outbox
from reference_impl.base.keys import KEY_INDEX, Keys, key_reused
from reference_impl.base.keys import SCHEMA as KEYS_SCHEMA
from reference_impl.base.outbox import Outbox, record
from reference_impl.base.postgres import Boundaries, Checkpoint, PostgresSession, Transaction, Where, run_script, violated
from reference_impl.base.refusal import Refused

Settings = Mapping[str, Any]
Changed = TypeVar("Changed")


class PostgresBusiness(ABC):
    """A client's connection to one business; each operation is a method of its own name.

    A subclass gives `tables`, `books`, `understand` and the operations. What runs through `keys` has its effect once for
    its token; audit row and outbox row are written by `record` in the operation's own transaction.
    """

    keys: ClassVar[Keys] = Keys()
    outbox: ClassVar[Outbox] = Outbox()
    without_key: ClassVar[frozenset[str]] = frozenset()
    """Operations that change nothing twice by themselves, and need no key."""
    token_once: ClassVar[bool] = True
    """Whether an index makes each token count once in the audit log, long after its key was forgotten."""
    refusals: ClassVar[Mapping[str, Callable[[Any], Refused]]] = {}
    """What a conflict on each unique index means to the client."""

    def __init__(self, session: PostgresSession, settings: Settings) -> None:
        self.session = session
        self.settings = settings

    @classmethod
    @abstractmethod
    def tables(cls, settings: Settings) -> str:
        """Return the DDL of the business's own tables."""

    @classmethod
    @abstractmethod
    def books(cls, settings: Settings) -> Mapping[str, str]:
        """Return how each canonical table is read."""

    @abstractmethod
    def understand(self, f: str, arguments: Mapping[str, Any], token: str) -> Any:
        """Read a request, or refuse it."""

    @classmethod
    def schema(cls, settings: Settings) -> str:
        """Return the whole DDL."""
        parts = [cls.tables(settings), KEYS_SCHEMA, KEY_INDEX, outbox.SCHEMA, outbox.CONSUMER_INDEX]
        if cls.token_once:
            parts.append(outbox.TOKEN_INDEX)
        return "\n".join(parts)

    @classmethod
    def install(cls, url: str, settings: Settings) -> None:
        """Make the tables in an empty database."""
        run_script(url, cls.schema(settings))

    @classmethod
    def connect(cls, where: Where, settings: Settings) -> PostgresBusiness:
        """Open one client's connection."""
        boundaries = Boundaries(isolation=settings["isolation"], transaction=settings.get("transaction", True))
        return cls(PostgresSession(where, boundaries), settings)

    def call(self, f: str, arguments: Mapping[str, Any], token: str, checkpoint: Checkpoint) -> dict[str, Any]:
        """Carry out one operation. Raises Refused, or the driver's error where the store failed."""
        ask = self.understand(f, arguments, token)
        operation: Callable[[Transaction, Any], dict[str, Any]] = getattr(self, f)
        try:
            if f in self.without_key:
                answer, attempts = self.session.run(lambda tx: operation(tx, ask), checkpoint)
            else:
                answer, attempts = self.keys.carry_out(self.session, ask, lambda tx: operation(tx, ask), checkpoint)
        except DBAPIError as e:
            # A webhook is known by its event, not by its key, but the key is another's.
            if violated(e) == "audit_once" and self.is_told(ask):
                raise key_reused(ask.key) from e
            meaning = self.refusals.get(violated(e) or "")
            if meaning is None:
                raise
            raise meaning(ask) from e
        return {**answer, "attempts": attempts}

    def is_told(self, ask: Any) -> bool:
        """Tell whether the audit log has this client's own token: a row of another's says nothing of the client's key."""
        query = "SELECT EXISTS (SELECT FROM audit WHERE token = :token AND action = :action)"
        told, _ = self.session.run(lambda tx: tx.value(query, token=ask.key, action=ask.f), lambda point: None)
        return bool(told)

    def record(self, tx: Transaction, ask: Any, amount: int) -> None:
        """Tell audit log and outbox of a change, in its own transaction."""
        tx.at("before_audit")
        record(tx, subject=ask.subject, action=ask.f, amount=amount, token=ask.key, request=ask.request)

    def vanish(self) -> None:
        """Cut the connection without a goodbye."""
        self.session.vanish()

    def close(self) -> None:
        """Close the connection."""
        self.session.close()


def change_or_refuse(change: Callable[[], Changed], lock: Callable[[], Any], why_not: Callable[[Any], Refused]) -> Changed:
    """Return what a conditional update returns; where it finds nothing, refuse by a reason that holds.

    What refused it may be gone when the row is read to say why: at READ COMMITTED every statement sees what was committed
    before it. So the row is locked as it is read, and the update looks once more at what nobody can change any longer. At
    stricter levels the lock is refused, and the whole transaction starts over.

    Args:
        change: the update; what it returns is false if it found nothing.
        lock: reads what the update looked at, ``FOR UPDATE``, and refuses if it is not there. This lock is taken where the
            update would take it, so the order of locks stays the same.
        why_not: what to tell the client, from what was read.
    """
    changed = change()
    if not changed:
        stands = lock()
        changed = change()
        if not changed:
            raise why_not(stands)
    return changed
