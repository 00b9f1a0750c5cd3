"""Series of numbers: scope, period and format of every type of document.

The period is part of the counter's key and follows from the document's own date, in one time zone, taken once. A number
that outgrows its padding grows: 9999 is followed by 10000, and text order is never used as number order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reference_impl.base import arguments as read
from reference_impl.base.refusal import Refused, invalid

YEARLY = frozenset({"payment"})
DAILY = frozenset({"sale"})
PREFIXES = {"invoice": "INV", "bill": "BILL", "credit_note": "CN", "journal_entry": "JE"}
CUSTOM_TYPE = re.compile(r"[a-z][a-z0-9_]{0,30}")

DISCOUNT_WITHOUT_PERMISSION = 1000
"""Basis points of discount that anybody may give: 10 %."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a document's number comes from: ``scope`` and ``period`` are the counter's key, the rest is its print."""

    scope: str
    period: str
    prefix: str
    width: int

    def text(self, number: int) -> str:
        """Return the number as printed, padded to the width and longer if need be."""
        return f"{self.prefix}{number:0{self.width}d}"

    def number(self, text: str) -> int | None:
        """Return the number that was printed, or None if the text is none of this place's."""
        digits = text.removeprefix(self.prefix)
        return int(digits) if text.startswith(self.prefix) and digits.isascii() and digits.isdigit() else None


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request for a document, read and understood."""

    f: str
    key: str
    request: str
    at: datetime
    company: str
    document_type: str
    branch: str
    place: Place
    amount: int
    discount_bp: int = 0
    discount_permitted: bool = True
    through: int = 0
    reason: str | None = None
    text: str | None = None


def place_of(company: str, document_type: str, branch: str, at: datetime) -> Place:
    """Return where a document of this type and date is numbered."""
    day = at.astimezone(UTC)
    if document_type in DAILY:
        return Place(
            scope=f"{branch}/{document_type}",
            period=f"{day:%Y-%m-%d}",
            prefix=f"Inv{branch}{day:%m_%d_%Y}_",
            width=4,
        )
    scope = f"{company}/{document_type}"
    if document_type in YEARLY:
        return Place(scope=scope, period=f"{day:%Y}", prefix=f"PAY{day:%Y}", width=4)
    prefix = PREFIXES.get(document_type, document_type.upper())
    return Place(scope=scope, period="", prefix=f"{prefix}-", width=5)


ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "create": ("company", "document_type", "branch", "at", "amount", "discount_bp", "discount_permitted", "currency"),
    "seed": ("company", "document_type", "branch", "at", "through"),
    "void": ("company", "document_type", "branch", "at", "text", "reason"),
    "delete": ("company", "document_type", "branch", "at", "text"),
}


def understand(f: str, arguments: Mapping[str, Any], token: str) -> Ask:
    """Read a request. Raises Refused where it makes no sense."""
    read.known(arguments, ARGUMENTS[f])
    read.currency(arguments)
    company = read.text(arguments, "company")
    document_type = read.text(arguments, "document_type", default="invoice")
    if not CUSTOM_TYPE.fullmatch(document_type):
        raise invalid(f"document_type must be a short word in lower case, not {document_type!r}.")
    branch = read.text(arguments, "branch", default="Main")
    at = read.moment(arguments)
    return Ask(
        f=f,
        key=token,
        request=read.fingerprint(f, arguments),
        at=at,
        company=company,
        document_type=document_type,
        branch=branch,
        place=place_of(company, document_type, branch, at),
        amount=read.money(arguments) if "amount" in ARGUMENTS[f] else 0,
        discount_bp=read.count(arguments, "discount_bp", least=0, most=10_000, default=0),
        discount_permitted=read.switch(arguments, "discount_permitted", default=True),
        through=read.count(arguments, "through", most=10**7) if f == "seed" else 0,
        reason=read.text(arguments, "reason") if "reason" in ARGUMENTS[f] else None,
        text=read.text(arguments, "text") if "text" in ARGUMENTS[f] else None,
    )


def validate(ask: Ask) -> None:
    """Check what the business checks after a number was drawn. Raises Refused."""
    if ask.discount_bp > DISCOUNT_WITHOUT_PERMISSION and not ask.discount_permitted:
        raise Refused(
            "discount_not_permitted",
            f"A discount of {ask.discount_bp / 100:.2f}% needs a permission that is not there.",
            status=403,
        )
