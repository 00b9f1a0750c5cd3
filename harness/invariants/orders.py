"""Orders: the advance counted once, balances that follow from what they are made of, installments in a row.

Which installments are genuine is taken from the history: an installment that carries the token of the operation that
opened the order is the advance, stored a second time.
"""

from __future__ import annotations

import polars as pl

from harness.invariants.registry import invariant
from harness.invariants.telling import answer, listed, money, rows, shown, violation, whom
from harness.model import Books, Finding, History, Policy

OPENINGS = ["open_order", "import_order"]


def _orders(books: Books, installments: pl.DataFrame) -> pl.DataFrame:
    """Return the orders that are not cancelled, with what was paid and the balance that follows."""
    paid = installments.group_by("order").agg(pl.col("amount").sum().alias("paid"))
    return (
        books.table("orders")
        .filter(pl.col("status") != "cancelled")
        .join(paid, left_on="id", right_on="order", how="left")
        .with_columns(pl.col("paid", "refunded", "discount", "advance").fill_null(0))
        .with_columns(derived=pl.col("total") - pl.col("advance") - pl.col("discount") - pl.col("paid") + pl.col("refunded"))
    )


def _sum(order: dict[str, int]) -> str:
    """Show how an order's balance is made."""
    refunded = f" + {money(order['refunded'])}" if order["refunded"] else ""
    return (
        f"{money(order['total'])} - {money(order['advance'])} - {money(order['discount'])} - {money(order['paid'])}"
        f"{refunded} = {money(order['derived'])}"
    )


@invariant("O-BAL", tables=["orders", "installments"])
def advance_counted_once(history: History, books: Books, policy: Policy) -> list[Finding]:
    """The balance is total less advance, discount and installments, and the advance is counted once."""
    opened = history.operations.filter(pl.col("f").is_in(OPENINGS)).select("token")
    installments = books.table("installments")
    advances = installments.join(opened, on="token", how="semi")
    orders = _orders(books, installments.join(opened, on="token", how="anti"))
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


@invariant("O-DRIFT", tables=["orders", "installments"])
def stored_balance_follows(history: History, books: Books, policy: Policy) -> list[Finding]:
    """The stored balance is the one that follows from the order and its installments."""
    off = (
        _orders(books, books.table("installments"))
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


@invariant("O-INST", tables=["installments"])
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


@invariant("O-CANCEL", tables=["orders"])
def cancelled_takes_no_payment(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A cancelled order takes no payment, and a paid one is not cancelled without a refund."""
    paid = books.table("installments").group_by("order").agg(pl.col("amount").sum().alias("paid"))
    kept = (
        books.table("orders")
        .filter(pl.col("status") == "cancelled")
        .join(paid, left_on="id", right_on="order", how="left")
        .with_columns(pl.col("paid", "refunded", "advance").fill_null(0))
        .with_columns(kept=pl.col("advance") + pl.col("paid") - pl.col("refunded"))
        .filter(pl.col("kept") != 0)
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


@invariant("O-CONS", tables=["installments"])
def no_genuine_payment_is_lost(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Every acknowledged installment is still there with its amount, whatever was repaired or migrated since."""
    paid = (
        history.operations.filter(pl.col("f") == "pay_installment", pl.col("outcome") == "ok")
        .sort("completed")
        .unique("token", keep="first", maintain_order=True)
    )
    stored = books.table("installments").select("token", pl.col("amount").alias("stored")).unique("token", keep="first")
    compared = paid.join(stored, on="token", how="left")
    lost = compared.filter(pl.col("stored").is_null() | (pl.col("stored") != pl.col("amount"))).sort("completed")
    if lost.is_empty():
        return []
    first = lost.row(0, named=True)
    became = "is gone" if first["stored"] is None else f"stands as {money(first['stored'])}"
    return [
        violation(
            "O-CONS",
            f"the installment of {money(first['amount'])} on order {first['subject']}, acknowledged to "
            f"{whom(history, first)}, {became}",
            total=lost.height,
            operations=shown(history, lost.drop("stored")),
            books={"installments": rows(books.table("installments").filter(pl.col("order") == first["subject"]))},
        )
    ]
