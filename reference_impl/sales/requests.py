"""What clients may ask of sales, read from plain arguments and refused where it makes no sense."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reference_impl.base import arguments as read
from reference_impl.base.refusal import Refused, invalid

COMMON = ("at", "company", "currency")
BRANCH = re.compile(r"[A-Za-z][A-Za-z0-9]{0,30}")

OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "stock_item": ("subject", "quantity", "price"),
    "add_customer": ("subject", "limit"),
    "sell": (
        "subject",
        "branch",
        "item",
        "quantity",
        "price",
        "customer",
        "discount_bp",
        "discount_permitted",
        "document_type",
    ),
    "void_sale": ("text", "reason"),
    "gaps": ("branch",),
    "deliver": ("most",),
}
"""Every operation with its own arguments; `COMMON` may be given with each.

A sale without a customer is paid in cash; with one it is on the customer's account. Its ``subject`` is the item, unless
the client has a name for the sale. ``document_type`` can only be ``sale``, and names the series with the branch. A sale that is
voided is named by its printed number.
"""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request, understood. Amounts in minor units, discounts in basis points."""

    f: str
    key: str
    request: str
    at: datetime
    company: str
    subject: str
    branch: str = ""
    item: str = ""
    quantity: int = 0
    price: int = 0
    customer: str | None = None
    discount_bp: int = 0
    discount_permitted: bool = False
    limit: int = 0
    most: int = 0
    reason: str = ""


def understand(f: str, arguments: Mapping[str, Any], token: str) -> Ask:
    """Return the request, or refuse it.

    Raises:
        Refused: unknown operation or argument, wrong type, amount or quantity out of range, foreign currency.
    """
    if f not in OPERATIONS:
        raise Refused("unknown_operation", f"There is no operation {f!r}; there are: {', '.join(OPERATIONS)}.", status=404)
    names = OPERATIONS[f]
    read.known(arguments, (*names, *COMMON))
    read.currency(arguments)
    if not token or len(token) > read.MAX_TEXT:
        raise invalid(f"The token must have 1 to {read.MAX_TEXT} characters.")
    if arguments.get("document_type", "sale") != "sale":
        raise invalid("document_type can only be sale.")
    item = read.text(arguments, "item") if "item" in names else ""
    quantity = read.count(arguments, "quantity", most=10**6) if "quantity" in names else 0
    price = read.money(arguments, "price", least=1) if "price" in names else 0
    if quantity:
        read.money({"price times quantity": price * quantity}, "price times quantity")
    understood: dict[str, Any] = {
        "company": read.text(arguments, "company", default=read.COMPANY),
        "subject": _subject(names, arguments, item),
        "branch": _branch(arguments) if "branch" in names else "",
        "item": item,
        "quantity": quantity,
        "price": price,
        "customer": read.text(arguments, "customer") if arguments.get("customer") is not None else None,
        "discount_bp": read.count(arguments, "discount_bp", least=0, most=10_000, default=0) if f == "sell" else 0,
        "discount_permitted": read.switch(arguments, "discount_permitted", default=False),
        "limit": read.money(arguments, "limit", least=0) if "limit" in names else 0,
        "most": read.count(arguments, "most", most=1000, default=100) if "most" in names else 0,
        "reason": read.text(arguments, "reason") if "reason" in names else "",
    }
    at = read.moment(arguments)
    return Ask(f=f, key=token, request=read.fingerprint(f, understood), at=at, **understood)


def _subject(names: tuple[str, ...], arguments: Mapping[str, Any], item: str) -> str:
    """Return what the request is about: the sale by its printed number, or an item or customer by name."""
    if "text" in names:
        return read.text(arguments, "text")
    return read.text(arguments, "subject", default=item or None) if "subject" in names else ""


def _branch(arguments: Mapping[str, Any]) -> str:
    """Return the branch, whose name becomes part of printed numbers."""
    branch = read.text(arguments, "branch")
    if not BRANCH.fullmatch(branch):
        raise invalid(f"branch must be one word of letters and digits, not {branch[:40]!r}.")
    return branch
