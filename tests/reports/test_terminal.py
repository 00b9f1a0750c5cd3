"""The terminal report: verdict first, then findings, then how to see it again; never a control character."""

from __future__ import annotations

from pathlib import Path

from harness.model import Finding, FindingClass
from reports.terminal import FORMAT
from tests.reports.folders import create, racy_creates, write_run


def finding(**more: object) -> Finding:
    return Finding(
        **{"finding_class": FindingClass.VIOLATION, "invariant": "N-UNIQ", "message": "INV-00004 was issued twice", **more}  # type: ignore[arg-type]
    )


def test_a_passing_run_is_told_in_full(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [create(0, client=0, began=0.1, number=1)], target="reference:pg.counter_row")

    lines = [line.strip() for line in FORMAT.render([folder], width=200).splitlines()]

    assert lines == [
        "PASS    concurrent_creates on reference:pg.counter_row",
        "PostgreSQL 18.4, embedded, 4 clients, seed 7",
        "1 operations: 1 ok, 0 failed or refused, 0 unknown; 1,234 per second",
        "",
        "checked: N-UNIQ, N-EXPLAINED",
        "not checked: N-GAPLESS (policy company-series allows gaps)",
        "again:   racegate run concurrent_creates --target reference:pg.counter_row --seed 7",
        f"kept in: {folder}",
    ]


def test_a_finding_has_its_sentence_and_the_operations_that_prove_it(tmp_path: Path) -> None:
    text = FORMAT.render([write_run(tmp_path / "run", racy_creates())], width=300)

    assert text.startswith("FAIL    concurrent_creates on reference:pg.count_plus_one\n")
    assert "  N-UNIQ        violation, " in text
    assert "was issued twice" in text
    assert "create c1.0-9 -> ok" in text


def test_of_many_operations_the_first_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    operations = [{"client": n, "f": "create", "token": f"t{n}", "outcome": "ok"} for n in range(9)]
    folder = write_run(tmp_path / "run", [], findings=[finding(evidence={"operations": operations, "rows": {}})])

    text = FORMAT.render([folder], width=200)

    assert "create t5 -> ok" in text
    assert "create t6" not in text
    assert "... and 3 more in findings/" in text


def test_an_explored_finding_is_drawn_as_lanes_with_its_replay_command(tmp_path: Path) -> None:
    steps = [{"client": 1, "statement": "SELECT 1", "parameters": [], "result": "1 row", "waited": True}]
    found = finding(evidence={"operations": [], "rows": {}, "steps": steps, "clients": 2}, schedule="rg1:abc")
    schedules = {"explored": 3, "coverage": "exhaustive", "diverged": 0}
    folder = write_run(tmp_path / "run", [], findings=[found], engine="explore", schedules=schedules)

    text = FORMAT.render([folder], width=80)

    assert "3 schedules explored, coverage exhaustive, 0 diverged" in text
    assert "waits, then 1 row" in text
    assert f"    again: racegate replay {folder}/findings/1.schedule\n" in text, "in one piece, to be copied"


def test_an_interleaving_that_breaks_two_invariants_is_drawn_once(tmp_path: Path) -> None:
    steps = [{"client": 1, "statement": "SELECT 1", "parameters": [], "result": "1 row", "waited": True}]
    evidence = {"operations": [], "rows": {}, "steps": steps, "clients": 2}
    findings = [finding(invariant=invariant, evidence=evidence, schedule="rg1:abc") for invariant in ("N-UNIQ", "N-DOC1")]

    text = FORMAT.render([write_run(tmp_path / "run", [], findings=findings, engine="explore")], width=80)

    assert text.count("SELECT 1") == 1
    assert "    by the same interleaving as N-UNIQ above\n" in text


def test_text_from_the_system_under_test_cannot_steer_the_terminal(tmp_path: Path) -> None:
    hostile = "\x1b[2J\x07[bold]gone[/bold]\r\u202e"
    operation = {"client": 1, "f": hostile, "token": hostile, "outcome": "ok", "result": hostile}
    found = finding(message=hostile, evidence={"operations": [operation], "rows": {}})

    text = FORMAT.render([write_run(tmp_path / "run", [], findings=[found])], width=120)

    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert "[bold]gone[/bold]" in text


def test_colours_come_only_when_asked_for(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", racy_creates())

    assert "\x1b[" not in FORMAT.render([folder])
    assert "\x1b[" in FORMAT.render([folder], colours=True)
