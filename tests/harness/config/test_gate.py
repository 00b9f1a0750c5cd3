"""The section [gate]: what it may say, and what is told about what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.durations import parse_seconds
from harness.config.gate import load_gate
from harness.model import UsageError

ONE = '[[gate.checks]]\nscenario = "concurrent_creates"\ntarget = "reference:pg.counter_row"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "racegate.toml"
    path.write_text(text)
    return path


def test_a_check_has_both_engines_and_the_gates_policy_unless_it_says_otherwise(tmp_path: Path) -> None:
    gate = load_gate(written(tmp_path, f'[gate]\npolicy = "gapless"\n{ONE}{ONE}policy = "unique"\nengines = "stress"\n'))

    first, second = gate.checks
    assert (first.engines, first.policy) == (("explore", "stress"), "gapless")
    assert (second.engines, second.policy) == (("stress",), "unique")


def test_a_check_may_leave_the_target_out_where_the_file_describes_a_service(tmp_path: Path) -> None:
    check = '[[gate.checks]]\nscenario = "concurrent_creates"\n'

    gate = load_gate(written(tmp_path, f'[target]\nurl = "http://127.0.0.1:3000"\n{check}'))

    assert gate.checks[0].target == ""


def test_sections_that_describe_a_service_are_of_no_interest(tmp_path: Path) -> None:
    gate = load_gate(written(tmp_path, f'[target]\nurl = "http://127.0.0.1:3000"\n[gate]\nbudget = "90s"\nseed = 7\n{ONE}'))

    assert (gate.budget, gate.seed, len(gate.checks)) == (90.0, 7, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is missing; add"),
        ("[gate]\n", "a gate that checks nothing proves nothing"),
        ("[gate]\nchecks = []\n", "a gate that checks nothing proves nothing"),
        ("[gate\n", "is not TOML"),
        (f'[gate]\nbuget = "1m"\n{ONE}', r"gate\.buget is not known.*budget"),
        (f'[gate]\nbudget = "soon"\n{ONE}', "gate.budget: 'soon' is not a length of time"),
        (f"[gate]\nseed = -1\n{ONE}", "gate.seed is a whole number, 0 or more"),
        ('[[gate.checks]]\nscenario = "concurrent_creates"\n', "gate.checks.1.target is missing"),
        (f"{ONE}client = 3\n", r"gate\.checks\.1\.client is not known"),
        (f"{ONE}clients = 0\n", "gate.checks.1.clients is a whole number, 1 or more"),
        (f"{ONE}clients = true\n", "gate.checks.1.clients is a whole number, 1 or more"),
        (f"{ONE}explore_clients = 9\n", "explore_clients must be 8 or fewer"),
        (f'{ONE}engines = ["load"]\n', "no engine is called 'load'"),
        (f"{ONE}engines = []\n", "gate.checks.1.engines is empty"),
        (f"{ONE}policy = 3\n", "gate.checks.1.policy is a text"),
        (f"{ONE}settings = 3\n", "gate.checks.1.settings is a table"),
    ],
)
def test_what_makes_no_sense_is_told_with_file_key_and_cure(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as refused:
        load_gate(written(tmp_path, text))
    assert str(tmp_path / "racegate.toml") in str(refused.value)


def test_a_file_that_is_not_there_is_told_with_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read.*\[gate\]"):
        load_gate(tmp_path / "racegate.toml")


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("30", 30.0), ("2m", 120.0), ("1.5h", 5400.0)])
def test_a_length_of_time_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-1s", "2 days"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a length of time"):
        parse_seconds(text)
