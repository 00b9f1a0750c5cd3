"""Checks a recorded history, ours or somebody else's, without the system that it came from.

Three ways, by what the history holds:

- a run folder with its books is judged again, with the invariants of its scenario;
- creates of numbered documents are checked exactly against the allocator of numbers, ambiguity included;
- anything else is checked for linearizability, against the model that knows its operations or that was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from harness.config.policy import kept_policy, load_policy
from harness.invariants import judge, named
from harness.invariants.linearizability import (
    MODELS,
    Limits,
    Linearizability,
    Model,
    Stuck,
    calls_of,
    describe,
    explained,
    model_named,
    search_all,
)
from harness.invariants.linearizability.shrinking import shrink
from harness.invariants.numbering.columns import NOT_ISSUING, issuing, place_name
from harness.invariants.numbering.exact import MAY_HAVE_TAKEN_ONE, NumberCheck, check_numbers
from harness.invariants.telling import moment, shown
from harness.model import (
    Books,
    Finding,
    FindingClass,
    History,
    Policy,
    UsageError,
    Verdict,
    verdict_of,
)
from harness.model.policy import Continuity
from harness.recording.formats import HistoryFormat, read_history
from harness.run.folder import RunFolder
from harness.run.result import RunResult

HISTORY_ALONE = ("P-ONCE", "P-KEYMATCH", "L-RETRY", "L-PROGRESS")
"""Rules of numbered creates that need no books, besides the exact check."""

NUMBERS = "numbers"
"""The name of the allocator of numbers among the models."""


@dataclass(frozen=True, kw_only=True)
class HistoryCheck:
    """What a check found. ``how`` says against what, ``smallest`` is what is left of the history after shrinking."""

    verdict: Verdict
    how: str
    format: HistoryFormat
    history: History
    findings: Sequence[Finding]
    checked: Sequence[str]
    skipped: Mapping[str, str] = field(default_factory=dict)
    smallest: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)

    def result(self, path: Path, command: str = "") -> RunResult:
        """Return the check as a machine-readable result."""
        return RunResult(
            verdict=self.verdict,
            seed=0,
            scenario=self.how,
            target=str(path),
            engine="check",
            operations=self.history.count(),
            findings=self.findings,
            timings=self.timings,
            checked=self.checked,
            skipped=self.skipped,
            facts={"format": self.format.value, "smallest": list(self.smallest), **self.facts},
            command=command,
        )


def check_file(
    path: Path,
    *,
    model: str | None = None,
    policy: str | None = None,
    start: int | None = None,
    limits: Limits | None = None,
    open_ends: bool = False,
    shrinking: float = 5.0,
) -> HistoryCheck:
    """Check a recorded history.

    Args:
        path: a run folder, or a file in any form that `harness.recording.formats` reads.
        model: ``numbers``, or a model of `harness.invariants.linearizability`; by default the one that knows the operations.
        policy: what numbers must obey; by default the run's own, or ``explained``.
        start: the first number of every scope; by default the lowest one seen, because documents may have been there before.
        limits: of the search for an order.
        open_ends: operations that never complete, and files without an ending, are as they should be.
        shrinking: seconds to spend on making what is wrong smaller.

    Raises:
        DamagedHistory: the file is no history, or damaged.
        EnvironmentProblem: it cannot be read.
        UsageError: no model knows the operations, or there is no such model or policy.
    """
    began = time.perf_counter()
    read = read_history(path, open_ends=open_ends)
    loaded = time.perf_counter()
    history = read.history
    asked = model if model == NUMBERS or model is None else model_named(model)
    if asked is None and (path / "run.json").is_file():
        found = _judge_again(path, history, policy)
    elif asked == NUMBERS or (asked is None and _creates(history)):
        found = _check_numbers(history, load_policy(policy or "explained"), start)
    else:
        chosen = asked if isinstance(asked, Model) else _model_for(history)
        found = _check_order(history, chosen, limits or Limits(), shrinking, _moments if read.timed else _lines)
    findings = [*found.findings, *_doubts(history)]
    return HistoryCheck(
        verdict=verdict_of(findings, checked=len(found.checked)),
        how=found.how,
        format=read.format,
        history=history,
        findings=findings,
        checked=found.checked,
        skipped=found.skipped,
        smallest=found.smallest,
        facts=found.facts,
        timings={"load": loaded - began, "check": time.perf_counter() - loaded, "total": time.perf_counter() - began},
    )


@dataclass(frozen=True, kw_only=True)
class _Found:
    how: str
    findings: Sequence[Finding]
    checked: Sequence[str]
    skipped: Mapping[str, str] = field(default_factory=dict)
    smallest: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def _doubts(history: History) -> list[Finding]:
    if history.complete:
        return []
    return [
        Finding(
            finding_class=FindingClass.INDETERMINATE,
            invariant="RESOLVED",
            message=f"the history is not complete: {history.trouble}",
            evidence={"operations": [], "rows": {}},
        )
    ]


def _creates(history: History) -> bool:
    operations = history.operations
    numbered = operations.filter(~pl.col("f").is_in(NOT_ISSUING), pl.col("number").is_not_null() | (pl.col("f") == "create"))
    return not numbered.is_empty()


def _model_for(history: History) -> Model:
    names = set(history.operations["f"].unique().to_list())
    for model in MODELS.values():
        if names <= model.operations:
            return model
    near = max(MODELS.values(), key=lambda m: len(names & m.operations))
    raise UsageError(
        f"no model knows all of {', '.join(sorted(names))}; the nearest is {near.name} ({', '.join(sorted(near.operations))}). "
        f"Choose one with --model: {NUMBERS}, {', '.join(sorted(MODELS))}"
    )


def _judge_again(path: Path, history: History, policy: str | None) -> _Found:
    """Judge a run folder as the run did: same books, same invariants, its own policy unless another is asked for."""
    folder = RunFolder.open(path)
    asked, result = folder.read_json("run.json"), folder.read_json("result.json")
    rules = load_policy(policy) if policy else kept_policy(asked)
    ids = [*result.get("checked", []), *result.get("skipped", {})]
    judgement = judge(history, folder.read_books(), rules, ids)
    return _Found(
        how=f"the invariants of {asked['scenario']}",
        findings=judgement.findings,
        checked=judgement.checked,
        skipped=judgement.skipped,
    )


def _check_numbers(history: History, policy: Policy, start: int | None) -> _Found:
    """Check creates exactly against the allocator of numbers. What the books alone could tell stays unsaid."""
    creates = history.operations.filter(pl.col("f").is_in(issuing(history)))
    shifted, lows = _from_the_lowest(creates, start)
    tries = pl.col("attempts").fill_null(1)
    failed = tries - (pl.col("outcome") == "ok").cast(pl.Int64())
    gapless = policy.continuity is Continuity.GAPLESS
    found = check_numbers(
        shifted.lazy(), start=1, ordered=policy.real_time_order, burnt=MAY_HAVE_TAKEN_ONE if gapless else failed
    )
    findings: list[Finding] = []
    if found.totals["repeated"]:
        findings += named("N-UNIQ").check(_of_numbers(history, _unshifted(found.repeated, lows)), Books(), policy)
    if found.totals["late"]:
        findings += named("N-MONO").check(_of_places(history, found.late), Books(), policy)
    findings += [_lacking(row, policy) for row in _unshifted(found.lacking, lows).head(10).iter_rows(named=True)]
    findings += _below(found)
    for rule in HISTORY_ALONE:
        findings += named(rule).check(history, Books(), policy)
    checked = ["N-UNIQ", "N-EXPLAINED", *(["N-MONO"] if policy.real_time_order else []), *HISTORY_ALONE]
    return _Found(
        how=f"the allocator of numbers under policy {policy.name}",
        findings=findings,
        checked=checked,
        skipped={"N-DURABLE": "there are no books", "N-GAPLESS": "there are no books"},
        facts={"numbers": found.numbers, "scopes": found.places, "wrong": dict(found.totals)},
    )


def _from_the_lowest(creates: pl.DataFrame, start: int | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Count each place's numbers from 1, and return what was taken off each."""
    place = ["scope", "period"]
    filled = creates.with_columns(pl.when(pl.col("outcome") == "ok").then(pl.col(place).fill_null("")).otherwise(pl.col(place)))
    ok = filled.filter(pl.col("outcome") == "ok", pl.col("number").is_not_null())
    lows = ok.group_by(place).agg(off=pl.col("number").min() - 1)
    if start is not None:
        lows = lows.with_columns(off=pl.lit(start - 1, pl.Int64()))
    joined = filled.join(lows, on=place, how="left", maintain_order="left")
    return joined.with_columns(number=pl.col("number") - pl.col("off")).drop("off"), lows


