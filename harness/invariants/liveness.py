"""Did the system keep working? Errors that clients saw, and whether anything succeeded at all.

An error under contention is not corruption: a duplicate that a unique index stopped is an error that a retry should have
absorbed. It is reported as liveness, with its code and the constraint that was hit.
"""

from __future__ import annotations

import re

import polars as pl

from harness.invariants.numbering.scopes import ends
from harness.invariants.registry import invariant
from harness.invariants.telling import shown, whom
from harness.model import Books, Finding, FindingClass, History, Policy

CUT_OFF = re.compile(
    r"vanished|killed|reply_lost|client_timeout|08...|57P0[123]|http:50[234]|http:(timeout|connection|disconnected).*|OperationalError|InterfaceError|"
    r"mongo:(91|189|11600|11602)|AutoReconnect|NetworkTimeout|ServerSelectionTimeoutError|NotPrimaryError|ConnectionFailure|"
    r"http:(Protocol|NewConnection|ReadTimeout|ConnectTimeout)Error|http:Unanswered|"
    r"Connection(Reset|Refused|Aborted)?Error|BrokenPipeError|TimeoutError|EOFError|"
    r"(Connect|Read|Write|Pool)(Timeout|Error)|RemoteProtocolError|RemoteDisconnected"
)
"""Codes that say no more than that the answer never came: a fault on the way, not an error of the system under test."""


@invariant("L-RETRY")
def errors_absorbed(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Clients see no error but refusals: what contention causes is absorbed by the documented retry."""
    failed = history.operations.filter(
        pl.col("outcome") != "ok",
        ~pl.col("refusal").fill_null(value=False),
        ~pl.col("code").str.contains(f"^(?:{CUT_OFF.pattern})$"),
    ).with_columns(pl.col("retryable").fill_null(value=False), pl.col("constraint").fill_null(""))
    kinds = (
        failed.group_by("f", "code", "constraint", "retryable")
        .agg(pl.len().alias("times"))
        .sort("retryable", "times", "f", "code", "constraint", descending=[True, True, False, False, False])
    )
    findings = []
    for kind in kinds.head(10).iter_rows(named=True):
        these = failed.filter(*(pl.col(name) == kind[name] for name in ("f", "code", "constraint", "retryable")))
        first = these.sort("invoked").row(0, named=True)
        on = f" on {kind['constraint']}" if kind["constraint"] else ""
        often = f"{kind['times']} times" if kind["times"] > 1 else "once"
        if kind["retryable"]:
            said = f"clients saw {kind['code']}{on} {often} on {kind['f']}, which a retry should have absorbed"
        else:
            said = f"clients saw an unexpected error {kind['code']}{on} {often} on {kind['f']}"
        message = f"{said}; first {whom(history, first)}: {first['message'] or 'no message'}"
        findings.append(_finding(history, message, these, kind["times"]))
    rest = kinds.slice(10)
    if rest.height:
        total = int(rest["times"].sum())
        message = f"clients saw {total} more errors of {rest.height} other kinds"
        findings.append(_finding(history, message, failed.clear(), total))
    return findings


@invariant("L-PROGRESS")
def something_succeeded(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Every kind of operation succeeded at least once: a run in which none did proves nothing."""
    counts = (
        history.operations.group_by("f")
        .agg(tried=pl.len(), ok=(pl.col("outcome") == "ok").any(), refused=pl.col("refusal").sum())
        .sort("f")
    )
    if counts.is_empty():
        return [_nothing("no operation was recorded: the run proves nothing", history.operations, history)]
    findings = []
    for f, tried, _, refused in counts.filter(~pl.col("ok")).iter_rows():
        tries = history.operations.filter(pl.col("f") == f).sort("invoked", "client", "token")
        why = f", {refused} of them refused" if refused else ""
        what = f"none of {tried} {f} operations succeeded{why}" if tried > 1 else f"the only {f} operation did not succeed"
        first = next(tries.filter(pl.col("code").is_not_null()).iter_rows(named=True), None)
        told = f"; the first was told {first['code']}: {first['message'] or 'no message'}" if first else ""
        findings.append(_nothing(f"{what}: the run proves nothing about {f}{told}", tries.head(3), history))
    return findings


def _nothing(message: str, examples: pl.DataFrame, history: History) -> Finding:
    return Finding(
        finding_class=FindingClass.INDETERMINATE,
        invariant="L-PROGRESS",
        message=message,
        evidence={"operations": shown(history, examples), "rows": {}},
    )


def _finding(history: History, message: str, these: pl.DataFrame, total: int) -> Finding:
    ordered = these.sort("invoked")
    return Finding(
        finding_class=FindingClass.LIVENESS,
        invariant="L-RETRY",
        message=message,
        evidence={
            "operations": shown(history, ends(ordered)),
            "rows": {},
        },
        total=total,
    )
