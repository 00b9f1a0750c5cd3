"""Ways to get idempotency keys wrong on PostgreSQL. Each class leaves out one rule of `reference_impl.base.keys`.

The effect behind the key is a refund here: two of them for one intent are money given away. The payments themselves are
right (`ApproveInOneTransaction`); only the key differs.
"""

from __future__ import annotations

import json
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from reference_impl.base import keys, outbox
from reference_impl.base.business import Settings
from reference_impl.base.keys import WINDOW, Answer, Keyed, Keys, Work
from reference_impl.base.postgres import Boundaries, Checkpoint, PostgresSession, Transaction, Where, sqlstate
from reference_impl.base.refusal import Refused
from reference_impl.payments.postgres import ApproveInOneTransaction

STORE = "INSERT INTO idempotency_keys (key, request, answer, expires) VALUES (:key, :request, :answer, :expires)"


class KeyInsertedLast(Keys):
    """The key is looked up, and inserted when all is done (P17). A: no key; B: no key; A runs; B runs."""

    def once(self, tx: Transaction, ask: Keyed, work: Work) -> Answer:
        """Look, run, store."""
        stored = tx.row("SELECT request, answer FROM idempotency_keys WHERE key = :key LIMIT 1", key=ask.key)
        tx.at("key_read")
        if stored is not None:
            self.same_request(stored.request, ask)
            return {**stored.answer, "replayed": True}
        answer = work(tx)
        tx.change(STORE, key=ask.key, request=ask.request, answer=json.dumps(answer), expires=ask.at + WINDOW)
        return answer


class KeyWithoutFingerprint(Keys):
    """Nobody remembers what was asked (P18): 2.50 under the key of 1.00 is answered "ok, 1.00"."""

    def same_request(self, stored: str, ask: Keyed) -> None:
        """Take every request under a key for the same one."""


class KeyLockTakenOver(Keys):
    """A key in flight is locked for 90 seconds; after them whoever asks takes it over (P20).

    A runs for 100 s; B comes after 91 s and takes the lock; both do the work. What saves it is an effect that
    carries the key itself: with ``unique_index`` the second one runs into the first.
    """

    patience = timedelta(seconds=90)

    def carry_out(self, session: PostgresSession, ask: Keyed, work: Work, at: Checkpoint) -> tuple[Answer, int]:
        """Lock, run, store: three transactions."""
        earlier = session.aside(lambda tx: self.lock(tx, ask))
        if earlier is not None:
            return earlier, 1
        at("lock_taken")
        try:
            answer, attempts = session.run(work, at)
        except DBAPIError:
            if recalled := session.aside(lambda tx: self.recall(tx, ask)):
                return recalled, 1
            session.aside(lambda tx: self.unlock(tx, ask))
            raise
        except Refused:
            session.aside(lambda tx: self.unlock(tx, ask))
            raise
        session.aside(
            lambda tx: tx.change(
                "UPDATE idempotency_keys SET answer = :answer, expires = :expires WHERE key = :key",
                key=ask.key,
                answer=json.dumps(answer),
                expires=ask.at + WINDOW,
            )
        )
        return answer, attempts

    def lock(self, tx: Transaction, ask: Keyed) -> Answer | None:
        """Take the key, or return the stored answer."""
        if tx.change(keys.CLAIM, key=ask.key, request=ask.request, at=ask.at, expires=ask.at + self.patience):
            return None
        stored = tx.row("SELECT request, answer FROM idempotency_keys WHERE key = :key", key=ask.key)
        if stored is None or stored.answer is None:
            raise Refused("key_in_progress", f"A request with the key {ask.key} is being processed.")
        self.same_request(stored.request, ask)
        return {**stored.answer, "replayed": True}

    def unlock(self, tx: Transaction, ask: Keyed) -> None:
        """Give the key back after a failure."""
        tx.change("DELETE FROM idempotency_keys WHERE key = :key AND answer IS NULL", key=ask.key)


