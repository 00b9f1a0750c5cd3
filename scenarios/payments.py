"""Term payments under fire: submissions, decisions and refunds that meet.

Accounts have an assessment of 10,000.00, so that the five terms (42.15, 17.86, 17.86, 14.88 and 7.25 %) are known here
without asking. Identities are chosen by the caller: no client needs to read anything before it acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.model import Call, Outcome, Program, Seat, Setting
from scenarios.races import Race, alone, is_second, share_of

ASSESSMENT = 1_000_000
TERMS = (421_500, 178_600, 178_600, 148_800, 72_500)
"""What each term of an account owes, in minor units."""

PAYMENT_INVARIANTS = (
    "P-ONCE",
    "P-TERM1",
    "P-PEND1",
    "P-CONS",
    "P-NOOVER",
    "P-REFUND",
    "P-EXACT",
    "P-SPLIT",
    "A-MATCH",
    "L-RETRY",
    "L-PROGRESS",
)

PAYMENTS = Setting(default=500, help="payments that are fought over; each has a term of its own")
SHARE = Setting(default=0.3, help="amount of a payment as a share of what its term owes")


def open_account(n: int) -> Call:
    """Open account number ``n``."""
    return Call(f="open_account", token=f"open-{n}", arguments={"subject": f"a{n}", "assessment": ASSESSMENT})


def place(n: int) -> tuple[str, int]:
    """Return the term that payment number ``n`` is for, and what that term owes at first."""
    account, position = divmod(n, len(TERMS))
    return f"a{account}/{position + 1}", TERMS[position]


def accounts_for(payments: int) -> Iterable[Call]:
    """Open as many accounts as it takes to give each payment a term of its own."""
    return (open_account(n) for n in range(-(-payments // len(TERMS))))


def submit(n: int, *, share: float, payment: str | None = None, token: str | None = None) -> Call:
    """Submit payment number ``n``."""
    term, owed = place(n)
    return Call(
        f="submit",
        token=token or f"submit-{n}",
        arguments={"subject": payment or f"p{n}", "term": term, "amount": max(1, int(owed * share))},
    )


def scene_of_terms(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Open accounts, and nothing more."""
    return accounts_for(settings["payments"])


