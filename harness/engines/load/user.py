"""A Locust user: one client of the scenario, making its next call when the last one completed and it has thought enough.

One Locust task is one operation, so that Locust's own way of stopping lets an operation complete. Every operation is fired as
a request event, which makes Locust's statistics and its page right; what the business refused and what was cut off on
purpose is an answer there and not an error.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, ClassVar

import gevent
from locust import User, task
from locust.exception import StopUser

from harness.engines.load.site import Occupied, Site
from harness.model.errors import RacegateError
from harness.model.operation import Call, Operation, Outcome
from harness.model.scenario import Program
from harness.recording.recorder import now

RECONNECT_PAUSE = 0.25
"""Seconds between two tries to reach a system that does not answer, perhaps because it is being restarted."""


class NotAnswered(Exception):
    """What Locust shows for an operation that went wrong."""


class ScenarioUser(User):
    """One client. A subclass made for the run has the process's ``site``."""

    abstract = True
    site: ClassVar[Site]

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._occupied: Occupied | None = None
        self._program: Program | None = None
        self._call: Call | None = None
        self._leaving = False

    def stop(self, force: bool = False) -> bool:
        """Leave after the operation that goes on.

        Locust kills a user that waits; one whose wait is just over would begin its next operation and be killed in the middle.
        """
        self._leaving = True
        return bool(super().stop(force))

    def on_start(self) -> None:
        """Take a seat and think before the first call."""
        try:
            self._occupied = self.site.sit_down()
            self._program = self.site.plan.scenario.program(self._occupied.seat)
            self._call = next(self._program, None)
        except Exception as e:  # noqa: BLE001 - a client that cannot begin is reported, the others go on
            self.give_up(e)
        gevent.sleep(self.wait_time())

    def on_stop(self) -> None:
        """Leave the seat."""
        if self._occupied is not None:
            self.site.stand_up(self._occupied)
            self._occupied = None

    def wait_time(self) -> float:
        """Return the seconds to think before the next call."""
        least, most = self.site.plan.think
        return (self._call.think if self._call else 0.0) + random.uniform(least, most)

    @task
    def operate(self) -> None:
        """Make the next call; leave when there is none."""
        if self._leaving:
            raise StopUser
        if self._call is None or self._occupied is None or self._program is None or self.site.spent:
            self.site.finished += 1
            raise StopUser
        try:
            if not connected(self.site, self._occupied, self.environment):
                gevent.sleep(RECONNECT_PAUSE)
                return
            operation = carry_out(self.site, self._occupied, self._call, self.environment)
            broke = operation.outcome is Outcome.INFO and self._call.fault is None
            self._call = self._program.send(operation)
            if broke:
                gevent.sleep(RECONNECT_PAUSE)
        except StopIteration:
            self.site.finished += 1
            raise StopUser from None
        except Exception as e:  # noqa: BLE001 - as above
            self.give_up(e)

    def give_up(self, error: Exception) -> None:
        """Report a client that cannot go on, and end the run if none can (the disk is full)."""
        self.site.trouble(error)
        if isinstance(error, RacegateError):
            gevent.spawn(self.environment.runner.stop)
        raise StopUser from error


def connected(site: Site, occupied: Occupied, environment: Any) -> bool:
    """Connect the client if need be, and tell whether it is; a refusal is counted and shown as an error."""
    began = now()
    try:
        occupied.client.open()
    except Exception as e:  # noqa: BLE001 - whatever a driver raises, the store did not take the client in
        site.counts.unconnected += 1
        site.last = (now(), False)
        fire(environment, site, "connect", now() - began, NotAnswered(str(e).splitlines()[0] if str(e) else type(e).__name__))
        return False
    return True


def carry_out(site: Site, occupied: Occupied, call: Call, environment: Any, intended: int | None = None) -> Operation:
    """Perform one call, recorded, counted and shown. ``intended`` is when it should have begun, in ns, in an open model."""
    site.counts.invoked += 1
    occupied.busy_since = now()
    operation = occupied.client.perform(survivable(call))
    occupied.busy_since = None
    site.count(operation, intended, on_purpose=call.fault is not None)
    completed = operation.completed or operation.invoked
    fire(environment, site, call.f, completed - (intended or operation.invoked), unexpected(call, operation))
    return operation


def survivable(call: Call) -> Call:
    """Return the call with a fault that its process survives: a killed client is one whose connection is cut.

    Hundreds of clients share a process here; killing it would kill them all, and the evidence of what they did with it.
    """
    if call.fault is not None and call.fault.kind == "kill":
        return replace(call, fault=replace(call.fault, kind="vanish"))
    return call


def unexpected(call: Call, operation: Operation) -> NotAnswered | None:
    """Return what Locust should count as an error, if anything.

    An answer is not one, nor is a refusal, nor what was done to the call on purpose.
    """
    why = operation.failure
    if operation.outcome is Outcome.OK or call.fault is not None or why is None or why.refusal:
        return None
    return NotAnswered(f"{operation.outcome.value} {why.code}: {why.message[:120]}")


def fire(environment: Any, site: Site, name: str, took_ns: int, error: Exception | None) -> None:
    """Tell Locust of a request that took so many ns."""
    if error is not None:
        site.counts.errors += 1
    environment.events.request.fire(
        request_type=site.plan.target.store or "http",
        name=name,
        response_time=took_ns / 1e6,
        response_length=0,
        exception=error,
        context={},
    )


def user_class() -> type[ScenarioUser]:
    """Return a class of users for this process; they work at whatever is its ``site`` when they begin."""
    return type("Client", (ScenarioUser,), {"abstract": False})
