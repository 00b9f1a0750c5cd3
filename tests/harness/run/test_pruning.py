"""Which run folders may go, and which stay."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from harness.model import Verdict
from harness.run.pruning import remove, to_remove
from tests.reports.folders import create, write_run

BEGAN = datetime(2026, 11, 20, 10, tzinfo=UTC).timestamp()
"""When every folder that `write_run` writes says that it began."""
DAY = 86_400.0


def run(path: Path, **more: object) -> Path:
    return write_run(path, [create(0, client=0, began=0, number=1)], **more)  # type: ignore[arg-type]


def chosen(out: Path, *, older: float = DAY, keep: int = 0, failing: bool = False, age: float = 2 * DAY) -> list[str]:
    return sorted(o.path.name for o in to_remove(out, older=older, keep=keep, failing=failing, now=BEGAN + age))


def test_old_runs_that_passed_go_and_the_others_stay(tmp_path: Path) -> None:
    run(tmp_path / "passed")
    run(tmp_path / "failed", verdict=Verdict.FAIL)
    run(tmp_path / "unknown", verdict=Verdict.UNKNOWN)
    (run(tmp_path / "unfinished") / "result.json").unlink()

    assert chosen(tmp_path) == ["passed"]
    assert chosen(tmp_path, failing=True) == ["failed", "passed", "unfinished", "unknown"]


def test_young_runs_and_the_newest_stay(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        run(tmp_path / name)

    assert chosen(tmp_path, age=DAY / 2) == []
    assert len(chosen(tmp_path, keep=2)) == 1


def test_what_is_not_a_run_folder_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.json").write_text('{"began": "yesterday"}')
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "plan.txt").write_text("keep me")
    run(tmp_path / "passed")

    remove(to_remove(tmp_path, older=DAY, keep=0, failing=True, now=BEGAN + 2 * DAY))

    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "notes"]
