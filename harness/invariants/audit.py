"""Audit log and outbox: every change is told once, nothing else is told, and what was told arrives.

An audit row names the token of the operation that it tells of, its action the operation. What the store holds is
compared with the log directly where it can be (a paid payment without a row that approved it), so that a change
whose client crashed is missed by nobody.
"""

from __future__ import annotations

import polars as pl

from harness.invariants.effects import APPROVALS, REPLAYED, sent
from harness.invariants.registry import NotChecked, invariant
from harness.invariants.repeats import told_again
from harness.invariants.resolution import added, tells_absence
from harness.invariants.telling import answer, listed, moment, rows, shown, times, violation, whom
from harness.model import Books, Finding, FindingClass, History, Policy

CHANGES = (
    "open_account",
    "submit",
    "approve",
    "reject",
    "cancel",
    "refund",
    "webhook",
    "sell",
    "void",
    "void_sale",
    "open_order",
    "import_order",
    "pay_installment",
    "discount",
    "cancel_order",
    "refund_order",
)
"""Operations that change something and so must be told of. A number drawn by ``create`` is its own record."""

TOKENS = {"payments": "payment", "refunds": "refund", "installments": "installment"}


@invariant("A-MATCH", tables=["audit"])
def one_row_a_change(history: History, books: Books, policy: Policy) -> list[Finding]:
    """One audit and outbox row for each committed change, and none for a change that did not commit."""
    by_token = tells_absence("audit", books)
    if not by_token and not _tells_of_approvals(books) and not books.gives("audit", "delivered"):
        raise NotChecked("the rows of audit keep no token of the client")
    return [
        *(_unlogged_operations(history, books) if by_token else ()),
        *(_unlogged_rows(history, books) if by_token else ()),
        *_unlogged_approvals(history, books),
        *_logged_twice(history, books),
        *_logged_for_nothing(history, books),
        *_without_event(books),
    ]


def _unlogged_operations(history: History, books: Books) -> list[Finding]:
    done = history.operations.filter(pl.col("outcome") == "ok", pl.col("f").is_in(CHANGES))
    idle = pl.col("f").is_in(APPROVALS) & REPLAYED  # it was paid; by whom, other rows tell
    missing = (
        done.filter(~idle)
        .join(books.table("audit").select("token"), on="token", how="anti")
        .sort("completed")
        .unique("token", keep="first", maintain_order=True)
    )
    if missing.is_empty():
        return []
    first = missing.row(0, named=True)
    return [
        violation(
            "A-MATCH",
            f"the {first['f']} of {first['subject']} was acknowledged to {whom(history, first)} and no audit row tells of it",
            total=missing.height,
            operations=shown(history, missing),
        )
    ]


def _unlogged_rows(history: History, books: Books) -> list[Finding]:
    """Find rows whose operation nobody heard the end of and nobody logged."""
    acknowledged = history.operations.filter(pl.col("outcome") == "ok").select("token")
    findings = []
    for table, kind in TOKENS.items():
        missing = (
            added(table, books)
            .filter(pl.col("token").is_not_null())
            .join(books.table("audit").select("token"), on="token", how="anti")
            .join(acknowledged, on="token", how="anti")
            .sort("id")
        )
        if missing.height:
            first = missing.row(0, named=True)
            findings.append(
                violation(
                    "A-MATCH",
                    f"{kind} {first['id']} of the intent {first['token']} is stored and no audit row tells of it",
                    total=missing.height,
                    operations=shown(history, history.operations.filter(pl.col("token") == first["token"])),
                    books={table: rows(missing)},
                )
            )
    return findings


def _tells_of_approvals(books: Books) -> bool:
    return books.gives("payments", "status") and books.gives("audit", "subject") and books.gives("audit", "action")


def _unlogged_approvals(history: History, books: Books) -> list[Finding]:
    """Find payments that are paid though nobody approved them. What was paid before the race may be older than the log."""
    if not _tells_of_approvals(books):
        return []
    approvals = books.table("audit").filter(pl.col("action").is_in(APPROVALS))
    if approvals.is_empty() and history.operations.filter(pl.col("f").is_in(APPROVALS)).is_empty():
        return []
    acknowledged = history.operations.filter(pl.col("outcome") == "ok", pl.col("f").is_in(APPROVALS)).select("subject")
    missing = (
        added("payments", books)
        .filter(pl.col("status") == "paid")
        .join(approvals.select("subject"), left_on="id", right_on="subject", how="anti")
        .join(acknowledged, left_on="id", right_on="subject", how="anti")
        .sort("id")
    )
    if missing.is_empty():
        return []
    first = missing["id"][0]
    tried = history.operations.filter(pl.col("subject") == first, pl.col("f").is_in(APPROVALS))
    by = f", tried by {listed(whom(history, o) for o in tried.iter_rows(named=True))}" if tried.height else ""
    return [
        violation(
            "A-MATCH",
            f"payment {first} is paid and no audit row tells who approved it{by}",
            total=missing.height,
            operations=shown(history, tried),
            books={"payments": rows(missing)},
        )
    ]


