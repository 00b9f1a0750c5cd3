"""JUnit XML: a case for each scenario x target x invariant, well formed whatever the system under test said."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model import Finding, FindingClass, UsageError, Verdict
from reports.junit import FORMAT, suite
from tests.reports.folders import racy_creates, write_run


def finding(finding_class: FindingClass, invariant: str, **more: object) -> Finding:
    return Finding(finding_class=finding_class, invariant=invariant, message=f"{invariant} is broken", **more)  # type: ignore[arg-type]


def test_each_invariant_is_a_case_with_the_outcome_that_ci_understands(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run",
        [],
        findings=[
            finding(FindingClass.VIOLATION, "N-UNIQ", total=3, schedule="rg1:abc"),
            finding(FindingClass.INDETERMINATE, "P-ONCE"),
            finding(FindingClass.COST, "N-EXPLAINED"),
        ],
        invariants=("N-UNIQ", "N-FMT", "N-EXPLAINED"),
    )

    root = ET.fromstring(FORMAT.render([folder]))

    name = "concurrent_creates on reference:pg.count_plus_one"
    seen = {c.get("name"): sorted(e.tag for e in c) for c in root.iter("testcase")}
    assert {c.get("classname") for c in root.iter("testcase")} == {name}
    assert seen == {
        "N-UNIQ": ["failure"],
        "N-FMT": [],
        "N-EXPLAINED": ["system-out"],
        "N-GAPLESS": ["skipped"],
        "P-ONCE": ["error"],
    }
    assert {k: root.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    failure = root.find(".//failure")
    assert failure is not None
    assert (failure.get("message"), failure.get("type")) == ("N-UNIQ is broken", "violation")
    assert failure.text == "N-UNIQ is broken\n3 times\nschedule: rg1:abc"


def test_the_suite_keeps_seed_and_command(tmp_path: Path) -> None:
    root = ET.fromstring(FORMAT.render([write_run(tmp_path / "run", racy_creates())]))

    kept = {p.get("name"): p.get("value") for p in root.iter("property")}
    assert (kept["seed"], kept["verdict"], kept["engine"]) == ("7", "fail", "stress")
    assert kept["command"] == "racegate run concurrent_creates --target reference:pg.count_plus_one --seed 7"


def test_a_run_that_checked_nothing_is_an_error_and_never_green() -> None:
    empty = {"scenario": "s", "target": "t", "timings": {}, "findings": [], "verdict": Verdict.UNKNOWN.value}

    element = suite(empty)

    assert (element.get("tests"), element.get("errors")) == ("1", "1")


@given(st.text(st.characters(codec=None), max_size=40))
def test_any_text_gives_well_formed_xml(text: str) -> None:
    result = {
        "scenario": text,
        "target": text,
        "timings": {},
        "checked": [text],
        "findings": [{"class": "violation", "invariant": text, "message": text, "schedule": text}],
        "command": text,
    }

    ET.fromstring(ET.tostring(suite(result), encoding="unicode").encode("utf-8"))


def test_several_runs_are_several_suites(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(n), racy_creates(20)) for n in range(3)]

    root = ET.fromstring(FORMAT.render(folders))

    assert len(root.findall("testsuite")) == 3
    assert root.get("failures") == str(sum(int(s.get("failures", "")) for s in root))


def test_a_folder_that_is_no_run_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run folder"):
        FORMAT.render([tmp_path])
