"""The JSON report: every result as it was kept, each valid against the published schema."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.model import Finding, FindingClass
from reports.json_result import FORMAT
from tests.reports.folders import racy_creates, write_run


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files("harness.run") / "schemas" / "result-1.json").read_text())
    jsonschema.Draft202012Validator.check_schema(found)
    return found


def test_every_result_is_valid_against_the_schema(tmp_path: Path, schema: dict[str, Any]) -> None:
    explored = Finding(finding_class=FindingClass.LIVENESS, invariant="L-RETRY", message="40001", schedule="rg1:abc")
    folders = [
        write_run(tmp_path / "stress", racy_creates()),
        write_run(
            tmp_path / "explore",
            [],
            findings=[explored],
            engine="explore",
            schedules={"explored": 3, "coverage": "preemptions<=2", "diverged": 0},
        ),
    ]

    results = json.loads(FORMAT.render(folders))

    assert [r["engine"] for r in results] == ["stress", "explore"]
    for result in results:
        jsonschema.validate(result, schema)


@pytest.mark.parametrize(
    "wrong",
    [
        {"verdict": "maybe"},
        {"schema": "racegate.result/2"},
        {"seed": -1},
        {"operations": {"ok": 1, "fail": 0}},
        {"findings": [{"class": "violation", "invariant": "X", "message": "", "evidence": {}}]},
        {"schedules": {"explored": 1, "coverage": "complete", "diverged": 0}},
        {"surprise": True},
    ],
)
def test_the_schema_refuses_what_is_not_a_result(tmp_path: Path, schema: dict[str, Any], wrong: dict[str, Any]) -> None:
    [result] = json.loads(FORMAT.render([write_run(tmp_path / "run", racy_creates(20))]))
    jsonschema.validate(result, schema)

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**result, **wrong}, schema)
