"""One intent, one effect: the part of P-ONCE that speaks of payments, refunds, installments, sales and events.

Four ways to break it are looked for, each in the books first:

- a token stands on two rows of one table: the intent took effect twice;
- a payment was approved for two different intents, none of which was told that it is paid already (``replayed``);
- a token was acknowledged and stands nowhere: the intent never took effect, and its client believes that it did;
- an intent was sent again and again, each time after the answer had come, and always got the same retryable error: the
  failure of its first attempt is kept as its answer. Nothing is wrong in the books, so this is a liveness finding.

A token that no client of the history sent is nobody's intent: it may be a reference that rows share, or a default.
"""

from __future__ import annotations

import polars as pl

from harness.invariants.repeats import most_repeated, told_again
from harness.invariants.resolution import tells_absence
from harness.invariants.telling import answer, listed, moment, money, rows, shown, times, violation, whom
from harness.model import Books, Finding, FindingClass, History

ROWS = {"payments": "submit", "refunds": "refund", "installments": "pay_installment"}
"""Tables whose rows are the effect of one operation each, named by their token."""

APPROVALS = ["approve", "webhook"]

REPLAYED = answer("replayed").eq_missing("true")
"""Whether an operation was answered that nothing was done anew."""

STUBBORN = 3
"""Attempts after which an unchanging retryable error is no coincidence."""


def effects_once(history: History, books: Books) -> list[Finding]:
    """Return the findings of P-ONCE about everything but numbered documents."""
    return [
        *_rows_twice(history, books),
        *_told_twice(history, books),
        *_delivered_twice(books),
        *_approved_twice(history, books),
        *_never_happened(history, books),
        *_stored_failures(history),
    ]


def _rows_twice(history: History, books: Books) -> list[Finding]:
    findings = []
    for table in ROWS:
        twice = most_repeated(sent(history, books.table(table)), "token")
        if twice is None:
            continue
        token = twice.rows["token"][0]
        operations = history.operations.filter(pl.col("token") == token)
        findings.append(
            violation(
                "P-ONCE",
                f"the intent {token} took effect {times(twice.rows.height)}: {_named(table[:-1], twice.rows)}"
                f"{_sent_by(history, operations)}",
                total=twice.total,
                operations=shown(history, operations),
                books={table: rows(twice.rows)},
            )
        )
    return findings


def _told_twice(history: History, books: Books) -> list[Finding]:
    twice = told_again(sent(history, books.table("audit")), books)
    if twice is None:
        return []
    first = twice.rows.row(0, named=True)
    operations = history.operations.filter(pl.col("token") == first["token"])
    return [
        violation(
            "P-ONCE",
            f"the {first['action']} of {first['subject']} for the intent {first['token']} was carried out "
            f"{times(twice.rows.height)}, says the audit log{_sent_by(history, operations)}",
            total=twice.total,
            operations=shown(history, operations),
            books={"audit": rows(twice.rows)},
        )
    ]


def _delivered_twice(books: Books) -> list[Finding]:
    twice = most_repeated(books.table("deliveries").filter(pl.col("event").is_not_null()), "event")
    if twice is None:
        return []
    event = twice.rows["event"][0]
    told = books.table("audit").filter(pl.col("id") == event)
    what = f" ({told['action'][0]} of {told['subject'][0]})" if told.height else ""
    return [
        violation(
            "P-ONCE",
            f"event {event}{what} took effect {times(twice.rows.height)} at its consumer",
            total=twice.total,
            books={"deliveries": rows(twice.rows), "audit": rows(told)},
        )
    ]


def _approved_twice(history: History, books: Books) -> list[Finding]:
    approved = approvals(history).filter(pl.col("subject").is_not_null())
    twice = (
        approved.group_by("subject")
        .agg(pl.col("token").n_unique().alias("intents"), pl.col("completed").min())
        .filter(pl.col("intents") > 1)
        .sort("intents", "completed", "subject", descending=[True, False, False])
    )
    if twice.is_empty():
        return []
    subject, intents = twice["subject"][0], twice["intents"][0]
    involved = approved.filter(pl.col("subject") == subject).unique("token", keep="first").sort("completed")
    payment = books.table("payments").filter(pl.col("id") == subject)
    term = books.table("terms").filter(pl.col("id").is_in(payment["term"].implode()))
    amount = f" of {money(payment['amount'][0])}" if payment.height else ""
    went = f"; term {term['id'][0]} went from {money(term['opening'][0])} to {money(term['balance'][0])}" if term.height else ""
    by = listed(whom(history, o) for o in involved.iter_rows(named=True))
    return [
        violation(
            "P-ONCE",
            f"payment {subject}{amount} was approved {times(intents)}: by {by}{went}",
            total=twice.height,
            operations=shown(history, involved),
            books={"payments": rows(payment), "terms": rows(term)},
        )
    ]


