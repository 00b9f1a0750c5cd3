"""Every case of the corpus is judged as it says, and the whole of its sentence holds."""

from __future__ import annotations

import json

import pytest

from harness.invariants import REGISTRY, judge
from harness.model import FindingClass
from tests.corpus.reading import Case, corpus

CASES = corpus()

CLASSES = {
    "cost": FindingClass.COST,
    "reject": FindingClass.VIOLATION,
    "liveness": FindingClass.LIVENESS,
    "unknown": FindingClass.INDETERMINATE,
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_case_is_judged_as_it_says(case: Case) -> None:
    judgement = judge(case.history, case.books, case.policy, [case.invariant])
    doubts = {"RESOLVED"} if case.verdict in ("unknown", "accept", "cost") else set()
    findings = [f for f in judgement.findings if f.invariant in {case.invariant} | doubts]
    said = [(f.finding_class, f.message) for f in findings]

    if case.verdict == "skip":
        assert case.invariant in judgement.skipped
        assert all(text in judgement.skipped[case.invariant] for text in case.says)
        return
    assert case.invariant in judgement.checked
    if case.verdict == "accept":
        assert said == []
        return
    classes = {kind for kind, _ in said}
    assert CLASSES[case.verdict] in classes if case.mixed else classes == {CLASSES[case.verdict]}, said
    for text in case.says:
        assert any(text in message for _, message in said), said
    if case.findings is not None:
        assert len(findings) == case.findings, said
    if case.total is not None:
        assert sum(f.total for f in findings) == case.total, said
    json.dumps([dict(f.evidence) for f in findings])  # evidence is plain values


@pytest.mark.parametrize("invariant", sorted(REGISTRY))
def test_each_invariant_has_cases_to_reject_and_to_accept(invariant: str) -> None:
    verdicts = {case.verdict for case in CASES if case.invariant == invariant}
    assert verdicts & {"reject", "liveness", "unknown"}
    assert verdicts & {"accept", "cost"}