def _logged_twice(history: History, books: Books) -> list[Finding]:
    told = added("audit", books).filter(pl.col("token") != "")
    if len(history):  # a token that no client sent may be a reference that rows share
        told = sent(history, told)
    twice = told_again(told, books)
    if twice is None:
        return []
    first = twice.rows.row(0, named=True)
    return [
        violation(
            "A-MATCH",
            f"the {first['action']} of {first['subject']} for the intent {first['token']} is told {times(twice.rows.height)} "
            "in the audit log",
            total=twice.total,
            operations=shown(history, history.operations.filter(pl.col("token") == first["token"])),
            books={"audit": rows(twice.rows)},
        )
    ]


def _logged_for_nothing(history: History, books: Books) -> list[Finding]:
    """Find audit rows whose every attempt definitely did not happen."""
    outcomes = history.operations.group_by("token").agg(pl.col("outcome").eq("fail").all().alias("failed"))
    failed = outcomes.filter("failed")
    idle = books.table("audit").join(failed, on="token", how="semi").sort("id")
    if idle.is_empty():
        return []
    first = idle.row(0, named=True)
    attempts = history.operations.filter(pl.col("token") == first["token"]).sort("invoked")
    why = attempts.row(-1, named=True)
    return [
        violation(
            "A-MATCH",
            f"the audit log tells of the {first['action']} of {first['subject']}, which was refused to "
            f"{whom(history, why)}: {why['message'] or why['code']}",
            total=idle.height,
            operations=shown(history, attempts),
            books={"audit": rows(idle)},
        )
    ]


def _without_event(books: Books) -> list[Finding]:
    audit = books.table("audit")
    silent = audit.filter(pl.col("delivered").is_null()).sort("id")
    if silent.is_empty() or silent.height == audit.height:  # none missing, or no outbox at all
        return []
    first = silent.row(0, named=True)
    return [
        violation(
            "A-MATCH",
            f"the {first['action']} of {first['subject']} stands in the audit log and not in the outbox",
            total=silent.height,
            books={"audit": rows(silent)},
        )
    ]


@invariant("A-DELIVER", tables=["audit"], columns=["audit.delivered"])
def every_event_arrives(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Every committed event reaches a consumer."""
    audit = books.table("audit").filter(pl.col("delivered").is_not_null())
    return [*_marked_and_missing(audit, books), *_passed_over(history, audit), *_still_waiting(history, audit)]


def _marked_and_missing(audit: pl.DataFrame, books: Books) -> list[Finding]:
    if not books.gives("deliveries", "event"):
        return []
    lost = audit.filter("delivered").join(books.table("deliveries"), left_on="id", right_on="event", how="anti").sort("id")
    if lost.is_empty():
        return []
    first = lost.row(0, named=True)
    return [
        violation(
            "A-DELIVER",
            f"event {first['id']} ({first['action']} of {first['subject']}) is marked as delivered and never arrived",
            total=lost.height,
            books={"audit": rows(lost)},
        )
    ]


def _drained(history: History) -> int | None:
    """Return when the last publisher set out that found nothing left when it was done, in ns."""
    drains = history.operations.filter(pl.col("f") == "deliver", pl.col("outcome") == "ok").filter(answer("left") == "0")
    return None if drains.is_empty() else int(drains["invoked"].max())  # type: ignore[arg-type]  # an Int64 column


def _passed_over(history: History, audit: pl.DataFrame) -> list[Finding]:
    """Find events that were committed before a publisher set out which then said that nothing was left."""
    drained = _drained(history)
    if drained is None:
        return []
    acknowledged = (
        history.operations.filter(pl.col("outcome") == "ok", pl.col("f") != "deliver")
        .group_by("token")
        .agg(pl.col("completed").min().alias("acknowledged"))
    )
    passed = audit.filter(~pl.col("delivered")).join(acknowledged, on="token").filter(pl.col("acknowledged") < drained).sort("id")
    if passed.is_empty():
        return []
    first = passed.row(0, named=True)
    return [
        violation(
            "A-DELIVER",
            f"event {first['id']} ({first['action']} of {first['subject']}) was committed by "
            f"{moment(history, first['acknowledged'])} and never published, though a publisher that began at "
            f"{moment(history, drained)} found nothing left",
            total=passed.height,
            operations=shown(history, history.operations.filter(pl.col("token") == first["token"])),
            books={"audit": rows(passed.drop("acknowledged"))},
        )
    ]


def _still_waiting(history: History, audit: pl.DataFrame) -> list[Finding]:
    waiting = audit.filter(~pl.col("delivered"))
    if waiting.is_empty():
        return []
    if waiting.height == audit.height:
        return [
            violation(
                "A-DELIVER",
                f"none of {audit.height} events was published: nothing is known of their delivery",
                total=1,
                finding_class=FindingClass.INDETERMINATE,
            )
        ]
    return [
        violation(
            "A-DELIVER",
            f"event {waiting['id'][0]} was still waiting for its publisher when the run ended",
            total=waiting.height,
            finding_class=FindingClass.COST,
        )
    ]
