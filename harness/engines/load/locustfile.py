"""For people who know Locust: ``locust -f "$(racegate load --locustfile)" --scenario NAME --target NAME -u 20 -r 20 -t 30s``.

Locust's own command line, page and workers, with our users in it. A keeper, a clean process of its own, prepares database and
scene when a test starts and judges when it is over; the verdict becomes Locust's exit status. Workers may be on this machine
(``--processes N``) or on others (``--worker --master-host``): `hosts` and `handover` say how the master gets what each recorded.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import gevent
import locust.runners
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from harness.engines.load.channel import Channel
from harness.engines.load.drivers import refuse_frozen
from harness.engines.load.handover import Handover
from harness.engines.load.hosts import CLOCK, FINAL, PART, TAKEN, Workers
from harness.engines.load.panel import TABS, Panel
from harness.engines.load.plan import LoadPlan
from harness.engines.load.site import Site
from harness.engines.load.user import ScenarioUser

UNKNOWN = 4
"""The exit status of a test that proved nothing."""

LOOK = 0.5
"""Seconds between two looks at whether the process that started this one is still there."""

log = logging.getLogger("racegate")

locust.runners.HEARTBEAT_LIVENESS = 15  # Locust's own 3 seconds take a worker on a busy machine for missing


class Client(ScenarioUser):
    """One client of the scenario."""

    closing: ClassVar[bool] = False
    """Whether the test is being stopped: Locust gives the users of a worker that has left to those that are still there."""

    def on_start(self) -> None:
        """Take a seat, where there is one: a worker that came when the test had begun has no part in it."""
        if getattr(type(self), "site", None) is None or self.closing:
            raise StopUser
        super().on_start()


class Test:
    """The test that goes on in this process: its keeper and workers, if it is in charge, and its site, if it has clients."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.keeper: Channel | None = None
        self.plan: LoadPlan | None = None
        self.began = 0.0
        self.site: Site | None = None
        self.workers: Workers | None = None
        self.gathering: Any = None
        self.concluding: Any = None
        self.panel: Panel | None = None

    def prepare(self) -> bool:
        """Have database and scene prepared; tell whether they are there."""
        runner: Any = self.environment.runner
        self.plan, self.gathering, self.concluding = None, None, None
        self.keeper = _start_keeper()
        self.keeper.send(_asked(self.environment.parsed_options, runner))
        reply = self.keeper.receive()
        if reply["said"] == "refused":
            log.error(reply["text"])
            self._turn("refused", {"verdict": "unknown", "findings": [{"message": reply["text"]}]})
            self.environment.process_exit_code = reply["exit"]
            self.keeper = None
            return False
        self.plan = reply["plan"]
        self.environment.stop_timeout = reply["plan"].grace
        return True

    def start(self) -> None:
        """Tell every worker the plan."""
        if (self.keeper is None or self.concluding is not None) and not self.prepare():
            raise RuntimeError("nothing is run, because database or scene could not be prepared")
        assert self.plan is not None
        runner: Any = self.environment.runner
        self.began = time.monotonic()
        if self.panel is not None:
            self.panel.begin(f"{self.plan.scenario.name} on {self.plan.target.name}")
        if isinstance(runner, MasterRunner):
            self.workers = Workers(runner, self.plan)
            self.workers.begin()
        else:
            self.site = take(self.plan, 0, 1)

    def gather(self) -> None:
        """Wait until everybody has handed over what was recorded, and have it judged; later calls wait for the first."""
        if self.keeper is None or self.plan is None:
            return
        self.gathering = self.gathering or gevent.spawn(self._gather)
        self.gathering.join()

    def _gather(self) -> None:
        seconds = time.monotonic() - self.began
        told: dict[str, Any] = {"finals": [], "lost": [], "hosts": []}
        if self.workers is not None:
            told |= self.workers.gather()
        elif self.site is not None:
            told["finals"] = [self.site.end()]
        whole = self.environment.stats.total
        told |= {"seconds": seconds, "requests": whole.num_requests, "errors": whole.num_failures}
        self._turn("judging")
        self.concluding = gevent.spawn(self._conclude, told)

    def _conclude(self, told: dict[str, Any]) -> None:
        """Have the run judged, and make the verdict Locust's exit status."""
        keeper, self.keeper = self.keeper, None
        assert keeper is not None
        keeper.send(told)
        reply = keeper.receive()
        self.environment.process_exit_code = reply["exit"]
        self._turn("done", reply.get("result"))
        print(reply["text"], end="", flush=True)

    def _turn(self, state: str, result: Any = None) -> None:
        if self.panel is not None:
            self.panel.turn(state, result)

    def finish(self) -> None:
        """End a test that still goes on, and wait for the verdict."""
        if self.keeper is not None and self.plan is not None and self.gathering is None:
            stopping = gevent.spawn(self.environment.runner.stop) if self.environment.runner else None
            if self.workers is None and stopping is not None:
                stopping.join()
        self.gather()
        if self.concluding is not None:
            self.concluding.join()


def take(plan: LoadPlan, rank: int, processes: int) -> Site:
    """Make the site of this process's clients."""
    refuse_frozen()
    Client.site = Site(plan=plan, number=rank, rank=rank, processes=processes)
    Client.closing = False
    return Client.site


