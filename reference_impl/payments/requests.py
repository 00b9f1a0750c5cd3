"""What clients may ask of term payments, read from plain arguments and refused where it makes no sense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reference_impl.base import arguments as read
from reference_impl.base.refusal import Refused, invalid

COMMON = ("at", "company", "currency")

OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "open_account": ("subject", "assessment"),
    "submit": ("subject", "account", "term", "amount"),
    "approve": ("subject",),
    "reject": ("subject", "reason"),
    "cancel": ("subject",),
    "refund": ("subject", "amount"),
    "webhook": ("subject", "event"),
    "account": ("subject",),
    "history": ("subject",),
    "deliver": ("most",),
}
"""Every operation with its own arguments; `COMMON` may be given with each. The subject is the account or payment."""

NO_REASON = "not stated"
"""What is stored where a payment was rejected without a reason."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request, understood. ``amount`` is in minor units and 0 where the operation has none.

    ``key`` is the client's token: the same intent carries the same key however often it is sent. ``request`` is the
    fingerprint that tells a repeated request from another one under a used key.
    """

    f: str
    key: str
    request: str
    at: datetime
    company: str
    subject: str
    amount: int = 0
    account: str | None = None
    term: str | None = None
    event: str = ""
    reason: str = ""


def understand(f: str, arguments: Mapping[str, Any], token: str, *, term_needed: bool = True) -> Ask:
    """Return the request, or refuse it. ``term_needed`` false lets a payment name no term (which is a mistake).

    Raises:
        Refused: unknown operation or argument, wrong type, amount out of range, foreign currency, no term.
    """
    if f not in OPERATIONS:
        raise Refused("unknown_operation", f"There is no operation {f!r}; there are: {', '.join(OPERATIONS)}.", status=404)
    names = OPERATIONS[f]
    read.known(arguments, (*names, *COMMON))
    read.currency(arguments)
    if not token or len(token) > read.MAX_TEXT:
        raise invalid(f"The token must have 1 to {read.MAX_TEXT} characters.")
    amount = 0
    if "amount" in names or "assessment" in names:
        amount = read.money(arguments, "amount" if "amount" in names else "assessment")
    elif "most" in names:
        amount = read.count(arguments, "most", most=1000, default=100)
    understood: dict[str, Any] = {
        "company": read.text(arguments, "company", default=read.COMPANY),
        "subject": read.text(arguments, "subject") if "subject" in names else "",
        "amount": amount,
        "account": read.text(arguments, "account") if arguments.get("account") is not None else None,
        "term": read.text(arguments, "term") if "term" in names and (term_needed or arguments.get("term")) else None,
        "event": read.text(arguments, "event") if "event" in names else "",
        "reason": read.text(arguments, "reason", default=NO_REASON) if "reason" in names else "",
    }
    at = read.moment(arguments)
    return Ask(f=f, key=token, request=read.fingerprint(f, understood), at=at, **understood)
