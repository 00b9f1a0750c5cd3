"""Hurts the store's servers while clients are at work, at points that the clients' progress decides and no clock.

Every fault is done in the order that the scenario gives, in a thread of its own: a server may take its time to die or to come
back, and the engine must go on watching its clients meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from harness.engines.stress import Progress
from harness.engines.stress.halt import Halt
from harness.model import EnvironmentProblem, RacegateError, ServerFault, UsageError
from harness.run.run_request import RunRequest
from harness.stores.base import Store

PATIENCE = 120.0
"""Seconds that a fault may still take when the race is over."""


def server_faults(request: RunRequest) -> Sequence[ServerFault]:
    """Return what the scenario does to servers with these settings; most do nothing."""
    declared = getattr(request.scenario, "server_faults", None)
    return tuple(declared(request.settings)) if declared else ()


def points_of(faults: Sequence[ServerFault]) -> tuple[str, ...]:
    """Return the points of the target at which a fault strikes."""
    return tuple(dict.fromkeys(fault.point for fault in faults if fault.point))


class FaultDirector:
    """Carries out the faults of one run.

    Args:
        faults: in their order.
        store: a store of the run's own.
        mark: told what is done, as it begins and as it is over.
        halt: makes clients stand still at the points of the faults; None when no fault has one.

    Raises:
        UsageError: the store cannot be hurt like that.
    """

    def __init__(
        self,
        faults: Sequence[ServerFault],
        store: Store,
        mark: Callable[[str], None] = lambda text: None,
        halt: Halt | None = None,
    ) -> None:
        offered = frozenset(getattr(store, "faults", frozenset()))
        if strange := [f.kind for f in faults if f.kind not in offered]:
            raise UsageError(
                f"{store.description} offers no {strange[0]}; it offers {', '.join(sorted(offered)) or 'no fault at all'}"
            )
        self._faults = faults
        self._store = store
        self._mark = mark
        self._halt = halt
        self._change = threading.Condition()
        self._completed = 0
        self._changed_at = time.monotonic()
        self._over = False
        self._error: RacegateError | None = None
        self._thread: threading.Thread | None = None
        self.done: list[str] = []
        """One sentence for each fault that was done, in order."""
        self.missed: list[str] = []
        """One sentence for each that was not: the race ended before its point."""

    def watching(self, observe: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """Start; return an observer that also tells the director how far the clients are."""
        self._thread = threading.Thread(target=self._direct, daemon=True, name="server faults")
        self._thread.start()

        def both(progress: Progress) -> None:
            observe(progress)
            completed = progress.ok + progress.fail + progress.info
            with self._change:
                if completed != self._completed:
                    self._completed, self._changed_at = completed, time.monotonic()
                self._change.notify_all()

        return both

    def finish(self) -> None:
        """The race is over: wait for the fault that is being done, then undo what is still in force.

        Raises:
            EnvironmentProblem: a fault could not be done, or a server did not come back.
        """
        self.stop()
        if self._error is not None:
            raise self._error
        for fault in self._faults[len(self.done) :]:
            self.missed.append(f"the race was over before {_named(fault)}: nothing is proved about it; give it more --ops")
        self._store.recover()  # type: ignore[attr-defined]  # a store that offers faults undoes them

    def stop(self) -> None:
        """Do no further fault. May be called twice."""
        with self._change:
            self._over = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join(PATIENCE)
            if self._thread.is_alive():
                raise EnvironmentProblem(f"a fault was not done within {PATIENCE:.0f} s; is the machine overloaded?")
        if self._halt is not None:
            self._halt.close()

    def _direct(self) -> None:
        began = time.monotonic()
        try:
            for fault in self._faults:
                if not self._await_turn(fault):
                    return
                where = self._await_client(fault.point)
                if where is None:
                    return
                self._mark(_named(fault))
                said = getattr(self._store, fault.kind)() or fault.kind
                self._mark(f"{_named(fault)} over")
                if self._halt is not None:
                    self._halt.lift()
                self.done.append(f"after {time.monotonic() - began:.2f} s and {self._completed} operations: {said}{where}")
        except RacegateError as e:
            self._error = e
        finally:
            if self._halt is not None:
                self._halt.lift()

    def _await_client(self, point: str | None) -> str | None:
        """Wait until a client stands at the point. Return who does, in words, or None when the race is over before."""
        if point is None or self._halt is None:
            return ""
        self._halt.ask(point)
        while not (there := self._halt.standing()):
            with self._change:
                if self._over:
                    return None
                self._change.wait(0.01)
        who = "client" if len(there) == 1 else "clients"
        return f", while {who} {', '.join(map(str, there))} stood at {point}"

    def _await_turn(self, fault: ServerFault) -> bool:
        """Wait for the fault's point. Return whether it came before the end of the race."""
        with self._change:
            wanted = self._completed + fault.after
            since = time.monotonic()
            while self._completed < wanted or self._unheard(fault):
                if self._over:
                    return self._completed >= wanted and not self._unheard(fault)
                quiet = time.monotonic() - max(self._changed_at, since)
                if fault.or_quiet is not None and quiet >= fault.or_quiet:
                    return True
                self._change.wait(0.05)
            return not self._over or fault.after == 0

    def _unheard(self, fault: ServerFault) -> bool:
        return fault.heard and self._halt is not None and self._halt.waiting()


def _named(fault: ServerFault) -> str:
    return fault.kind.replace("_", " ") + (f" at {fault.point}" if fault.point else "")
