"""A process in which Locust runs. Entry point: ``python -m harness.engines.load DESCRIPTOR``.

In the role ``local`` it is the whole of Locust; with several processes one is ``master``, which has no clients, and the
others are ``worker``. The parent says over a channel what the part is and when to end; this side says how far it has come,
and each worker gives its final word, with its counts, after its last client has left and its history file is closed.
Nothing here judges anything. Without its parent the process ends at once.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import locust.runners
import psutil
from gevent.pool import Group
from locust.env import Environment
from locust.runners import STATE_RUNNING, STATE_SPAWNING, MasterRunner, Runner, WorkerRunner

from harness.engines.load.arrival import arrival_class
from harness.engines.load.channel import Channel
from harness.engines.load.console import Console
from harness.engines.load.drivers import refuse_frozen
from harness.engines.load.plan import LoadPlan, Part
from harness.engines.load.site import Site
from harness.engines.load.user import user_class
from harness.model.errors import RacegateError

PROGRESS = 0.5
"""Seconds between two words on the progress."""

TICK = 0.05
"""Seconds between two looks at how late this process's timers are."""

PATIENCE = 600
"""Seconds for which Locust waits for a heartbeat; the parent sees at once when a process dies.

Locust's own 3 s take a worker on a busy machine for missing, and give its users to others, while it is at work.
"""

SURE = 10
"""Looks in a row at which nobody must be at work: a master hears of its workers' users with some delay."""

LOOK = 0.1
"""Seconds between two looks at whether anybody is still at work."""

LOOPBACK = "127.0.0.1"

RANK = "racegate_rank"


