"""What is true of sales on any store: prices, numbers, the thresholds of the gap monitor, and the texts of refusals."""

from __future__ import annotations

import math
from datetime import datetime

from reference_impl.base.arguments import pesos
from reference_impl.base.days import day_of
from reference_impl.base.refusal import Refused

DISCOUNT_WITHOUT_PERMISSION = 1000
"""Basis points of discount that any cashier may give: 10 %."""

NORMAL, INVESTIGATE = 0.03, 0.05
"""Up to 3 % of a day's numbers may be missing without a word; above 5 % somebody must look."""

SAMPLE, CHANCE = 100, 0.05
"""Below 100 numbers a share says little: then the gaps must be too many for chance (at most 5 %) at a true rate of 5 %."""


def amount_of(*, price: int, quantity: int, discount_bp: int) -> int:
    """Return what a sale costs in minor units; the discount is rounded down, in the shop's favour."""
    whole = price * quantity
    return whole - whole * discount_bp // 10_000


def series(branch: str, at: datetime) -> tuple[str, str, str]:
    """Return scope, period and printed prefix of a branch's numbers on the day of a sale.

    A branch is one shop, and no two companies have one of the same name: that is why the company is not part of the scope.
    """
    day = day_of(at)
    return f"{branch}/sale", f"{day:%Y-%m-%d}", f"Inv{branch}{day:%m_%d_%Y}_"


def judge_gaps(*, missing: int, highest: int) -> str:
    """Return ``normal``, ``watch`` or ``investigate`` for so many missing of the numbers 1 to ``highest``.

    The requirement document's own case, 2 missing of 7, is 28.6 %: at a true rate of 5 % as many would be missing with
    a probability of 0.044, so it should have been investigated.
    """
    if missing <= NORMAL * highest:
        return "normal"
    if missing <= INVESTIGATE * highest:
        return "watch"
    if highest >= SAMPLE:
        return "investigate"
    by_chance = sum(
        math.comb(highest, k) * INVESTIGATE**k * (1 - INVESTIGATE) ** (highest - k) for k in range(missing, highest + 1)
    )
    return "investigate" if by_chance <= CHANCE else "watch"


def not_one(text: str, issued: int) -> Refused:
    """Return the refusal to void a sale that is void already, or a number that several sales bear."""
    if issued:
        return Refused("number_borne_twice", f"Several sales bear {text!r}: which of them is meant?")
    return Refused("sale_void", f"Sale {text} is void already.")


def exists_already(kind: str, name: str) -> Refused:
    """Return the refusal to use an identity twice."""
    return Refused(f"{kind}_exists", f"The {kind} {name!r} exists already.")


def insufficient_stock(item: str, *, wanted: int, left: int) -> Refused:
    """Return the refusal to sell more than is there."""
    return Refused("insufficient_stock", f"Insufficient stock of {item}: {wanted} wanted, {left} left.", wanted=wanted, left=left)


def price_mismatch(*, asked: int, price: int) -> Refused:
    """Return the refusal of a sale at a price that is not the item's."""
    return Refused(
        "price_mismatch", f"The price is {pesos(price)}, not {pesos(asked)}. Please refresh and try again.", price=price
    )


def discount_not_permitted(discount_bp: int) -> Refused:
    """Return the refusal of a discount that the cashier may not give."""
    return Refused(
        "discount_not_permitted",
        f"A discount of {discount_bp / 100:.2f}% needs a permission that is not there.",
        status=403,
    )


def credit_exceeded(*, amount: int, limit: int, open_amount: int) -> Refused:
    """Return the refusal of a sale on credit beyond the customer's limit."""
    return Refused(
        "credit_limit_exceeded",
        f"Customer credit limit exceeded. Limit: {pesos(limit)}, open: {pesos(open_amount)}, this sale: {pesos(amount)}.",
        limit=limit,
        open_amount=open_amount,
    )
