"""Series of numbers: scope, period and format of every type of document.

The period is part of the counter's key and follows from the document's own date, in one time zone, taken once. A number
that outgrows its padding grows: 9999 is followed by 10000, and text order is never used as number order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from reference_impl.base import arguments as read
from reference_impl.base.days import day_of
from reference_impl.base.refusal import Refused, invalid

YEARLY = frozenset({"payment"})
DAILY = frozenset({"sale"})
PREFIXES = {"invoice": "INV", "bill": "BILL", "credit_note": "CN", "journal_entry": "JE"}
CUSTOM_TYPE = re.compile(r"[a-z][a-z0-9_]{0,30}")
OTHERS_PREFIX = {prefix.lower(): name for name, prefix in PREFIXES.items() if prefix.lower() != name}
LIKE_A_PAYMENT = re.compile(r"pay[0-9]*")

DISCOUNT_WITHOUT_PERMISSION = 1000
"""Basis points of discount that anybody may give: 10 %."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a document's number comes from: ``scope`` and ``period`` are the counter's key, the rest is its print.

    A branch that numbers by itself needs no company in its scope: branches' names are unique across companies. That is no reason
    to trust one: whoever looks for a document by its print looks among those of the company that asks.
    """

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
    """How many documents exist already; with ``counter`` false, without a counter."""
    counter: bool = True
    reason: str | None = None
    """Why a document is voided."""
    text: str | None = None
    number: int = 0
    document: str | None = None
    """Which of several documents with one number is meant."""
    apply: bool = False
    parts: tuple[Ask, ...] = ()
    """The documents of one event, each in its own series."""


def place_of(company: str, document_type: str, branch: str, at: datetime) -> Place:
    """Return where a document of this type and date is numbered."""
    day = day_of(at)
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


def taken_for(document_type: str) -> str | None:
    """Return the type whose printed numbers a custom type's would repeat or be mistaken for, or None.

    ``inv`` would print INV-00001 beside the invoice of that number, ``pay2026`` PAY2026-00001 beside PAY20260001.
    """
    return "payment" if LIKE_A_PAYMENT.fullmatch(document_type) else OTHERS_PREFIX.get(document_type)


def print_of(ask: Ask) -> dict[str, Any]:
    """Return what a document is looked up by: its print, in its series, of the company that asks."""
    return {"company": ask.company, "scope": ask.place.scope, "text": ask.text}


ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "create": ("company", "document_type", "branch", "at", "amount", "discount_bp", "discount_permitted", "currency"),
    "post": ("company", "documents", "branch", "at", "amount", "currency"),
    "seed": ("company", "document_type", "branch", "at", "through", "counter"),
    "import_document": ("company", "document_type", "branch", "at", "amount", "number"),
    "introduce": ("company", "document_type", "branch", "at"),
    "void": ("company", "document_type", "branch", "at", "text", "reason"),
    "delete": ("company", "document_type", "branch", "at", "text"),
    "cleanup": ("company", "document_type", "branch", "at", "apply", "text", "document"),
    "reserve": ("company", "document_type", "branch", "at", "amount", "currency"),
    "confirm": ("company", "document_type", "branch", "at", "text"),
    "release": ("company", "document_type", "branch", "at", "text", "reason"),
    "sweep": ("company", "document_type", "branch", "at"),
}


def understand(f: str, arguments: Mapping[str, Any], token: str) -> Ask:
    """Read a request. Raises Refused where it makes no sense."""
    if f not in ARGUMENTS:
        raise no_operation(f)
    if not token or len(token) > read.MAX_TEXT:
        raise invalid(f"The token must have 1 to {read.MAX_TEXT} characters.")
    read.known(arguments, ARGUMENTS[f])
    read.currency(arguments)
    company = read.text(arguments, "company")
    types = (
        read.texts(arguments, "documents", most=5) if f == "post" else [read.text(arguments, "document_type", default="invoice")]
    )
    for document_type in types:
        if not CUSTOM_TYPE.fullmatch(document_type):
            raise invalid(f"document_type must be a short word in lower case, not {document_type!r}.")
        if owner := taken_for(document_type):
            raise invalid(f"document_type cannot be {document_type!r}: its numbers would be printed like those of {owner!r}.")
    branch = read.text(arguments, "branch", default="Main")
    at = read.moment(arguments)
    wanted = ARGUMENTS[f]
    apply = read.switch(arguments, "apply", default=False)
    chosen = f != "cleanup" or apply or "document" in arguments
    document = read.text(arguments, "document") if "document" in wanted and chosen else None
    text = read.text(arguments, "text") if "text" in wanted and chosen else None
    reason = read.text(arguments, "reason") if "reason" in wanted else None
    understood: dict[str, Any] = {
        "company": company,
        "document_type": types[0],
        "branch": branch,
        "amount": read.money(arguments) if "amount" in wanted else 0,
        "discount_bp": read.count(arguments, "discount_bp", least=0, most=10_000, default=0),
        "discount_permitted": read.switch(arguments, "discount_permitted", default=True),
        "through": read.count(arguments, "through", most=10**5) if f == "seed" else 0,
        "counter": read.switch(arguments, "counter", default=True),
        "reason": f"another document has the number {text}" if f == "cleanup" else reason,
        "text": text,
        "number": read.count(arguments, "number", most=10**12) if "number" in wanted else 0,
        "document": document,
        "apply": apply,
    }
    request = read.fingerprint(f, {**understood, "documents": types})
    ask = Ask(f=f, key=token, request=request, at=at, place=place_of(company, types[0], branch, at), **understood)
    return replace(ask, parts=tuple(_part(ask, document_type) for document_type in types)) if f == "post" else ask


def _part(ask: Ask, document_type: str) -> Ask:
    """Return the request for one document of several. The first bears the request's token, the others one of their own.

    A space is between, which no client's key has: nobody can use it for anything else.
    """
    key = ask.key if document_type == ask.document_type else f"{ask.key} {document_type}"
    place = place_of(ask.company, document_type, ask.branch, ask.at)
    return replace(ask, key=key, document_type=document_type, place=place)


def no_operation(f: str) -> Refused:
    """Return the refusal of an operation that nobody knows, or that this way of numbering does not offer."""
    return Refused("unknown_operation", f"There is no operation {f!r}.", status=404)


def number_taken(number: int) -> Refused:
    """Return the refusal of a document whose number another one bears."""
    return Refused("number_taken", f"The number {number} is another document's.", number=number)


def not_one(text: str | None, issued: int) -> Refused:
    """Return the refusal to change the issued document with a number where there is none, or where several bear it."""
    if issued > 1:
        return Refused("number_borne_twice", f"Several documents bear {text!r}. The cleanup decides which one of them keeps it.")
    return Refused("not_issued", f"There is no issued document {text!r}.")


def surplus_of(ask: Ask, issued: Sequence[str]) -> None:
    """Make sure that the document in question is one of those issued with its number, and that another one will keep it.

    Raises:
        Refused: it is not, or there is no other.
    """
    if ask.document not in issued:
        message = f"There is no issued document {f'{ask.document} with the number {ask.text}'!r}."
        raise Refused("unknown_document", message, status=404)
    if len(issued) < 2:
        raise Refused("not_a_duplicate", f"Document {ask.document} is the only one with the number {ask.text}.")


def series_begun(scope: str) -> Refused:
    """Return the refusal to take over documents where there are some already."""
    return Refused("series_begun", f"The series {scope!r} has documents or a counter already; only an empty one can be filled.")


def validate(ask: Ask) -> None:
    """Check what the business checks after a number was drawn. Raises Refused."""
    if ask.discount_bp > DISCOUNT_WITHOUT_PERMISSION and not ask.discount_permitted:
        raise Refused(
            "discount_not_permitted",
            f"A discount of {ask.discount_bp / 100:.2f}% needs a permission that is not there.",
            status=403,
        )