def _unshifted(table: pl.DataFrame, lows: pl.DataFrame) -> pl.DataFrame:
    back = [c for c in ("number", "first", "last") if c in table.columns]
    return table.join(lows, on=["scope", "period"]).with_columns(pl.col(c) + pl.col("off") for c in back).drop("off")


def _of_numbers(history: History, wrong: pl.DataFrame) -> History:
    key = ["scope", "period", "number"]
    here = history.operations.with_columns(pl.col("scope").fill_null(""), pl.col("period").fill_null(""))
    return History(here.join(wrong.select(key), on=key, how="semi"), open_at=history.open_at)


def _of_places(history: History, wrong: pl.DataFrame) -> History:
    here = history.operations.with_columns(pl.col("scope").fill_null(""), pl.col("period").fill_null(""))
    of_places = here.join(wrong.select("scope", "period").unique(), on=["scope", "period"], how="semi")
    unknown = here.filter(pl.col("outcome") == "info").join(of_places, on=["process", "invoked"], how="anti")
    return History(pl.concat([of_places, unknown]).sort("invoked"), open_at=history.open_at)


def _lacking(row: Mapping[str, Any], policy: Policy) -> Finding:
    numbers = f"number {row['first']}" if row["first"] == row["last"] else f"numbers {row['first']} to {row['last']}"
    could = f"only {row['there']}" if row["there"] else "none"
    left, single = row["unexplained"], row["unexplained"] == 1
    counted = f"{left} {'number' if single else 'numbers'}"
    skipped = "was skipped, or its document was lost" if single else "were skipped, or their documents were lost"
    missing = "is missing" if single else "are missing"
    when = " in time" if policy.real_time_order else ""
    allowed = policy.continuity is Continuity.NONE
    return Finding(
        finding_class=FindingClass.COST if allowed else FindingClass.VIOLATION,
        invariant="N-EXPLAINED",
        message=f"{numbers} of {place_name(row['scope'], row['period'])} never came back: "
        f"{row['needed']} missing up to there, and {could} of the other attempts began{when} to have taken one; "
        f"{counted} {missing if allowed else skipped}",
        evidence={"operations": [], "rows": {}, **row},
        total=row["unexplained"],
    )