def _start_keeper() -> Channel:
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen([sys.executable, "-m", "harness.run.keeper", str(theirs.fileno())], pass_fds=[theirs.fileno()])
    channel = Channel.of_process(ours)
    channel.send(sys.path)
    return channel


def _asked(options: Any, runner: Any) -> dict[str, Any]:
    processes = max(len(getattr(runner, "clients", ())), options.expect_workers or 1, 1)
    return {
        "scenario": options.scenario,
        "target": options.target,
        "policy": options.policy or None,
        "config": str(Path(options.racegate_config).absolute()) if options.racegate_config else None,
        "postgres": options.racegate_postgres,
        "mongo": options.racegate_mongo,
        "disposable": options.racegate_disposable or None,
        "seed": int(options.racegate_seed),
        "out": str(Path(options.racegate_out).absolute()),
        "users": max(getattr(runner, "target_user_count", 0) or 0, options.num_users or 1, processes),
        "processes": processes,
        "duration": float(options.run_time) if options.run_time else None,
        "command": f"locust {' '.join(sys.argv[1:])}",
    }


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: LocustArgumentParser) -> None:
    """Add ours to Locust's options, and those that are not where and whose to the form on its page."""
    ours: dict[str, Any] = {"include_in_web_ui": False}
    parser.add_argument("--scenario", default="concurrent_creates", help="what the users do: racegate list scenarios")
    parser.add_argument("--target", default="reference:pg.counter_row", help="what they do it to: racegate list targets")
    parser.add_argument("--policy", default="", help="what the business demands of its numbers; empty: the scenario's own")
    parser.add_argument("--racegate-config", default="", help="the description of your own service, in place of a target", **ours)
    parser.add_argument("--racegate-postgres", default="embedded", help="the PostgreSQL server: embedded, or a URL", **ours)
    parser.add_argument("--racegate-mongo", default="embedded", help="the MongoDB server: embedded, or a URL", **ours)
    parser.add_argument("--racegate-disposable", default="", help="the name of the database in the URL, repeated", **ours)
    parser.add_argument("--racegate-seed", default="1", help="decides the clients' choices")
    parser.add_argument("--racegate-out", default="runs", help="folder of the run folders", **ours)


@events.init.add_listener  # type: ignore[untyped-decorator]
def on_init(environment: Environment, **kwargs: Any) -> None:
    """Hook the test into Locust's events, each in the process that it concerns.

    Without a page the preparation is done here, because Locust's time begins before the test does.
    """
    runner: Any = environment.runner
    if isinstance(runner, WorkerRunner):
        _serve(environment, Handover(runner, take))
        _interrupts_end_it()
        return
    test = Test(environment)
    environment.events.test_start.add_listener(lambda **more: test.start())
    if isinstance(runner, MasterRunner):

        def hear(environment: Environment, msg: Any) -> None:
            if test.workers is not None:
                test.workers.hear(msg.node_id, msg.type, msg.data)

        for name in (TAKEN, CLOCK, FINAL, PART):
            runner.register_message(name, hear)
        environment.events.test_stopping.add_listener(lambda **more: test.gather())  # before Locust stops listening
    else:
        environment.events.test_stop.add_listener(lambda **more: test.gather())
    environment.events.quitting.add_listener(lambda **more: test.finish())
    if environment.web_ui is not None:
        test.panel = _show(environment.web_ui)
    environment.process_exit_code = UNKNOWN  # until something was proved
    options: Any = environment.parsed_options
    if options.headless and not test.prepare():
        raise SystemExit(environment.process_exit_code)
    _interrupts_end_it()
    gevent.get_hub().loop.update_now()  # else a timer that is set now begins where the loop last looked at the clock


def _show(web: Any) -> Panel | None:
    """Add a tab with the verdict to Locust's page; without it the verdict is printed alone."""
    panel = Panel()
    try:
        panel.install(web, TABS[:1])
    except (AttributeError, KeyError) as e:
        log.warning("this Locust's page is built otherwise than the one that this was made for (%s): it shows no verdict", e)
        return None
    return panel


def _interrupts_end_it() -> None:
    """Let Ctrl-C end the test in good order, and a second one at once.

    By itself it would be raised in whatever greenlet runs, which may be a user in the middle of an operation.
    """
    pressed: list[bool] = []

    def interrupted() -> None:
        if pressed:
            os._exit(UNKNOWN)  # the keeper judges what was recorded
        pressed.append(True)
        os.kill(os.getpid(), signal.SIGTERM)

    gevent.signal_handler(signal.SIGINT, interrupted)


def _serve(environment: Environment, handover: Handover) -> None:
    runner: Any = environment.runner

    def leave(**more: Any) -> None:
        runner.stop()
        handover.leave()

    def follow(parent: int) -> None:
        while os.getppid() == parent:
            gevent.sleep(LOOK)
        os.kill(os.getpid(), signal.SIGTERM)

    def close(**more: Any) -> None:
        Client.closing = True

    environment.events.test_stopping.add_listener(close)
    environment.events.test_stop.add_listener(lambda **more: handover.hand_in())
    environment.events.quitting.add_listener(leave)
    options: Any = environment.parsed_options
    if options is not None and options.processes:  # Locust's own child: by itself it would go on for a minute without its master
        gevent.spawn(follow, os.getppid())
