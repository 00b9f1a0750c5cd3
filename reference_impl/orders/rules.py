"""What is true of orders on any store: the balance, and the texts of refusals. Amounts in minor units."""

from __future__ import annotations

from reference_impl.base.arguments import pesos
from reference_impl.base.refusal import Refused

OPEN, CANCELLED = "open", "cancelled"

ADVANCE_NOTE = "Advance payment on order creation"
"""What the old version wrote into the installment that repeated the advance: the one thing that tells it from a payment."""


def balance(*, total: int, advance: int, discount: int, paid: int, refunded: int) -> int:
    """Return what is still owed: the advance counted once, money given back owed again."""
    return total - advance - discount - paid + refunded


def invoice(
    *, total: int, advance: int, discount: int, paid: int, refunded: int, due: int, cancelled: bool
) -> list[dict[str, str | int]]:
    """Return the lines of a printed invoice: what the order costs, what changed that, and last what is ``due``.

    The advance has a line of its own and is none of the additional payments. What never happened has no line. Of a cancelled
    order nothing is due. The last line is the sum of those before it if ``due`` is right.
    """
    between = (
        ("Less: Advance Paid", -advance),
        ("Less: Discount", -discount),
        ("Less: Additional Payments", -paid),
        ("Add: Refunds", refunded),
    )
    lines = [("Item Total", total), *((label, amount) for label, amount in between if amount)]
    lines += [("Less: Cancelled", -due), ("Balance Due", 0)] if cancelled else [("Balance Due", due)]
    return [{"label": label, "amount": amount} for label, amount in lines]


def exists_already(order: str) -> Refused:
    """Return the refusal to use an order's identity twice."""
    return Refused("order_exists", f"The order {order!r} exists already.")


def exceeds_total(*, total: int, advance: int, discount: int) -> Refused:
    """Return the refusal of an advance, or of an advance and a discount, larger than the order."""
    what, figures = "Advance exceeds", f"advance: {pesos(advance)}"
    if discount:
        what, figures = "Advance and discount exceed", f"{figures}, discount: {pesos(discount)}"
    return Refused("exceeds_total", f"{what} the order's total. Total: {pesos(total)}, {figures}.", status=422)


def exceeds_balance(what: str, *, amount: int, balance: int) -> Refused:
    """Return the refusal of a payment or discount larger than what is owed."""
    return Refused(
        "exceeds_balance",
        f"{what} exceeds the balance due. Amount: {pesos(amount)}, balance due: {pesos(balance)}.",
        amount=amount,
        balance=balance,
    )


def is_cancelled(order: str) -> Refused:
    """Return the refusal to do anything with a cancelled order."""
    return Refused("order_cancelled", f"Order {order} is cancelled.")


def refund_first(order: str, kept: int) -> Refused:
    """Return the refusal to cancel an order while money of it is kept."""
    return Refused("refund_first", f"Order {order} cannot be cancelled: {pesos(kept)} was paid. Refund it first.", kept=kept)


def exceeds_paid(*, amount: int, paid: int, refunded: int) -> Refused:
    """Return the refusal to give back more than is left of what was paid, the advance included."""
    return Refused(
        "exceeds_paid",
        f"Refund exceeds what was paid. Amount: {pesos(amount)}, paid: {pesos(paid)}, already refunded: {pesos(refunded)}.",
        amount=amount,
        paid=paid,
        refunded=refunded,
    )
