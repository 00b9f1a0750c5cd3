"""What happens to numbered documents besides being created, while others are created.

Several documents of one event, counters that are introduced late, numbers that are reserved first, documents that are voided,
and a cleanup of duplicates from before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.model import Call, Outcome, Program, Seat, Setting
from scenarios.numbering import NUMBERING_INVARIANTS, place, when
from scenarios.races import Race, is_second, told

BESIDE_DUPLICATES = tuple(i for i in NUMBERING_INVARIANTS if i not in ("N-UNIQ", "N-VOID"))
"""Where some numbers were issued twice long ago: such a number is void on one document and issued on another."""

OLD = Setting(default=40, help="documents that exist already")
LATER = 3600.0
"""Seconds: longer than any reservation holds."""


def _call(f: str, seat: Seat, intent: int | str, *, later: float = 0, goes_on: bool = False, **arguments: Any) -> Call:
    where = {**place(0, seat.settings), "at": when(seat.settings, later)}
    return Call(f=f, token=seat.token(intent), arguments={**where, **arguments}, goes_on=goes_on)


def _amount(seat: Seat) -> int:
    return seat.random.randrange(100, 1_000_000)


def create_and_void(seat: Seat) -> Program:
    """Create; void some of it, and send some of the voids again, as the same request and as another."""
    intent = 0
    while True:
        made = yield _call("create", seat, intent, amount=_amount(seat))
        if made.outcome is Outcome.OK and seat.random.random() < seat.settings["void"]:
            asked = {"text": told(made, "text"), "reason": "spoiled in the printer"}
            yield _call("void", seat, f"v{intent}", **asked)
            if seat.random.random() < 0.5:
                yield _call("void", seat, f"v{intent}", **asked)
            else:
                yield _call("void", seat, f"w{intent}", **asked)
        intent += 1


def post_both(seat: Seat) -> Program:
    """Post events with two documents; every other client names them the other way round."""
    intent = 0
    documents = ["invoice", "journal_entry"]
    where = {"company": "company-0", "branch": "Branch0", "at": when(seat.settings, 0)}
    while True:
        arguments = {**where, "documents": documents[::-1] if is_second(seat) else documents, "amount": _amount(seat)}
        yield Call(f="post", token=seat.token(intent), arguments=arguments)
        intent += 1


def scene_of_both(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Fill both series."""
    for document_type in ("invoice", "journal_entry"):
        arguments = {**place(0, {"document_type": document_type}), "at": when(settings, 0), "through": 3}
        yield Call(f="seed", token=f"seed-{document_type}", arguments=arguments)


def introduce_and_create(seat: Seat) -> Program:
    """Introduce the counter as every instance does when it starts, and create; start again after a while."""
    intent = 0
    while True:
        if intent % seat.settings["creates_per_start"] == 0:
            yield _call("introduce", seat, f"i{intent}", goes_on=intent == 0)
        yield _call("create", seat, intent, amount=_amount(seat))
        intent += 1


def scene_without_counter(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Take over documents that were numbered without a counter."""
    where = {**place(0, settings), "at": when(settings, 0)}
    yield Call(f="seed", token="seed", arguments={**where, "through": settings["old"], "counter": False})


def reserve_and_confirm(seat: Seat) -> Program:
    """Reserve; then confirm, release, or never come back. Sweep what has lapsed, now and then and in the end."""
    asked = seat.settings
    for intent in range(asked["reservations"]):
        held = yield _call("reserve", seat, f"r{intent}", amount=_amount(seat), goes_on=True)
        drawn = seat.random.random()
        if held.outcome is not Outcome.OK or drawn < asked["forget"]:
            pass
        elif drawn < asked["forget"] + asked["release"]:
            text = told(held, "reserved")
            yield _call("release", seat, f"x{intent}", text=text, reason="the customer changed her mind", goes_on=True)
        else:
            yield _call("confirm", seat, f"c{intent}", text=told(held, "reserved"), goes_on=True)
        if intent % asked["sweep_every"] == seat.client % asked["sweep_every"]:
            yield _call("sweep", seat, f"s{intent}", later=LATER, goes_on=True)
    yield _call("sweep", seat, "last", later=LATER, goes_on=True)


def scene_of_duplicates(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Take over documents of which every fourth number was issued twice, then introduce the counter."""
    where = {**place(0, settings), "at": when(settings, 0)}
    for number in range(1, settings["old"] + 1):
        for copy in range(1 if number % 4 else 2):
            arguments = {**where, "amount": 100 * number, "number": number}
            yield Call(f="import_document", token=f"old-{number}-{copy}", arguments=arguments)
    yield Call(f="introduce", token="introduce", arguments=where)


def create_and_clean_up(seat: Seat) -> Program:
    """Create; the first two clients clean up, each from a report of its own, and then create as well."""
    if seat.client < 2:
        report = yield _call("cleanup", seat, "report", goes_on=True)
        surplus = told(report, "duplicates") if report.outcome is Outcome.OK else []
        for n, entry in enumerate(surplus):
            for document in entry["surplus"]:
                yield _call("cleanup", seat, f"void{n}", apply=True, text=entry["text"], document=document, goes_on=True)
    intent = 0
    while True:
        yield _call("create", seat, intent, amount=_amount(seat))
        intent += 1


SCENARIOS = (
    Race(
        name="creates_with_voids",
        family="numbering",
        summary="Some documents are voided, some twice: each keeps its number, and the register says why.",
        behaviour=create_and_void,
        operations=frozenset({"create", "void"}),
        invariants=NUMBERING_INVARIANTS,
        settings={"void": Setting(default=0.3, help="share of documents that are voided")},
        policy="company-series",
    ),
    Race(
        name="posts_in_two_series",
        family="numbering",
        summary="Events with an invoice and a journal entry, each with a number of its own series.",
        scene=scene_of_both,
        behaviour=post_both,
        operations=frozenset({"seed", "post"}),
        invariants=NUMBERING_INVARIANTS,
        policy="company-series",
    ),
    Race(
        name="counter_introduced",
        family="numbering",
        summary="A counter is introduced for documents that exist, by every instance that starts, while others create.",
        scene=scene_without_counter,
        behaviour=introduce_and_create,
        operations=frozenset({"seed", "introduce", "create"}),
        invariants=NUMBERING_INVARIANTS,
        settings={"old": OLD, "creates_per_start": Setting(default=10, help="creates after which an instance starts again")},
        policy="company-series",
    ),
    Race(
        name="reserved_numbers",
        family="numbering",
        summary="Numbers are reserved, then confirmed, released or forgotten, while a sweep voids what has lapsed.",
        behaviour=reserve_and_confirm,
        operations=frozenset({"reserve", "confirm", "release", "sweep"}),
        invariants=NUMBERING_INVARIANTS,
        settings={
            "reservations": Setting(default=12, help="reservations that each client makes"),
            "forget": Setting(default=0.2, help="share of reservations that nobody comes back for"),
            "release": Setting(default=0.2, help="share of reservations that are given up"),
            "sweep_every": Setting(default=3, help="reservations of a client after which it sweeps"),
        },
        policy="gapless",
    ),
    Race(
        name="cleanup_against_creates",
        family="numbering",
        summary="Numbers that were issued twice long ago are cleaned up by two jobs at once, while others create.",
        scene=scene_of_duplicates,
        behaviour=create_and_clean_up,
        operations=frozenset({"import_document", "introduce", "cleanup", "create"}),
        invariants=BESIDE_DUPLICATES,
        settings={"old": OLD},
        policy="company-series",
    ),
)
