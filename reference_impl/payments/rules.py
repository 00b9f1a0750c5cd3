"""What is true of term payments on any store: the split, the figures, and the texts of refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from reference_impl.base.arguments import pesos
from reference_impl.base.refusal import Refused

TERMS = (
    ("Upon Registration", 4215),
    ("Prelim", 1786),
    ("Midterm", 1786),
    ("Semi-Final", 1488),
    ("Final", 725),
)
"""Name and share in basis points (42.15 % is 4215); together exactly 10,000."""

AWAITING, PAID, REJECTED, CANCELLED = "awaiting_approval", "paid", "rejected", "cancelled"


def split(whole: int, shares: Sequence[int]) -> list[int]:
    """Split minor units by shares so that the parts sum to the whole, by largest remainder.

    Every part gets its share rounded down; the units that are left go to the parts that lost most by rounding, the
    earlier one on a tie. 15,540.00 by the five terms: 6,550.11 + 2,775.45 + 2,775.44 + 2,312.35 + 1,126.65.
    """
    total = sum(shares)
    parts = [whole * share // total for share in shares]
    by_loss = sorted(range(len(shares)), key=lambda i: (-(whole * shares[i] % total), i))
    for i in by_loss[: whole - sum(parts)]:
        parts[i] += 1
    return parts


def term_id(account: str, position: int) -> str:
    """Return the identity of an account's term; positions count from 1."""
    return f"{account}/{position}"


def opening_terms(account: str, amounts: Sequence[int]) -> list[dict[str, object]]:
    """Return the account's five terms as rows."""
    return [
        {
            "id": term_id(account, n),
            "account": account,
            "position": n,
            "name": name,
            "opening": amount,
            "balance": amount,
        }
        for n, ((name, _), amount) in enumerate(zip(TERMS, amounts, strict=True), start=1)
    ]


def already_awaiting() -> Refused:
    """Return the refusal of a second payment for a term, in the words that students know."""
    return Refused(
        "already_awaiting_approval",
        "A payment for this term is already awaiting accounting approval. "
        "Please wait for approval to complete before submitting another payment.",
    )


def exceeds_available(*, available: int, pending: int) -> Refused:
    """Return the refusal of a payment larger than what is left, with both figures."""
    return Refused(
        "exceeds_available_balance",
        f"Payment amount exceeds available balance. Available: {pesos(available)}, Pending approval: {pesos(pending)}.",
        available=available,
        pending=pending,
    )


def not_awaiting(payment: str, status: str) -> Refused:
    """Return the refusal to decide upon a payment that has been decided."""
    return Refused("not_awaiting_approval", f"Payment {payment} is not awaiting approval: it is {status}.", payment_status=status)


def exceeds_captured(*, amount: int, refunded: int) -> Refused:
    """Return the refusal of a refund that is larger than what is left of the payment."""
    return Refused(
        "exceeds_captured",
        f"Refund exceeds what was paid. Paid: {pesos(amount)}, already refunded: {pesos(refunded)}.",
        paid=amount,
        refunded=refunded,
    )


def not_paid(payment: str, status: str) -> Refused:
    """Return the refusal to refund what was never paid."""
    return Refused("not_paid", f"Payment {payment} cannot be refunded: it is {status}.", payment_status=status)


def exists_already(kind: str, name: str) -> Refused:
    """Return the refusal to use an identity twice for different things."""
    return Refused(f"{kind}_exists", f"The {kind} {name!r} exists already.")


@dataclass(frozen=True, kw_only=True)
class TermView:
    """A term as the account page shows it. Amounts in minor units."""

    id: str
    name: str
    balance: int
    pending: int

    @property
    def available(self) -> int:
        """What may still be submitted: the balance without what awaits approval, never below zero."""
        return max(0, self.balance - self.pending)

    @property
    def selectable(self) -> bool:
        """Whether a payment for this term would be accepted: something is left and nothing awaits approval."""
        return self.balance > 0 and self.pending == 0


def overview(account: str, assessment: int, terms: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return the account as plain values for the page: each term, and the sums over all of them.

    Any unpaid term without a pending payment may be chosen. (The page in the requirement documents let only the first
    unpaid one be chosen, which contradicts its own fifth test: with term 1 pending nothing could be selected.)
    """
    views = [
        TermView(id=str(t["id"]), name=str(t["name"]), balance=_int(t["balance"]), pending=_int(t["pending"])) for t in terms
    ]
    return {
        "subject": account,
        "assessment": assessment,
        "balance": sum(v.balance for v in views),
        "pending": sum(v.pending for v in views),
        "available": sum(v.available for v in views),
        "terms": [
            {
                "id": v.id,
                "name": v.name,
                "balance": v.balance,
                "pending": v.pending,
                "available": v.available,
                "selectable": v.selectable,
            }
            for v in views
        ],
    }


SHOWN = 200
"""How many payments a history shows at most: those that await approval, which the page warns of, before newer ones."""


def history(account: str, payments: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return an account's payments as plain values for the page, the newest first."""
    names = ("id", "term", "term_name", "amount", "refunded", "status", "reason")
    newest_first = sorted(payments, key=lambda p: (_moment(p["submitted"]), str(p["id"])), reverse=True)
    return {
        "subject": account,
        "payments": [
            {**{name: p[name] for name in names}, "submitted": f"{_moment(p['submitted']):%Y-%m-%d %H:%M} UTC"}
            for p in newest_first
        ],
    }


def _moment(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(f"a moment is expected, not {value!r}")
    return value.astimezone(UTC)


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"an amount must be whole minor units, not {value!r}")
    return value
