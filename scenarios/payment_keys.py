"""Idempotency keys, audit log and outbox under fire: requests that are repeated, altered, forgotten and cut off.

The effect behind the keys is a refund of a few pesos: small, so that one payment serves many intents, and money given
away if it happens twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.model import Call, Fault, Operation, Outcome, Program, Seat, Setting
from scenarios.payments import PAYMENT_INVARIANTS, TERMS, open_account, scene_of_accounts
from scenarios.races import Race, insist, is_second

DAWN = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
"""Where the injected clock starts."""

ACCOUNTS = Setting(default=8, help="accounts, each with one large paid payment that is refunded bit by bit")
TRIES = Setting(default=6, help="how often an intent without a definite answer is sent at most")
CUT_POINTS = ("key_claimed", "key_stored", "lock_taken", "refund_counted", "before_commit")
"""Where a client may be cut off; a target that lacks a point is not disturbed there."""


def scene_of_large_payments(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Open accounts and have the first term of each paid in full."""
    for n in range(settings["accounts"]):
        yield open_account(n)
        arguments = {"subject": f"p{n}", "term": f"a{n}/1", "amount": TERMS[0]}
        yield Call(f="submit", token=f"submit-{n}", arguments=arguments)
        yield Call(f="approve", token=f"approve-{n}", arguments={"subject": f"p{n}"})


def refund(seat: Seat, intent: int, *, amount: int | None = None, at: datetime = DAWN, fault: Fault | None = None) -> Call:
    """Return the pair's refund number ``intent``; both partners make the same one."""
    pair = seat.client // 2
    arguments = {
        "subject": f"p{(pair + intent) % seat.settings['accounts']}",
        "amount": 100 + intent % 50 if amount is None else amount,
        "at": at.isoformat(),
    }
    return Call(f="refund", token=f"k{pair}.{seat.life}-{intent}", arguments=arguments, fault=fault)


def undecided(operation: Operation) -> bool:
    """Tell whether a client would send the intent again: it knows nothing, or was told to try again."""
    return operation.outcome is Outcome.INFO or (operation.failure is not None and operation.failure.retryable)


def reuse_keys(seat: Seat) -> Program:
    """Make the partner's refunds at the same time, repeat what was cut off, and use some keys for another amount."""
    settings, chance = seat.settings, seat.random
    intent = 0
    while True:
        fault = None
        drawn = chance.random()
        if drawn < settings["lose_reply"]:
            fault = Fault(kind="lose_reply")
        elif drawn < settings["lose_reply"] + settings["vanish"]:
            fault = Fault(kind="vanish", point=chance.choice(CUT_POINTS))
        operation = yield from insist(seat, refund(seat, intent, fault=fault), undecided)
        if operation.outcome is Outcome.OK and chance.random() < settings["other_payload"]:
            yield refund(seat, intent, amount=250)
        intent += 1


def outlive_keys(seat: Seat) -> Program:
    """Repeat refunds when their lock has run out, at the same time, and when their key has been forgotten, later."""
    lock = timedelta(seconds=seat.settings["lock_seconds"])
    window = timedelta(hours=seat.settings["window_hours"])
    intent = 0
    while True:
        began = DAWN + timedelta(minutes=intent)
        if is_second(seat):
            yield refund(seat, intent, at=began + lock)
        else:
            yield refund(seat, intent, at=began)
            yield refund(seat, intent, at=began + window)
        intent += 1


def change_and_publish(seat: Seat) -> Program:
    """Submit and decide while some clients are cut off; every third client publishes what waits in the outbox."""
    if seat.client % 3 == 2:
        return _publish(seat)
    return _change(seat)


def _publish(seat: Seat) -> Program:
    chance, settings = seat.random, seat.settings
    intent = 0
    while True:
        cut = chance.random() < settings["vanish"]
        yield Call(
            f="deliver",
            token=seat.token(f"deliver-{intent}"),
            arguments={"most": settings["batch"]},
            fault=Fault(kind="vanish", point="published") if cut else None,
            think=0.001,
        )
        intent += 1


