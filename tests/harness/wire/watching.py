"""Watches a real proxy: lets every step go as a plan says, and keeps what was reported."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from harness.wire.base import ConnectionOpened, Decision, Event, Step, StepArrived, StepDone, WireProxy

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds after which something that must happen is taken not to happen."""


class Watch:
    """Decides in the proxy's loop. ``faults`` maps a step's text (or its beginning) to what is done the first time."""

    def __init__(self, proxy: WireProxy, faults: dict[str, Decision] | None = None) -> None:
        self.proxy = proxy
        self.events: list[Event] = []
        self._faults = dict(faults or {})
        self._changed = threading.Condition()
        proxy.control(self._take)

    def _take(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()
        if isinstance(event, StepArrived):
            self.proxy.decide(event.step, self._decision(event.step))

    def _decision(self, step: Step) -> Decision:
        for text in self._faults:
            if step.text.startswith(text):
                return self._faults.pop(text)
        return Decision.RELEASE

    def steps(self) -> list[Step]:
        return [e.step for e in self.events if isinstance(e, StepArrived)]

    def texts(self) -> list[str]:
        return [s.text for s in self.steps()]

    def ends(self) -> list[StepDone]:
        """Return how each step ended; the client may know the last a moment before it is reported."""
        return self.wait_for(StepDone, len(self.steps()))

    def of(self, sort: type[T]) -> list[T]:
        return [e for e in self.events if isinstance(e, sort)]

    def wait_for(self, sort: type[T], count: int = 1) -> list[T]:
        """Wait until so many events of a sort were reported."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(sort)) >= count, PATIENCE), (
                f"{count} x {sort.__name__} did not come: {self.events}"
            )
            return self.of(sort)


def event_of(proxy: WireProxy, sort: type[T], wanted: Callable[[T], bool] = lambda _: True) -> T:
    """Return the next event of a sort from the queue, passing over others."""
    while True:
        event = proxy.next_event(PATIENCE)
        assert event is not None, f"no {sort.__name__} came"
        if isinstance(event, sort) and wanted(event):
            return event


@contextmanager
def running(*actions: Callable[[], object]) -> Iterator[list[BaseException | None]]:
    """Run clients in threads, and wait for them at the end. Yields what they raised, by position."""
    raised: list[BaseException | None] = [None] * len(actions)

    def run(index: int) -> None:
        try:
            actions[index]()
        except Exception as e:  # noqa: BLE001 - handed to the test
            raised[index] = e

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(actions))]
    for thread in threads:
        thread.start()
    yield raised
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a client did not come back"


class Order:
    """Lets named clients go one step at a time. A client's connection is known by its application name."""

    def __init__(self, proxy: WireProxy) -> None:
        self._proxy = proxy
        self._names: dict[int, str] = {}
        self._held: dict[str, StepArrived] = {}
        self._ended: dict[str, StepDone] = {}
        self.pids: dict[str, int] = {}

    def _take(self) -> None:
        event = self._proxy.next_event(PATIENCE)
        assert event is not None, "nothing happened"
        if isinstance(event, ConnectionOpened):
            self._names[event.connection] = event.application_name
            self.pids[event.application_name] = event.backend
        elif isinstance(event, StepArrived):
            self._held[self._names[event.step.connection]] = event
        elif isinstance(event, StepDone):
            self._ended[self._names[event.step.connection]] = event

    def gather(self, *names: str) -> None:
        """Wait until each of these is held."""
        while not set(names) <= self._held.keys():
            self._take()

    def go(self, name: str) -> None:
        """Release a client's held step without waiting for its end."""
        self.gather(name)
        self._proxy.decide(self._held.pop(name).step)

    def ended(self, name: str) -> StepDone:
        while name not in self._ended:
            self._take()
        return self._ended.pop(name)

    def step(self, name: str) -> StepDone:
        self.go(name)
        return self.ended(name)
