"""Choosing cases of the catalogue, and what is left of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main


def test_only_the_cases_that_must_be_quiet_run_with_every_seed_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["catalogue", "--id", "N01t-pg", "--expect", "pass", "--seeds", "2", "--seed", "7"]

    assert main([*chosen, "--json", "-", "--out", str(tmp_path)]) == 0

    told = json.loads(capsys.readouterr().out)
    assert [(run["id"], run["seed"], run["observed"]) for run in told["cases"]] == [
        ("N01t-pg-serializable", 7, "pass"),
        ("N01t-pg-serializable", 8, "pass"),
    ]
    assert not list(tmp_path.iterdir()), "of several seeds, only runs that differ keep their folders"


def test_where_no_case_is_left_the_areas_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogue", "--id", "N18-", "--area", "sales", "--expect", "fail", "--out", str(tmp_path)]) == 2
    assert "the areas are: audit, durability" in capsys.readouterr().err