def _change(seat: Seat) -> Program:
    settings, chance = seat.settings, seat.random
    account = f"a{seat.client % settings['accounts']}"
    intent = 0
    while True:
        payment = f"p{seat.client}.{seat.life}-{intent}"
        term = f"{account}/{1 + (seat.client // settings['accounts'] + intent) % len(TERMS)}"
        arguments = {"subject": payment, "term": term, "amount": 1 + intent % 90}
        submitted = yield from _with_faults(seat, Call(f="submit", token=seat.token(f"s{intent}"), arguments=arguments))
        if submitted.outcome is Outcome.OK:
            f = chance.choice(["approve", "approve", "reject", "cancel"])
            decision = Call(f=f, token=seat.token(f"d{intent}"), arguments={"subject": payment})
            decided = yield from _with_faults(seat, decision)
            if decided.outcome is not Outcome.OK:  # refused on purpose: the term must not stay taken
                yield Call(f="cancel", token=seat.token(f"c{intent}"), arguments={"subject": payment})
        intent += 1


def _with_faults(seat: Seat, call: Call) -> Any:
    """Make a call, at the chosen rates with a fault, and repeat it until its outcome is known."""
    settings, chance = seat.settings, seat.random
    drawn = chance.random()
    fault = None
    if drawn < settings["vanish"]:
        fault = Fault(kind="vanish", point=chance.choice(["before_audit", "before_commit", "committed", "ledger_told"]))
    elif drawn < settings["vanish"] + settings["refuse"]:
        fault = Fault(kind="refuse", point="before_commit")
    return (yield from insist(seat, replace(call, fault=fault), undecided))


SCENARIOS = (
    Race(
        name="key_reuse",
        family="payments",
        summary="Refunds are sent twice at once, cut off and repeated; some keys are used again for another amount.",
        scene=scene_of_large_payments,
        behaviour=reuse_keys,
        operations=frozenset({"open_account", "submit", "approve", "refund"}),
        invariants=("P-KEYMATCH", *PAYMENT_INVARIANTS),
        settings={
            "accounts": ACCOUNTS,
            "tries": TRIES,
            "lose_reply": Setting(default=0.05, help="share of refunds whose reply never reaches the client"),
            "vanish": Setting(default=0.05, help="share of refunds whose client is cut off half way"),
            "other_payload": Setting(default=0.1, help="share of keys used again with another amount"),
        },
    ),
    Race(
        name="key_expiry",
        family="payments",
        summary="Refunds are repeated when the lock on their key has run out, and when their key has been forgotten.",
        scene=scene_of_large_payments,
        behaviour=outlive_keys,
        operations=frozenset({"open_account", "submit", "approve", "refund"}),
        invariants=PAYMENT_INVARIANTS,
        settings={
            "accounts": ACCOUNTS,
            "lock_seconds": Setting(default=91.0, help="when the partner repeats a refund, by the injected clock"),
            "window_hours": Setting(default=24.02, help="when a refund is repeated, by the injected clock"),
        },
    ),
    Race(
        name="audit_and_outbox_delivery",
        family="audit",
        summary="Payments change while clients are cut off; each change is logged once, published, and arrives.",
        scene=scene_of_accounts,
        behaviour=change_and_publish,
        operations=frozenset({"open_account", "submit", "approve", "reject", "cancel", "deliver"}),
        invariants=("A-DELIVER", *PAYMENT_INVARIANTS),
        settings={
            "accounts": Setting(default=16, help="accounts; the clients spread over them"),
            "tries": TRIES,
            "batch": Setting(default=200, help="events that are published at once"),
            "vanish": Setting(default=0.05, help="share of operations whose client is cut off half way"),
            "refuse": Setting(default=0.05, help="share of operations refused when all but the commit was done"),
        },
    ),
)