def main(descriptor: int, early: list[str]) -> int:
    """Play the part that comes over the channel; ``early`` names drivers that were imported before Locust."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which lets operations complete
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    locust.runners.HEARTBEAT_LIVENESS = locust.runners.MASTER_HEARTBEAT_TIMEOUT = PATIENCE
    channel = Channel.of_process(socket.socket(fileno=descriptor))
    try:
        sys.path[:] = channel.receive()
        part: Part = channel.receive()
        refuse_frozen(early)
        actor = _ACTORS[part.role](part, channel)
    except RacegateError as e:
        channel.send({"said": "broken", "kind": type(e).__name__, "text": str(e)})
        return 1
    except Exception as e:
        logging.exception("the process could not start")
        channel.send({"said": "broken", "kind": "EnvironmentProblem", "text": f"{type(e).__name__}: {e}"})
        return 1
    gevent.spawn(_obey, channel, actor)
    actor.over.wait()
    sys.stderr.flush()
    os._exit(0)  # Locust's sockets and greenlets have nothing left to say, and would wait for one another


def _obey(channel: Channel, actor: Actor) -> None:
    while True:
        try:
            order = channel.receive()
        except EOFError:
            os._exit(1)  # without its parent nobody would hear the final word
        except Exception as e:  # noqa: BLE001 - a plan whose modules this process cannot import
            actor.say("broken", kind="UsageError", text=f"a load process cannot take the plan ({type(e).__name__}: {e})")
            continue
        if order["order"] == "quit":
            actor.over.set()
        else:
            gevent.spawn(getattr(actor, f"on_{order['order']}"), order)


class Actor:
    """What the roles have in common."""

    runner: Runner
    plan: LoadPlan

    def __init__(self, part: Part, channel: Channel) -> None:
        self.part = part
        self.channel = channel
        self.over = gevent.event.Event()
        self.round = 0
        self.closed = user_class()
        self.open = arrival_class()
        self.environment = Environment(user_classes=[self.closed])

    def say(self, said: str, **more: Any) -> None:
        """Tell the parent, and of which run it is said."""
        self.channel.send({"said": said, "round": self.round, **more})

    def on_plan(self, order: dict[str, Any]) -> None:
        """Take what the next run is to do."""
        self.plan, self.round = order["plan"], order["round"]
        self.environment.stop_timeout = self.plan.grace
        self.environment.user_classes = [self.open if self.plan.arrivals is not None else self.closed]
        self.prepare()
        refuse = self.refusal()
        if refuse is not None:
            self.say("broken", kind="EnvironmentProblem", text=refuse)
        else:
            self.say("prepared")

    def prepare(self) -> None:
        """Make ready for the plan."""

    @staticmethod
    def refusal() -> str | None:
        """Return why this process must not run: the plan brought a frozen driver along."""
        try:
            refuse_frozen()
        except RacegateError as e:
            return str(e)
        return None

    def on_stop(self, order: dict[str, Any]) -> None:
        """Let operations complete and end."""
        self.runner.stop()


class Worker(Actor):
    """Has clients, sent by a master."""

    here: Site

    def __init__(self, part: Part, channel: Channel) -> None:
        super().__init__(part, channel)
        self.rank = 0
        self.rounds = 0

    def prepare(self) -> None:
        """Make the site on which this run's clients work."""
        self.here = Site(plan=self.plan, number=self.part.number, rank=self.rank, processes=self.part.processes)
        self.closed.site = self.open.site = self.here
        self.here.warm_up()
        if not self.rounds:
            gevent.spawn(self.tell_progress)
            gevent.spawn(watch_generator, lambda: self.here)
        self.rounds += 1

    def on_port(self, order: dict[str, Any]) -> None:
        """Join the master, which now listens."""
        self.runner = self.environment.create_worker_runner(LOOPBACK, order["port"])
        self.runner.register_message(RANK, self.on_rank)
        self.environment.events.test_stop.add_listener(self.on_test_stop)

    def on_rank(self, environment: Environment, msg: Any) -> None:
        """Take the place among the others that the master names."""
        self.rank = msg.data["rank"]
        self.say("ready", pid=os.getpid())

    def on_test_stop(self, environment: Environment, **kwargs: Any) -> None:
        """Give the final word, after the last client left."""
        self.give_final_word()
        if isinstance(self.runner, WorkerRunner):
            self.runner._send_stats()  # the master's statistics lack up to three seconds otherwise
            environment.stop_timeout = 0  # Locust would be deaf for that long before it can start again

    def give_final_word(self) -> None:
        """Close the history file and tell the parent all that was counted."""
        try:
            self.say("final", **self.here.end())
        except RacegateError as e:
            self.say("broken", kind=type(e).__name__, text=str(e))

    def tell_progress(self) -> None:
        """Tell the parent now and then how far the clients have come."""
        while True:
            gevent.sleep(PROGRESS)
            recent = sum((latencies.settle() for latencies in self.here.latencies.values()), Counter[int]())
            self.say(
                "progress",
                users=self.here.users(self.runner.user_count),
                counts=self.here.counts.to_json(),
                recent={str(bucket): count for bucket, count in recent.items()},
                cpu=self.here.generator.cpu,
            )


