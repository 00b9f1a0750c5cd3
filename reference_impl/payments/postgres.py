"""Term payments on PostgreSQL, done right: `ApproveInOneTransaction`.

Three habits make it right at every isolation level and with or without any index on the payments:

- **Decide in the WHERE clause.** No statement writes what an earlier one read. Each change names the state that it
  needs (``status = 'awaiting_approval'``, ``balance >= amount``) and looks at how many rows it changed.
- **Fight over one row.** What awaits approval is kept on the term itself (``pending``), so two payments for one term
  meet on that row, whatever else they insert. A rule about rows that do not exist yet cannot be locked.
- **One transaction.** Claim of the key, effect, audit row and outbox row commit together or not at all.

A refusal is explained by a second statement, which at READ COMMITTED sees a later moment than the first. So it locks the
row that it reads; and if that row would allow the request after all, the change is tried again, and now nobody can come
in between. Nobody is refused by a reason that does not hold.

Whoever decides on a payment or refunds it locks the payment, then its term. A submission has no payment to lock yet: it
reserves the term, then inserts. Should its payment's identity be taken, by one that is being refunded for the same term,
the two may wait for each other: PostgreSQL ends one of them, and it is run again from its beginning.

Money is in minor units (``bigint``): exact, and as fast as it gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from reference_impl.base import keys, outbox
from reference_impl.base.business import PostgresBusiness, Settings
from reference_impl.base.postgres import Transaction
from reference_impl.base.refusal import Refused, unknown
from reference_impl.payments import rules
from reference_impl.payments.requests import Ask, understand

SCHEMA = """
CREATE TABLE accounts (
    id          text PRIMARY KEY,
    company     text NOT NULL,
    assessment  bigint NOT NULL
);
CREATE TABLE terms (
    id        text PRIMARY KEY,
    account   text NOT NULL REFERENCES accounts,
    company   text NOT NULL,
    position  int NOT NULL,
    name      text NOT NULL,
    opening   bigint NOT NULL,
    balance   {money} NOT NULL,
    pending   bigint NOT NULL DEFAULT 0
);
CREATE INDEX terms_of_account ON terms (account, position);
CREATE TABLE payments (
    id        text PRIMARY KEY,
    company   text NOT NULL,
    account   text NOT NULL REFERENCES accounts,
    term      text REFERENCES terms,
    amount    bigint NOT NULL,
    refunded  bigint NOT NULL DEFAULT 0,
    status    text NOT NULL,
    reason    text NOT NULL DEFAULT '',
    token     text NOT NULL,
    submitted timestamptz NOT NULL DEFAULT now(),
    meta      jsonb
);
CREATE INDEX payments_of_account ON payments (account, submitted, id);
CREATE TABLE refunds (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment  text NOT NULL REFERENCES payments,
    amount   bigint NOT NULL,
    token    text NOT NULL
);
CREATE TABLE webhook_events (
    event    text NOT NULL,
    payment  text NOT NULL
);
CREATE TABLE resolutions (
    payment  text NOT NULL,
    status   text NOT NULL
);
"""
ONE_PENDING = "CREATE UNIQUE INDEX payments_one_pending ON payments (term) WHERE status = 'awaiting_approval';"
EVENT_INDEX = "ALTER TABLE webhook_events ADD CONSTRAINT webhook_events_pkey PRIMARY KEY (event);"


class ApproveInOneTransaction(PostgresBusiness):
    """Every change says what it needs in its WHERE clause, and all changes of an operation commit together."""

    without_key = frozenset({"webhook", "account", "history", "deliver"})  # a webhook is known by its event
    money: ClassVar[str] = "bigint"
    """Type of a balance."""
    minor_units: ClassVar[str] = "balance"
    """How a balance is read in minor units."""
    refusals: ClassVar[Mapping[str, Callable[[Ask], Refused]]] = {
        "accounts_pkey": lambda ask: rules.exists_already("account", ask.subject),
        "payments_pkey": lambda ask: rules.exists_already("payment", ask.subject),
        "payments_one_pending": lambda ask: rules.already_awaiting(),
    }

    @classmethod
    def tables(cls, settings: Settings) -> str:
        """Return the DDL. ``unique_index`` adds the second line of defence: one pending payment a term, by an index."""
        parts = [SCHEMA.format(money=cls.money), EVENT_INDEX]
        if settings["unique_index"]:
            parts.append(ONE_PENDING)
        return "\n".join(parts)

    @classmethod
    def books(cls, settings: Settings) -> Mapping[str, str]:
        """Return how each canonical table is read."""
        return {
            "payments": "SELECT id, term, account, amount, refunded, status, token FROM payments",
            "terms": """
                SELECT t.id, t.account, t.opening, t.balance, a.assessment
                FROM terms t JOIN accounts a ON a.id = t.account
            """,
            "refunds": "SELECT id, payment, amount, token FROM refunds",
            **outbox.BOOKS,
        }

    def understand(self, f: str, arguments: Mapping[str, Any], token: str) -> Ask:
        """Read the request, or refuse it."""
        return understand(f, arguments, token)

    # The operations -------------------------------------------------------------------------------------------------

    def open_account(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Open an account with its five terms; their amounts sum to the assessment exactly."""
        terms = rules.opening_terms(ask.subject, self.split(ask.amount))
        tx.change(
            "INSERT INTO accounts (id, company, assessment) VALUES (:id, :company, :assessment)",
            id=ask.subject,
            company=ask.company,
            assessment=ask.amount,
        )
        for term in terms:
            tx.change(
                "INSERT INTO terms (id, account, company, position, name, opening, balance)"
                " VALUES (:id, :account, :company, :position, :name, :opening, :balance)",
                **term,
                company=ask.company,
            )
        self.record(tx, ask, ask.amount)
        return {"subject": ask.subject, "amount": ask.amount, "terms": terms}

    def split(self, assessment: int) -> list[int]:
        """Split an assessment into the five terms."""
        return rules.split(assessment, [share for _, share in rules.TERMS])

    def submit(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Record a payment that awaits approval, if its term owes that much and nothing else awaits approval for it."""
        while (term := self.reserve(tx, ask)) is None:
            tx.at("found_none")
            why = self.why_not(tx, ask)
            if why is not None:
                raise why
        tx.at("reserved")
        self.insert_payment(tx, ask, account=term.account)
        self.record(tx, ask, ask.amount)
        return {"subject": ask.subject, "term": ask.term, "amount": ask.amount, "status": rules.AWAITING}

    def approve(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take a payment off its term, once."""
        payment = self.decide(tx, ask, rules.PAID)
        tx.at("marked_paid")
        while not self.take_off(tx, payment):
            owed = tx.value("SELECT balance FROM terms WHERE id = :term FOR UPDATE", term=payment.term) or 0
            if owed < payment.amount:
                raise rules.exceeds_available(available=owed, pending=payment.amount)
        self.record(tx, ask, payment.amount)
        return {"subject": ask.subject, "term": payment.term, "amount": payment.amount, "status": rules.PAID}

    def reject(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Accounting turns a payment down; the term is free for another."""
        return self.release(tx, ask, rules.REJECTED)

    def cancel(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """The student takes a payment back before it was decided upon."""
        return self.release(tx, ask, rules.CANCELLED)

    def release(self, tx: Transaction, ask: Ask, status: str) -> dict[str, Any]:
        """End a payment without money moving."""
        payment = self.decide(tx, ask, status)
        tx.at("decided")
        tx.change("UPDATE terms SET pending = pending - :amount WHERE id = :term", term=payment.term, amount=payment.amount)
        self.record(tx, ask, payment.amount)
        return {"subject": ask.subject, "term": payment.term, "amount": payment.amount, "status": status}

    def decide(self, tx: Transaction, ask: Ask, status: str) -> Any:
        """Move a payment out of awaiting approval: of all who try at once exactly one changes the row."""
        while (payment := self.set_decided(tx, ask, status)) is None:
            tx.at("found_none")
            stands = self.payment(tx, ask, locked=True)
            if stands.status != rules.AWAITING:
                raise rules.not_awaiting(ask.subject, stands.status)
        return payment

    def refund(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Give money back: in parts, never more than was paid. The term owes it again."""
        while (payment := self.count_refund(tx, ask)) is None:
            tx.at("found_none")
            stands = self.payment(tx, ask, locked=True)
            if stands.status != rules.PAID:
                raise rules.not_paid(ask.subject, stands.status)
            if stands.refunded + ask.amount > stands.amount:
                raise rules.exceeds_captured(amount=stands.amount, refunded=stands.refunded)
        tx.at("refund_counted")
        self.insert_refund(tx, ask)
        tx.change("UPDATE terms SET balance = balance + :amount WHERE id = :term", term=payment.term, amount=ask.amount)
        self.record(tx, ask, ask.amount)
        return {"subject": ask.subject, "amount": ask.amount}

    def webhook(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Approve a payment because the gateway says so. The gateway repeats itself; the event's identity does not.

        A payment that somebody else has approved meanwhile is what the gateway wants: a refusal would be delivered for ever.
        """
        first = tx.change(
            "INSERT INTO webhook_events (event, payment) VALUES (:event, :payment) ON CONFLICT (event) DO NOTHING",
            event=ask.event,
            payment=ask.subject,
        )
        tx.at("event_claimed")
        if first and self.payment(tx, ask).status != rules.PAID:
            try:
                return self.approve(tx, ask)
            except Refused as e:  # told before the approval changed anything: this transaction may go on, and keeps the event
                if e.figures.get("payment_status") != rules.PAID:
                    raise
        if tx.value("SELECT payment FROM webhook_events WHERE event = :event", event=ask.event) != ask.subject:
            raise keys.key_reused(ask.event)
        payment = self.payment(tx, ask)
        told = {"subject": ask.subject, "term": payment.term, "amount": payment.amount, "status": payment.status}
        return {**told, "replayed": True}

    def account(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Show an account: what each term owes, what awaits approval, what may be chosen."""
        assessment = tx.value(
            "SELECT assessment FROM accounts WHERE id = :id AND company = :company", id=ask.subject, company=ask.company
        )
        if assessment is None:
            raise unknown("account", ask.subject)
        terms = tx.rows(
            f"SELECT id, name, {self.minor_units} AS balance, pending FROM terms WHERE account = :account ORDER BY position",
            account=ask.subject,
        )
        return rules.overview(ask.subject, assessment, [t._mapping for t in terms])

    def history(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Show an account's payments, the newest first, whatever became of them."""
        if not tx.value("SELECT 1 FROM accounts WHERE id = :id AND company = :company", id=ask.subject, company=ask.company):
            raise unknown("account", ask.subject)
        payments = tx.rows(
            "SELECT p.id, p.term, coalesce(t.name, 'no term') AS term_name, p.amount, p.refunded, p.status, p.reason,"
            " p.submitted"
            " FROM payments p LEFT JOIN terms t ON t.id = p.term"
            " WHERE p.account = :account ORDER BY (p.status = :awaiting) DESC, p.submitted DESC, p.id DESC LIMIT :most",
            account=ask.subject,
            awaiting=rules.AWAITING,
            most=rules.SHOWN,
        )
        return rules.history(ask.subject, [p._mapping for p in payments])

    def deliver(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Publish what waits in the outbox."""
        return self.outbox.deliver(self.session, tx, ask.amount)

    # Steps ----------------------------------------------------------------------------------------------------------

    def reserve(self, tx: Transaction, ask: Ask) -> Any:
        """Reserve the term for this payment, if nothing awaits approval for it and it owes that much."""
        return tx.row(
            "UPDATE terms SET pending = :amount"
            " WHERE id = :term AND company = :company AND account = coalesce(:account, account)"
            " AND pending = 0 AND balance >= :amount RETURNING account",
            term=ask.term,
            company=ask.company,
            account=ask.account,
            amount=ask.amount,
        )

    def set_decided(self, tx: Transaction, ask: Ask, status: str) -> Any:
        """Write what was decided, if the payment awaits approval."""
        return tx.row(
            "UPDATE payments SET status = :status, reason = :reason"
            " WHERE id = :id AND company = :company AND status = 'awaiting_approval' RETURNING term, amount",
            id=ask.subject,
            company=ask.company,
            status=status,
            reason=ask.reason,
        )

    def take_off(self, tx: Transaction, payment: Any) -> int:
        """Take a payment off its term, if the term still owes it."""
        return tx.change(
            "UPDATE terms SET balance = balance - :amount, pending = pending - :amount WHERE id = :term AND balance >= :amount",
            term=payment.term,
            amount=payment.amount,
        )

    def count_refund(self, tx: Transaction, ask: Ask) -> Any:
        """Add to what was refunded, if the payment is paid and has that much left."""
        return tx.row(
            "UPDATE payments SET refunded = refunded + :amount"
            " WHERE id = :id AND company = :company AND status = 'paid' AND refunded + :amount <= amount"
            " RETURNING term",
            id=ask.subject,
            company=ask.company,
            amount=ask.amount,
        )

    def payment(self, tx: Transaction, ask: Ask, *, locked: bool = False) -> Any:
        """Read a payment of this company, for an explanation. Never to decide; ``locked`` keeps it as it is told."""
        payment = tx.row(
            "SELECT status, term, amount, refunded FROM payments WHERE id = :id AND company = :company"
            + (" FOR UPDATE" if locked else ""),
            id=ask.subject,
            company=ask.company,
        )
        if payment is None:
            raise unknown("payment", ask.subject)
        return payment

    def why_not(self, tx: Transaction, ask: Ask) -> Refused | None:
        """Explain a refused submission: what its term has left, and what awaits approval on the account.

        None if nothing speaks against it any more. The sum is a statement of its own: as part of the first it would be of the
        moment before that waited for the lock.
        """
        term = tx.row(
            "SELECT account, balance, pending"
            " FROM terms WHERE id = :term AND company = :company AND account = coalesce(:account, account) FOR UPDATE",
            term=ask.term,
            company=ask.company,
            account=ask.account,
        )
        if term is None:
            return unknown("term", ask.term or "")
        if term.pending:
            return rules.already_awaiting()
        if ask.amount > term.balance:
            awaiting = tx.value("SELECT sum(pending)::bigint FROM terms WHERE account = :account", account=term.account)
            return rules.exceeds_available(available=term.balance, pending=awaiting)
        return None

    def insert_payment(self, tx: Transaction, ask: Ask, *, account: str) -> None:
        """Store a payment that awaits approval."""
        tx.change(
            "INSERT INTO payments (id, company, account, term, amount, status, token, submitted)"
            " VALUES (:id, :company, :account, :term, :amount, 'awaiting_approval', :token, :submitted)",
            id=ask.subject,
            company=ask.company,
            account=account,
            term=ask.term,
            amount=ask.amount,
            token=ask.key,
            submitted=ask.at,
        )

    def insert_refund(self, tx: Transaction, ask: Ask) -> None:
        """Store a refund."""
        tx.change(
            "INSERT INTO refunds (payment, amount, token) VALUES (:payment, :amount, :token)",
            payment=ask.subject,
            amount=ask.amount,
            token=ask.key,
        )
