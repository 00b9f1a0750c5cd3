"""Concurrent creates of numbered documents.

One behaviour (create the next document), several scenes: one hot scope or many, scopes that do not exist yet, midnight
passing by an injected clock, numbers outgrowing their padding, creates that fail or vanish half way, and creates that are
sent again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from harness.model import Call, Fault, Outcome, Program, Seat, Setting
from scenarios.races import insist, told

NUMBERING_INVARIANTS = (
    "N-UNIQ",
    "N-GAPLESS",
    "N-GAPBUDGET",
    "N-EXPLAINED",
    "N-MONO",
    "N-PERIOD",
    "N-FMT",
    "N-SCOPE",
    "N-COUNTER1",
    "N-COUNTER>=MAX",
    "N-DOC1",
    "N-DURABLE",
    "N-IMMUT",
    "N-VOID",
    "P-ONCE",
    "P-KEYMATCH",
    "L-RETRY",
    "L-PROGRESS",
)

MIDNIGHT = datetime.fromisoformat("2027-01-01T00:00:00+00:00")
"""The new year that the injected clock passes: a day, a month and a year end together."""

SCOPES = Setting(default=1, help="number of scopes that the clients share: 1 is one hot counter")
DOCUMENT_TYPE = Setting(default="invoice", help="what is created, which decides scope, period and format")
OPENING = Setting(default=3, help="documents that each scope already holds")


@dataclass(frozen=True, kw_only=True)
class Creates:
    """A scenario in which every client creates one document after another."""

    name: str
    summary: str
    behaviour: Callable[[Seat], Program]
    settings: Mapping[str, Setting] = field(default_factory=dict)
    policy: str = "company-series"
    family: str = "numbering"
    invariants: tuple[str, ...] = NUMBERING_INVARIANTS
    operations: frozenset[str] = frozenset({"create", "seed"})

    def opening(self, settings: Mapping[str, Any]) -> Iterable[Call]:
        """Fill every scope with the documents that it already holds."""
        through = settings.get("opening", 0)
        if not through:
            return
        for scope in range(settings.get("scopes", 1)):
            yield Call(
                f="seed",
                token=f"seed-{scope}",
                arguments={**place(scope, settings), "at": when(settings, 0), "through": through},
            )

    def program(self, seat: Seat) -> Program:
        """Return the client's behaviour."""
        return self.behaviour(seat)


def create_for_ever(seat: Seat) -> Program:
    """Create documents, each in a scope drawn at random."""
    intent = 0
    while True:
        scope = seat.random.randrange(seat.settings["scopes"])
        yield _create(seat, scope, intent, at=when(seat.settings, 0))
        intent += 1


def create_first_of_each_scope(seat: Seat) -> Program:
    """Go through fresh scopes in the same order as everybody else: each one's first document is raced for.

    With a pace, each scope has its time: nobody comes early, and who is late leaves it out. Otherwise the clients drift apart.
    """
    pace, began = seat.settings["pace"], time.monotonic()
    for scope in range(seat.settings["scopes"]):
        early = began + scope * pace - time.monotonic()
        if not pace or early > -pace:
            yield replace(_create(seat, scope, scope, at=when(seat.settings, 0)), think=max(0.0, early) if pace else 0.0)


def create_across_midnight(seat: Seat) -> Program:
    """Create while the injected clock goes from before midnight to after it, each client a little apart."""
    step = timedelta(seconds=seat.settings["seconds_per_create"])
    moment = MIDNIGHT - timedelta(seconds=seat.settings["seconds_before"]) + timedelta(milliseconds=7 * seat.client)
    intent = 0
    while True:
        yield _create(seat, 0, intent, at=moment.isoformat())
        moment += step
        intent += 1


def create_with_trouble(seat: Seat) -> Program:
    """Create while some creates are refused after they took their number, some clients vanish and some processes die."""
    settings, chance = seat.settings, seat.random
    intent = 0
    while True:
        scope = chance.randrange(settings["scopes"])
        drawn = chance.random()
        refuse, vanish, kill = settings["refuse"], settings["vanish"], settings["kill"]
        extra: dict[str, Any] = {}
        fault = None
        if drawn < refuse:
            extra = {"discount_bp": 5000, "discount_permitted": False}
        elif drawn < refuse + vanish:
            fault = Fault(kind="vanish", point=chance.choice(["number_taken", "before_commit"]))
        elif drawn < refuse + vanish + kill:
            fault = Fault(kind="kill", point="number_taken")
        yield _create(seat, scope, intent, at=when(settings, 0), fault=fault, **extra)
        intent += 1


def create_and_delete(seat: Seat) -> Program:
    """Create, and now and then delete a document of one's own: as often the last one as any other."""
    settings, chance = seat.settings, seat.random
    own: list[str] = []
    intent = 0
    while True:
        made = yield _create(seat, 0, intent, at=when(settings, 0))
        if made.outcome is Outcome.OK:
            own.append(told(made, "text"))
        if own and chance.random() < settings["delete"]:
            text = own.pop(-1 if chance.random() < 0.5 else chance.randrange(len(own)))
            where = {**place(0, settings), "at": when(settings, 0), "text": text}
            yield Call(f="delete", token=seat.token(f"d{intent}"), arguments=where)
        intent += 1


