"""Orders: the advance counted once, balances that follow from what they are made of, installments in a row.

Which installments are genuine is taken from the history: an installment that carries the token of the operation that
opened the order is the advance, stored a second time.
"""

from __future__ import annotations

import polars as pl

from harness.invariants.registry import NotChecked, invariant
from harness.invariants.resolution import tells_absence
from harness.invariants.telling import answer, argument, listed, moment, money, rows, shown, violation, whom
from harness.model import Books, Finding, History, Policy

OPENINGS = ["open_order", "import_order"]

OWED = pl.col("total") - pl.col("advance") - pl.col("discount") - pl.col("paid") + pl.col("refunded")
"""What is left to pay of an order, with what its installments make as ``paid``."""

PARTS = ("discount", "refunded", "advance")
"""Columns of an order that its balance is made of beside its total; a target without them keeps them elsewhere, or has none."""


def untold(history: History, books: Books, *parts: str) -> list[str]:
    """Return the orders to which something may have happened that the books, without one of these columns, do not tell of."""
    operations = history.operations.filter(pl.col("outcome") != "fail", pl.col("subject").is_not_null())
    changed = {
        "discount": pl.col("f") == "discount",
        "refunded": pl.col("f") == "refund_order",
        "advance": pl.col("f").is_in(OPENINGS) & (argument("advance").fill_null("0") != "0"),
    }
    found = [operations.filter(changed[part]) for part in parts if not books.gives("orders", part)]
    # An advance that is stored as an installment is counted among them.
    counted = books.table("installments").select("token")
    return [subject for frame in found for subject in frame.join(counted, on="token", how="anti")["subject"].unique().sort()]


def _orders(history: History, books: Books, installments: pl.DataFrame) -> pl.DataFrame:
    """Return the orders that are not cancelled, with what was paid and the balance that follows, if the books tell all of it.

    Raises:
        NotChecked: there are such orders, and the books tell all of it of none.
    """
    open_orders = books.table("orders").filter(pl.col("status").ne_missing("cancelled"))
    known = open_orders.filter(~pl.col("id").is_in(untold(history, books, *PARTS)))
    if open_orders.height and known.is_empty():
        raise NotChecked("the books do not give all that the orders' balances are made of")
    paid = installments.group_by("order").agg(pl.col("amount").sum().alias("paid"))
    return (
        known.join(paid, left_on="id", right_on="order", how="left")
        .with_columns(pl.col("paid", "refunded", "discount", "advance").fill_null(0))
        .with_columns(derived=OWED)
    )


def _sum(order: dict[str, int]) -> str:
    """Show how an order's balance is made."""
    refunded = f" + {money(order['refunded'])}" if order["refunded"] else ""
    return (
        f"{money(order['total'])} - {money(order['advance'])} - {money(order['discount'])} - {money(order['paid'])}"
        f"{refunded} = {money(order['derived'])}"
    )


SUMMED = ("orders.total", "orders.balance", "installments.order", "installments.amount")
"""Columns without which no balance can be compared with what it is made of."""


@invariant("O-BAL", tables=["orders", "installments"])
def advance_counted_once(history: History, books: Books, policy: Policy) -> list[Finding]:
    """The balance is total less advance, discount and installments, and the advance is counted once."""
    summed = all(books.gives(*column.split(".")) for column in SUMMED)
    # An advance that the order does not keep is counted once where it is an installment.
    stored = books.gives("orders", "advance") and books.gives("installments", "order") and tells_absence("installments", books)
    if not summed and not stored:
        raise NotChecked("the books do not give both the orders' balances and what they are made of")
    opened = history.operations.filter(pl.lit(stored), pl.col("f").is_in(OPENINGS)).select("token")
    installments = books.table("installments")
    advances = installments.join(opened, on="token", how="semi")
    counted = installments.join(opened, on="token", how="anti")
    orders = _orders(history, books, counted) if summed else books.table("orders").clear().with_columns(derived=pl.lit(0))
    off = orders.filter(pl.col("balance") != pl.col("derived")).sort(
        (pl.col("balance") - pl.col("derived")).abs(), "id", descending=[True, False]
    )
    findings = []
    if off.height:
        worst = off.row(0, named=True)
        twice = advances.filter(pl.col("order") == worst["id"])
        why = (
            f"; its advance of {money(worst['advance'])} is stored as installment #{twice['number'][0]} as well"
            if twice.height
            else ""
        )
        findings.append(
            violation(
                "O-BAL",
                f"order {worst['id']} has the balance {money(worst['balance'])} where {_sum(worst)}{why}",
                total=off.height,
                operations=shown(history, history.operations.filter(pl.col("subject") == worst["id"])),
                books={
                    "orders": rows(books.table("orders").filter(pl.col("id") == worst["id"])),
                    "installments": rows(installments.filter(pl.col("order") == worst["id"])),
                },
            )
        )
    doubled = advances.join(off, left_on="order", right_on="id", how="anti").sort("order")
    if not _migrated(history):  # an old order may hold its advance twice until a migration says that none is left
        old = history.operations.filter(pl.col("f") == "import_order").select("token")
        doubled = doubled.join(old, on="token", how="anti")
    if doubled.height:
        first = doubled.row(0, named=True)
        findings.append(
            violation(
                "O-BAL",
                f"the advance of order {first['order']}, {money(first['amount'])}, is stored in the order and as "
                f"installment #{first['number']}",
                total=doubled.height,
                books={"installments": rows(doubled.select(installments.columns))},
            )
        )
    return findings


