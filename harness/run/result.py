"""What a run found, as a value and as the machine-readable result (schema ``racegate.result/1``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.model.errors import ExitStatus
from harness.model.finding import Finding, Verdict, worst

RESULT_SCHEMA = "racegate.result/1"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The outcome of one run.

    ``schedules`` is present for explored runs: ``{explored, coverage, diverged}``. ``timings`` are seconds by phase.
    ``checked`` and ``skipped`` name the invariants that spoke, and those that could not with the reason. ``facts`` holds
    everything else worth keeping: settings, store, versions, rates.
    """

    verdict: Verdict
    seed: int
    scenario: str
    target: str
    engine: str
    operations: Mapping[str, int]
    findings: Sequence[Finding]
    timings: Mapping[str, float]
    checked: Sequence[str] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    schedules: Mapping[str, Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the machine-readable result."""
        document: dict[str, Any] = {
            "schema": RESULT_SCHEMA,
            "verdict": self.verdict.value,
            "seed": self.seed,
            "scenario": self.scenario,
            "target": self.target,
            "engine": self.engine,
            "operations": dict(self.operations),
            "findings": [finding_to_json(f) for f in self.findings],
            "timings": {name: round(seconds, 6) for name, seconds in self.timings.items()},
            "checked": list(self.checked),
            "skipped": dict(self.skipped),
            "facts": dict(self.facts),
            "command": self.command,
        }
        if self.schedules is not None:
            document["schedules"] = dict(self.schedules)
        if self.folder is not None:
            document["folder"] = str(self.folder)
        return document


def finding_to_json(finding: Finding) -> dict[str, Any]:
    """Return one finding as plain JSON values."""
    document: dict[str, Any] = {
        "class": finding.finding_class.value,
        "invariant": finding.invariant,
        "message": finding.message,
        "total": finding.total,
        "evidence": dict(finding.evidence),
    }
    if finding.schedule is not None:
        document["schedule"] = finding.schedule
    return document


def exit_status_of(verdicts: Sequence[Verdict]) -> ExitStatus:
    """Return the exit status that these verdicts mean together."""
    return {Verdict.PASS: ExitStatus.PASS, Verdict.FAIL: ExitStatus.FAIL, Verdict.UNKNOWN: ExitStatus.UNKNOWN}[worst(verdicts)]
