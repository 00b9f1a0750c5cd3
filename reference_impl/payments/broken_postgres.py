"""Ways to get term payments wrong on PostgreSQL: guards, approvals, refunds and webhooks.

Each class differs from `LockTheTerm` (or from `ApproveInOneTransaction`) in the lines that are shown and in nothing
else. The docstring gives the shortest interleaving: A and B are two clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from reference_impl.base.business import Settings
from reference_impl.base.postgres import Transaction
from reference_impl.base.refusal import unknown
from reference_impl.payments import rules
from reference_impl.payments.postgres_locking import LockTheTerm
from reference_impl.payments.requests import Ask, understand


class ExistsThenInsert(LockTheTerm):
    """The guard looks before it inserts, with nothing to hold on to (P02).

    A exists: no; B exists: no; A inserts; B inserts: two payments await approval for one term. A partial unique index
    turns the second into an error that this code does not understand; SERIALIZABLE turns it into a retry.
    """

    refusals: ClassVar[Mapping[str, Any]] = {
        index: told for index, told in LockTheTerm.refusals.items() if index != "payments_one_pending"
    }

    def term_of_submission(self, tx: Transaction, ask: Ask) -> Any:
        """Read the term without locking it."""
        term = self.read_term(tx, ask.term)
        if term is None or term.company != ask.company or ask.account not in (None, term.account):
            raise unknown("term", ask.term or "")
        return term

    def read_term(self, tx: Transaction, term: str | None) -> Any:
        """Read a term."""
        return tx.row("SELECT id, company, account, position, balance FROM terms WHERE id = :id", id=term)


class GuardByJsonNumber(LockTheTerm):
    """The guard compares a number with the text that was stored (P04). No race is needed.

    The payment's JSON says ``{"selected_term_id": "2"}``; the guard asks for ``2`` and never finds it.
    """

    def pending_exists(self, tx: Transaction, ask: Ask, term: Any) -> bool:
        """Ask for a number."""
        return bool(
            tx.value(
                "SELECT EXISTS (SELECT FROM payments WHERE account = :account AND status = 'awaiting_approval'"
                " AND meta @> jsonb_build_object('selected_term_id', CAST(:position AS int)))",
                account=term.account,
                position=term.position,
            )
        )

    def insert_payment(self, tx: Transaction, ask: Ask, *, account: str) -> None:
        """Store a text, as the form sent it."""
        super().insert_payment(tx, ask, account=account)
        tx.change(
            "UPDATE payments SET meta = jsonb_build_object('selected_term_id',"
            " (SELECT position::text FROM terms WHERE id = :term)) WHERE id = :id",
            term=ask.term,
            id=ask.subject,
        )


class GuardWithNullTerm(LockTheTerm):
    """A payment may name no term, and ``term = NULL`` is never true (P05): any number of them awaits approval."""

    def understand(self, f: str, arguments: Mapping[str, Any], token: str) -> Ask:
        """Let the term be null, as ``?? null`` in the form does."""
        return understand(f, arguments, token, term_needed=False)

    def term_of_submission(self, tx: Transaction, ask: Ask) -> Any:
        """Fall back to the account where there is no term."""
        if ask.term is not None:
            return super().term_of_submission(tx, ask)
        account = tx.row(
            "SELECT account, sum(balance)::bigint AS balance FROM terms"
            " WHERE account = :account AND company = :company GROUP BY account",
            account=ask.account,
            company=ask.company,
        )
        if account is None:
            raise unknown("account", ask.account or "")
        return account

    def check_remaining(self, payment: Any, term: Any) -> None:
        """Look again at what the term owes, if there is one."""
        if term is not None:
            super().check_remaining(payment, term)


class ValidatesAccountBalance(LockTheTerm):
    """The amount is compared with what all terms owe together (P25): 5,000 is accepted for a term of 3,000."""

    def check_available(self, tx: Transaction, ask: Ask, term: Any) -> None:
        """Compare with the effective balance of the account, clamped at zero as the page does."""
        balance = tx.value("SELECT sum(balance)::bigint FROM terms WHERE account = :account", account=term.account)
        pending = tx.value(
            "SELECT coalesce(sum(amount), 0)::bigint FROM payments WHERE account = :account AND status = 'awaiting_approval'",
            account=term.account,
        )
        if ask.amount > max(0, balance - pending):
            raise rules.exceeds_available(available=max(0, balance - pending), pending=pending)


class ApproveWithoutRecheck(LockTheTerm):
    """Each payment is approved once, and that is all that is looked at (P06): the document's system before its guard.

    Two different payments of 300 await approval for a term of 300; A approves one, B the other: 600 paid of 300.
    """

    def pending_exists(self, tx: Transaction, ask: Ask, term: Any) -> bool:
        """There is no guard yet."""
        return False

    def check_remaining(self, payment: Any, term: Any) -> None:
        """Nobody asks what the term still owes."""


class AbsoluteBalance(LockTheTerm):
    """The payment is locked, the balance is read plainly and written back whole (P07).

    A locks p1, B locks p2; both read 1000; A writes 700; B writes 700: 600 approved, 300 taken off. At REPEATABLE READ
    PostgreSQL refuses the second write, and the retry of the whole transaction is right.
    """

    def lock_term(self, tx: Transaction, term: str | None) -> Any:
        """Read the term without locking it."""
        return tx.row("SELECT id, company, account, position, balance FROM terms WHERE id = :id", id=term)

    def reduce(self, tx: Transaction, payment: Any, term: Any) -> None:
        """Write what was read, less the payment."""
        tx.at("balance_read")
        tx.change("UPDATE terms SET balance = :rest WHERE id = :term", term=payment.term, rest=term.balance - payment.amount)

    def add_back(self, tx: Transaction, ask: Ask, term: Any) -> None:
        """Write what was read, and the refund."""
        tx.change("UPDATE terms SET balance = :sum WHERE id = :term", term=term.id, sum=term.balance + ask.amount)


class BlindStatus(LockTheTerm):
    """The status is read, and later overwritten whatever it is by then (P10, P11).

    A (approve) and B (reject or cancel) read "awaiting"; A takes the money and writes "paid"; B writes "rejected".
    """

    def lock_payment(self, tx: Transaction, ask: Ask) -> Any:
        """Read the payment without locking it."""
        return self.payment(tx, ask)


class ResolutionRow(BlindStatus):
    """A payment is decided by inserting a row that says how (P15): right with a unique index, and nothing without it.

    Without the index: A looks: undecided; B looks: undecided; A inserts "paid"; B inserts "cancelled".
    """

    refusals: ClassVar[Mapping[str, Any]] = {
        **LockTheTerm.refusals,
        "resolutions_once": lambda ask: rules.not_awaiting(ask.subject, "decided"),
    }

    @classmethod
    def schema(cls, settings: Settings) -> str:
        """Return the DDL; with ``unique_index`` a payment has one resolution at most."""
        index = "CREATE UNIQUE INDEX resolutions_once ON resolutions (payment);"
        return super().schema(settings) + (index if settings["unique_index"] else "")

    def lock_payment(self, tx: Transaction, ask: Ask) -> Any:
        """Read the payment; what was decided is in its resolution."""
        payment = self.payment(tx, ask)
        decided = tx.value("SELECT status FROM resolutions WHERE payment = :payment LIMIT 1", payment=ask.subject)
        if decided and payment.status == rules.AWAITING:
            raise rules.not_awaiting(ask.subject, decided)
        return payment

    def set_status(self, tx: Transaction, ask: Ask, status: str) -> None:
        """Insert the resolution, and copy it to the payment for whoever reads that."""
        tx.change("INSERT INTO resolutions (payment, status) VALUES (:payment, :status)", payment=ask.subject, status=status)
        super().set_status(tx, ask, status)


class RefundBySum(LockTheTerm):
    """The refund is capped by the sum of earlier refunds, in one statement that locks nothing (P14).

    A inserts 100 of 100; B, to whom A's row is not visible yet, inserts 100 of 100.
    """

    def refund(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Insert the refund if the sum allows it."""
        payment = self.payment(tx, ask)
        if payment.status != rules.PAID:
            raise rules.not_paid(ask.subject, payment.status)
        inserted = tx.change(
            "INSERT INTO refunds (payment, amount, token)"
            " SELECT id, CAST(:amount AS bigint), :token FROM payments WHERE id = :payment AND"
            " (SELECT coalesce(sum(amount), 0) FROM refunds WHERE payment = :payment) + :amount <= amount",
            payment=ask.subject,
            amount=ask.amount,
            token=ask.key,
        )
        if not inserted:
            raise rules.exceeds_captured(amount=payment.amount, refunded=payment.refunded)
        tx.at("refund_inserted")
        tx.change("UPDATE payments SET refunded = refunded + :amount WHERE id = :id", id=ask.subject, amount=ask.amount)
        tx.change("UPDATE terms SET balance = balance + :amount WHERE id = :term", term=payment.term, amount=ask.amount)
        self.record(tx, ask, ask.amount)
        return {"subject": ask.subject, "amount": ask.amount}