def _migrated(history: History) -> bool:
    """Tell whether a migration came to its end."""
    migrations = history.operations.filter(pl.col("f") == "migrate", pl.col("outcome") == "ok")
    return not migrations.filter(answer("left") == "0").is_empty()


@invariant("O-DRIFT", tables=["orders", "installments"], columns=SUMMED)
def stored_balance_follows(history: History, books: Books, policy: Policy) -> list[Finding]:
    """The stored balance is the one that follows from the order and its installments."""
    off = (
        _orders(history, books, books.table("installments"))
        .filter(pl.col("balance") != pl.col("derived"))
        .sort((pl.col("balance") - pl.col("derived")).abs(), "id", descending=[True, False])
    )
    if off.is_empty():
        return []
    worst = off.row(0, named=True)
    did = history.operations.filter(
        pl.col("subject") == worst["id"], pl.col("outcome") == "ok", ~pl.col("f").is_in(OPENINGS)
    ).sort("completed")
    did_by = listed(f"{o['f']} by {whom(history, o)}" for o in did.iter_rows(named=True)) if did.height else ""
    by = f": {did_by}" if did_by else ""
    return [
        violation(
            "O-DRIFT",
            f"order {worst['id']} stores the balance {money(worst['balance'])}, and {_sum(worst)}{by}",
            total=off.height,
            operations=shown(history, did),
            books={
                "orders": rows(books.table("orders").filter(pl.col("id") == worst["id"])),
                "installments": rows(books.table("installments").filter(pl.col("order") == worst["id"])),
            },
        )
    ]


@invariant("O-INST", tables=["installments"], columns=["installments.order", "installments.number"])
def installments_in_a_row(history: History, books: Books, policy: Policy) -> list[Finding]:
    """The installments of an order are numbered 1 to k without repeats or holes."""
    installments = books.table("installments")
    numbered = installments.group_by("order").agg(
        pl.len().alias("count"),
        pl.col("number").n_unique().alias("distinct"),
        pl.col("number").min().alias("least"),
        pl.col("number").max().alias("most"),
    )
    off = numbered.filter(
        (pl.col("distinct") != pl.col("count")) | (pl.col("least") != 1) | (pl.col("most") != pl.col("count"))
    ).sort("order")
    if off.is_empty():
        return []
    first = off.row(0, named=True)
    involved = installments.filter(pl.col("order") == first["order"]).sort("number", "id")
    repeated = involved.filter(pl.col("number").is_duplicated())
    operations = history.operations.filter(
        pl.col("token").is_in((repeated if repeated.height else involved)["token"].implode()), pl.col("outcome") == "ok"
    ).sort("completed")
    by = f": by {listed(whom(history, o) for o in operations.iter_rows(named=True))}" if operations.height else ""
    message = (
        f"order {first['order']} has more than one installment #{repeated['number'][0]}{by}"
        if repeated.height
        else f"order {first['order']} has {first['count']} installments, numbered {first['least']} to {first['most']}"
    )
    return [
        violation(
            "O-INST",
            message,
            total=off.height,
            operations=shown(history, operations),
            books={"installments": rows(involved)},
        )
    ]