class KeyCommittedFirst(Keys):
    """The key says "done" before anything is (P21). After a crash in between, every retry is told that all is well."""

    def carry_out(self, session: PostgresSession, ask: Keyed, work: Work, at: Checkpoint) -> tuple[Answer, int]:
        """Store the answer in a transaction of its own, then run."""
        earlier = session.aside(lambda tx: self.look(tx, ask))
        if earlier is not None:
            return earlier, 1
        session.aside(lambda tx: self.announce(tx, ask))
        at("key_stored")
        try:
            return session.run(work, at)
        except (DBAPIError, Refused):
            session.aside(lambda tx: tx.change("DELETE FROM idempotency_keys WHERE key = :key", key=ask.key))
            raise

    def look(self, tx: Transaction, ask: Keyed) -> Answer | None:
        """Return the stored answer, if there is one."""
        if tx.value("SELECT 1 FROM idempotency_keys WHERE key = :key", key=ask.key) is None:
            return None
        return self.answer_again(tx, ask)

    def announce(self, tx: Transaction, ask: Keyed) -> None:
        """Store an answer that is not true yet."""
        answer = json.dumps({"done": True})
        tx.change(STORE + " ON CONFLICT DO NOTHING", key=ask.key, request=ask.request, answer=answer, expires=ask.at + WINDOW)


class KeyStoresAnyFailure(Keys):
    """Whatever happened is stored, also what a retry would mend (P22): the client can never succeed."""

    def carry_out(self, session: PostgresSession, ask: Keyed, work: Work, at: Checkpoint) -> tuple[Answer, int]:
        """Store the answer or the failure, and give the same again."""
        try:
            return super().carry_out(session, ask, work, at)
        except DBAPIError as e:
            failure = json.dumps({"failed": sqlstate(e)})
            session.aside(
                lambda tx: tx.change(
                    STORE + " ON CONFLICT DO NOTHING",
                    key=ask.key,
                    request=ask.request,
                    answer=failure,
                    expires=ask.at + WINDOW,
                )
            )
            raise

    def answer_again(self, tx: Transaction, ask: Keyed) -> Answer:
        """Give the stored answer, or fail as the first attempt failed."""
        answer = super().answer_again(tx, ask)
        if "failed" in answer:
            raise StoredFailureError(answer["failed"])
        return answer


class StoredFailureError(Exception):
    """The failure of an earlier attempt, given again."""

    def __init__(self, code: str | None) -> None:
        super().__init__(f"the first attempt failed with {code}, and so does this one")
        self.sqlstate = code


class RefundsWithKeyInsertedLast(ApproveInOneTransaction):
    """The key is looked up, and inserted when all is done (P17): payments with `KeyInsertedLast`.

    With ``unique_index`` the second insert fails, and its effect with it.
    """

    keys = KeyInsertedLast()
    token_once = False

    @classmethod
    def schema(cls, settings: Settings) -> str:
        """Return the DDL; without ``unique_index`` a key may be stored twice."""
        whole = super().schema(settings)
        return whole if settings["unique_index"] else whole.replace(keys.KEY_INDEX, "")


class RefundsWithoutFingerprint(ApproveInOneTransaction):
    """A used key answers whatever is asked with it (P18): payments with `KeyWithoutFingerprint`."""

    keys = KeyWithoutFingerprint()


class RefundsForgottenWithKey(ApproveInOneTransaction):
    """The key is all that is known of an intent, and it is forgotten after 24 hours (P19).

    A pays under k1; 24 hours and a minute later the retry of k1 pays again. With ``unique_index`` the token is
    unique on what it did, for ever: the twin.
    """

    @classmethod
    def schema(cls, settings: Settings) -> str:
        """Return the DDL; without ``unique_index`` a token may take effect again once its key is gone."""
        return schema_by_token(super().schema(settings), settings)


class RefundsWithKeyTakenOver(ApproveInOneTransaction):
    """A key's lock lapses while its work goes on, and whoever asks does it again (P20): payments with `KeyLockTakenOver`."""

    keys = KeyLockTakenOver()

    @classmethod
    def schema(cls, settings: Settings) -> str:
        """Return the DDL; without ``unique_index`` a token may take effect twice."""
        return schema_by_token(super().schema(settings), settings)


class RefundsWithKeyCommittedFirst(ApproveInOneTransaction):
    """The key says "done" before anything is (P21): payments with `KeyCommittedFirst`."""

    keys = KeyCommittedFirst()


class RefundsWithStoredFailures(ApproveInOneTransaction):
    """A failure that a retry would mend is kept as the answer (P22): payments with `KeyStoresAnyFailure`, each tried once."""

    keys = KeyStoresAnyFailure()

    @classmethod
    def connect(cls, where: Where, settings: Settings) -> ApproveInOneTransaction:
        """Open a connection that tries once."""
        return cls(PostgresSession(where, Boundaries(isolation=settings["isolation"], tries=1)), settings)


def schema_by_token(whole: str, settings: Settings) -> str:
    """Return the DDL with the index on the audit log's tokens only where ``unique_index`` asks for it."""
    return whole if settings["unique_index"] else whole.replace(outbox.TOKEN_INDEX, "")
