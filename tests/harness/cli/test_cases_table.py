"""The matrix of the catalogue loses nothing, however long its names are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from harness.cli.cases_table import print_matrix
from harness.model import Verdict
from harness.run.cases import CaseResult
from harness.run.result import RunResult


@dataclass(frozen=True, kw_only=True)
class LongCase:
    """A case with names of a hundred characters each."""

    id: str = "OK-" + "i" * 97
    area: str = "payments"
    store: str = "postgres"
    variant: str = "reference:" + "v" * 90
    scenario: str = "s" * 100
    settings: dict[str, Any] = field(default_factory=dict)
    scenario_settings: dict[str, Any] = field(default_factory=dict)
    expect: str = "pass"
    invariants: tuple[str, ...] = ()
    engine: str = "stress"
    clients: int = 1
    ops: int = 1
    policy: str | None = None
    note: str = ""


def test_a_row_is_one_line_with_every_word_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    case = LongCase()
    result = RunResult(
        verdict=Verdict.PASS,
        seed=1,
        scenario=case.scenario,
        target=case.variant,
        engine="stress",
        operations={"ok": 7, "fail": 0, "info": 0},
        findings=[],
        timings={},
        checked=["N-UNIQ"],
    )

    print_matrix([CaseResult(case=case, seed=1, result=result, seconds=1.25)])

    row = capsys.readouterr().out.splitlines()[1]
    assert row.split() == [case.id, case.variant, case.scenario, "pass", "pass", "7", "1.2", "as", "expected"]
