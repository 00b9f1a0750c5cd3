"""One client's session on MongoDB: write concern, transactions with their retry, and cutting the line."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import pymongo
import pymongo.errors
from pymongo.client_session import ClientSession
from pymongo.write_concern import WriteConcern

from reference_impl.base.refusal import Refused

Answer = TypeVar("Answer")
Checkpoint = Callable[[str], None]

PATIENCE = 120.0
"""Seconds for which a transaction is run again, and its commit repeated: as long as the driver's own ``with_transaction``, and
longer than the server keeps the transaction of a client that vanished (``transactionLifetimeLimitSeconds``, 60)."""

LONGEST_PAUSE = 0.2
"""Seconds. The server makes whoever meets another in a document start over at once, so many who meet in one (a counter) must
leave it to each other for longer than their work takes: with a quarter of this, sixteen get a quarter less done together."""

TRANSIENT, UNKNOWN = "TransientTransactionError", "UnknownTransactionCommitResult"
"""What the driver says of an error: nothing happened, run it again; or the reply to a commit was lost."""

Where = str | pymongo.MongoClient[Any]


def concern(name: str) -> WriteConcern:
    """Return the write concern of this name: ``0``, ``1`` or ``majority``."""
    return WriteConcern(w="majority") if name == "majority" else WriteConcern(w=int(name))


class MongoSession:
    """A client's connection. Used by one thread at a time.

    Args:
        where: a URI with a database name; or a driver's client that was made by `open_client`, whose pool is shared.
        write_concern: see `concern`.
    """

    def __init__(self, where: Where, *, write_concern: str = "majority") -> None:
        self._pooled = not isinstance(where, str)
        self._client = open_client(where, connections=2) if isinstance(where, str) else where
        self.database = self._client.get_default_database(write_concern=concern(write_concern))
        self.patience = PATIENCE
        self.attempt = 0
        """Which try of its transaction the session is at: more than 1 while it meets with conflicts."""

    def transaction(self, work: Callable[[ClientSession], Answer | Refused], at: Checkpoint) -> tuple[Answer, int]:
        """Run the work in a transaction, from its beginning again on a transient error; return answer and tries.

        A commit whose reply is lost is repeated, and never the work: the first may have been carried out; and while nobody
        knows, the server keeps the transaction open, and all that it touched from everybody else. The driver's own
        ``with_transaction`` does the same but does not tell how often.

        What was read may never reach a majority of the nodes, and a failover would take it back. The commit waits for that, also
        of a transaction that wrote nothing. So a refusal that the work *returns* is raised when the commit has made it certain;
        one that it raises rolls back what it wrote.

        Raises:
            Refused: the work refused.
            PyMongoError: the last try failed; its ``attempts`` tells how many there were.
        """
        limit = time.monotonic() + self.patience
        for attempt in itertools.count(1):
            self.attempt = attempt
            try:
                with self._client.start_session() as session:
                    session.start_transaction(write_concern=WriteConcern(w="majority"))
                    try:
                        answer = work(session)
                        at("before_commit")
                    except BaseException:
                        with suppress(pymongo.errors.PyMongoError):
                            session.abort_transaction()
                        raise
                    self._commit(session, limit)
                if isinstance(answer, Refused):
                    raise answer
                return answer, attempt
            except pymongo.errors.PyMongoError as e:
                again = e.has_error_label(TRANSIENT) and not e.has_error_label(UNKNOWN)
                closed = isinstance(e, pymongo.errors.InvalidOperation)  # and labelled as transient all the same
                if closed or not again or time.monotonic() > limit:
                    e.attempts = attempt  # type: ignore[attr-defined]  # read by whoever records the operation
                    raise
                pause(attempt)
        raise AssertionError("unreachable: the tries have no end")

    def _commit(self, session: ClientSession, limit: float) -> None:
        """Commit, again and again while the reply is lost: the server takes a repeated commit for the same one."""
        for attempt in itertools.count(1):
            try:
                return session.commit_transaction()
            except pymongo.errors.InvalidOperation as e:  # labelled as if nothing had happened, which nobody knows
                raise pymongo.errors.ConnectionFailure("the client was closed while its commit was under way") from e
            except pymongo.errors.PyMongoError as e:
                if not e.has_error_label(UNKNOWN) or time.monotonic() > limit:
                    raise
                pause(attempt)

    def settle(
        self,
        work: Callable[[], tuple[dict[str, Any], int]],
        meaning_of: Callable[[pymongo.errors.DuplicateKeyError], tuple[dict[str, Any] | None, int]],
    ) -> dict[str, Any]:
        """Return what the work answers, or what it means that it ran into a unique index, with all tries that it took.

        If what was in the way is gone, deleted or rolled back with a lost primary, nothing is done yet: the work is tried again.

        Args:
            work: returns an answer and its tries.
            meaning_of: returns the answer to a duplicate key, or None if what was in the way is gone, and the tries; raises
                whatever else it means.

        Raises:
            DuplicateKeyError: something was in the way for too long; its ``attempts`` tells how many tries there were.
        """
        limit, spent = time.monotonic() + self.patience, 0
        while True:
            try:
                answer, attempts = work()
                return {**answer, "attempts": spent + attempts}
            except pymongo.errors.DuplicateKeyError as e:
                spent += getattr(e, "attempts", 1)
                e.attempts = spent  # type: ignore[attr-defined]  # read by whoever records the operation
                done, attempts = meaning_of(e)
                if done is not None:
                    return {**done, "attempts": spent + attempts}
                if time.monotonic() > limit:
                    raise
                pause(spent)

    def vanish(self) -> None:
        """Cut every connection of this client that waits for no answer, without a goodbye; nothing more can be asked."""
        topology: Any = self._client._topology  # the driver has no public way to die
        for server in list(topology._servers.values()):
            for connection in list(server.pool.conns):
                with suppress(OSError, AttributeError):
                    connection.conn.sock.close()
        self._client.close()

    def close(self) -> None:
        """Close in good order; a shared client stays open."""
        if not self._pooled:
            self._client.close()


def open_client(url: str, *, connections: int) -> pymongo.MongoClient[Any]:
    """Return a driver's client with a pool of at most so many connections."""
    return pymongo.MongoClient(url, maxPoolSize=connections, serverSelectionTimeoutMS=5000, tz_aware=True)


def pause(attempt: int) -> None:
    """Wait a random moment before another try, longer the more there were."""
    time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.001 * 2 ** min(attempt, 10))))


def looked(look: Callable[..., Answer], *arguments: Any) -> Answer | Refused:
    """Return what a look came to, or how it refused: nothing was written yet, so both may wait for the commit."""
    try:
        return look(*arguments)
    except Refused as e:
        return e


def violated(error: pymongo.errors.PyMongoError) -> str | None:
    """Return the fields of the unique index that an insert ran into, comma separated, or None."""
    if not isinstance(error, pymongo.errors.DuplicateKeyError):
        return None
    return ",".join((error.details or {}).get("keyPattern", {"_id": 1}))
