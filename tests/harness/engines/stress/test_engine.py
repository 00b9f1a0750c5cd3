"""Many processes start together, are watched, are replaced when they die and ended when they are stuck."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.engines.stress import Progress, StressEngine, StressOutcome, StressPlan
from harness.model import EnvironmentProblem, Fault, History, UsageError
from harness.recording.loader import load
from tests.support import Echoes, EchoTarget


def race(folder: Path, **changes: Any) -> tuple[StressOutcome, History]:
    seen: list[Progress] = []
    asked: dict[str, Any] = {
        "target": EchoTarget(),
        "database": None,
        "scenario": Echoes(),
        "clients": 4,
        "processes": 2,
        "ops": 40,
        "duration": None,
        "budget": 60.0,
        "seed": 1,
        "folder": folder,
    }
    outcome = StressEngine(StressPlan(**{**asked, **changes}), seen.append).run()
    history, _ = load(sorted(folder.glob("*.jsonl")))
    assert seen[-1].invoked >= history.operations.height
    return outcome, history


def test_every_client_makes_its_share_of_the_operations(tmp_path: Path) -> None:
    _, history = race(tmp_path, ops=42)

    per_client = dict(history.operations.group_by("client").len().iter_rows())
    assert per_client == {0: 11, 1: 11, 2: 10, 3: 10}
    assert history.count() == {"ok": 42, "fail": 0, "info": 0}


def test_clients_live_in_real_processes(tmp_path: Path) -> None:
    race(tmp_path)

    assert len(list(tmp_path.glob("worker-*.jsonl"))) == 2


def test_the_same_seed_makes_the_same_choices_and_another_seed_others(tmp_path: Path) -> None:
    def drawn(name: str, seed: int) -> list[str]:
        (tmp_path / name).mkdir()
        _, history = race(tmp_path / name, seed=seed)
        return sorted(history.operations["arguments"])

    assert drawn("a", 7) == drawn("b", 7)
    assert drawn("c", 7) != drawn("d", 8)


def test_a_duration_ends_a_run_without_a_count(tmp_path: Path) -> None:
    outcome, history = race(tmp_path, ops=None, duration=0.5)

    assert 0.4 < outcome.seconds < 5
    assert len(history) > 40


def test_a_client_process_that_dies_leaves_an_open_operation_and_the_run_goes_on(tmp_path: Path) -> None:
    outcome, history = race(tmp_path, scenario=Echoes(sometimes="die"))

    assert outcome.restarted == 1
    by_client = dict(history.operations.group_by("client").len().iter_rows())
    # client 2 shares the process; it may have been caught in the middle of an operation, or just before one was recorded
    assert by_client in ({0: 10, 1: 10, 2: 10, 3: 10}, {0: 10, 1: 10, 2: 9, 3: 10})
    assert history.count()["info"] in (1, 2)
    assert history.operations["process"].n_unique() > 4, "a replaced client acts as a new process"


def test_a_fault_kills_the_process_at_its_point(tmp_path: Path) -> None:
    outcome, history = race(tmp_path, scenario=Echoes(fault=Fault(kind="kill", point="number_taken")))

    assert outcome.restarted == 1
    assert history.count()["info"] >= 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [(Fault(kind="vanish", point="number_taken"), "vanished"), (Fault(kind="lose_reply"), "reply_lost")],
)
def test_after_an_unknown_outcome_the_client_goes_on_as_a_new_process(tmp_path: Path, fault: Fault, code: str) -> None:
    _, history = race(tmp_path, scenario=Echoes(fault=fault))

    [unknown] = [o for o in history if o.outcome == "info"]
    assert unknown.failure is not None
    assert (unknown.client, unknown.process, unknown.failure.code) == (0, 0, code)
    assert [o.process for o in history if o.client == 0 and o.invoked > unknown.invoked] == [4] * 7


def test_an_injected_refusal_is_a_definite_failure(tmp_path: Path) -> None:
    _, history = race(tmp_path, scenario=Echoes(fault=Fault(kind="refuse", point="number_taken")))

    [refused] = [o for o in history if o.outcome == "fail"]
    assert refused.failure is not None
    assert (refused.failure.code, refused.failure.refusal) == ("injected_refusal", True)


def test_what_a_target_raises_is_an_outcome_and_not_a_crash(tmp_path: Path) -> None:
    outcome, history = race(tmp_path, scenario=Echoes(sometimes="raise"))

    assert history.count() == {"ok": 39, "fail": 0, "info": 1}
    assert outcome.troubles == ()


def test_a_stuck_client_is_ended_at_the_budget_and_named(tmp_path: Path) -> None:
    outcome, history = race(tmp_path, scenario=Echoes(sometimes="hang"), budget=5.0)

    assert [client for client, _ in outcome.stuck] == [0]
    assert history.count() == {"ok": 32, "fail": 0, "info": 1}


def test_think_time_slows_a_client_down(tmp_path: Path) -> None:
    outcome, _ = race(tmp_path, scenario=Echoes(think=0.05), clients=2, ops=20)

    assert outcome.seconds >= 0.5


def test_clients_that_cannot_connect_are_the_environments_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="a client could not start: ConnectionRefusedError: connection refused"):
        race(tmp_path, target=EchoTarget(refuses_clients=True))


def test_a_scenario_that_cannot_travel_is_refused_with_what_to_do(tmp_path: Path) -> None:
    class Local(Echoes):
        pass

    with pytest.raises(UsageError, match="define it at the top of a module"):
        race(tmp_path, scenario=Local())


PARENT = """
import sys
from pathlib import Path
from harness.engines.stress import StressEngine, StressPlan
from tests.support import Echoes, EchoTarget

def report(progress):
    if progress.invoked > 10:
        print("going", flush=True)

if __name__ == "__main__":
    plan = StressPlan(target=EchoTarget(), database=None, scenario=Echoes(think=0.001), clients=2, processes=2, ops=None,
                      duration=60.0, budget=60.0, seed=1, folder=Path(sys.argv[1]))
    StressEngine(plan, report).run()
"""


def test_no_worker_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    folder = tmp_path / "history"
    folder.mkdir()
    root = Path(__file__).parents[4]
    parent = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "going\n"
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 2

    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()

    limit = time.monotonic() + 20
    gone, alive = psutil.wait_procs(children, timeout=limit - time.monotonic())
    assert not alive
    history, _ = load(sorted(folder.glob("*.jsonl")))
    assert history.count()["ok"] > 0
