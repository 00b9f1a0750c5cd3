"""A Locust user that stands for all clients of an open model in its process.

It hands each arrival to a free client at the moment that the schedule intends. An arrival that finds every client busy is
dropped and counted: the cap on what is in flight is reached, and waiting would make the model a closed one. Latency counts
from the intended moment, so a server that stalls is charged for all who came in the meantime, and so is a generator that is
late.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gevent
from gevent.pool import Pool
from locust import User, task
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_STOPPING

from harness.engines.load.site import Occupied, Site
from harness.engines.load.user import RECONNECT_PAUSE, carry_out, connected
from harness.model.operation import Call
from harness.model.scenario import Program
from harness.recording.recorder import now

LATE = 10_000_000
"""Nanoseconds after the intended moment from which on an arrival is late."""


class _Chair:
    """A client that waits for its next arrival."""

    def __init__(self, site: Site) -> None:
        self.occupied: Occupied = site.sit_down()
        self.program: Program = site.plan.scenario.program(self.occupied.seat)
        self.call: Call | None = next(self.program, None)


class ArrivalUser(User):
    """All clients of one process. A subclass made for the run has the process's ``site``."""

    abstract = True
    site: ClassVar[Site]

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._free: list[_Chair] = []
        self._chairs: list[_Chair] = []
        self._pool = Pool()

    def on_start(self) -> None:
        """Take every seat of this process, and connect, before the clock starts."""
        plan, site = self.site.plan, self.site
        here = len(range(site.rank, plan.users, site.processes))
        self._chairs = [_Chair(site) for _ in range(here)]
        self._free = [chair for chair in self._chairs if chair.call is not None]
        warm = Pool(50)
        for chair in self._chairs:
            warm.spawn(connected, site, chair.occupied, self.environment)
        warm.join()

    def wait_time(self) -> float:
        """Return 0: the schedule is the only pause."""
        return 0.0

    @task
    def serve(self) -> None:
        """Follow the schedule to its end, and wait for what is in flight."""
        plan, site = self.site.plan, self.site
        assert plan.arrivals is not None
        began = now()
        for due in plan.arrivals.share(plan.seed, site.rank, site.processes):
            intended = began + int(due * 1e9)
            ahead = (intended - now()) / 1e9
            gevent.sleep(max(ahead, 0.0))
            if self._state == LOCUST_STATE_STOPPING:
                break
            self._arrive(intended)
        else:
            site.finished = site.seated
        self._pool.join(plan.grace)
        raise StopUser

    def on_stop(self) -> None:
        """Leave every seat; what is still in flight has had its time."""
        for chair in self._chairs:
            self.site.stand_up(chair.occupied)
        self._pool.kill(block=False)

    def _arrive(self, intended: int) -> None:
        counts = self.site.counts
        counts.arrived += 1
        if not self._free:
            counts.dropped += 1
            return
        if now() - intended > LATE:
            counts.late += 1
        self._pool.spawn(self._work, self._free.pop(), intended)

    def _work(self, chair: _Chair, intended: int) -> None:
        site = self.site
        assert chair.call is not None
        try:
            if not connected(site, chair.occupied, self.environment):
                site.counts.dropped += 1
                gevent.sleep(RECONNECT_PAUSE)
            else:
                operation = carry_out(site, chair.occupied, chair.call, self.environment, intended)
                chair.call = chair.program.send(operation)
        except StopIteration:
            return
        except Exception as e:  # noqa: BLE001 - a client that cannot go on is reported, the others do
            site.trouble(e)
            return
        self._free.append(chair)


def arrival_class() -> type[ArrivalUser]:
    """Return a class of such users for this process; they work at whatever is its ``site`` when they begin."""
    return type("Arrivals", (ArrivalUser,), {"abstract": False})
