"""Sales under fire: the last piece in stock, the last of a customer's credit, and numbers that must not be lost.

All sales are of one day. Those of one branch share one series of numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.model import Call, Fault, Outcome, Program, Seat, Setting
from scenarios.races import Race, insist, is_second, share_of, told

DAY = "2025-11-22T10:00:00+00:00"
BRANCH = "Bambang"
PRICE = 19_900
EACH = 4
"""Sales of each customer, two of each item: so some pairs meet in stock, and others in the customer's credit alone."""
BRANCHES = 16
"""Branches of the chain that the credit scenario plays in, each with an item of its own."""

SALE_POINTS = ("number_drawn", "number_taken", "before_commit", "document_committed")
VOID_POINTS = ("sale_voided", "before_commit")
"""Where a client is cut off, or its process killed."""

SALE_INVARIANTS = (
    "S-STOCK",
    "S-CREDIT",
    "N-UNIQ",
    "N-GAPLESS",
    "N-GAPBUDGET",
    "N-EXPLAINED",
    "N-FMT",
    "N-PERIOD",
    "N-DOC1",
    "N-DURABLE",
    "N-COUNTER1",
    "N-COUNTER>=MAX",
    "N-VOID",
    "P-ONCE",
    "P-KEYMATCH",
    "P-EXACT",
    "A-MATCH",
    "L-RETRY",
    "L-PROGRESS",
)

ITEMS = Setting(default=60, help="items in stock; every client asks for each in the same order")
STOCK = Setting(default=3, help="pieces of each item in stock")
CUSTOMERS = Setting(default=60, help="customers with a limit that covers three sales")
SOLD = Setting(default=240, help="sales that are voided, each by two clients; each is the first of a branch")
SHOP = Setting(default=10, help="items in stock, 2 or more; there is one piece of the first")
FIRST = Setting(default="Inv{branch}11_22_2025_0001", help="how {branch}'s first sale of 22 November 2025 is printed")
TOGETHER = Setting(default=0.5, help="share of sales that both void at once; of the others one is voided while the other sells")


def stock(n: int, quantity: int) -> Call:
    """Take item number ``n`` into stock."""
    return Call(f="stock_item", token=f"stock-{n}", arguments={"subject": f"i{n}", "quantity": quantity, "price": PRICE})


def sell(item: int, token: str, **more: Any) -> Call:
    """Sell a piece of item number ``item``."""
    arguments = {
        "subject": f"i{item}",
        "branch": BRANCH,
        "document_type": "sale",
        "item": f"i{item}",
        "quantity": 1,
        "price": PRICE,
        "at": DAY,
        **more,
    }
    return Call(f="sell", token=token, arguments=arguments)