@invariant("O-CANCEL", tables=["orders"], columns=["orders.status"])
def cancelled_takes_no_payment(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A cancelled order takes no payment, and a paid one is not cancelled without a refund."""
    if not books.gives("orders", "refunded"):
        return _paid_when_cancelled(history, books)
    listed_all = all(books.gives("installments", column) for column in ("order", "amount"))
    if not listed_all and not books.gives("orders", "advance"):
        raise NotChecked("the books do not give what was paid for an order")
    # More given back than paid is only told where all that was paid is.
    wrong = pl.col("kept") != 0 if listed_all and books.gives("orders", "advance") else pl.col("kept") > 0
    paid = books.table("installments").group_by("order").agg(pl.col("amount").sum().alias("paid"))
    kept = (
        books.table("orders")
        .filter(pl.col("status") == "cancelled")
        .join(paid, left_on="id", right_on="order", how="left")
        .with_columns(pl.col("paid", "refunded", "advance").fill_null(0))
        .with_columns(kept=pl.col("advance") + pl.col("paid") - pl.col("refunded"))
        .filter(wrong)
        .sort(pl.col("kept").abs(), "id", descending=[True, False])
    )
    if kept.is_empty():
        return []
    worst = kept.row(0, named=True)
    did = history.operations.filter(
        pl.col("subject") == worst["id"],
        pl.col("outcome") == "ok",
        pl.col("f").is_in(["pay_installment", "cancel_order", "refund_order"]),
    ).sort("completed")
    by = "".join(f"; {o['f']} by {whom(history, o)}" for o in did.head(4).iter_rows(named=True))
    return [
        violation(
            "O-CANCEL",
            f"order {worst['id']} is cancelled and {money(worst['kept'])} paid for it was not given back{by}"
            if worst["kept"] > 0
            else f"order {worst['id']} is cancelled and {money(-worst['kept'])} more was given back than was paid{by}",
            total=kept.height,
            operations=shown(history, did),
            books={
                "orders": rows(books.table("orders").filter(pl.col("id") == worst["id"])),
                "installments": rows(books.table("installments").filter(pl.col("order") == worst["id"])),
            },
        )
    ]


def _paid_when_cancelled(history: History, books: Books) -> list[Finding]:
    """Find payments that were sent after a cancellation was acknowledged, which still holds. What was refunded is not told."""
    cancelled = books.table("orders").filter(pl.col("status") == "cancelled")
    sent = history.operations.with_columns(sent=pl.col("invoked").min().over("token"))
    told = sent.filter(pl.col("outcome") == "ok", pl.col("completed").is_not_null())
    ended = told.filter(pl.col("f") == "cancel_order").group_by("subject").agg(pl.col("completed").max().alias("ended"))
    late = (
        told.filter(pl.col("f") == "pay_installment")
        .join(ended, on="subject")
        .filter(pl.col("sent") > pl.col("ended"))
        .join(cancelled, left_on="subject", right_on="id", how="semi")
        .sort("completed")
        .unique("token", keep="first", maintain_order=True)
    )
    if late.is_empty():
        return []
    first = late.row(0, named=True)
    did = history.operations.filter(
        pl.col("subject") == first["subject"],
        pl.col("outcome") == "ok",
        pl.col("f").is_in(["pay_installment", "cancel_order", "refund_order"]),
    )
    return [
        violation(
            "O-CANCEL",
            f"order {first['subject']} was cancelled at {moment(history, first['ended'])}, and a payment that was sent later was "
            f"acknowledged to {whom(history, first)}",
            total=late.height,
            operations=shown(history, did),
            books={"orders": rows(cancelled.filter(pl.col("id") == first["subject"]))},
        )
    ]


@invariant("O-CONS", tables=["installments"])
def no_genuine_payment_is_lost(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Every acknowledged installment is still there with its amount, whatever was repaired or migrated since."""
    if not tells_absence("installments", books):
        raise NotChecked("the rows of installments keep no token of the client")
    paid = (
        history.operations.filter(pl.col("f") == "pay_installment", pl.col("outcome") == "ok")
        .sort("completed")
        .unique("token", keep="first", maintain_order=True)
    )
    stored = books.table("installments").select("token", pl.col("amount").alias("stored"), there=True)
    compared = paid.join(stored.unique("token", keep="first"), on="token", how="left")
    wrong = pl.col("there").is_null()
    if books.gives("installments", "amount"):
        wrong |= pl.col("amount").is_not_null() & pl.col("stored").ne_missing(pl.col("amount"))
    lost = compared.filter(wrong).sort("completed")
    if lost.is_empty():
        return []
    first = lost.row(0, named=True)
    became = f"stands as {money(first['stored'])}" if first["there"] else "is gone"
    return [
        violation(
            "O-CONS",
            f"the installment of {money(first['amount'])} on order {first['subject']}, acknowledged to "
            f"{whom(history, first)}, {became}",
            total=lost.height,
            operations=shown(history, lost.drop("stored", "there")),
            books={"installments": rows(books.table("installments").filter(pl.col("order") == first["subject"]))},
        )
    ]