def scene_of_pending(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Open accounts and submit every payment."""
    yield from accounts_for(settings["payments"])
    for n in range(settings["payments"]):
        yield submit(n, share=settings["share"])


def scene_of_paid(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Open accounts; submit and approve every payment."""
    yield from scene_of_pending(settings)
    for n in range(settings["payments"]):
        yield Call(f="approve", token=f"approve-{n}", arguments={"subject": f"p{n}"})


def scene_of_accounts(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Open accounts that all clients share."""
    return (open_account(n) for n in range(settings["accounts"]))


def scene_of_paid_and_pending(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Open accounts; for each term one payment is paid and another awaits approval."""
    yield from accounts_for(settings["payments"])
    for n in range(settings["payments"]):
        yield submit(n, share=settings["share"], payment=f"p{n}.0", token=f"submit-{n}.0")
        yield Call(f="approve", token=f"approve-{n}.0", arguments={"subject": f"p{n}.0"})
        yield submit(n, share=settings["share"], payment=f"p{n}.1", token=f"submit-{n}.1")


def submit_twice(seat: Seat) -> Program:
    """Submit what the partner submits: the same request (a double click), or another for the same term (two tabs)."""
    for n in share_of(seat, seat.settings["payments"]):
        if n % 2:
            yield submit(n, share=seat.settings["share"])
        else:
            yield submit(n, share=seat.settings["share"], payment=f"p{n}.{seat.client % 2}", token=seat.token(n))


def submit_without_term(seat: Seat) -> Program:
    """Submit payments that name an account and no term, beside payments that name one."""
    for n in share_of(seat, seat.settings["payments"]):
        if is_second(seat) or n % 3 == 0:
            account = place(n)[0].split("/", maxsplit=1)[0]
            arguments = {"subject": f"p{n}.{seat.client % 2}", "account": account, "term": None, "amount": 100}
            yield Call(f="submit", token=seat.token(n), arguments=arguments)
        else:
            yield submit(n, share=seat.settings["share"])


def decide(first: str, second: str) -> Any:
    """Return the behaviour in which a pair decides upon the same payments, each in its own way."""
    return _Decide(first, second)


class _Decide:
    """A behaviour with two parameters, at the top of a module so that it can be sent to other processes."""

    def __init__(self, first: str, second: str) -> None:
        self.first = first
        self.second = second

    def __call__(self, seat: Seat) -> Program:
        second = is_second(seat)
        f = self.second if second else self.first
        for n in share_of(seat, seat.settings["payments"]):
            if self.first != self.second and alone(seat, n):
                continue
            yield Call(f=f, token=seat.token(n), arguments={"subject": f"p{n}"})


def two_pendings(seat: Seat) -> Program:
    """Submit a payment for the partner's term, and approve one's own."""
    for n in share_of(seat, seat.settings["payments"]):
        payment = f"p{n}.{seat.client % 2}"
        yield submit(n, share=seat.settings["share"], payment=payment, token=seat.token(f"submit-{n}"))
        yield Call(f="approve", token=seat.token(f"approve-{n}"), arguments={"subject": payment})


def across_terms(seat: Seat) -> Program:
    """Pay terms of shared accounts with amounts that are sometimes too large for the term; refund now and then."""
    chance, settings = seat.random, seat.settings
    intent = 0
    while True:
        account = chance.randrange(settings["accounts"])
        position = chance.randrange(len(TERMS))
        amount = chance.randrange(1, int(TERMS[position] * settings["most"]))
        payment = f"p{seat.client}.{seat.life}-{intent}"
        arguments = {"subject": payment, "term": f"a{account}/{position + 1}", "amount": amount}
        submitted = yield Call(f="submit", token=seat.token(f"s{intent}"), arguments=arguments)
        if submitted.outcome is Outcome.OK:
            approved = yield Call(f="approve", token=seat.token(f"a{intent}"), arguments={"subject": payment})
            if approved.outcome is Outcome.OK and chance.random() < settings["refund"]:
                part = {"subject": payment, "amount": chance.randrange(1, amount + 1)}
                yield Call(f="refund", token=seat.token(f"r{intent}"), arguments=part)
        intent += 1


def refund_twice(seat: Seat) -> Program:
    """Refund the whole payment that the partner refunds."""
    for n in share_of(seat, seat.settings["payments"]):
        amount = max(1, int(place(n)[1] * seat.settings["share"]))
        yield Call(f="refund", token=seat.token(n), arguments={"subject": f"p{n}", "amount": amount})


def refund_and_approve(seat: Seat) -> Program:
    """Approve a payment and refund another one of the same term in parts, while the partner refunds it in parts as well."""
    for n in share_of(seat, seat.settings["payments"]):
        part = {"subject": f"p{n}.0", "amount": max(1, int(place(n)[1] * seat.settings["share"]) // 4)}
        if (n + seat.client) % 2:
            yield Call(f="refund", token=seat.token(f"a{n}"), arguments=part)
        else:
            yield Call(f="approve", token=seat.token(f"p{n}"), arguments={"subject": f"p{n}.1"})
        yield Call(f="refund", token=seat.token(f"b{n}"), arguments=part)


def redeliver(seat: Seat) -> Program:
    """Deliver the event that the partner delivers, and now and then deliver it once more."""
    for n in share_of(seat, seat.settings["payments"]):
        call = Call(f="webhook", token=f"event-{n}", arguments={"subject": f"p{n}", "event": f"event-{n}"})
        yield call
        if seat.random.random() < seat.settings["again"]:
            yield call


def open_and_pay(seat: Seat) -> Program:
    """Open accounts with odd assessments and pay small amounts on them."""
    chance = seat.random
    intent = 0
    while True:
        account = f"a{seat.client}.{seat.life}-{intent}"
        arguments = {"subject": account, "assessment": chance.randrange(1_000, 5_000_000)}
        opened = yield Call(f="open_account", token=seat.token(f"o{intent}"), arguments=arguments)
        if opened.outcome is Outcome.OK:
            payment = f"{account}-p"
            small = {"subject": payment, "term": f"{account}/1", "amount": chance.randrange(1, 100)}
            yield Call(f="submit", token=seat.token(f"s{intent}"), arguments=small)
            yield Call(f="approve", token=seat.token(f"a{intent}"), arguments={"subject": payment})
        intent += 1


SCENARIOS = (
    Race(
        name="double_submit",
        family="payments",
        summary="Two clients submit a payment for the same term at once: by a double click, or from two tabs.",
        scene=scene_of_terms,
        behaviour=submit_twice,
        operations=frozenset({"open_account", "submit"}),
        invariants=PAYMENT_INVARIANTS,
        settings={"payments": PAYMENTS, "share": SHARE},
    ),
    Race(
        name="submit_without_term",
        family="payments",
        summary="Payments arrive that name no term: none or one of them may await approval.",
        scene=scene_of_terms,
        behaviour=submit_without_term,
        operations=frozenset({"open_account", "submit"}),
        invariants=PAYMENT_INVARIANTS,
        settings={"payments": PAYMENTS, "share": SHARE},
    ),
    Race(
        name="double_approval",
        family="payments",
        summary="Two clients approve the same payment at once: one succeeds, one is refused, the term is reduced once.",
        scene=scene_of_pending,
        behaviour=decide("approve", "approve"),
        operations=frozenset({"open_account", "submit", "approve"}),
        invariants=PAYMENT_INVARIANTS,
        settings={"payments": PAYMENTS, "share": SHARE},
    ),
    Race(
        name="approve_against_reject",
        family="payments",
        summary="One client approves a payment while another rejects it.",
        scene=scene_of_pending,
        behaviour=decide("approve", "reject"),
        operations=frozenset({"open_account", "submit", "approve", "reject"}),
        invariants=PAYMENT_INVARIANTS,
        settings={"payments": PAYMENTS, "share": SHARE},
    ),
    Race(
        name="approve_against_cancel",
        family="payments",
        summary="Accounting approves a payment while the student cancels it.",
        scene=scene_of_pending,
        behaviour=decide("approve", "cancel"),
        operations=frozenset({"open_account", "submit", "approve", "cancel"}),
        invariants=PAYMENT_INVARIANTS,
        settings={"payments": PAYMENTS, "share": SHARE},
    ),
    Race(
        name="two_pendings_of_one_term",
        family="payments",
        summary="Two different payments for one term are submitted and approved at once.",
        scene=scene_of_terms,
        behaviour=two_pendings,
        operations=frozenset({"open_account", "submit", "approve"}),
        invariants=PAYMENT_INVARIANTS,
        settings={
            "payments": PAYMENTS,
            "share": Setting(default=1.0, help=f"{SHARE.help}: 1 leaves nothing for the second"),
        },
    ),
    Race(
        name="overpayment_across_terms",
        family="payments",
        summary="Clients pay terms of shared accounts with amounts that are sometimes too large, and refund some.",
        scene=scene_of_accounts,
        behaviour=across_terms,
        operations=frozenset({"open_account", "submit", "approve", "refund"}),
        invariants=PAYMENT_INVARIANTS,
        settings={
            "accounts": Setting(default=8, help="accounts that all clients share"),
            "most": Setting(default=1.3, help="largest amount as a share of what the term owes at first"),
            "refund": Setting(default=0.3, help="share of approved payments that are refunded in part"),
        },
    ),
    Race(
        name="refund_twice",
        family="payments",
        summary="Two clients refund the same payment at once: the money goes back once.",
        scene=scene_of_paid,
        behaviour=refund_twice,
        operations=frozenset({"open_account", "submit", "approve", "refund"}),
        invariants=PAYMENT_INVARIANTS,
        settings={"payments": Setting(default=300, help=PAYMENTS.help), "share": SHARE},
    ),
    Race(
        name="refund_against_approval",
        family="payments",
        summary="One payment of a term is approved while another is refunded: both change the same balance.",
        scene=scene_of_paid_and_pending,
        behaviour=refund_and_approve,
        operations=frozenset({"open_account", "submit", "approve", "refund"}),
        invariants=PAYMENT_INVARIANTS,
        settings={"payments": Setting(default=300, help=PAYMENTS.help), "share": SHARE},
    ),
    Race(
        name="redelivered_webhook",
        family="payments",
        summary="The gateway delivers the same approval event several times, also at once.",
        scene=scene_of_pending,
        behaviour=redeliver,
        operations=frozenset({"open_account", "submit", "webhook"}),
        invariants=PAYMENT_INVARIANTS,
        settings={
            "payments": PAYMENTS,
            "share": SHARE,
            "again": Setting(default=0.2, help="share of deliveries that are repeated by the same client"),
        },
    ),
    Race(
        name="accounts_and_small_payments",
        family="payments",
        summary="Accounts with odd assessments are opened and paid in centavos: every sum is exact.",
        behaviour=open_and_pay,
        operations=frozenset({"open_account", "submit", "approve"}),
        invariants=PAYMENT_INVARIANTS,
    ),
)
