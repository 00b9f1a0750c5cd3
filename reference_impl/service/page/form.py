"""Reads the page's form: texts as they were typed, into the arguments of an operation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request

from reference_impl.base.arguments import MAX_MONEY, MAX_TEXT, pesos
from reference_impl.base.refusal import Refused
from reference_impl.service.body import PLAIN, read_content, sent_as

MEDIA_TYPE = "application/x-www-form-urlencoded"
FIELDS = frozenset({"key", "term", "amount"})
AMOUNT = re.compile(r"₱?([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,15})(?:\.([0-9]{1,2}))?")
TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class Typed:
    """What was typed and chosen. ``key`` was put into the form when the page was made: one form, one intent."""

    key: str
    term: str
    amount: str

    @property
    def payment(self) -> str:
        """The payment's reference: the form's own, so that sending it again cannot make another."""
        return f"PAY-{self.key[:12].upper()}"


def from_this_page(request: Request) -> None:
    """Refuse a form that another site's page sent with the reader's browser."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused("foreign_form", "The form was sent by another site.", status=403)


async def read_form(request: Request) -> Typed:
    """Return the form.

    Raises:
        Refused: it is too large (413), no form by its header (415) or not the one of this page (400).
    """
    from_this_page(request)
    content = await read_content(request)
    if not sent_as(request, MEDIA_TYPE):
        raise Refused("not_a_form", f"Send the form as {MEDIA_TYPE}{PLAIN}.", status=415)
    try:
        pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=len(FIELDS))
    except ValueError:
        raise _strange() from None
    found = dict(pairs)
    if set(found) != FIELDS or not TOKEN.fullmatch(found["key"]) or any(len(v) > MAX_TEXT for v in found.values()):
        raise _strange()
    amount = found["amount"].strip()
    return Typed(key=found["key"], term=found["term"], amount=amount if amount.isprintable() else "")  # the page shows it again


def minor_units(text: str) -> int:
    """Return an amount as it was typed (``1,875.55``) in minor units: exact, and nothing finer than a centavo.

    Raises:
        Refused: it is no such amount, or none that can be paid.
    """
    found = AMOUNT.fullmatch(text)
    if found is None:
        raise Refused("invalid_amount", "Enter the amount in pesos and centavos, such as 1,875.55.", status=422)
    whole, cents = found.groups()
    amount = int(whole.replace(",", "")) * 100 + int((cents or "").ljust(2, "0"))
    if not 1 <= amount <= MAX_MONEY:
        raise Refused("invalid_amount", f"Enter an amount from {pesos(1)} to {pesos(MAX_MONEY)}.", status=422)
    return amount


def _strange() -> Refused:
    return Refused("invalid_form", "This is not the form of the account page; load the page again.", status=400)
