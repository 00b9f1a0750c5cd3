"""Sales: stock that never goes below zero and credit that stays within its limit."""

from __future__ import annotations

import polars as pl

from harness.invariants.registry import invariant
from harness.invariants.telling import answer, argument, money, rows, shown, violation, whom
from harness.model import Books, Finding, History, Policy


@invariant("S-STOCK", tables=["stock"], columns=["stock.item", "stock.quantity"])
def stock_never_below_zero(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Stock never goes below zero, and what left it is what was sold."""
    stock = books.table("stock")
    tries = history.operations.filter(pl.col("f") == "sell", pl.col("outcome") == "ok").with_columns(
        item=argument("item"), sold_now=argument("quantity").cast(pl.Int64(), strict=False), text=answer("text")
    )
    voids = _perhaps_void(history)
    named = tries.join(voids, on="text", how="semi")
    sales = tries.unique("token", keep="first", maintain_order=True).sort("completed")
    counted = stock.with_columns(left=pl.col("opening") - pl.col("quantity"))
    kept = sales.join(named, on="token", how="anti").join(_void(books), on="token", how="anti")
    if voids.join(tries, on="text", how="anti").height:  # perhaps of sales whose number nobody was told
        kept = kept.join(tries.filter(pl.col("text").is_not_null()), on="token", how="semi")
    return [
        *_below_zero(history, stock, sales),
        *_not_what_left(history, counted, voids, named),
        *_acknowledged(history, counted, kept),
    ]


def _below_zero(history: History, stock: pl.DataFrame, sales: pl.DataFrame) -> list[Finding]:
    below = stock.filter(pl.col("quantity") < 0).sort("quantity", "item")
    if below.is_empty():
        return []
    worst = below.row(0, named=True)
    involved = sales.filter(pl.col("item") == worst["item"])
    last = f"; the last was sold to {whom(history, involved.row(-1, named=True))}" if involved.height else ""
    were = (
        f": {worst['opening']} were there and {worst['opening'] - worst['quantity']} were sold"
        if worst["opening"] is not None
        else ""
    )
    return [
        violation(
            "S-STOCK",
            f"item {worst['item']} has {worst['quantity']} in stock{were}{last}",
            total=below.height,
            operations=shown(history, involved.tail(3).select(history.operations.columns)),
            books={"stock": rows(below)},
        )
    ]


def _not_what_left(history: History, counted: pl.DataFrame, voids: pl.DataFrame, named: pl.DataFrame) -> list[Finding]:
    """Compare the stock with the books' own sum of sales; without one, what came back by voids with what was there."""
    differing = counted.filter(
        (pl.col("left") != pl.col("sold"))
        | (pl.col("left") < 0) & pl.col("sold").is_null() & pl.col("item").is_in(named["item"].implode())
    ).sort("item")
    if differing.is_empty():
        return []
    worst = differing.row(0, named=True)
    change = f"({worst['opening']} to {worst['quantity']})"
    make = f", and its sales make {worst['sold']}" if worst["sold"] is not None else ""
    return [
        violation(
            "S-STOCK",
            f"{worst['left']} of item {worst['item']} left the stock {change}{make}"
            if worst["left"] >= 0
            else f"{-worst['left']} more of item {worst['item']} came back than had left the stock {change}{make}",
            total=differing.height,
            operations=shown(history, _voids_of(worst["item"], voids, named).select(history.operations.columns)),
            books={"stock": rows(differing.drop("left"))},
        )
    ]


def _perhaps_void(history: History) -> pl.DataFrame:
    """Return the voids that happened, or may have, with the printed number that each names. What they gave back is in stock."""
    return history.operations.filter(pl.col("f") == "void_sale", pl.col("outcome") != "fail").with_columns(text=argument("text"))


def _voids_of(item: str, voids: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """Return the voids of an item's sales; first those of a sale that was voided more than once."""
    return (
        voids.join(named.filter(pl.col("item") == item), on="text", how="semi", maintain_order="left")
        .with_columns(times=pl.len().over("text"))
        .sort("times", "text", descending=[True, False], maintain_order=True)
    )


def _void(books: Books) -> pl.DataFrame:
    """Return the tokens of sales that are void in the books."""
    return books.table("documents").filter(pl.col("status") == "void").select("token").drop_nulls()


def _acknowledged(history: History, counted: pl.DataFrame, sales: pl.DataFrame) -> list[Finding]:
    """Compare the stock with what clients were told; quantities of unknown outcome may count either way."""
    told = sales.group_by("item").agg(pl.col("sold_now").sum().alias("told"))
    more = counted.join(told, on="item").filter(pl.col("told") > pl.col("left")).sort("item")
    if more.is_empty():
        return []
    worst = more.row(0, named=True)
    return [
        violation(
            "S-STOCK",
            f"{worst['told']} of item {worst['item']} were acknowledged as sold and only {worst['left']} left the stock",
            total=more.height,
            operations=shown(history, sales.filter(pl.col("item") == worst["item"]).select(history.operations.columns)),
            books={"stock": rows(more)},
        )
    ]


@invariant("S-CREDIT", tables=["customers"], columns=["customers.open_amount", "customers.limit"])
def credit_within_limit(history: History, books: Books, policy: Policy) -> list[Finding]:
    """A customer's open amount never exceeds the limit, and is what its unpaid sales on credit make."""
    return _over_limit(history, books) + _not_what_was_sold(books)


def _not_what_was_sold(books: Books) -> list[Finding]:
    differing = books.table("customers").filter(pl.col("open_amount") != pl.col("sold")).sort("id")
    if differing.is_empty():
        return []
    worst = differing.row(0, named=True)
    make = f"its unpaid sales on credit make {money(worst['sold'])}"
    return [
        violation(
            "S-CREDIT",
            f"customer {worst['id']} owes {money(worst['open_amount'])}, and {make}",
            total=differing.height,
            books={"customers": rows(differing)},
        )
    ]


def _over_limit(history: History, books: Books) -> list[Finding]:
    over = (
        books.table("customers")
        .filter(pl.col("open_amount") > pl.col("limit"))
        .sort(pl.col("open_amount") - pl.col("limit"), "id", descending=[True, False])
    )
    if over.is_empty():
        return []
    worst = over.row(0, named=True)
    sales = (
        history.operations.filter(pl.col("f") == "sell", pl.col("outcome") == "ok")
        .filter(argument("customer") == worst["id"])
        .unique("token", keep="first", maintain_order=True)
        .sort("completed")
    )
    last = f"; the last sale was to {whom(history, sales.row(-1, named=True))}" if sales.height else ""
    return [
        violation(
            "S-CREDIT",
            f"customer {worst['id']} owes {money(worst['open_amount'])} with a limit of {money(worst['limit'])}{last}",
            total=over.height,
            operations=shown(history, sales.tail(3)),
            books={"customers": rows(over)},
        )
    ]
