"""racegate gate, as a pipeline calls it."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import orjson
import pytest
import yaml

from harness.cli.app import COMMANDS
from harness.cli.main import main
from tests.harness.run.test_own_service import described

ROOT = Path(__file__).parents[3]
CI = sorted((ROOT / "docs" / "ci").glob("*.yml"))
CHECKS = """
[gate]
budget = "1s"
seed = 1

[[gate.checks]]
scenario = "concurrent_creates"
target = "reference:pg.counter_row"
engines = ["explore"]

[[gate.checks]]
scenario = "concurrent_creates"
target = "reference:pg.count_plus_one"
engines = ["explore"]
"""


def test_one_screen_all_reports_and_exit_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("racegate.toml").write_text(CHECKS)

    assert main(["gate"]) == 1

    told = capsys.readouterr().out
    assert len(told.splitlines()) < 24
    assert re.search(r"^PASS +explore +concurrent_creates on reference:pg.counter_row .*exhaustive$", told, re.MULTILINE)
    assert re.search(r"^FAIL: 1 pass, 1 fail; .*seed 1$", told, re.MULTILINE)
    [again] = re.findall(r"again: racegate replay (\S+)", told)
    assert Path(again).is_file()
    assert {p.name for p in Path("gate").iterdir()} == {
        "report.html",
        "junit.xml",
        "report.md",
        "results.json",
        "gate.json",
        "runs",
    }
    document = orjson.loads(Path("gate/gate.json").read_bytes())
    jsonschema.validate(document, orjson.loads(files("harness.run").joinpath("schemas/gate-1.json").read_bytes()))
    assert ET.parse("gate/junit.xml").getroot().get("failures") == "1"
    assert "N-UNIQ" in Path("gate/report.md").read_text()


@pytest.mark.parametrize(("bug", "status"), [(False, 0), (True, 1)])
def test_a_check_without_a_target_is_fired_at_the_service_that_the_file_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bug: bool, status: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_TOKEN", "s3cr3t")
    path = described(tmp_path, bug=bug)
    engines = '["stress"]' if bug else '["explore", "stress"]'
    check = f'[[gate.checks]]\nscenario = "concurrent_creates"\nclients = 4\nops = 80\nengines = {engines}\n'
    path.write_text(f'{path.read_text()}\n[gate]\nbudget = "{"30s" if bug else "1s"}"\n{check}')

    assert main(["gate"]) == status

    told = capsys.readouterr().out
    if bug:
        assert "N-UNIQ" in told
        assert "made replayable" in told
    else:
        assert told.count("PASS ") == 2


def test_without_a_configuration_the_gate_says_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["gate"]) == 2
    assert "[gate]" in capsys.readouterr().err


def commands(value: object) -> list[str]:
    """Return every line of a parsed pipeline that calls racegate."""
    if isinstance(value, str):
        return [line.strip() for line in value.splitlines() if line.strip().startswith("racegate ")]
    if isinstance(value, dict):
        return [found for item in value.values() for found in commands(item)]
    return [found for item in value for found in commands(item)] if isinstance(value, list) else []


@pytest.mark.parametrize("path", CI, ids=lambda p: p.stem)
def test_a_ready_made_pipeline_is_yaml_whose_commands_and_options_exist(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = commands(yaml.safe_load(path.read_text()))

    assert any(line.startswith("racegate gate ") for line in found)
    for line in found:
        _, command, *words = line.split()
        assert command in COMMANDS
        assert main([command, "--help"]) == 0
        shown = capsys.readouterr().out
        for option in (w for w in words if w.startswith("--")):
            assert option in shown, f"{path.name}: racegate {command} has no {option}"


def test_the_ready_made_pipelines_are_there() -> None:
    assert [p.name for p in CI] == ["github-actions.yml", "gitlab-ci.yml"]
