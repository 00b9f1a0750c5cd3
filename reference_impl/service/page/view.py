"""What the account page shows, derived from the account's figures alone. Pure: amounts come in minor units, texts go out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reference_impl.base.arguments import pesos
from reference_impl.payments.requests import NO_REASON
from reference_impl.service.problems import Problem

SUBMIT = "Submit Payment"
CHOOSE = "Select a Payment Term"
NOTHING_DUE = "Nothing Left to Pay"

AMOUNT_WRONG = frozenset({"invalid_amount", "exceeds_available_balance"})
"""Refusals that another amount would not have met."""

AGAIN = "It is safe to submit it again without changes: the payment counts only once."
NOT_SHOWN = "The account cannot be shown at the moment. Load the page again."
"""Told where the page was only looked at: nothing was asked to happen, so there is nothing to send again."""
REFUSALS: Mapping[str, str] = {
    "invalid_request": "Select a payment term.",
    "key_reused": (
        "This form was submitted before with another term or amount, and that payment was recorded. "
        "Look at the history below before you submit another one."
    ),
}
"""Refusals that speak of the request's format, in the student's words."""

STATUSES: Mapping[str, str] = {
    "awaiting_approval": "Awaiting approval",
    "paid": "Paid",
    "rejected": "Rejected",
    "cancelled": "Cancelled",
}


@dataclass(frozen=True, kw_only=True)
class TermLine:
    """One term. ``option`` is its text in the list; ``blocked`` says why it cannot be chosen, and is empty if it can."""

    id: str
    name: str
    balance: str
    pending: str
    available: str
    option: str
    blocked: str
    most: str
    """What may be submitted at most, as it is typed."""


@dataclass(frozen=True, kw_only=True)
class PaymentLine:
    """One payment of the history."""

    reference: str
    term: str
    amount: str
    status: str
    submitted: str
    waits: bool


@dataclass(frozen=True, kw_only=True)
class Button:
    """The submit button: its text, whether it can be pressed, and the sentence below it."""

    text: str
    enabled: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Notice:
    """What is told of a submission that brought no success."""

    code: str
    heading: str
    text: str
    amount_wrong: bool
    same_key: bool
    """Whether the form keeps its key: what is sent again is then the same payment, whatever became of the first."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole page."""

    account: str
    company: str
    assessment: str
    balance: str
    pending: str
    available: str
    terms: Sequence[TermLine]
    waiting: Sequence[PaymentLine]
    payments: Sequence[PaymentLine]
    chosen: str
    button: Button
    submitted: PaymentLine | None = None
    """The payment that was just submitted, while it awaits approval."""

    @property
    def open(self) -> bool:
        """Whether any term can be chosen."""
        return any(not term.blocked for term in self.terms)


def page_of(overview: Mapping[str, Any], history: Mapping[str, Any], *, company: str, chosen: str, submitted: str = "") -> Page:
    """Return what the page shows.

    Args:
        overview: the answer of the operation ``account``.
        history: the answer of the operation ``history``.
        company: whose account it is.
        chosen: identity of the term that is asked for, or empty.
        submitted: reference of the payment that was just submitted, or empty.
    """
    payments = [_payment(p) for p in history["payments"]]
    terms = overview["terms"]
    chosen = chosen_of(terms, chosen)
    return Page(
        account=overview["subject"],
        company=company,
        assessment=pesos(overview["assessment"]),
        balance=pesos(overview["balance"]),
        pending=pesos(overview["pending"]),
        available=pesos(overview["available"]),
        terms=[_term(t) for t in terms],
        waiting=[p for p in payments if p.waits],
        payments=payments,
        chosen=chosen,
        button=button_of(terms, chosen),
        submitted=next((p for p in payments if p.waits and p.reference == submitted), None),
    )


def chosen_of(terms: Sequence[Mapping[str, Any]], asked: str) -> str:
    """Return the term that is selected: the one asked for, or the next that can be paid if nothing is left to pay for it.

    One that awaits approval stays, so that the button says why it cannot be paid.
    """
    at = next((n for n, t in enumerate(terms) if t["id"] == asked), None)
    if at is None or terms[at]["pending"] > 0:
        return "" if at is None else asked
    return next((str(t["id"]) for t in [*terms[at:], *terms[:at]] if t["selectable"]), "")


def notice_of(problem: Problem) -> Notice:
    """Return what a student is told. Only a refusal (4xx) is sure to have left nothing behind, now and before."""
    if problem.status < 500:
        heading, text, same_key = "The payment was not recorded", REFUSALS.get(problem.code, problem.message), False
    elif problem.status == 503:
        heading, text, same_key = "Nothing was recorded this time", f"The service was busy or out of reach. {AGAIN}", True
    else:
        text = f"No answer came, so the payment may or may not have been recorded. {AGAIN}"
        heading, same_key = "It is not known whether the payment was recorded", True
    amount_wrong = problem.code in AMOUNT_WRONG
    return Notice(code=problem.code, heading=heading, text=text, amount_wrong=amount_wrong, same_key=same_key)


def button_of(terms: Sequence[Mapping[str, Any]], chosen: str) -> Button:
    """Return the button as it is before any script runs; with nothing chosen the browser itself asks for a term."""
    term = next((t for t in terms if t["id"] == chosen), None)
    if term is not None and term["pending"] > 0:
        return _awaiting(term["pending"], "this term")
    if any(t["selectable"] for t in terms):
        return Button(text=SUBMIT, enabled=True, reason="")
    if any(t["pending"] > 0 for t in terms):
        return _awaiting(sum(t["pending"] for t in terms), "every unpaid term")
    return Button(text=NOTHING_DUE, enabled=False, reason="Every term is paid: nothing is left to pay.")


def _awaiting(pending: int, what: str) -> Button:
    return Button(
        text=f"⏳ Awaiting Approval ({pesos(pending)}) — Cannot Submit",
        enabled=False,
        reason=(
            f"A payment of {pesos(pending)} for {what} is awaiting accounting approval. "
            "Please wait for approval before submitting another payment."
        ),
    )


def _term(term: Mapping[str, Any]) -> TermLine:
    name, balance, pending, available = term["name"], term["balance"], term["pending"], term["available"]
    blocked = ""
    if pending > 0:
        blocked = f"⏳ Pending {pesos(pending)} approval"
    elif balance <= 0:
        blocked = "Paid"
    return TermLine(
        id=term["id"],
        name=name,
        balance=pesos(balance),
        pending=pesos(pending) if pending else "",
        available=pesos(available),
        option=f"{name}: {pesos(balance)}" + (f" ({blocked})" if blocked else ""),
        blocked=blocked,
        most=pesos(available).removeprefix("₱"),
    )


def _payment(payment: Mapping[str, Any]) -> PaymentLine:
    status = STATUSES.get(payment["status"], payment["status"])
    if payment["status"] == "rejected" and payment["reason"] != NO_REASON:
        status += f": {payment['reason']}"
    if payment["refunded"]:
        status += f", {pesos(payment['refunded'])} refunded"
    return PaymentLine(
        reference=payment["id"],
        term=payment["term_name"],
        amount=pesos(payment["amount"]),
        status=status,
        submitted=payment["submitted"],
        waits=payment["status"] == "awaiting_approval",
    )