def _below(found: NumberCheck) -> list[Finding]:
    if not found.totals["below"]:
        return []
    scope, period, number = found.below.row(0)
    counted = "1 number lies" if found.totals["below"] == 1 else f"{found.totals['below']} numbers lie"
    return [
        Finding(
            finding_class=FindingClass.VIOLATION,
            invariant="N-EXPLAINED",
            message=f"{counted} below the start, the first {1 - number} below it in {place_name(scope, period)}",
            evidence={"operations": [], "rows": {}},
            total=found.totals["below"],
        )
    ]


Span = Callable[[History, int, int | None], str]
"""Says when an operation took place."""


def _check_order(history: History, model: Model, limits: Limits, shrinking: float, when: Span) -> _Found:
    objects = calls_of(history, model)
    found = search_all(objects, model, limits)
    findings: list[Finding] = []
    smallest: list[str] = []
    if found.stuck is not None:
        stuck = explained(objects[found.stuck.partition], found.stuck, model)
        small = shrink(objects[found.stuck.partition], model, stuck=stuck.call, seconds=shrinking)
        smallest = [f"{when(history, c.invoked, c.returned)}  {describe(c)}" for c in sorted(small, key=lambda c: c.invoked)]
        findings.append(_stuck(history, found, stuck, [c.at for c in small], model, when))
    elif found.verdict is Verdict.UNKNOWN:
        undecided = f"unknown: {found.undecided} of {found.partitions} partitions undecided: " if found.undecided else "unknown: "
        findings.append(
            Finding(
                finding_class=FindingClass.INDETERMINATE,
                invariant="LINEARIZABLE",
                message=f"{undecided}{found.why}",
                evidence={"operations": [], "rows": {}, "undecided": found.undecided, "partitions": found.partitions},
            )
        )
    return _Found(
        how=f"the model {model.name}",
        findings=findings,
        checked=["LINEARIZABLE"],
        smallest=smallest,
        facts={
            "partitions": found.partitions,
            "undecided": found.undecided,
            "steps": found.steps,
            "configurations": found.configurations,
        },
    )


def _stuck(history: History, found: Linearizability, stuck: Stuck, small: Sequence[int], model: Model, when: Span) -> Finding:
    operation = history.operations.row(stuck.call.at, named=True)
    object_ = f" on {stuck.partition}" if stuck.partition not in (None, "") else ""
    could = " or ".join(_state(s) for s in stuck.states[:3]) + (" or others" if len(stuck.states) > 3 else "")
    return Finding(
        finding_class=FindingClass.VIOLATION,
        invariant="LINEARIZABLE",
        message=f"no order explains {describe(stuck.call)}{object_} by process {operation['process']} "
        f"({when(history, stuck.call.invoked, stuck.call.returned)}): after the longest order that fits, of "
        f"{len(stuck.longest)} operations, the {model.name} could only be {could}",
        evidence={
            "operations": shown(history, history.operations[sorted(small)]),
            "rows": {},
            "stuck": shown(history, history.operations[[stuck.call.at]]),
            "longest": list(stuck.longest),
            "undecided": found.undecided,
        },
    )


def _state(state: Any) -> str:
    text = "nothing" if state in (None, "") else str(state)
    return text if len(text) <= 60 else f"{text[:28]}...{text[-28:]}"


def _moments(history: History, invoked: int, returned: int | None) -> str:
    return f"{moment(history, invoked)} to {'the end' if returned is None else moment(history, returned)}"


def _lines(history: History, invoked: int, returned: int | None) -> str:
    return f"line {invoked} to {'the end' if returned is None else returned}"
