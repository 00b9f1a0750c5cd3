"""For people who know Locust: ``locust -f "$(racegate load --locustfile)" --scenario NAME --target NAME -u 20 -r 20 -t 30s``.

Locust's own command line, page and workers, with our users in it. A keeper, a clean process of its own, prepares database and
scene when a test starts and judges when it is over; the verdict becomes Locust's exit status. Each worker hands in its final
word as a file in the run folder, so that it is there even if Locust's messages no longer are; a worker without one is lost.
Workers have to be on this machine: ``--processes N``, or started by hand.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import locust.runners
import psutil
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from harness.engines.load.channel import Channel
from harness.engines.load.drivers import refuse_frozen
from harness.engines.load.plan import LoadPlan
from harness.engines.load.process import PATIENCE
from harness.engines.load.site import Site
from harness.engines.load.user import ScenarioUser

PLAN = "racegate_plan"
FINAL_LIMIT = 45.0
"""Seconds within which a worker must hand in its final word after the test was stopped."""

LOOK = 0.1

UNKNOWN = 4
"""The exit status of a test that proved nothing."""

log = logging.getLogger("racegate")

locust.runners.HEARTBEAT_LIVENESS = 15  # nobody else sees here that a worker died; Locust's own 3 are too few
locust.runners.MASTER_HEARTBEAT_TIMEOUT = PATIENCE


class Client(ScenarioUser):
    """One client of the scenario."""


class Test:
    """The test that goes on in this process: its keeper, if it is in charge, and its site, if it has clients."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.keeper: Channel | None = None
        self.plan: LoadPlan | None = None
        self.processes = 1
        self.began = 0.0
        self.site: Site | None = None
        self.concluding: Any = None

    def prepare(self) -> bool:
        """Have database and scene prepared; tell whether they are there."""
        runner: Any = self.environment.runner
        self.plan, self.concluding = None, None
        self.keeper = _start_keeper()
        self.keeper.send(_asked(self.environment.parsed_options, runner))
        reply = self.keeper.receive()
        if reply["said"] == "refused":
            log.error(reply["text"])
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
        clients = sorted(runner.clients) if isinstance(runner, MasterRunner) else []
        self.processes = len(clients) or 1
        self.began = time.monotonic()
        packed = base64.b64encode(pickle.dumps(self.plan)).decode()
        for rank, client in enumerate(clients):
            runner.send_message(PLAN, {"plan": packed, "rank": rank, "processes": self.processes}, client)
        if not clients:
            self.take(self.plan, 0, 1)

    def take(self, plan: LoadPlan, rank: int, processes: int) -> None:
        """Make the site of this process's clients."""
        self.plan = plan
        refuse_frozen()
        self.site = Client.site = Site(plan=plan, number=rank, rank=rank, processes=processes)

    def hand_in(self) -> None:
        """Write this process's final word."""
        site, self.site = self.site, None
        if site is None:
            return
        path = site.plan.folder / f"final-{site.rank}.json"
        path.with_suffix(".part").write_text(json.dumps(site.end()), encoding="utf-8")
        path.with_suffix(".part").rename(path)

    def conclude(self) -> None:
        """Wait for every final word, have the run judged, and make the verdict Locust's exit status."""
        if self.keeper is None or self.plan is None:
            return
        seconds = time.monotonic() - self.began
        files = [self.plan.folder / f"final-{rank}.json" for rank in range(self.processes)]
        limit = time.monotonic() + FINAL_LIMIT
        while time.monotonic() < limit and any(not file.exists() and _at_work(file) for file in files):
            gevent.sleep(LOOK)
        for file in files:
            if not file.exists() and (worker := _at_work(file)):
                worker.kill()  # the books must not be read while somebody still writes
                with contextlib.suppress(psutil.Error):
                    worker.wait(LOOK)
        whole = self.environment.stats.total
        self.keeper.send(
            {
                "finals": [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()],
                "lost": [f"worker {rank} went without a final word" for rank, file in enumerate(files) if not file.exists()],
                "seconds": seconds,
                "requests": whole.num_requests,
                "errors": whole.num_failures,
            }
        )
        reply = self.keeper.receive()
        self.keeper = None
        self.environment.process_exit_code = reply["exit"]
        print(reply["text"], end="", flush=True)


def _at_work(final: Path) -> psutil.Process | None:
    """Return the process that is to hand in this final word, if it is still there; its history says who it is."""
    history = final.with_name(final.name.replace("final-", "load-")).with_suffix(".jsonl")
    try:
        with history.open(encoding="utf-8") as file:
            process = psutil.Process(json.loads(file.readline())["pid"])
            return None if process.status() == psutil.STATUS_ZOMBIE else process
    except (OSError, ValueError, psutil.Error):
        return None


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
        "seed": int(options.racegate_seed),
        "out": str(Path(options.racegate_out).absolute()),
        "users": max(getattr(runner, "target_user_count", 0) or 0, options.num_users or 1, processes),
        "processes": processes,
        "duration": float(options.run_time) if options.run_time else None,
        "command": f"locust {' '.join(sys.argv[1:])}",
    }


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: LocustArgumentParser) -> None:
    """Add ours to Locust's options and to the form on its page."""
    parser.add_argument("--scenario", default="concurrent_creates", help="what the users do: racegate list scenarios")
    parser.add_argument("--target", default="reference:pg.counter_row", help="what they do it to: racegate list targets")
    parser.add_argument("--policy", default="", help="what the business demands of its numbers; empty: the scenario's own")
    parser.add_argument("--racegate-seed", default="1", help="decides the clients' choices")
    parser.add_argument("--racegate-out", default="runs", help="folder of the run folders")


@events.init.add_listener  # type: ignore[untyped-decorator]
def on_init(environment: Environment, **kwargs: Any) -> None:
    """Hook the test into Locust's events, each in the process that it concerns.

    Without a page the preparation is done here, because Locust's time begins before the test does.
    """
    test = Test(environment)
    runner: Any = environment.runner

    def stop(**more: Any) -> None:
        test.hand_in()
        if isinstance(runner, MasterRunner | LocalRunner):
            test.concluding = test.concluding or gevent.spawn(test.conclude)

    def finish(**more: Any) -> None:
        if test.concluding is None and test.keeper is not None:
            stop()
        if test.concluding is not None:
            test.concluding.join()

    if isinstance(runner, WorkerRunner):

        def on_plan(environment: Environment, msg: Any, **more: Any) -> None:
            told = msg.data
            test.take(pickle.loads(base64.b64decode(told["plan"])), told["rank"], told["processes"])

        runner.register_message(PLAN, on_plan)
        environment.events.test_stop.add_listener(stop)
    elif isinstance(runner, MasterRunner | LocalRunner):
        environment.events.test_start.add_listener(lambda **more: test.start())
        environment.events.test_stop.add_listener(stop)
        environment.events.quitting.add_listener(finish)
        environment.process_exit_code = UNKNOWN  # until something was proved
        options: Any = environment.parsed_options
        if options.headless and not test.prepare():
            raise SystemExit(environment.process_exit_code)
        gevent.get_hub().loop.update_now()  # else a timer that is set now begins where the loop last looked at the clock
