"""Faults under load: what is done on purpose to the store, and when.

Each is carried out from a thread of its own at its time after the first users began, and noted on the run's timeline with
its end. A correct system keeps its books right through them; what clients were told, or not, is decided by the books.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.model.errors import UsageError
from harness.model.scenario import StoreNeeds
from harness.stores.base import Database, Store, StoreKind

FORMS = "kill-connections@5s, restart@10s, pause:2s@15s, stepdown@20s or failover:1s@25s"

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}

REPLICA_SET = 3
"""Nodes of the MongoDB that racegate starts for a fault that takes the primary away."""

_TAKES_PRIMARY = ("stepdown", "failover")

_NEEDS = {"restart": ("restart", "stop_primary"), "pause": ("pause_server", "pause_primary"), "failover": ("kill_primary",)}
"""What a store has to offer, one of these, for a fault that is not done over a connection."""


@dataclass(frozen=True, kw_only=True)
class LoadFault:
    """One fault: ``at`` seconds after the start, lasting ``seconds`` where it lasts.

    ``restart`` stops the server (of a replica set the primary) and starts it again, ``pause`` freezes it, ``stepdown`` makes
    the primary hand over; ``failover`` keeps the other nodes from following for ``seconds``, kills the primary, and brings it
    back when another leads: what only it had is lost.
    """

    kind: str
    at: float
    seconds: float = 0.0
    text: str


def parse_fault(text: str) -> LoadFault:
    """Return the fault that a text means. Raises UsageError if it means none."""
    time_of = r"(\d+(?:\.\d+)?)(ms|s|m)"
    match = re.fullmatch(rf"(kill-connections|restart|stepdown|failover|(?:pause|failover):{time_of})@{time_of}", text.strip())
    if match is None:
        raise UsageError(f"{text!r} is no fault; expected for example {FORMS}")
    whole, pause, pause_unit, at, unit = match.groups()
    return LoadFault(
        kind=whole.partition(":")[0],
        at=float(at) * _UNITS[unit],
        seconds=float(pause) * _UNITS[pause_unit] if pause else 0.0,
        text=text.strip(),
    )


def needs_of(faults: Sequence[LoadFault]) -> StoreNeeds:
    """Return what a store that racegate starts needs, to suffer the faults without losing what it acknowledged."""
    kinds = {fault.kind for fault in faults}
    return StoreNeeds(
        nodes=REPLICA_SET if kinds & set(_TAKES_PRIMARY) else 1,
        fsync=bool(kinds & {"restart", "failover"}),  # otherwise commits are acknowledged before they are anywhere
    )


def check_faults(faults: Sequence[LoadFault], store: Store | None) -> None:
    """Make sure that the store can suffer them. Raises UsageError if it cannot."""
    for fault in faults:
        if store is None:
            raise UsageError(f"--fault {fault.text}: the target has no store that racegate knows")
        if fault.kind in _TAKES_PRIMARY and store.kind is not StoreKind.MONGO:
            raise UsageError(f"--fault {fault.text}: only MongoDB has a primary that can lose its place")
        if (needs := _NEEDS.get(fault.kind)) and not any(hasattr(store, need) for need in needs):
            raise UsageError(f"--fault {fault.text}: {store.description} was not started by racegate, which leaves it running")


class Timeline:
    """Carries faults out while a run goes on. Use it as a context manager; `begin` starts its clock.

    Args:
        faults: what and when.
        store: the server.
        database: the run's database on it.
        mark: told what was done, as it begins and as it is over.
    """

    def __init__(
        self, faults: Sequence[LoadFault], store: Store | None, database: Database | None, mark: Callable[[str], None]
    ) -> None:
        check_faults(faults, store)
        self._faults = sorted(faults, key=lambda f: f.at)
        self._store: Any = store
        self._database = database
        self._mark = mark
        self._began = threading.Event()
        self._over = threading.Event()
        self.done: list[str] = []
        self.troubles: list[str] = []
        self._thread = threading.Thread(target=self._run, name="faults", daemon=True)

    def __enter__(self) -> Timeline:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._began.set()
        self._thread.join()

    def begin(self) -> None:
        """The users begin now."""
        self._began.set()

    @property
    def left(self) -> list[str]:
        """The faults that were not carried out."""
        return [fault.text for fault in self._faults[len(self.done) :]]

    def _run(self) -> None:
        self._began.wait()
        start = time.monotonic()
        for fault in self._faults:
            if self._over.wait(max(start + fault.at - time.monotonic(), 0.0)):
                return
            self._mark(fault.text)
            try:
                self._carry_out(fault)
            except Exception as e:  # noqa: BLE001 - a fault that failed is told; the run goes on and is judged
                self.troubles.append(f"the fault {fault.text} failed: {str(e).splitlines()[0] if str(e) else type(e).__name__}")
            else:
                self._mark(f"{fault.kind} over")
            self.done.append(fault.text)

    def _carry_out(self, fault: LoadFault) -> None:
        store = self._store
        if fault.kind == "restart":
            if hasattr(store, "restart"):
                store.restart()
            else:
                store.stop_primary()
                store.bring_back()
        elif fault.kind == "pause":
            pause, resume = (
                ("pause_server", "resume_server") if hasattr(store, "pause_server") else ("pause_primary", "bring_back")
            )
            getattr(store, pause)()
            try:
                self._over.wait(fault.seconds)
            finally:
                getattr(store, resume)()
        elif fault.kind == "failover":
            self._fail_over(fault.seconds)
        elif fault.kind == "stepdown" and hasattr(store, "step_down"):
            store.step_down()
        elif self._database is not None:
            _over_a_connection(fault.kind, self._database)

    def _fail_over(self, unreplicated: float) -> None:
        try:
            try:
                if unreplicated:
                    self._store.hold_replication()
                    self._over.wait(unreplicated)
                self._store.kill_primary()
            finally:
                self._store.release_replication()
            self._store.primary()  # waits until another leads: otherwise the killed one would lead again, and nothing were lost
        finally:
            self._store.bring_back()


def _over_a_connection(kind: str, database: Database) -> None:
    if database.kind is StoreKind.POSTGRES:
        import psycopg  # noqa: PLC0415

        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        return
    import pymongo  # noqa: PLC0415

    client: pymongo.MongoClient[Any] = pymongo.MongoClient(database.url, serverSelectionTimeoutMS=5000)
    with client:
        if kind == "stepdown":
            client.admin.command("replSetStepDown", 1, secondaryCatchUpPeriodSecs=0, force=True)
        else:
            client.admin.command("killAllSessions", [])
