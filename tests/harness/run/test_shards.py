"""Shares of the work: together they are the whole, finding for finding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson
import pytest

from harness.cli.main import main
from harness.model import UsageError
from harness.run.recorded import run_folders
from harness.run.registry import reports
from harness.run.shards import WHOLE, Shard, parse_shard


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_the_shares_of_all_shards_are_the_whole_and_nothing_twice(of: int) -> None:
    items = list(range(20))
    shards = [Shard(index=n, of=of) for n in range(1, of + 1)]

    assert sorted(item for shard in shards for item in shard.share(items)) == items
    assert sum(shard.count(20) for shard in shards) == 20
    assert {len(shard.share(items)) for shard in shards} <= {20 // of, 20 // of + 1}


def test_a_share_is_written_as_a_fraction() -> None:
    assert parse_shard("2/4") == Shard(index=2, of=4)
    assert parse_shard(None) == WHOLE
    for text in ("0/2", "3/2", "2", "a/b", "1/0", "-1/2"):
        with pytest.raises(UsageError, match="is not a share"):
            parse_shard(text)


def findings(folder: Path) -> Counter[bytes]:
    """Return what a report of all run folders below says: each run's findings, without the clock times in their evidence."""
    results = orjson.loads(reports()["json"].render(run_folders(folder)))
    return Counter(
        orjson.dumps([r["scenario"], r["target"], r["seed"], r["verdict"], f["class"], f["invariant"], f.get("schedule")])
        for r in results
        for f in r["findings"]
    )


def test_two_shards_merged_equal_one_run_finding_for_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explored = [
        "catalogue",
        "--engine",
        "explore",
        "--store",
        "postgres",
        "--id",
        "N18",
        "--id",
        "N21",
        "--seed",
        "1",
    ]

    assert main([*explored, "--out", str(tmp_path / "whole")]) == 0
    for n in (1, 2):
        assert main([*explored, "--shard", f"{n}/2", "--out", str(tmp_path / "shards" / str(n))]) == 0

    whole, shards = findings(tmp_path / "whole"), findings(tmp_path / "shards")
    assert whole == shards
    assert whole.total() >= 2
    assert main(["report", str(tmp_path / "shards"), "--format", "markdown"]) == 0
    assert capsys.readouterr().out.count("| ❌ fail |") >= 2


def test_a_run_in_shards_makes_all_its_operations(tmp_path: Path) -> None:
    asked = ["run", "concurrent_creates", "--target", "reference:pg.counter_row", "--clients", "2", "--ops", "31", "--seed", "5"]

    for n in (1, 2):
        assert main([*asked, "--shard", f"{n}/2", "--out", str(tmp_path)]) == 0

    results = orjson.loads(reports()["json"].render(run_folders(tmp_path)))
    assert sorted((r["seed"], sum(r["operations"].values())) for r in results) == [(5, 16), (6, 15)]


@pytest.mark.parametrize(
    "words",
    [
        ["run", "concurrent_creates", "--target", "reference:pg.counter_row", "--shard", "1/2"],
        ["run", "concurrent_creates", "--target", "reference:pg.counter_row", "--shard", "1/2", "--seed", "1", "-d", "1s"],
        ["catalogue", "--id", "N18", "--shard", "1/2"],
        ["catalogue", "--id", "N18", "--seed", "1", "--shard", "2/2"],
    ],
)
def test_shares_that_would_not_add_up_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "--shard" in capsys.readouterr().err
