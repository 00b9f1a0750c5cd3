"""racegate compare and racegate prune, as a user calls them."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from harness.cli.main import main
from tests.reports.folders import create, write_run


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "good", [create(n, client=n % 2, began=n / 100, number=n + 1) for n in range(20)])


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return write_run(tmp_path / "bad", [create(n, client=n % 2, began=n / 100, number=n // 2 + 1) for n in range(20)])


def test_compare_exits_with_1_when_something_got_worse_and_says_what(
    good: Path, bad: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(good), str(bad)]) == 1
    told = capsys.readouterr().out
    assert "worse" in told
    assert "pass before, fail now" in told

    assert main(["compare", str(good), str(good)]) == 0
    assert "nothing got worse: 1 runs before, 1 now" in capsys.readouterr().out


def test_compare_writes_what_it_found_as_json(good: Path, bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(good), str(bad), "--json", "-"]) == 1

    document = orjson.loads(capsys.readouterr().out)
    assert (document["schema"], document["verdict"]) == ("racegate.comparison/1", "fail")
    assert {"what": "verdict", "direction": "worse"}.items() <= document["changes"][0].items()


def test_compare_of_nothing_is_a_wrong_call(tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path / "nowhere"), str(good)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_prune_removes_only_when_told_to(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = str(good.parent)

    assert main(["prune", runs, "--older", "1ms", "--keep", "0"]) == 0
    assert str(good) in capsys.readouterr().out
    assert good.exists()

    assert main(["prune", runs, "--older", "1ms", "--keep", "0", "--yes"]) == 0
    assert not good.exists()


def test_prune_of_a_file_is_a_wrong_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert main(["prune", str(tmp_path / "file")]) == 2