def create_and_retry(seat: Seat) -> Program:
    """Create with a partner that sends the very same intents at the same time; lose replies and send again.

    Clients 2k and 2k+1 share their tokens. At the chosen rates a reply is lost and the intent is sent again until it is
    acknowledged, and a token is used again with another amount, which must be refused.
    """
    settings, chance = seat.settings, seat.random
    pair = seat.client // 2
    intent = 0
    while True:
        token = f"p{pair}.{seat.life}-{intent}"
        lost = chance.random() < settings["lose_reply"]
        call = _create(
            seat,
            0,
            intent,
            at=when(settings, 0),
            token=token,
            amount=1000 + intent,
            fault=Fault(kind="lose_reply") if lost else None,
        )
        operation = yield from insist(seat, call)
        if operation.outcome is Outcome.OK and chance.random() < settings["other_payload"]:
            yield _create(seat, 0, intent, at=when(settings, 0), token=token, amount=99_000_000 + intent)
        intent += 1


def place(scope: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return whose document it is and of which type."""
    return {
        "company": f"company-{scope}",
        "document_type": settings.get("document_type", "invoice"),
        "branch": f"Branch{scope}",
    }


def when(settings: Mapping[str, Any], seconds: float) -> str:
    """Return the moment so many seconds after the injected clock's start."""
    return (MIDNIGHT - timedelta(hours=12) + timedelta(seconds=seconds)).isoformat()


def _create(
    seat: Seat,
    scope: int,
    intent: int,
    *,
    at: str,
    token: str | None = None,
    amount: int | None = None,
    fault: Fault | None = None,
    **extra: Any,
) -> Call:
    return Call(
        f="create",
        token=token or seat.token(intent),
        arguments={
            **place(scope, seat.settings),
            "at": at,
            "amount": seat.random.randrange(100, 1_000_000) if amount is None else amount,
            **extra,
        },
        fault=fault,
    )


SCENARIOS = (
    Creates(
        name="concurrent_creates",
        summary="Many clients create documents in one hot scope, as fast as they can.",
        behaviour=create_for_ever,
        settings={"scopes": SCOPES, "document_type": DOCUMENT_TYPE, "opening": OPENING},
    ),
    Creates(
        name="many_scopes",
        summary="Many clients create documents in scopes drawn at random: companies must not disturb one another.",
        behaviour=create_for_ever,
        settings={
            "scopes": Setting(default=20, help=SCOPES.help),
            "document_type": DOCUMENT_TYPE,
            "opening": OPENING,
        },
    ),
    Creates(
        name="first_documents",
        summary="All clients race for the first document of one fresh scope after another.",
        behaviour=create_first_of_each_scope,
        settings={
            "scopes": Setting(default=50, help=SCOPES.help),
            "document_type": DOCUMENT_TYPE,
            "pace": Setting(default=0.0, help="seconds from one scope to the next: keeps the clients together; 0 for none"),
        },
        operations=frozenset({"create"}),
    ),
    Creates(
        name="period_rollover",
        summary="Clients create while the year ends: each document belongs to the period of its own date.",
        behaviour=create_across_midnight,
        settings={
            "document_type": Setting(default="payment", help=DOCUMENT_TYPE.help),
            "seconds_before": Setting(default=5.0, help="where the injected clock starts, seconds before midnight"),
            "seconds_per_create": Setting(default=1.0, help="how far the injected clock goes with each create"),
        },
        policy="payments-yearly",
        operations=frozenset({"create"}),
    ),
    Creates(
        name="padding_overflow",
        summary="Numbers outgrow their padding: 9999 is followed by 10000, once.",
        behaviour=create_for_ever,
        settings={
            "scopes": SCOPES,
            "document_type": Setting(default="payment", help=DOCUMENT_TYPE.help),
            "opening": Setting(default=9990, help=OPENING.help),
        },
        policy="payments-yearly",
    ),
    Creates(
        name="creates_with_rollback",
        summary="Some creates are refused after they took a number, some clients vanish, some processes are killed.",
        behaviour=create_with_trouble,
        settings={
            "scopes": SCOPES,
            "document_type": DOCUMENT_TYPE,
            "opening": OPENING,
            "refuse": Setting(default=0.10, help="share of creates that the business refuses after the number was taken"),
            "vanish": Setting(default=0.02, help="share of creates whose client cuts its connection half way"),
            "kill": Setting(default=0.002, help="share of creates during which the client's process is killed"),
        },
    ),
    Creates(
        name="creates_with_deletes",
        summary="Some documents are deleted after they were issued: their numbers are never given again.",
        behaviour=create_and_delete,
        settings={
            "document_type": DOCUMENT_TYPE,
            "opening": OPENING,
            "delete": Setting(default=0.2, help="share of creates after which a document is deleted"),
        },
        operations=frozenset({"create", "seed", "delete"}),
    ),
    Creates(
        name="retried_creates",
        summary="The same intent is sent twice at once, sent again after a lost reply, and reused with another payload.",
        behaviour=create_and_retry,
        settings={
            "document_type": DOCUMENT_TYPE,
            "opening": OPENING,
            "lose_reply": Setting(default=0.05, help="share of creates whose reply never reaches the client"),
            "other_payload": Setting(default=0.10, help="share of tokens used again with another amount"),
            "tries": Setting(default=5, help="how often an unacknowledged intent is sent at most"),
        },
    ),
)