class WebhookWithoutDedup(LockTheTerm):
    """The handler believes that an event arrives once (P16): delivered again, it takes the money again."""

    token_once = False

    def webhook(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Apply whatever arrives."""
        payment = self.payment(tx, ask)
        tx.at("payment_read")
        self.reduce(tx, payment, None)
        self.set_status(tx, ask, rules.PAID)
        self.record(tx, ask, payment.amount)
        return {"subject": ask.subject, "term": payment.term, "amount": payment.amount, "status": rules.PAID}


class FloatBalance(LockTheTerm):
    """Balances are floating-point pesos (P23): 6,550.11 - 0.01, often enough, is not what the books say."""

    money = "double precision"
    minor_units = "round(balance * 100)::bigint"
    """Rounded for comparisons, as ``toFixed(2)`` does."""

    def open_account(self, tx: Transaction, ask: Ask) -> dict[str, Any]:
        """Keep the balances in pesos."""
        answer = super().open_account(tx, ask)
        tx.change("UPDATE terms SET balance = balance / 100.0 WHERE account = :account", account=ask.subject)
        return answer

    def reduce(self, tx: Transaction, payment: Any, term: Any) -> None:
        """Subtract pesos."""
        tx.change(
            "UPDATE terms SET balance = balance - CAST(:pesos AS double precision) WHERE id = :term",
            term=payment.term,
            pesos=payment.amount / 100,
        )

    def add_back(self, tx: Transaction, ask: Ask, term: Any) -> None:
        """Add pesos."""
        tx.change(
            "UPDATE terms SET balance = balance + CAST(:pesos AS double precision) WHERE id = :term",
            term=term.id,
            pesos=ask.amount / 100,
        )

    @classmethod
    def books(cls, settings: Settings) -> Mapping[str, str]:
        """Return the books in minor units, unrounded."""
        return {
            **super().books(settings),
            "terms": """
                SELECT t.id, t.account, t.opening, t.balance * 100 AS balance, a.assessment
                FROM terms t JOIN accounts a ON a.id = t.account
            """,
        }


class RoundedSplit(LockTheTerm):
    """Each term is its percentage of the assessment, rounded (P24): 15,540.00 becomes 15,539.99."""

    def split(self, assessment: int) -> list[int]:
        """Round each part by itself."""
        return [round(assessment * share / 10_000) for _, share in rules.TERMS]
