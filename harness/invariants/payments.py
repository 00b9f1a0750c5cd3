"""Payments: one terminal state, one pending per term, no money made or lost, nothing overpaid, exact to the minor unit.

Each rule that can be read from the books alone is; the history adds who did it and when, and what the books no longer
show (two payments that awaited approval at the same time and were decided since).
"""

from __future__ import annotations

import polars as pl

from harness.invariants.orders import OWED, untold
from harness.invariants.registry import NotChecked, invariant
from harness.invariants.telling import listed, moment, money, rows, shown, violation, whom
from harness.model import Books, Finding, History, Policy

DECISIONS = {"approve": "paid", "webhook": "paid", "reject": "rejected", "cancel": "cancelled"}
"""Operations that end a payment, and the state in which each leaves it."""

WAITING = "awaiting_approval"

FOREVER = 2**62
"""The end of a payment's wait that nobody decided on, in ns."""


@invariant("P-TERM1", tables=["payments"])
def one_terminal_state(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A payment reaches one terminal state and never leaves it."""
    decided = (
        history.operations.filter(pl.col("outcome") == "ok", pl.col("f").is_in(list(DECISIONS)))
        .with_columns(state=pl.col("f").replace_strict(DECISIONS, return_dtype=pl.String()))
        .filter(pl.col("subject").is_not_null())
    )
    if decided.is_empty() and not books.gives("payments", "status"):
        raise NotChecked("nobody heard of a decision, and the books do not give payments.status")
    findings = []
    states = decided.group_by("subject").agg(pl.col("state").n_unique().alias("states"), pl.col("completed").min())
    torn = states.filter(pl.col("states") > 1).sort("completed", "subject")
    if torn.height:
        first = torn["subject"][0]
        involved = decided.filter(pl.col("subject") == first).unique("state", keep="first").sort("completed")
        said = listed(f"{o['state']} by {whom(history, o)}" for o in involved.iter_rows(named=True))
        stands = books.table("payments").filter(pl.col("id") == first)
        now = f"; it stands as {stands['status'][0]}" if stands["status"].drop_nulls().len() else ""
        findings.append(
            violation(
                "P-TERM1",
                f"payment {first} reached more than one end: {said}{now}",
                total=torn.height,
                operations=shown(history, involved),
                books={"payments": rows(stands)},
            )
        )
    single = decided.join(torn, on="subject", how="anti").unique("subject", keep="first", maintain_order=True)
    stands = books.table("payments").select("id", "status")
    left = single.join(stands, left_on="subject", right_on="id").filter(pl.col("status") != pl.col("state"))
    if left.height:
        first = left.sort("completed").row(0, named=True)
        findings.append(
            violation(
                "P-TERM1",
                f"payment {first['subject']} was {first['state']} by {whom(history, first)} and now stands as {first['status']}",
                total=left.height,
                operations=shown(history, left.select(history.operations.columns)),
                books={"payments": rows(books.table("payments").filter(pl.col("id").is_in(left["subject"].implode())))},
            )
        )
    return findings


@invariant("P-PEND1", tables=["payments"])
def one_pending_payment(history: History, books: Books, policy: Policy) -> list[Finding]:
    """At most one payment awaits approval for a term."""
    waits = _waits(history)
    told = books.gives("payments", "status") and books.gives("payments", "term")
    if not told and waits.is_empty():
        raise NotChecked("the books do not give which payments await approval for which term, and no submission tells of it")
    return [*(_pending_now(history, books) if told else ()), *_pending_then(history, waits)]


def _pending_now(history: History, books: Books) -> list[Finding]:
    waiting = (
        books.table("payments").filter(pl.col("status") == WAITING).with_columns(place=_place()).filter(_place().is_not_null())
    )
    crowded = (
        waiting.group_by("place")
        .agg(pl.len().alias("waiting"))
        .filter(pl.col("waiting") > 1)
        .sort("waiting", "place", descending=[True, False])
    )
    if crowded.is_empty():
        return []
    worst = crowded.row(0, named=True)
    involved = waiting.filter(pl.col("place") == worst["place"]).sort("id")
    submitted = history.operations.filter(
        pl.col("outcome") == "ok", pl.col("f") == "submit", pl.col("subject").is_in(involved["id"].implode())
    ).sort("completed")
    by = f", submitted by {listed(whom(history, o) for o in submitted.iter_rows(named=True))}" if len(submitted) else ""
    return [
        violation(
            "P-PEND1",
            f"{worst['waiting']} payments await approval for {worst['place']}: {_amounts(involved)}{by}",
            total=crowded.height,
            operations=shown(history, submitted),
            books={"payments": rows(involved.drop("place"))},
        )
    ]


def _amounts(payments: pl.DataFrame, *, status: bool = False) -> str:
    """Name payments with their amounts, and with their status if asked."""
    return listed(
        f"{p['id']} of {money(p['amount'])}" + (f" ({p['status']})" if status else "")
        for p in payments.sort("id").iter_rows(named=True)
    )


def _place() -> pl.Expr:
    """Say what a payment is for: its term, or its account where no term is named."""
    return (
        pl.when(pl.col("term").is_not_null())
        .then(pl.lit("term ") + pl.col("term"))
        .otherwise(pl.lit("account ") + pl.col("account") + pl.lit(" without a term"))
    )


def _waits(history: History) -> pl.DataFrame:
    """Return for how long each payment certainly awaited approval for its term, as the history tells.

    It waits from the moment its submission was acknowledged until the first decision that may have taken effect was invoked.
    When a submission took effect whose answer never came is not known: it has no certain beginning.
    """
    operations = history.operations
    begun = (
        operations.filter(pl.col("outcome") == "ok", pl.col("f") == "submit", pl.col("subject").is_not_null())
        .filter(pl.col("completed").is_not_null())
        .with_columns(term=pl.col("arguments").str.json_path_match("$.term"))
        .filter(pl.col("term").is_not_null())
        .group_by("subject", "term")
        .agg(pl.col("completed").min().alias("start"))
    )
    ended = (
        operations.filter(pl.col("outcome") != "fail", pl.col("f").is_in(list(DECISIONS)))
        .group_by("subject")
        .agg(pl.col("invoked").min().alias("end"))
    )
    return (
        begun.join(ended, on="subject", how="left")
        .with_columns(pl.col("end").fill_null(FOREVER))
        .sort("term", "start", "subject")
    )


def _pending_then(history: History, waits: pl.DataFrame) -> list[Finding]:
    """Find two payments that certainly awaited approval at the same time, whatever became of them.

    Two intervals of one term that overlap are a violation; intervals that only may overlap are not.
    """
    operations = history.operations
    before = pl.col("end").cum_max().shift(1).over("term")
    # A payment that both of a pair submitted counts once, and one that still waits is in the books.
    overlapping = waits.with_columns(before=before).filter(pl.col("start") < pl.col("before"), pl.col("end") > pl.col("start"))
    overlapping = overlapping.filter((pl.col("end") < FOREVER) | (pl.col("before") < FOREVER))
    if overlapping.is_empty():
        return []
    second = overlapping.sort("start", "subject").row(0, named=True)
    # In the order of their beginnings the first that still waited then is another one, or the second would not overlap.
    first_row = waits.filter(pl.col("term") == second["term"], pl.col("end") > second["start"]).row(0, named=True)
    involved = operations.filter(pl.col("subject").is_in([first_row["subject"], second["subject"]]), pl.col("outcome") == "ok")
    return [
        violation(
            "P-PEND1",
            f"payments {first_row['subject']} and {second['subject']} awaited approval for term {second['term']} at "
            f"the same time: the second was accepted at {moment(history, second['start'])}, "
            "before anybody decided on the first",
            total=overlapping.height,
            operations=shown(history, involved),
        )
    ]


def _tells_refunds(history: History, books: Books) -> bool:
    """Tell whether the books say what was refunded, or nobody asked for a refund that may have happened."""
    if _lists_refunds(books) or books.gives("payments", "refunded"):
        return True
    return history.operations.filter(pl.col("f") == "refund", pl.col("outcome") != "fail").is_empty()


def _lists_refunds(books: Books) -> bool:
    return books.gives("refunds", "payment") and books.gives("refunds", "amount")


def _with_refunds(books: Books) -> pl.DataFrame:
    """Return the payments with what was ``given`` back of each: what its refunds make, or its own total where none are kept."""
    payments = books.table("payments")
    if not _lists_refunds(books):
        return payments.with_columns(given=pl.col("refunded").fill_null(0))
    given = books.table("refunds").group_by("payment").agg(pl.col("amount").sum().alias("given"))
    return payments.join(given, left_on="id", right_on="payment", how="left").with_columns(pl.col("given").fill_null(0))


def net_by_term(books: Books) -> pl.DataFrame:
    """Return what was paid, refunded and awaits approval for each term, from the payments and refunds."""
    payments = _with_refunds(books).filter(pl.col("term").is_not_null())
    paid, waiting = pl.col("status") == "paid", pl.col("status") == WAITING
    return payments.group_by("term").agg(
        pl.col("amount").filter(paid).sum().alias("paid"),
        pl.col("given").sum().alias("given"),
        pl.col("amount").filter(waiting).sum().alias("waiting"),
    )


@invariant(
    "P-CONS",
    tables=["payments", "terms"],
    columns=["terms.opening", "terms.balance", "payments.term", "payments.amount", "payments.status"],
)
def money_is_conserved(history: History, books: Books, policy: Policy) -> list[Finding]:
    """What left a term's balance is what its approved payments brought, less refunds."""
    if not _tells_refunds(history, books):
        raise NotChecked("the books do not tell what was refunded")
    terms = (
        books.table("terms")
        .join(net_by_term(books), left_on="id", right_on="term", how="left")
        .with_columns(pl.col("paid", "given", "waiting").fill_null(0))
    )
    off = terms.with_columns(error=(pl.col("opening") - pl.col("balance")) - (pl.col("paid") - pl.col("given"))).filter(
        pl.col("error") != 0
    )
    if off.is_empty():
        return []
    worst = off.sort(pl.col("error").abs(), "id", descending=[True, False]).row(0, named=True)
    involved = books.table("payments").filter(pl.col("term") == worst["id"])
    operations = history.operations.filter(
        pl.col("subject").is_in(involved["id"].implode()), pl.col("outcome") != "fail", pl.col("f") != "submit"
    )
    did = (
        listed(f"{o['f']} of {o['subject']} by {whom(history, o)}" for o in operations.sort("invoked").iter_rows(named=True))
        if len(operations)
        else ""
    )
    return [
        violation(
            "P-CONS",
            f"term {worst['id']} went from {money(worst['opening'])} to {money(worst['balance'])}, which is "
            f"{money(worst['opening'] - worst['balance'])}; its approved payments make {money(worst['paid'])} and its "
            f"refunds {money(worst['given'])}, which is {money(worst['paid'] - worst['given'])}" + (f": {did}" if did else ""),
            total=off.height,
            operations=shown(history, operations),
            books={"terms": rows(books.table("terms").filter(pl.col("id") == worst["id"])), "payments": rows(involved)},
        )
    ]


@invariant("P-NOOVER")
def nothing_is_overpaid(history: History, books: Books, policy: Policy) -> list[Finding]:
    """No term, account or order is paid beyond what is owed, pending amounts counted."""
    paid = all(books.gives("payments", column) for column in ("amount", "status")) and _tells_refunds(history, books)
    owed = paid and books.gives("terms", "opening")
    by_term = owed and books.gives("payments", "term")
    by_account = owed and books.gives("payments", "account") and books.gives("terms", "account")
    by_order = _tells_rest(books)
    if not any((by_term, by_account, by_order, books.gives("terms", "balance"), books.gives("orders", "balance"))):
        raise NotChecked("the books do not give both what is owed and what was paid, nor a balance")
    return [
        *_overpaid_terms(history, books, summed=by_term),
        *(_overpaid_accounts(books) if by_account else ()),
        *_overpaid_orders(history, books, summed=by_order),
    ]


def _tells_rest(books: Books) -> bool:
    """Tell whether the books say what is left of an order's total; where no installments are kept, none were paid."""
    paid = not books.has("installments") or all(books.gives("installments", column) for column in ("order", "amount"))
    return paid and books.gives("orders", "total")


def _overpaid_terms(history: History, books: Books, *, summed: bool) -> list[Finding]:
    net = pl.col("paid") - pl.col("given") + pl.col("waiting") - pl.col("opening")
    terms = (
        books.table("terms")
        .join(net_by_term(books), left_on="id", right_on="term", how="left")
        .with_columns(pl.col("paid", "given", "waiting").fill_null(0))
        .with_columns(over=net.fill_null(0) if summed else pl.lit(0))
    )
    over = terms.filter((pl.col("over") > 0) | (pl.col("balance") < 0))
    if over.is_empty():
        return []
    worst = over.sort("over", "id", descending=[True, False]).row(0, named=True)
    involved = books.table("payments").filter(pl.col("term") == worst["id"], pl.col("status").is_in(["paid", WAITING]))
    operations = history.operations.filter(
        pl.col("subject").is_in(involved["id"].implode()),
        pl.col("outcome") == "ok",
        pl.col("f").is_in(["approve", "submit"]),
    )
    pending = f" and {money(worst['waiting'])} awaiting approval" if worst["waiting"] else ""
    message = (
        f"term {worst['id']} owed {money(worst['opening'])} and has {money(worst['paid'] - worst['given'])} paid"
        f"{pending}: "
        f"{_amounts(involved, status=True)}"
        if worst["over"] > 0
        else f"term {worst['id']} has the balance {money(worst['balance'])}"
    )
    return [
        violation(
            "P-NOOVER",
            message,
            total=over.height,
            operations=shown(history, operations),
            books={"terms": rows(books.table("terms").filter(pl.col("id") == worst["id"])), "payments": rows(involved)},
        )
    ]


def _overpaid_accounts(books: Books) -> list[Finding]:
    """Payments that name no term still count against their account."""
    loose = books.table("payments").filter(pl.col("term").is_null(), pl.col("account").is_not_null())
    if loose.is_empty():
        return []
    owed = books.table("terms").group_by("account").agg(pl.col("opening").sum())
    counted = _with_refunds(books).filter(pl.col("status").is_in(["paid", WAITING]))
    net = counted.group_by("account").agg((pl.col("amount") - pl.col("given")).sum().alias("counted"))
    over = owed.join(net, on="account").filter(pl.col("counted") > pl.col("opening")).sort("account")
    if over.is_empty():
        return []
    worst = over.row(0, named=True)
    return [
        violation(
            "P-NOOVER",
            f"account {worst['account']} owed {money(worst['opening'])} and has {money(worst['counted'])} paid or "
            "awaiting approval",
            total=over.height,
            books={"payments": rows(counted.drop("given").filter(pl.col("account") == worst["account"]))},
        )
    ]


def _overpaid_orders(history: History, books: Books, *, summed: bool) -> list[Finding]:
    paid = books.table("installments").group_by("order").agg(pl.col("amount").sum().alias("paid"))
    orders = (
        books.table("orders")
        .join(paid, left_on="id", right_on="order", how="left")
        .with_columns(pl.col("paid", "discount", "advance", "refunded").fill_null(0))
        .with_columns(rest=OWED.fill_null(0) if summed else pl.lit(0))
    )
    known = ~pl.col("id").is_in(untold(history, books, "refunded"))  # what was given back may be paid again
    over = orders.filter(pl.col("status").ne_missing("cancelled"), (known & (pl.col("rest") < 0)) | (pl.col("balance") < 0))
    if over.is_empty():
        return []
    worst = over.sort("rest", "id").row(0, named=True)
    involved = books.table("installments").filter(pl.col("order") == worst["id"])
    operations = history.operations.filter(pl.col("subject") == worst["id"], pl.col("outcome") == "ok")
    return [
        violation(
            "P-NOOVER",
            f"order {worst['id']} of {money(worst['total'])} has {money(worst['advance'])} advance, "
            f"{money(worst['discount'])} discount and {money(worst['paid'])} in installments: "
            f"{money(-worst['rest'])} too much; its balance says {money(worst['balance'])}"
            if worst["rest"] < 0
            else f"order {worst['id']} has the balance {money(worst['balance'])}, below zero",
            total=over.height,
            operations=shown(history, operations),
            books={
                "orders": rows(books.table("orders").filter(pl.col("id") == worst["id"])),
                "installments": rows(involved),
            },
        )
    ]


@invariant("P-REFUND", tables=["payments", "refunds"], columns=["refunds.payment", "refunds.amount"])
def refunds_within_payment(history: History, books: Books, policy: Policy) -> list[Finding]:
    """No more is refunded than was paid, and the payment's own total says so too."""
    if not books.gives("payments", "amount") and not books.gives("payments", "refunded"):
        raise NotChecked("the books give neither payments.amount nor payments.refunded")
    paid = pl.col("status") == "paid" if books.gives("payments", "status") else pl.lit(True)
    given = books.table("refunds").group_by("payment").agg(pl.col("amount").sum().alias("given"), pl.len().alias("refunds"))
    payments = (
        books.table("payments")
        .join(given, left_on="id", right_on="payment", how="left")
        .with_columns(pl.col("given", "refunds", "refunded").fill_null(0))
        .with_columns(captured=pl.when(paid).then(pl.col("amount")).otherwise(0))
    )
    findings = []
    over = payments.filter(pl.lit(books.gives("payments", "amount")), pl.col("given") > pl.col("captured"))
    if over.height:
        worst = over.sort(pl.col("given") - pl.col("captured"), "id", descending=[True, False]).row(0, named=True)
        involved = books.table("refunds").filter(pl.col("payment") == worst["id"])
        operations = history.operations.filter(
            pl.col("token").is_in(involved["token"].implode()), pl.col("f") == "refund", pl.col("outcome") == "ok"
        ).sort("completed")
        by = f": {listed(whom(history, o) for o in operations.iter_rows(named=True))}" if len(operations) else ""
        status = f" ({worst['status']})" if worst["status"] is not None else ""
        findings.append(
            violation(
                "P-REFUND",
                f"payment {worst['id']}{status} of {money(worst['amount'])} was refunded "
                f"{money(worst['given'])} in {worst['refunds']} refunds{by}",
                total=over.height,
                operations=shown(history, operations),
                books={"payments": rows(over.select(books.table("payments").columns)), "refunds": rows(involved)},
            )
        )
    differing = payments.filter(pl.lit(books.gives("payments", "refunded")), pl.col("given") != pl.col("refunded"))
    if differing.height:
        worst = differing.sort("id").row(0, named=True)
        findings.append(
            violation(
                "P-REFUND",
                f"payment {worst['id']} says that {money(worst['refunded'])} of it was refunded; its refunds make "
                f"{money(worst['given'])}",
                total=differing.height,
                books={"payments": rows(differing.select(books.table("payments").columns))},
            )
        )
    return findings


@invariant("P-EXACT")
def money_is_exact(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Every amount is a whole number of minor units: no float drift, no tolerance."""
    strange = books.table("inexact")
    if strange.is_empty():
        return []
    first = strange.sort("table", "column", "id").row(0, named=True)
    return [
        violation(
            "P-EXACT",
            f"{first['table']}.{first['column']} of {first['id']} is {first['value']} minor units, which is no whole number",
            total=strange.height,
            books={"inexact": rows(strange)},
        )
    ]


@invariant("P-SPLIT", tables=["terms"], columns=["terms.account", "terms.assessment", "terms.opening"])
def parts_make_the_whole(history: History, books: Books, policy: Policy) -> list[Finding]:
    """The terms of an account sum to its assessment, to the last minor unit."""
    accounts = (
        books.table("terms")
        .filter(pl.col("assessment").is_not_null(), pl.col("account").is_not_null())
        .group_by("account")
        .agg(pl.col("opening").sum(), pl.col("assessment").first(), pl.len().alias("terms"))
    )
    off = accounts.filter(pl.col("opening") != pl.col("assessment")).sort("account")
    if off.is_empty():
        return []
    first = off.row(0, named=True)
    return [
        violation(
            "P-SPLIT",
            f"the {first['terms']} terms of account {first['account']} make {money(first['opening'])} of an assessment "
            f"of {money(first['assessment'])}: {money(abs(first['assessment'] - first['opening']))} "
            f"{'missing' if first['opening'] < first['assessment'] else 'too much'}",
            total=off.height,
            books={"terms": rows(books.table("terms").filter(pl.col("account") == first["account"]))},
        )
    ]
