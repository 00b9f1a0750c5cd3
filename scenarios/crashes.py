"""Creates while the store's servers are killed, cut off and brought back: what a client was told must still be true afterwards.

The points at which servers are hurt follow the clients' progress, so they are the same on a slow machine and a fast one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.model import Call, Outcome, Program, Seat, ServerFault, Setting, StoreNeeds
from scenarios.numbering import DOCUMENT_TYPE, OPENING, SCOPES, Creates, create_for_ever
from scenarios.races import Race
from scenarios.sales import SALE_INVARIANTS, sell, stock

REPLICA_SET = StoreNeeds(nodes=3)
ANYWHERE = "anywhere"
ITEMS = 16
GIVEN_UP = 10.0
"""Seconds after which nobody waits any more for a server that is away."""
CRASH_AFTER = Setting(default=60, help="operations before the server is killed, and again after")
CRASH_AT = "where in an operation the server is killed: anywhere, or while a client stands between the number and the document"
COMMON = {
    "scopes": SCOPES,
    "document_type": DOCUMENT_TYPE,
    "opening": OPENING,
    "think": Setting(default=0.03, help="seconds that a client waits before each create: servers need time to die and come back"),
}


@dataclass(frozen=True, kw_only=True)
class CreatesThroughFaults(Creates):
    """Creates, and what happens to the servers meanwhile."""

    faults: Callable[[Mapping[str, Any]], Sequence[ServerFault]]
    needs: StoreNeeds

    def server_faults(self, settings: Mapping[str, Any]) -> Sequence[ServerFault]:
        """Return the faults in their order."""
        return self.faults(settings)


@dataclass(frozen=True, kw_only=True)
class SalesThroughFaults(Race):
    """Sales, and what happens to the servers meanwhile."""

    faults: Callable[[Mapping[str, Any]], Sequence[ServerFault]]
    needs: StoreNeeds

    def server_faults(self, settings: Mapping[str, Any]) -> Sequence[ServerFault]:
        """Return the faults in their order."""
        return self.faults(settings)


def scene_of_plenty(settings: Mapping[str, Any]) -> Iterable[Call]:
    """Have more in stock than anybody buys, an item for each of a few clients so that the number is all that they share."""
    return (stock(n, 10**6) for n in range(ITEMS))


def sell_thoughtfully(seat: Seat) -> Program:
    """Sell for ever, with a moment's thought before each; a sale that nobody acknowledged is sent again."""
    intent = 0
    while True:
        call = sell(seat.client % ITEMS, seat.token(intent))
        operation = yield replace(call, think=seat.settings["think"])
        if operation.outcome is not Outcome.INFO:
            intent += 1


def create_thoughtfully(seat: Seat) -> Program:
    """Create for ever, with a moment's thought before each."""
    program = create_for_ever(seat)
    call = next(program)
    while True:
        operation = yield replace(call, think=seat.settings["think"])
        call = program.send(operation)


def crash_and_restart(settings: Mapping[str, Any]) -> Sequence[ServerFault]:
    """Kill the server under its clients, start it again, and later restart it once more."""
    point = None if settings["crash_at"] == ANYWHERE else settings["crash_at"]
    return (
        ServerFault(kind="kill_server", after=settings["crash_after"], point=point),
        # Not before those who stood at the point have heard of the crash: a driver that repeats a write by itself must give up.
        ServerFault(kind="start_server", heard=True, or_quiet=GIVEN_UP),
        ServerFault(kind="restart", after=settings["crash_after"], point=point),
    )


def lose_the_primary(settings: Mapping[str, Any]) -> Sequence[ServerFault]:
    """Let clients write what no other node has yet, take the primary away, and bring it back later."""
    return (
        ServerFault(kind="hold_replication", after=settings["crash_after"]),
        # Clients that wait for a majority complete nothing while nobody replicates.
        ServerFault(kind=settings["how"], after=settings["unreplicated"], or_quiet=1.0),
        ServerFault(kind="release_replication"),
        ServerFault(kind="bring_back", after=settings["unreplicated"]),
    )


def let_one_lag(settings: Mapping[str, Any]) -> Sequence[ServerFault]:
    """Keep one secondary from following; the others are a majority and go on."""
    return (
        ServerFault(kind="hold_one_secondary", after=settings["crash_after"]),
        ServerFault(kind="release_replication", after=settings["unreplicated"]),
    )


SCENARIOS = (
    CreatesThroughFaults(
        name="creates_through_a_crash",
        summary="The server is killed under its clients and started again: what it acknowledged is still there.",
        behaviour=create_thoughtfully,
        settings={
            **COMMON,
            "crash_after": CRASH_AFTER,
            "crash_at": Setting(default=ANYWHERE, help=CRASH_AT, choices=(ANYWHERE, "number_taken", "before_commit")),
        },
        faults=crash_and_restart,
        needs=StoreNeeds(fsync=True),
    ),
    SalesThroughFaults(
        name="sales_through_a_crash",
        family="sales",
        summary="The server is killed in the middle of a sale and started again: every number has its sale.",
        scene=scene_of_plenty,
        behaviour=sell_thoughtfully,
        operations=frozenset({"stock_item", "sell"}),
        invariants=SALE_INVARIANTS,
        settings={
            "think": COMMON["think"],
            "crash_after": CRASH_AFTER,
            "crash_at": Setting(
                default="number_taken",
                help=CRASH_AT + ", or between the document and its counter",
                choices=(ANYWHERE, "number_drawn", "number_taken", "before_commit", "document_committed"),
            ),
        },
        policy="branch-daily",
        faults=crash_and_restart,
        needs=StoreNeeds(fsync=True),
    ),
    CreatesThroughFaults(
        name="creates_while_the_primary_dies",
        summary="The primary of a replica set of three is lost with writes that no other node has; it comes back later.",
        behaviour=create_thoughtfully,
        settings={
            **COMMON,
            "crash_after": Setting(default=60, help="operations before the other nodes stop to follow the primary"),
            "unreplicated": Setting(default=20, help="operations that complete between losing touch and losing the primary"),
            "how": Setting(
                default="kill_primary",
                help="how the primary is lost",
                choices=("kill_primary", "stop_primary", "pause_primary", "cut_off_primary", "step_down"),
            ),
        },
        faults=lose_the_primary,
        needs=REPLICA_SET,
    ),
    CreatesThroughFaults(
        name="creates_with_a_lagging_secondary",
        summary="One secondary of a replica set of three stops to follow for a while: whoever reads from it reads the past.",
        behaviour=create_thoughtfully,
        settings={
            **COMMON,
            "crash_after": Setting(default=10, help="operations before the secondary stops to follow"),
            "unreplicated": Setting(default=20, help="operations that complete before it follows again"),
        },
        faults=let_one_lag,
        needs=REPLICA_SET,
    ),
)
