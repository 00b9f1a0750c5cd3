"""Term payments on PostgreSQL with explicit locks: lock the term, look, then write.

The shape of the requirement document's code (`lockForUpdate()`, a guard before the insert, the status set last),
made right:

- the lock is taken inside a transaction, where it lasts until the commit;
- the **term** is locked, not only the payment: the rule "one pending payment a term" is about payments that do not
  exist yet, and the balance belongs to the term;
- what is read under the lock is read by a statement of its own, after the lock was granted;
- the balance is checked again at approval.

It needs READ COMMITTED, or the partial unique index. At REPEATABLE READ the snapshot is taken by the locking statement
before it waits, so the guard that follows looks at the past; `ApproveInOneTransaction` has no such condition.

Locks: term, then payment.
"""

from __future__ import annotations

from typing import Any

from reference_impl.base.business import Settings
from reference_impl.base.postgres import Transaction
from reference_impl.base.refusal import unknown
from reference_impl.payments import rules
from reference_impl.payments.postgres import ApproveInOneTransaction
from reference_impl.payments.requests import Ask

INDEX = "CREATE INDEX refunds_of_payment ON refunds (payment);"
PENDING = "CREATE INDEX payments_pending ON payments (term) WHERE status = 'awaiting_approval';"


class LockTheTerm(ApproveInOneTransaction):
    """Right at READ COMMITTED in one transaction. In autocommit a lock ends with its statement and guards nothing."""

    @classmethod
    def tables(cls, settings: Settings) -> str:
        """Return the DDL. Refunds are summed, and the guard asks what is pending: by the unique index, where there is one."""
        parts = [super().tables(settings), INDEX]
        if not settings["unique_index"]:
            parts.append(PENDING)
        return "\n".join(parts)

    def submit(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Record a payment that awaits approval."""
        term = self.term_of_submission(tx, ask)
        tx.at("term_read")
        if self.pending_exists(tx, ask, term):
            raise rules.already_awaiting()
        tx.at("guard_passed")
        self.check_available(tx, ask, term)
        self.insert_payment(tx, ask, account=term.account)
        self.record(tx, ask, ask.amount)
        return {"subject": ask.subject, "term": ask.term, "amount": ask.amount, "status": rules.AWAITING}

    def term_of_submission(self, tx: Transaction, ask: Ask) -> Any:
        """Lock the term that is to be paid."""
        term = self.lock_term(tx, ask.term)
        if term is None or term.company != ask.company or ask.account not in (None, term.account):
            raise unknown("term", ask.term or "")
        return term

    def pending_exists(self, tx: Transaction, ask: Ask, term: Any) -> bool:
        """Tell whether a payment for this term awaits approval."""
        return bool(
            tx.value(
                "SELECT EXISTS (SELECT FROM payments WHERE term = :term AND status = 'awaiting_approval')",
                term=ask.term,
            )
        )

    def check_available(self, tx: Transaction, ask: Ask, term: Any) -> None:
        """Refuse more than the term owes."""
        if ask.amount > term.balance:
            awaiting = tx.value(
                "SELECT coalesce(sum(amount), 0)::bigint FROM payments WHERE account = :account AND status = 'awaiting_approval'",
                account=term.account,
            )
            raise rules.exceeds_available(available=term.balance, pending=awaiting)

    def approve(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Take a payment off its term, once. The status is set last, as in the document."""
        term = self.lock_term(tx, self.payment(tx, ask).term)
        payment = self.lock_payment(tx, ask)
        tx.at("status_read")
        if payment.status != rules.AWAITING:
            raise rules.not_awaiting(ask.subject, payment.status)
        self.check_remaining(payment, term)
        self.reduce(tx, payment, term)
        tx.at("applied")
        self.set_status(tx, ask, rules.PAID)
        self.record(tx, ask, payment.amount)
        return {"subject": ask.subject, "term": payment.term, "amount": payment.amount, "status": rules.PAID}

    def release(self, tx: Transaction, ask: Ask, status: str) -> dict[str, Any]:
        """End a payment without money moving: rejected or cancelled."""
        payment = self.lock_payment(tx, ask)
        tx.at("status_read")
        if payment.status != rules.AWAITING:
            raise rules.not_awaiting(ask.subject, payment.status)
        self.set_status(tx, ask, status)
        self.record(tx, ask, payment.amount)
        return {"subject": ask.subject, "term": payment.term, "amount": payment.amount, "status": status}

    def refund(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Give money back, never more than was paid."""
        term = self.lock_term(tx, self.payment(tx, ask).term)
        payment = self.lock_payment(tx, ask)
        if payment.status != rules.PAID:
            raise rules.not_paid(ask.subject, payment.status)
        tx.at("status_read")
        refunded = tx.value("SELECT coalesce(sum(amount), 0)::bigint FROM refunds WHERE payment = :payment", payment=ask.subject)
        if refunded + ask.amount > payment.amount:
            raise rules.exceeds_captured(amount=payment.amount, refunded=refunded)
        self.insert_refund(tx, ask)
        tx.change("UPDATE payments SET refunded = refunded + :amount WHERE id = :id", id=ask.subject, amount=ask.amount)
        self.add_back(tx, ask, term)
        self.record(tx, ask, ask.amount)
        return {"subject": ask.subject, "amount": ask.amount}

    def account(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Show an account; what awaits approval is summed from the payments."""
        assessment = tx.value(
            "SELECT assessment FROM accounts WHERE id = :id AND company = :company", id=ask.subject, company=ask.company
        )
        if assessment is None:
            raise unknown("account", ask.subject)
        terms = tx.rows(
            f"SELECT id, name, {self.minor_units} AS balance, (SELECT coalesce(sum(amount), 0)::bigint FROM payments p"
            " WHERE p.term = t.id AND p.status = 'awaiting_approval') AS pending"
            " FROM terms t WHERE account = :account ORDER BY position",
            account=ask.subject,
        )
        return rules.overview(ask.subject, assessment, [t._mapping for t in terms])

    # Steps ----------------------------------------------------------------------------------------------------------

    def lock_term(self, tx: Transaction, term: str | None) -> Any:
        """Lock a term and read it."""
        return tx.row(
            f"SELECT id, company, account, position, {self.minor_units} AS balance FROM terms WHERE id = :id FOR UPDATE",
            id=term,
        )

    def lock_payment(self, tx: Transaction, ask: Ask) -> Any:
        """Lock a payment and read it."""
        payment = tx.row(
            "SELECT status, term, amount FROM payments WHERE id = :id AND company = :company FOR UPDATE",
            id=ask.subject,
            company=ask.company,
        )
        if payment is None:
            raise unknown("payment", ask.subject)
        return payment

    def check_remaining(self, payment: Any, term: Any) -> None:
        """Look again at what the term owes: it may have been paid since the payment was submitted."""
        if payment.amount > term.balance:
            raise rules.exceeds_available(available=term.balance, pending=payment.amount)

    def reduce(self, tx: Transaction, payment: Any, term: Any) -> None:
        """Take a payment off its term."""
        tx.change("UPDATE terms SET balance = balance - :amount WHERE id = :term", term=payment.term, amount=payment.amount)

    def add_back(self, tx: Transaction, ask: Ask, term: Any) -> None:
        """Put a refund back on its term."""
        tx.change("UPDATE terms SET balance = balance + :amount WHERE id = :term", term=term.id, amount=ask.amount)

    def set_status(self, tx: Transaction, ask: Ask, status: str) -> None:
        """Write the status; the lock is what makes this safe."""
        tx.change(
            "UPDATE payments SET status = :status, reason = :reason WHERE id = :id",
            id=ask.subject,
            status=status,
            reason=ask.reason,
        )
