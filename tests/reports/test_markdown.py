"""Markdown for a pull request: a table, what is wrong, no markup from the system under test, and never too long."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model import Finding, FindingClass
from reports.markdown import FORMAT, plain
from tests.reports.folders import create, racy_creates, write_run


def test_a_table_of_runs_and_the_details_of_those_with_findings(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", [create(0, client=0, began=0.1, number=1)], target="reference:pg.counter_row")
    found = Finding(finding_class=FindingClass.VIOLATION, invariant="N-UNIQ", message="INV-00004 was issued twice", total=6)
    bad = write_run(tmp_path / "bad", racy_creates(20), findings=[found])

    assert FORMAT.render([good, bad]).splitlines() == [
        "## racegate",
        "",
        "| verdict | scenario | target | operations | findings |",
        "|---|---|---|---|---|",
        "| ✅ pass | concurrent\\_creates | reference:pg.counter\\_row | 1 / 0 / 0 | none |",
        "| ❌ fail | concurrent\\_creates | reference:pg.count\\_plus\\_one | 19 / 1 / 0 | N-UNIQ |",
        "### ❌ fail: concurrent\\_creates on reference:pg.count\\_plus\\_one",
        "",
        "- **N-UNIQ** violation (6 times): INV-00004 was issued twice",
        "",
        "```console",
        "racegate run concurrent_creates --target reference:pg.count_plus_one --seed 7",
        "```",
    ]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", "a\\|b"),
        ("<img src=x>", "\\<img src=x\\>"),
        ("line\nbreak", "line break"),
        ("[click](http://x)", "\\[click\\](http://x)"),
        ("`code`", "\\`code\\`"),
    ],
)
def test_untrusted_text_is_no_markup(text: str, escaped: str) -> None:
    assert plain(text) == escaped


def test_untrusted_text_mentions_nobody() -> None:
    assert "@team" not in plain("ask @team")


def test_a_command_cannot_end_its_fence(tmp_path: Path) -> None:
    finding = Finding(finding_class=FindingClass.VIOLATION, invariant="X", message="m")
    folder = write_run(tmp_path / "run", [], findings=[finding], scenario="a\n```\n# gone")

    assert FORMAT.render([folder]).count("```") == 2


def test_the_report_stops_before_a_step_summary_would_be_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.markdown.LIMIT", 3_000)
    folder = write_run(tmp_path / "run", racy_creates(20))

    text = FORMAT.render([folder] * 9)

    assert len(text.encode()) < 3_200
    assert "more runs are in the run folders." in text