def scene_of_last_pieces(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Take items into stock, a few pieces of each."""
    return (stock(n, settings["stock"]) for n in range(settings["items"]))


def scene_of_small_limits(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Have plenty in stock at every branch, and customers with small limits."""
    for n in range(BRANCHES):
        yield stock(n, 10**6)
    for n in range(settings["customers"]):
        yield Call(f="add_customer", token=f"customer-{n}", arguments={"subject": f"c{n}", "limit": 3 * PRICE + PRICE // 2})


def scene_of_sales(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Have sold to each customer as much as its limit covers, each time at a branch of its own."""
    for n in range(EACH):
        yield stock(n, 10**6)
    for n in range(-(-settings["sales"] // EACH)):
        yield Call(f="add_customer", token=f"customer-{n}", arguments={"subject": f"c{n}", "limit": EACH * PRICE})
    for n in range(settings["sales"]):
        yield sell_at_branch(n, f"sold-{n}", customer=f"c{n // EACH}")


def scene_of_a_shop(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Have plenty of most things in stock, one piece of one, and one customer with a large and one with no limit."""
    yield stock(0, 1)
    for n in range(1, _items(settings)):
        yield stock(n, 10**6)
    for name, limit in (("good", 10**12), ("none", 0)):
        yield Call(f="add_customer", token=f"customer-{name}", arguments={"subject": name, "limit": limit})


def buy_last_pieces(seat: Seat) -> Program:
    """Buy each item in turn, as everybody else does."""
    for n in range(seat.settings["items"]):
        yield sell(n, seat.token(n))


def buy_on_credit(seat: Seat) -> Program:
    """Sell on each customer's account in turn, as every other branch does: the customer is all that they share."""
    branch = seat.client % BRANCHES
    for n in range(seat.settings["customers"]):
        yield sell(branch, seat.token(n), customer=f"c{n}", branch=f"Branch{branch}")


def sell_at_branch(n: int, token: str, **more: Any) -> Call:
    """Sell at the branch that sale number ``n`` is the first of."""
    return sell(n // 2 % EACH, token, branch=f"Branch{n}", **more)


def void(text: str, token: str) -> Call:
    """Void the sale with this printed number."""
    return Call(f="void_sale", token=token, arguments={"text": text, "reason": "the customer returned it", "at": DAY})


def void_at_once(seat: Seat) -> Program:
    """Void a sale, as the partner does too: at the same time, or after a sale for cash. Sell on the credit that is free again."""
    for n in share_of(seat, seat.settings["sales"]):
        voided = void(seat.settings["first"].replace("{branch}", f"Branch{n}"), seat.token(f"void-{n}"))
        if is_second(seat):
            cash = sell_at_branch(n, seat.token(f"cash-{n}"))
            first, second = (voided, cash) if n // 8 % 4 < 4 * seat.settings["together"] else (cash, voided)
        else:
            first, second = voided, sell_at_branch(n, seat.token(f"again-{n}"), customer=f"c{n // EACH}")
        yield first
        yield second


def sell_with_trouble(seat: Seat) -> Program:
    """Sell while some sales are refused, some clients vanish, some processes die and some replies are lost."""
    settings, chance = seat.settings, seat.random
    intent = 0
    while True:
        drawn = chance.random()
        token = seat.token(intent)
        item = chance.randrange(1, _items(settings))
        if drawn < settings["refuse"]:
            yield _refused(chance.randrange(4), item, token)
        else:
            call = sell(item, token, customer=chance.choice([None, "good"]))
            yield from insist(seat, replace(call, fault=_fault(seat, drawn - settings["refuse"], SALE_POINTS)))
        intent += 1


def void_with_trouble(seat: Seat) -> Program:
    """Sell, and void what was sold, while some clients vanish, some processes die and some replies are lost."""
    chance = seat.random
    intent = 0
    while True:
        item = chance.randrange(1, _items(seat.settings))
        sold = yield sell(item, seat.token(f"sold-{intent}"), customer=chance.choice([None, "good"]))
        if sold.outcome is Outcome.OK:
            call = void(str(told(sold, "text")), seat.token(f"void-{intent}"))
            yield from insist(seat, replace(call, fault=_fault(seat, chance.random(), VOID_POINTS)))
        intent += 1


def _items(settings: Mapping[str, Any]) -> int:
    """Return how many items a shop has: two at least, one to run out of and one to sell."""
    return max(2, int(settings["items"]))


def _refused(kind: int, item: int, token: str) -> Call:
    """Return a sale that the business refuses, each for another reason."""
    if kind == 0:
        return sell(0, token, quantity=2)
    if kind == 1:
        return sell(item, token, customer="none")
    if kind == 2:
        return sell(item, token, discount_bp=5000, discount_permitted=False)
    return sell(item, token, price=PRICE - 1)


def _fault(seat: Seat, drawn: float, points: Sequence[str]) -> Fault | None:
    """Return the fault that a number between 0 and 1 stands for, by the shares of the settings."""
    edge = 0.0
    for kind in ("vanish", "kill", "lose_reply"):
        edge += seat.settings[kind]
        if drawn < edge:
            return Fault(kind=kind) if kind == "lose_reply" else Fault(kind=kind, point=seat.random.choice(points))
    return None


SCENARIOS = (
    Race(
        name="oversell",
        family="sales",
        summary="Every client wants the last pieces of the same items: no more is sold than was there.",
        scene=scene_of_last_pieces,
        behaviour=buy_last_pieces,
        operations=frozenset({"stock_item", "sell"}),
        invariants=SALE_INVARIANTS,
        settings={"items": ITEMS, "stock": STOCK},
        policy="branch-daily",
    ),
    Race(
        name="credit_limit",
        family="sales",
        summary="Every client sells on the account of the same customers: none owes more than its limit.",
        scene=scene_of_small_limits,
        behaviour=buy_on_credit,
        operations=frozenset({"stock_item", "add_customer", "sell"}),
        invariants=SALE_INVARIANTS,
        settings={"customers": CUSTOMERS},
        policy="branch-daily",
    ),
    Race(
        name="voids_at_once",
        family="sales",
        summary="Two clients void the same sale at once, while others sell: what it took goes back once.",
        scene=scene_of_sales,
        behaviour=void_at_once,
        operations=frozenset({"stock_item", "add_customer", "sell", "void_sale"}),
        invariants=SALE_INVARIANTS,
        settings={"sales": SOLD, "first": FIRST, "together": TOGETHER},
        policy="branch-daily",
    ),
    Race(
        name="sales_with_trouble",
        family="sales",
        summary="Sales are refused, cut off, killed and repeated: no number is lost, none is issued twice.",
        scene=scene_of_a_shop,
        behaviour=sell_with_trouble,
        operations=frozenset({"stock_item", "add_customer", "sell"}),
        invariants=SALE_INVARIANTS,
        settings={
            "items": SHOP,
            "refuse": Setting(default=0.15, help="share of sales that are refused for stock, credit, discount or price"),
            "vanish": Setting(default=0.03, help="share of sales whose client cuts its connection half way"),
            "kill": Setting(default=0.002, help="share of sales during which the client's process is killed"),
            "lose_reply": Setting(default=0.03, help="share of sales whose reply never reaches the client"),
            "tries": Setting(default=5, help="how often an unacknowledged sale is sent at most"),
        },
        policy="branch-daily",
    ),
    Race(
        name="voids_with_trouble",
        family="sales",
        summary="Voids are cut off, killed and repeated: what a sale took goes back when it is void, and only then.",
        scene=scene_of_a_shop,
        behaviour=void_with_trouble,
        operations=frozenset({"stock_item", "add_customer", "sell", "void_sale"}),
        invariants=SALE_INVARIANTS,
        settings={
            "items": SHOP,
            "vanish": Setting(default=0.05, help="share of voids whose client cuts its connection half way"),
            "kill": Setting(default=0.002, help="share of voids during which the client's process is killed"),
            "lose_reply": Setting(default=0.05, help="share of voids whose reply never reaches the client"),
            "tries": Setting(default=5, help="how often an unacknowledged void is sent at most"),
        },
        policy="branch-daily",
    ),
)
