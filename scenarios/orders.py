"""Orders under fire: payments that meet discounts, cancellations, repairs, migrations and each other.

An order is worth 20,000.00 with 5,000.00 paid in advance, so that 15,000.00 are due; no client reads before it acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.model import Call, Outcome, Program, Seat, Setting
from scenarios.races import Race, alone, is_second, share_of

TOTAL, ADVANCE = 2_000_000, 500_000
DUE = TOTAL - ADVANCE

ORDER_INVARIANTS = (
    "O-BAL",
    "O-DRIFT",
    "O-INST",
    "O-CANCEL",
    "O-CONS",
    "P-NOOVER",
    "P-ONCE",
    "P-EXACT",
    "A-MATCH",
    "L-RETRY",
    "L-PROGRESS",
)

ORDERS = Setting(default=250, help="orders that are fought over, each by two clients")


def open_order(n: int | str, *, advance: int = ADVANCE, token: str | None = None) -> Call:
    """Open order ``n``."""
    return Call(f="open_order", token=token or f"open-{n}", arguments={"subject": f"o{n}", "total": TOTAL, "advance": advance})


def pay(n: int | str, amount: int, token: str) -> Call:
    """Pay an installment on order ``n``."""
    return Call(f="pay_installment", token=token, arguments={"subject": f"o{n}", "amount": amount})


def scene_of_orders(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Open all orders."""
    return (open_order(n) for n in range(settings["orders"]))


