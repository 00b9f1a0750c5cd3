"""The matrix of the catalogue loses nothing, however long its names are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.cli.cases_table import print_demo, print_matrix
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


def ended(case: LongCase, folder: Path | None = None) -> CaseResult:
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
        folder=folder,
    )
    return CaseResult(case=case, seed=1, result=result, seconds=1.25)


def test_a_row_is_one_line_with_every_word_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    case = LongCase()
    print_matrix([ended(case)])

    row = capsys.readouterr().out.splitlines()[1]
    assert row.split() == [case.id, case.variant, case.scenario, "pass", "pass", "7", "1.2", "as", "expected"]


def test_the_demo_says_where_its_runs_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    print_demo([], [ended(LongCase(), Path("my runs/2026-11-20T10-00-00"))], Path("my runs"))

    assert capsys.readouterr().out.strip() == (
        "1 of 1 as expected. Each run is kept in a folder below my runs; "
        "racegate report 'my runs/2026-11-20T10-00-00' shows one again, racegate report 'my runs' all."
    )