def _never_happened(history: History, books: Books) -> list[Finding]:
    """Find what was acknowledged and stands nowhere. Installments have a rule of their own (O-CONS)."""
    lost = [
        history.operations.filter(pl.col("outcome") == "ok", pl.col("f") == f).join(
            books.table(table).select("token"), on="token", how="anti"
        )
        for table, f in ROWS.items()
        if table != "installments" and books.has(table) and tells_absence(table, books)
    ]
    if books.has("payments"):
        stands = books.table("payments").filter(pl.col("status").is_in(["awaiting_approval"])).select("id")
        lost.append(
            history.operations.filter(pl.col("outcome") == "ok", pl.col("f").is_in(APPROVALS)).join(
                stands, left_on="subject", right_on="id", how="semi"
            )
        )
    missing = pl.concat(lost).sort("completed") if lost else history.operations.clear()
    missing = missing.unique("token", keep="first", maintain_order=True)
    if missing.is_empty():
        return []
    first = missing.row(0, named=True)
    attempts = history.operations.filter(pl.col("token") == first["token"])
    return [
        violation(
            "P-ONCE",
            f"the {first['f']} for the intent {first['token']} was acknowledged to {whom(history, first)} and never took effect",
            total=missing.height,
            operations=shown(history, attempts),
        )
    ]


def _stored_failures(history: History) -> list[Finding]:
    often = (
        history.operations.filter(pl.col("outcome") == "fail", pl.col("retryable"))
        .group_by("token")
        .len()
        .filter(pl.col("len") >= STUBBORN)
    )
    failing = (
        history.operations.join(often, on="token", how="semi")
        .sort("token", "invoked")
        .with_columns(
            settled=(pl.col("invoked") >= pl.col("completed").cum_max().shift(1).over("token")).fill_null(True),
        )
        .group_by("token")
        .agg(
            pl.len().alias("attempts"),
            pl.col("outcome").eq("fail").all().alias("failed"),
            pl.col("retryable").fill_null(False).all().alias("retryable"),
            pl.col("code").n_unique().alias("codes"),
            pl.col("settled").all(),
        )
        .filter(pl.col("attempts") >= STUBBORN, "failed", "retryable", "settled", pl.col("codes") == 1)
    )
    if failing.is_empty():
        return []
    token = failing.sort("attempts", "token", descending=[True, False])["token"][0]
    attempts = history.operations.filter(pl.col("token") == token).sort("invoked")
    first, last = attempts.row(0, named=True), attempts.row(-1, named=True)
    return [
        violation(
            "P-ONCE",
            f"the {first['f']} for the intent {token} was sent {attempts.height} times, from "
            f"{moment(history, first['invoked'])} to {moment(history, last['invoked'])}, and always answered "
            f"{first['code']}: a failure that a retry should mend is kept as the intent's answer",
            total=failing.height,
            operations=shown(history, attempts),
            finding_class=FindingClass.LIVENESS,
        )
    ]


def approvals(history: History) -> pl.DataFrame:
    """Return the acknowledged approvals. One that says that it is ``replayed`` found the payment paid, and changed nothing."""
    acknowledged = history.operations.filter(pl.col("outcome") == "ok", pl.col("f").is_in(APPROVALS))
    return acknowledged.filter(~REPLAYED)


def sent(history: History, table: pl.DataFrame) -> pl.DataFrame:
    """Return the rows whose token some client sent."""
    return table.join(history.operations, on="token", how="semi", maintain_order="left")


def _named(kind: str, frame: pl.DataFrame) -> str:
    return listed(f"{kind} {row['id']} of {money(row['amount'])}" for row in frame.iter_rows(named=True))


def _sent_by(history: History, operations: pl.DataFrame) -> str:
    """Say who was told that it happened, or who sent it."""
    done = operations.filter(pl.col("outcome") == "ok").sort("completed")
    if done.height:
        return f"; acknowledged to {listed(whom(history, o) for o in done.iter_rows(named=True))}"
    sent = operations.sort("invoked")
    return f"; sent by {listed(whom(history, o) for o in sent.iter_rows(named=True))}" if sent.height else ""