def scene_without_advance(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Open all orders with nothing paid in advance."""
    return (open_order(n, advance=0) for n in range(settings["orders"]))


def scene_of_old_orders(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Take over orders of the old version: advances stored twice, stored once, and followed by an equal payment."""
    for n in range(settings["orders"]):
        advance = TOTAL // 2 if n % 3 == 0 else ADVANCE
        arguments = {"subject": f"o{n}", "total": TOTAL, "advance": advance, "discount": 0, "twice": n % 2 == 0}
        yield Call(f="import_order", token=f"import-{n}", arguments=arguments)
        if n % 3 == 0:  # half in advance; of every second such order the other half on delivery, to the centavo
            yield pay(n, advance // (1 if n % 2 else 2), f"delivery-{n}")


def pay_and_discount(seat: Seat) -> Program:
    """Pay on an order while the partner gives a discount on it; take turns in who does which."""
    for n in share_of(seat, seat.settings["orders"]):
        if (n + seat.client) % 2:
            arguments = {"subject": f"o{n}", "amount": 200_000}
            yield Call(f="discount", token=seat.token(f"d{n}"), arguments=arguments)
        else:
            yield pay(n, 800_000, seat.token(f"p{n}"))


def pay_at_once(seat: Seat) -> Program:
    """Pay what the partner pays: first an amount that fits twice, then one that fits once."""
    for n in share_of(seat, seat.settings["orders"]):
        yield pay(n, DUE * 3 // 10, seat.token(f"a{n}"))
        yield pay(n, DUE * 4 // 10, seat.token(f"b{n}"))


def pay_and_cancel(seat: Seat) -> Program:
    """Pay on an order while the partner cancels it; if it was paid, refund it and cancel again."""
    for n in share_of(seat, seat.settings["orders"]):
        if alone(seat, n):
            continue
        if not is_second(seat):
            yield pay(n, 800_000, seat.token(f"p{n}"))
            continue
        cancelled = yield Call(f="cancel_order", token=seat.token(f"c{n}"), arguments={"subject": f"o{n}"})
        if cancelled.outcome is not Outcome.OK and n % 2:
            refund = {"subject": f"o{n}", "amount": 800_000}
            yield Call(f="refund_order", token=seat.token(f"r{n}"), arguments=refund)
            yield Call(f="cancel_order", token=seat.token(f"cc{n}"), arguments={"subject": f"o{n}"})


def pay_and_repair(seat: Seat) -> Program:
    """Pay on an order while the partner has its balance computed anew; then have it computed anew once more."""
    for n in share_of(seat, seat.settings["orders"]):
        if not is_second(seat):
            yield pay(n, 800_000, seat.token(f"p{n}"))
        yield Call(f="repair", token=seat.token(f"r{n}"), arguments={"subject": f"o{n}"})


def one_by_one(seat: Seat) -> Program:
    """Open orders and pay them off: an advance, a discount, two installments."""
    intent = 0
    while True:
        name = f"{seat.client}.{seat.life}-{intent}"
        yield open_order(name, advance=ADVANCE if intent % 3 else 0, token=seat.token(f"o{intent}"))
        discount = {"subject": f"o{name}", "amount": 175_479}
        yield Call(f="discount", token=seat.token(f"d{intent}"), arguments=discount)
        yield pay(name, 800_000, seat.token(f"p{intent}"))
        yield pay(name, 700_000, seat.token(f"q{intent}"))
        intent += 1


def pay_and_migrate(seat: Seat) -> Program:
    """Pay on old orders while the first client migrates them, a few at a time, and verifies the result."""
    return _migrate(seat) if seat.client == 0 else _pay_old(seat)


def _migrate(seat: Seat) -> Program:
    step = 0
    while True:
        arguments = {"most": seat.settings["batch"]}
        migrated = yield Call(f="migrate", token=seat.token(f"m{step}"), arguments=arguments, goes_on=True)
        if migrated.result is not None and migrated.result.get("left") == 0:
            yield Call(f="verify", token=seat.token(f"v{step}"), arguments={}, goes_on=True)
            return
        step += 1


def _pay_old(seat: Seat) -> Program:
    intent = 0
    while True:
        n = seat.random.randrange(seat.settings["orders"])
        yield pay(n, 1 + seat.random.randrange(DUE // 100), seat.token(intent))
        intent += 1


SCENARIOS = (
    Race(
        name="installments_against_discount",
        family="orders",
        summary="An installment is paid on an order while a discount is given on it.",
        scene=scene_of_orders,
        behaviour=pay_and_discount,
        operations=frozenset({"open_order", "pay_installment", "discount"}),
        invariants=ORDER_INVARIANTS,
        settings={"orders": ORDERS},
    ),
    Race(
        name="installments_at_once",
        family="orders",
        summary="Two installments are paid on the same order at once; in the end only one of two fits.",
        scene=scene_of_orders,
        behaviour=pay_at_once,
        operations=frozenset({"open_order", "pay_installment"}),
        invariants=ORDER_INVARIANTS,
        settings={"orders": ORDERS},
    ),
    Race(
        name="installments_against_cancel",
        family="orders",
        summary="An order is paid while it is cancelled: one of the two is refused, or the money is refunded first.",
        scene=scene_without_advance,
        behaviour=pay_and_cancel,
        operations=frozenset({"open_order", "pay_installment", "cancel_order", "refund_order"}),
        invariants=ORDER_INVARIANTS,
        settings={"orders": ORDERS},
    ),
    Race(
        name="repair_against_payments",
        family="orders",
        summary="Balances are computed anew while payments are recorded.",
        scene=scene_of_orders,
        behaviour=pay_and_repair,
        operations=frozenset({"open_order", "pay_installment", "repair"}),
        invariants=ORDER_INVARIANTS,
        settings={"orders": ORDERS},
    ),
    Race(
        name="orders_one_by_one",
        family="orders",
        summary="Orders are opened and paid off, each by one client: the advance counts once.",
        behaviour=one_by_one,
        operations=frozenset({"open_order", "pay_installment", "discount"}),
        invariants=ORDER_INVARIANTS,
    ),
    Race(
        name="migration_against_payments",
        family="orders",
        summary="Orders whose advance was stored twice are cleaned up while payments are recorded: none is lost.",
        scene=scene_of_old_orders,
        behaviour=pay_and_migrate,
        operations=frozenset({"import_order", "pay_installment", "migrate", "verify"}),
        invariants=ORDER_INVARIANTS,
        settings={
            "orders": Setting(default=120, help="orders of the old version"),
            "batch": Setting(default=7, help="orders that are migrated at once"),
        },
    ),
)
