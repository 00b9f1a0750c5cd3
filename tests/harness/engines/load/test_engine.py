"""Locust's processes start, work, are watched, and a lost one is noticed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.engines.load.engine import LoadEngine, LoadOutcome
from harness.engines.load.plan import LoadPlan, Page
from harness.engines.stress import Progress
from harness.model import Fault, History, UsageError
from harness.recording.loader import load
from tests.processes import descendants
from tests.support import Echoes, EchoTarget


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadEngine]:
    """All of Locust in one process, which makes many runs one after another."""
    with LoadEngine(processes=1, logs=tmp_path_factory.mktemp("logs")) as engine:
        yield engine


def plan(folder: Path, **changes: Any) -> LoadPlan:
    asked: dict[str, Any] = {
        "target": EchoTarget(),
        "database": None,
        "scenario": Echoes(think=0.005),
        "users": 4,
        "spawn_rate": 100.0,
        "duration": 0.5,
        "seed": 1,
        "folder": folder,
    }
    return LoadPlan(**{**asked, **changes})


def race(engine: LoadEngine, folder: Path, **changes: Any) -> tuple[LoadOutcome, History]:
    outcome = engine.run(plan(folder, **changes))
    history, _ = load(sorted(folder.glob("*.jsonl")))
    return outcome, history


def test_a_duration_ends_a_run_and_all_that_was_counted_is_in_the_history(one: LoadEngine, tmp_path: Path) -> None:
    outcome, history = race(one, tmp_path)

    assert 0.4 < outcome.seconds < 5
    assert len(history) > 20
    assert outcome.counts()["invoked"] == outcome.counts()["ok"] == len(history) == outcome.requests
    assert (outcome.lost, outcome.errors, outcome.interrupted) == ((), 0, False)
    assert set(history.operations["client"]) == {0, 1, 2, 3}


def test_a_run_with_a_count_makes_exactly_so_many_operations(one: LoadEngine, tmp_path: Path) -> None:
    outcome, history = race(one, tmp_path, duration=None, ops=42)

    assert (outcome.counts()["invoked"], len(history)) == (42, 42)


def test_the_same_seed_makes_the_same_choices(one: LoadEngine, tmp_path: Path) -> None:
    def drawn(name: str, seed: int) -> list[str]:
        (tmp_path / name).mkdir()
        _, history = race(one, tmp_path / name, seed=seed, users=1, duration=None, ops=20)
        return sorted(history.operations["arguments"])

    assert drawn("a", 7) == drawn("b", 7)
    assert drawn("c", 7) != drawn("d", 8)


def test_latencies_are_measured_for_each_operation(one: LoadEngine, tmp_path: Path) -> None:
    outcome, _ = race(one, tmp_path)

    (final,) = outcome.finals
    assert set(final["latencies"]) == {"echo"}
    assert final["latencies"]["echo"]["service"]
    assert final["latencies"]["echo"]["response"] is None, "in a closed model it is the service time"


def test_an_answer_nobody_foresaw_is_an_error_and_a_fault_on_purpose_is_none(one: LoadEngine, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    raised, history = race(one, tmp_path / "a", scenario=Echoes(sometimes="raise", think=0.005))
    asked_for, _ = race(one, tmp_path / "b", scenario=Echoes(fault=Fault(kind="lose_reply"), think=0.005))

    assert (raised.errors, history.count()["info"]) == (1, 1)
    assert (asked_for.errors, asked_for.counts()["info"]) == (0, 1)


def test_a_kill_asked_for_cuts_one_client_and_leaves_the_others_alive(one: LoadEngine, tmp_path: Path) -> None:
    outcome, history = race(one, tmp_path, scenario=Echoes(fault=Fault(kind="kill", point="number_taken"), think=0.005))

    assert outcome.lost == ()
    assert history.count()["info"] == 1
    assert {0, 1, 2, 3} == set(history.operations["client"])


def test_clients_that_cannot_connect_are_counted_as_errors(one: LoadEngine, tmp_path: Path) -> None:
    outcome, history = race(one, tmp_path, target=EchoTarget(refuses_clients=True))

    assert len(history) == 0
    assert outcome.counts()["unconnected"] == outcome.errors > 0


def test_a_client_that_never_comes_back_is_named(one: LoadEngine, tmp_path: Path) -> None:
    outcome, history = race(one, tmp_path, scenario=Echoes(sometimes="hang", think=0.005), grace=0.3)

    assert [client for client, _ in outcome.stuck] == [0]
    assert history.count()["info"] == 1


def test_the_progress_is_told_while_it_runs(one: LoadEngine, tmp_path: Path) -> None:
    told: set[int] = set()

    def look(progress: Progress) -> None:
        told.add(progress.invoked)
        if len(told - {0}) > 1:
            one.abort()

    outcome = one.run(plan(tmp_path, duration=60.0), look)

    assert len(told - {0}) > 1
    assert outcome.seconds < 50


def test_a_run_hears_nothing_of_the_run_before(one: LoadEngine, tmp_path: Path) -> None:
    """A worker tells its progress between runs too, when nobody reads."""
    (tmp_path / "before").mkdir()
    (tmp_path / "now").mkdir()
    before, _ = race(one, tmp_path / "before", duration=1.0)
    assert before.counts()["invoked"] > 1
    unread, _, _ = select.select([one._control.channel], [], [], 60)
    seen: list[Progress] = []
    heard: list[Mapping[str, Any]] = []
    outcome = one.run(plan(tmp_path / "now", duration=None, ops=1), seen.append, lambda name, message: heard.append(message))

    assert unread
    assert outcome.counts()["invoked"] == 1
    assert max(p.invoked for p in seen) == 1
    assert all(message["counts"]["invoked"] <= 1 for message in heard)


def test_what_cannot_be_sent_to_another_process_is_refused(tmp_path: Path) -> None:
    class Local(EchoTarget):
        pass

    with (
        LoadEngine(processes=1, logs=tmp_path) as engine,
        pytest.raises(UsageError, match="cannot be sent to another process"),
    ):
        engine.run(plan(tmp_path, target=Local()))


def test_two_workers_share_the_clients_and_lose_nothing(tmp_path: Path) -> None:
    with LoadEngine(processes=2, logs=tmp_path / "logs") as engine:
        outcome, history = race(engine, tmp_path)

    assert len(outcome.finals) == 2
    assert outcome.counts()["invoked"] == len(history) == outcome.requests
    assert set(history.operations["client"]) == {0, 1, 2, 3}
    assert sorted(p.name for p in tmp_path.glob("*.jsonl")) == ["load-0.jsonl", "load-1.jsonl"]


@pytest.mark.parametrize(("which", "name"), [(1, "worker 0"), (0, "master")])
def test_a_killed_process_is_named_and_the_rest_is_ended(which: int, name: str, tmp_path: Path) -> None:
    with LoadEngine(processes=2, logs=tmp_path / "logs") as engine:
        processes = descendants(os.getpid(), "harness.engines.load")[-3:]

        def kill(progress: Progress) -> None:
            if progress.invoked > 20 and processes[which].is_running():
                processes[which].send_signal(signal.SIGKILL)

        outcome = engine.run(plan(tmp_path, duration=30.0), kill)
    history, _ = load(sorted(tmp_path.glob("*.jsonl")))

    assert [lost.split(" (")[0] for lost in outcome.lost] == [name]
    assert "was killed by signal 9" in outcome.lost[0]
    assert len(history) > 20, "what was recorded is kept"
    assert outcome.seconds < 20


def test_an_interrupt_lets_operations_complete(one: LoadEngine, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.invoked > 20 and not sent:
            sent.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    sent: list[bool] = []
    assert threading.current_thread() is threading.main_thread()
    outcome = one.run(plan(tmp_path, duration=30.0), interrupt)
    history, facts = load(sorted(tmp_path.glob("*.jsonl")))

    assert outcome.interrupted
    assert outcome.counts()["invoked"] == len(history)
    assert all(f.ended for f in facts)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_was_stopped_while_users_still_came_is_over(processes: int, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.invoked:
            engine.abort()

    (tmp_path / "stopped").mkdir()
    (tmp_path / "next").mkdir()
    with LoadEngine(processes=processes, logs=tmp_path / "logs") as engine:
        stopped = engine.run(plan(tmp_path / "stopped", users=100, spawn_rate=4.0, duration=2.0), stop)
        following, history = race(engine, tmp_path / "next", duration=3.0)

    assert (stopped.lost, stopped.troubles) == ((), ()), "nobody came after the end"
    assert following.seconds > 2.5, "the end of the first run's duration is not its own"
    assert set(history.operations["client"]) == {0, 1, 2, 3}


def asked_for_users(engine: LoadEngine, users: int) -> dict[str, Any]:
    """Ask for other numbers of users on the page of a run that goes on; return its answer."""
    with urllib.request.urlopen(f"{engine.address}/swarm", f"user_count={users}&spawn_rate=4".encode()) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def test_users_asked_for_on_the_page_do_not_come_after_the_end(tmp_path: Path) -> None:
    answers: list[dict[str, Any]] = []

    def ask(progress: Progress) -> None:
        if progress.invoked and not answers:
            answers.append(asked_for_users(engine, 100))

    def stop(name: str, message: Mapping[str, Any]) -> None:
        if message["users"] > 2:  # in one of two processes
            engine.abort()

    with LoadEngine(processes=2, logs=tmp_path / "logs", page=Page(host="127.0.0.1", port=0)) as engine:
        outcome = engine.run(plan(tmp_path, duration=60.0), ask, stop)

    assert answers[0]["success"]
    assert outcome.seconds < 50, "they began to come"
    assert (outcome.lost, outcome.troubles) == ((), ())


def test_other_numbers_of_users_are_asked_for_while_the_first_still_come(tmp_path: Path) -> None:
    answers: list[dict[str, Any]] = []

    def ask(progress: Progress) -> None:
        if progress.invoked and not answers:
            answers.append(asked_for_users(engine, 8))

    with LoadEngine(processes=2, logs=tmp_path / "logs", page=Page(host="127.0.0.1", port=0)) as engine:
        outcome = engine.run(plan(tmp_path, users=40, spawn_rate=2.0, duration=5.0), ask)

    assert answers[0]["success"]
    assert outcome.seconds > 4.5, "nobody ended it before"
    assert (outcome.lost, outcome.troubles) == ((), ())


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stop_that_comes_with_the_go_is_not_forgotten(processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoadEngine(processes=processes, logs=tmp_path / "logs") as engine:
        (tmp_path / "first").mkdir()
        (tmp_path / "stopped").mkdir()
        race(engine, tmp_path / "first")
        send = engine._control.channel.send

        def both(message: Mapping[str, Any]) -> None:
            send(message)
            if message["order"] == "go":
                send({"order": "stop"})

        monkeypatch.setattr(engine._control.channel, "send", both)
        outcome, _ = race(engine, tmp_path / "stopped", duration=60.0)

    assert outcome.seconds < 50


def test_the_parent_imports_neither_locust_nor_gevent() -> None:
    program = "import sys, harness.run.loaded, harness.cli.loading; print([m for m in sys.modules if m in ('locust', 'gevent')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
