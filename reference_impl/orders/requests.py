"""What clients may ask of orders, read from plain arguments and refused where it makes no sense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reference_impl.base import arguments as read
from reference_impl.base.refusal import Refused, invalid
from reference_impl.orders import rules

COMMON = ("at", "company", "currency")

OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "open_order": ("subject", "total", "advance"),
    "import_order": ("subject", "total", "advance", "discount", "twice"),
    "pay_installment": ("subject", "amount"),
    "discount": ("subject", "amount"),
    "refund_order": ("subject", "amount"),
    "cancel_order": ("subject",),
    "migrate": ("most",),
    "repair": ("subject",),
    "verify": (),
    "order": ("subject",),
}
"""Every operation with its own arguments; `COMMON` may be given with each. The subject is the order."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request, understood. Amounts in minor units, 0 where the operation has none."""

    f: str
    key: str
    request: str
    at: datetime
    company: str
    subject: str
    amount: int = 0
    total: int = 0
    advance: int = 0
    discount: int = 0
    twice: bool = False


def understand(f: str, arguments: Mapping[str, Any], token: str) -> Ask:
    """Return the request, or refuse it.

    Raises:
        Refused: unknown operation or argument, wrong type, amount out of range, foreign currency, more off than the total.
    """
    if f not in OPERATIONS:
        raise Refused("unknown_operation", f"There is no operation {f!r}; there are: {', '.join(OPERATIONS)}.", status=404)
    names = OPERATIONS[f]
    read.known(arguments, (*names, *COMMON))
    read.currency(arguments)
    if not token or len(token) > read.MAX_TEXT:
        raise invalid(f"The token must have 1 to {read.MAX_TEXT} characters.")
    amount = read.money(arguments) if "amount" in names else 0
    if "most" in names:
        amount = read.count(arguments, "most", most=1000, default=100)
    given: dict[str, Any] = {
        name: read.money({name: 0, **arguments}, name, least=0) for name in ("advance", "discount") if name in names
    }
    total = read.money(arguments, "total") if "total" in names else 0
    if sum(given.values()) > total and "total" in names:
        raise rules.exceeds_total(total=total, advance=given["advance"], discount=given.get("discount", 0))
    understood: dict[str, Any] = {
        "company": read.text(arguments, "company", default=read.COMPANY),
        "subject": read.text(arguments, "subject") if "subject" in names else "",
        "amount": amount,
        "total": total,
        "twice": read.switch(arguments, "twice", default=False) if "twice" in names else False,
        **given,
    }
    at = read.moment(arguments)
    return Ask(f=f, key=token, request=read.fingerprint(f, understood), at=at, **understood)