class Control(Actor):
    """Starts the clients and stops them: what local and master have in common."""

    console: Console | None = None
    going: gevent.Greenlet | None = None
    """Follows the run that goes on; None once somebody stops it."""

    def listen(self) -> None:
        """Hear when a run is over, and show the page."""
        self.ramps = Group()
        self.environment.events.test_stopping.add_listener(self.on_stopping)
        self.environment.events.test_stop.add_listener(self.on_control_stop)
        if self.part.page is not None:
            self.console = Console(self.environment, self.part.page, lambda form: self.say("wanted", form=form), self.resize)

    def say_ready(self) -> None:
        """Tell the parent that everybody is there, and where the page is."""
        self.say("ready", pid=os.getpid(), address=self.console.address if self.console else None)

    def on_live(self, order: dict[str, Any]) -> None:
        """Show a sample of the live figures."""
        if self.console is not None:
            self.console.show(order["sample"])

    def on_refused(self, order: dict[str, Any]) -> None:
        """Tell the visitor why the run that was wanted cannot be."""
        if self.console is not None:
            self.console.refuse(order["text"])

    def on_verdict(self, order: dict[str, Any]) -> None:
        """Show what the run came to."""
        if self.console is not None:
            self.console.conclude(order["result"])

    def on_go(self, order: dict[str, Any]) -> None:
        """Run from the first client to the last: until the duration is over, or no client has anything left to do."""
        if self.console is not None:
            self.console.begin(self.plan)
        self.going = going = gevent.spawn(self.go)
        going.join(self.plan.duration)
        if self.going is going:  # else somebody else has stopped this run, and the next one may go on
            self.runner.stop()

    def on_stop(self, order: dict[str, Any]) -> None:
        """Let operations complete and end, also if nothing has begun yet: a runner forgets that it was stopped before."""
        while self.going and self.runner.state not in (STATE_SPAWNING, STATE_RUNNING):
            gevent.sleep(LOOK)
        super().on_stop(order)

    def go(self) -> None:
        """Start the users, and return when none of them is at work any more."""
        spawned = gevent.event.Event()

        def all_there(user_count: int, **kwargs: Any) -> None:
            spawned.set()

        self.environment.events.spawning_complete.add_listener(all_there)
        try:
            users = self.plan.locust_users(self.part.processes)
            self.ramp(users, max(self.plan.spawn_rate, users) if self.plan.arrivals else self.plan.spawn_rate)
            spawned.wait()
        finally:
            self.environment.events.spawning_complete.remove_listener(all_there)
        idle = 0
        while idle < (SURE if self.part.processes > 1 else 1):
            gevent.sleep(LOOK)
            idle = 0 if self.runner.user_count else idle + 1

    def resize(self, users: int, spawn_rate: float) -> None:
        """Make the users of the run that goes on more or fewer."""
        if self.going is not None:
            self.ramp(users, spawn_rate)

    def ramp(self, users: int, spawn_rate: float) -> None:
        """Begin to come to so many users, in place of what was asked for before: Locust can only do one of them."""
        self.ramps.kill()
        self.ramps.spawn(self.runner.start, users, spawn_rate).link_exception(self.on_no_ramp)

    def on_no_ramp(self, ramp: gevent.Greenlet) -> None:
        """Tell the parent that the users cannot be started."""
        self.say("broken", kind="EnvironmentProblem", text=f"Locust cannot start its users ({ramp.exception!r})")

    def on_stopping(self, **kwargs: Any) -> None:
        """Begin to end the run, whoever wants it: a master would go on to send users to workers that have ended."""
        if self.going is not None:
            self.going.kill()
        self.going = None
        self.ramps.kill()

    def on_control_stop(self, **kwargs: Any) -> None:
        """Tell the parent that no client is left, and what Locust counted."""
        whole = self.environment.stats.total
        if self.console is not None:
            self.console.judge()
        self.say("stopped", requests=whole.num_requests, errors=whole.num_failures)


class Local(Control, Worker):
    """All of Locust in one process."""

    def __init__(self, part: Part, channel: Channel) -> None:
        super().__init__(part, channel)
        self.runner = self.environment.create_local_runner()
        self.environment.events.test_stop.add_listener(self.on_test_stop)
        self.listen()
        self.say_ready()


class Master(Control):
    """Hands users out to workers and adds up what they report."""

    runner: MasterRunner

    def __init__(self, part: Part, channel: Channel) -> None:
        super().__init__(part, channel)
        self.runner = self.environment.create_master_runner(LOOPBACK, 0)
        self.listen()
        self.say("port", port=self.runner.server.port)
        gevent.spawn(self.gather)

    def gather(self) -> None:
        """Wait until every worker is there, and tell each its place: the order in which Locust hands users out."""
        while len(self.runner.clients.ready) < self.part.processes:
            gevent.sleep(LOOK)
        for rank, client in enumerate(sorted(self.runner.clients)):
            self.runner.send_message(RANK, {"rank": rank}, client)
        self.say_ready()


def watch_generator(site: Callable[[], Site]) -> None:
    """Note this process's share of a core, and how late its timers are."""
    process = psutil.Process()
    process.cpu_percent()
    ticks = 0
    while True:
        began = time.monotonic()
        gevent.sleep(TICK)
        site().generator.late(max(time.monotonic() - began - TICK, 0.0))
        ticks += 1
        if ticks % 20 == 0:
            site().generator.used(process.cpu_percent() / 100)


_ACTORS: dict[str, Any] = {"local": Local, "master": Master, "worker": Worker}
