"""Worlds for programs that nobody wrote: small scenes in which most of what two clients can do at once is a conflict."""

from __future__ import annotations

from typing import Any

from harness.model import Call
from harness.run.programs import World
from scenarios.numbering import NUMBERING_INVARIANTS, place, when
from scenarios.orders import DUE, ORDER_INVARIANTS, open_order
from scenarios.payments import PAYMENT_INVARIANTS, TERMS, open_account, submit
from scenarios.sales import PRICE, SALE_INVARIANTS, sell, stock

INVOICE = {"document_type": "invoice"}


def _without_progress(invariants: tuple[str, ...]) -> tuple[str, ...]:
    """A program of a few operations may be refused as a whole: nothing follows from that."""
    return tuple(i for i in invariants if i != "L-PROGRESS")


def _create(scope: int, amount: int = 10_000) -> Call:
    return Call(f="create", token="", arguments={**place(scope, INVOICE), "at": when(INVOICE, 0), "amount": amount})


def _on(f: str, subject: str, **more: Any) -> Call:
    return Call(f=f, token="", arguments={"subject": subject, **more})


def _payment(subject: str, term: int, share: float) -> Call:
    return Call(
        f="submit", token="", arguments={"subject": subject, "term": f"a0/{term}", "amount": int(TERMS[term - 1] * share)}
    )


NUMBERING = World(
    name="numbering_program",
    family="numbering",
    summary="A program of creates: in a scope that holds documents, in another one, and in one that holds none yet.",
    scene=[
        Call(f="seed", token=f"seed-{n}", arguments={**place(n, INVOICE), "at": when(INVOICE, 0), "through": 3}) for n in (0, 1)
    ],
    menu={"create:c0": _create(0), "create:c1": _create(1), "create:new": _create(2), "create:c0:large": _create(0, 99_000)},
    invariants=_without_progress(NUMBERING_INVARIANTS),
    policy="company-series",
    example="create:c0 | create:c0",
    scopes=(("create:c0", "create:c0:large"), ("create:new",), ("create:c0", "create:c1", "create:new")),
)

# p0 fits its term twice: a second approval must be refused for being the second, and not for want of a balance.
PAYMENTS = World(
    name="payments_program",
    family="payments",
    summary="A program of submissions, decisions and refunds on the terms of one account.",
    scene=[
        open_account(0),
        submit(0, share=0.3),
        submit(1, share=0.6),
        Call(f="approve", token="approve-1", arguments={"subject": "p1"}),
        submit(1, share=0.3, payment="p3", token="submit-3"),
    ],
    menu={
        "approve:p0": _on("approve", "p0"),
        "submit:p4": _payment("p4", 3, 0.7),
        "submit:p5": _payment("p5", 3, 0.7),
        "reject:p0": _on("reject", "p0"),
        "cancel:p0": _on("cancel", "p0"),
        "refund:p1": _on("refund", "p1", amount=int(TERMS[1] * 0.6)),
        "refund:p1:part": _on("refund", "p1", amount=int(TERMS[1] * 0.1)),
        "approve:p3": _on("approve", "p3"),
        "approve:p4": _on("approve", "p4"),
        "approve:p5": _on("approve", "p5"),
    },
    invariants=_without_progress(PAYMENT_INVARIANTS),
    policy="unique",
    example="approve:p0 | approve:p0",
    scopes=(
        ("approve:p0", "reject:p0", "cancel:p0"),
        ("submit:p4", "submit:p5", "approve:p4", "approve:p5"),
        ("refund:p1", "refund:p1:part", "approve:p3"),
    ),
)

ORDERS = World(
    name="orders_program",
    family="orders",
    summary="A program of installments, discounts, cancellations and repairs on two orders.",
    scene=[open_order(0), open_order(1, advance=0)],
    menu={
        "pay:o0": _on("pay_installment", "o0", amount=DUE * 6 // 10),
        "pay:o0:small": _on("pay_installment", "o0", amount=DUE // 10),
        "discount:o0": _on("discount", "o0", amount=200_000),
        "repair:o0": _on("repair", "o0"),
        "pay:o1": _on("pay_installment", "o1", amount=800_000),
        "cancel:o1": _on("cancel_order", "o1"),
    },
    invariants=_without_progress(ORDER_INVARIANTS),
    policy="unique",
    example="pay:o0 | pay:o0",
    scopes=(("pay:o0", "pay:o0:small", "discount:o0", "repair:o0"), ("pay:o1", "cancel:o1")),
)

SALES = World(
    name="sales_program",
    family="sales",
    summary="A program of sales: the last piece, plenty of another, on an account that covers one sale.",
    scene=[
        stock(0, 1),
        stock(1, 1000),
        stock(2, 1000),
        Call(f="add_customer", token="customer-0", arguments={"subject": "c0", "limit": PRICE + PRICE // 2}),
    ],
    menu={
        "sell:i0": sell(0, ""),
        "sell:i1": sell(1, ""),
        "sell:i1:c0": sell(1, "", customer="c0"),
        "sell:i2:c0:branch1": sell(2, "", customer="c0", branch="Branch1"),
    },
    invariants=_without_progress(SALE_INVARIANTS),
    policy="branch-daily",
    example="sell:i0 | sell:i0",
    scopes=(("sell:i0", "sell:i1"), ("sell:i1:c0", "sell:i2:c0:branch1")),
)

SCENARIOS = (NUMBERING, PAYMENTS, ORDERS, SALES)
