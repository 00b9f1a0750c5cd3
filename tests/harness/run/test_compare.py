"""What got worse between two sets of runs, with the noise taken into account."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import orjson
import pytest

from harness.model import Failure, Finding, FindingClass, Operation, UsageError
from harness.run.compare import Comparison, Direction, compare
from harness.run.recorded import recorded_at
from tests.reports.folders import create, write_run

REFUSED = Failure(code="40001", message="could not serialize", retryable=True)


def creates(count: int, *, seed: int, took: float = 0.004, fail_every: int = 0) -> list[Operation]:
    """Return the creates of four clients that wait for nobody, each ``took`` seconds, give or take a third."""
    random = Random(seed)
    at = [0.0] * 4
    found = []
    number = 0
    for n in range(count):
        client = n % 4
        seconds = took * random.uniform(0.67, 1.33)
        failed = bool(fail_every) and n % fail_every == 0
        number += not failed
        found.append(
            create(
                n,
                client=client,
                began=at[client],
                took=seconds,
                number=None if failed else number,
                failure=REFUSED if failed else None,
            )
        )
        at[client] += seconds + 1e-6
    return found


def written(path: Path, runs: Sequence[Sequence[Operation]], **more: object) -> Path:
    for n, operations in enumerate(runs):
        write_run(path / str(n), operations, **more)  # type: ignore[arg-type]
    return path


def compared(old: Path, new: Path) -> Comparison:
    return compare(recorded_at(old), recorded_at(new))


def direction(found: Comparison, what: str) -> Direction:
    [change] = [c for c in found.changes if c.what == what]
    return change.direction


def test_runs_that_differ_by_noise_alone_are_the_same(tmp_path: Path) -> None:
    old = written(tmp_path / "old", [creates(2000, seed=1)])
    new = written(tmp_path / "new", [creates(2000, seed=2, took=0.0042)])

    found = compared(old, new)

    assert {c.direction for c in found.changes} == {Direction.SAME}
    assert {c.what for c in found.changes} == {"verdict", "throughput", "latency p50", "latency p95", "latency p99"}


def test_a_run_of_half_the_speed_got_worse_in_throughput_and_latency(tmp_path: Path) -> None:
    old = written(tmp_path / "old", [creates(2000, seed=1)])
    new = written(tmp_path / "new", [creates(2000, seed=2, took=0.010)])

    found = compared(old, new)

    assert direction(found, "throughput") is Direction.WORSE
    assert direction(found, "latency p50") is Direction.WORSE
    assert direction(compared(new, old), "throughput") is Direction.BETTER


def test_several_runs_make_the_comparison_sharper(tmp_path: Path) -> None:
    def pair(name: str, runs: int) -> Comparison:
        old = written(tmp_path / name / "old", [creates(1000, seed=n) for n in range(runs)])
        new = written(tmp_path / name / "new", [creates(1000, seed=n, took=0.0052) for n in range(runs)])
        return compared(old, new)

    assert direction(pair("one", 1), "throughput") is Direction.SAME
    assert direction(pair("ten", 10), "throughput") is Direction.WORSE


def test_an_invariant_that_speaks_now_and_did_not_is_worse_and_one_that_is_silent_again_is_better(tmp_path: Path) -> None:
    good = creates(100, seed=1)
    twice = [*good, create(100, client=0, began=2.0, number=100)]
    old, new = written(tmp_path / "old", [good]), written(tmp_path / "new", [twice])

    found = compared(old, new)

    assert direction(found, "verdict") is Direction.WORSE
    assert direction(found, "N-UNIQ") is Direction.WORSE
    assert direction(compared(new, old), "N-UNIQ") is Direction.BETTER


def test_more_failed_operations_are_worse_than_a_few(tmp_path: Path) -> None:
    some = written(tmp_path / "old", [creates(2000, seed=1, fail_every=100)])
    many = written(tmp_path / "new", [creates(2000, seed=2, fail_every=5)])

    found = compared(some, many)

    assert direction(found, "failed operations") is Direction.WORSE


def test_more_missing_numbers_of_those_in_range_are_worse(tmp_path: Path) -> None:
    def with_holes(every: int) -> list[Operation]:
        return [o for n, o in enumerate(creates(2000, seed=1)) if n % every or not n]

    old = written(tmp_path / "old", [with_holes(200)], findings=[])
    new = written(tmp_path / "new", [with_holes(20)], findings=[])

    found = compared(old, new)

    assert direction(found, "gaps") is Direction.WORSE
    assert direction(compared(old, old), "gaps") is Direction.SAME


def test_speed_under_other_circumstances_is_not_judged(tmp_path: Path) -> None:
    old = written(tmp_path / "old", [creates(2000, seed=1)])
    new = written(tmp_path / "new", [creates(2000, seed=2, took=0.010)])
    result = new / "0" / "result.json"
    document = orjson.loads(result.read_bytes())
    document["facts"]["clients"] = 64
    result.write_bytes(orjson.dumps(document))

    found = compared(old, new)

    [change] = [c for c in found.changes if c.what == "throughput"]
    assert (change.direction, found.worse) == (Direction.UNJUDGED, [])
    assert "clients was 4 and is 64" in change.message


def test_a_run_that_is_not_made_any_more_is_worse_and_a_new_one_counts_by_its_verdict(tmp_path: Path) -> None:
    old = written(tmp_path / "old", [creates(100, seed=1)])
    new = written(tmp_path / "new", [creates(100, seed=1)], scenario="many_scopes")
    wrong = Finding(finding_class=FindingClass.VIOLATION, invariant="N-UNIQ", message="number 3 was issued twice")
    failing = written(tmp_path / "failing", [creates(100, seed=1)], scenario="first_creates", findings=[wrong])

    assert [(c.direction, c.run.split()[0]) for c in compared(old, new).changes] == [
        (Direction.WORSE, "concurrent_creates"),
        (Direction.UNJUDGED, "many_scopes"),
    ]
    assert Direction.WORSE in {c.direction for c in compared(old, failing).changes if c.run.startswith("first_creates")}


def test_results_without_their_folders_are_compared_by_verdict_and_findings(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", creates(400, seed=1))
    result = orjson.loads((folder / "result.json").read_bytes())
    kept, moved = tmp_path / "kept.json", tmp_path / "moved.json"
    kept.write_bytes(orjson.dumps(result))
    moved.write_bytes(orjson.dumps([{**result, "folder": str(tmp_path / "elsewhere")}]))

    assert "throughput" in {c.what for c in compared(kept, kept).changes}
    assert {c.what for c in compared(moved, moved).changes} == {"verdict", "figures"}


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"{", "is not JSON"), (b"[1]", "is not a result of racegate"), (b'{"schema": "other/1"}', "is not a result of racegate")],
)
def test_a_file_that_is_no_result_is_refused_in_one_sentence(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "result.json"
    file.write_bytes(content)

    with pytest.raises(UsageError, match=told):
        recorded_at(file)


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_text("{}")

    with pytest.raises(UsageError, match="holds no finished run"):
        recorded_at(tmp_path)
