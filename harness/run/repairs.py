"""Proposes how to put right what an audit found: SQL or MongoDB commands for somebody to read, change and run. Never run here.

Each is guarded by the value that was seen, so that it does nothing where the row has changed since.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from harness.config.number_format import format_number, read_template
from harness.config.sections import BooksSection, ServiceConfig
from harness.invariants.numbering.columns import KEY, PLACE, place_name
from harness.invariants.payments import WAITING, net_by_term
from harness.model import Books, Policy
from harness.run.audit import Audited

MOST = 200
"""Commands that are written for one kind of damage; what is left shows again after these."""


MONGO_CASTS = ("$toString", "$toInt", "$toLong", "$toDouble", "$toDecimal", "$toDate", "$toObjectId")
"""Operators that keep what a field says and change only its type."""


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What is wrong in one line, and the commands that would put it right (or lines of comment where nothing can)."""

    invariant: str
    why: str
    commands: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a canonical table's rows come from: the table or collection, its key, and the column behind each canonical one.

    ``computed`` are the canonical columns that the query gives but does not take from a plain column of that table.
    """

    mongo: bool
    name: str
    key: str
    columns: Mapping[str, str]
    computed: frozenset[str] = frozenset()

    def column(self, canonical: str) -> str:
        """Return the column's own name, or the canonical one where the query computes it."""
        return self.columns.get(canonical, canonical)

    def update(self, identity: Any, column: str, old: Any, new: Any, *, key: str | None = None) -> str:
        """Return the command that changes one value of one row if it still is what was seen."""
        return self.update_all(identity, {column: (old, new)}, key=key)

    def update_all(self, identity: Any, changes: Mapping[str, tuple[Any, Any]], *, key: str | None = None) -> str:
        """Return the command that changes values of one row, each given as (seen, new), if all still are what was seen."""
        by, own = key or self.key, {self.column(column): change for column, change in changes.items()}
        if self.mongo:
            where = {by: identity, **{name: old for name, (old, _) in own.items()}}
            return f"db.{self.name}.updateOne({_json(where)}, {_json({'$set': {name: new for name, (_, new) in own.items()}})})"
        values = ", ".join(f"{_quoted(name)} = {_literal(new)}" for name, (_, new) in own.items())
        seen = "".join(
            f" AND {_quoted(name)} {'IS NULL' if old is None else f'= {_literal(old)}'}" for name, (old, _) in own.items()
        )
        return f"UPDATE {_quoted(self.name)} SET {values} WHERE {_quoted(by)} = {_literal(identity)}{seen};"


def origin_of(table: str, section: BooksSection) -> Origin:
    """Return where the rows of a canonical table come from, as far as its query tells."""
    if section.collection is not None:
        projected, computed = _projected(section)
        return Origin(
            mongo=True, name=section.source or section.collection, key="_id", columns=projected, computed=frozenset(computed)
        )
    name, columns, computed = _selected(section.sql or "")
    key = columns.get("id", section.key)
    return Origin(mongo=False, name=section.source or name or table, key=key, columns=columns, computed=frozenset(computed))


def _projected(section: BooksSection) -> tuple[dict[str, str], set[str]]:
    found: dict[str, str] = {}
    computed: set[str] = set()
    for stage in section.pipeline:
        for name, value in {**stage.get("$project", {}), **stage.get("$set", {}), **stage.get("$addFields", {})}.items():
            inner = next(iter(value.values())) if isinstance(value, Mapping) and len(value) == 1 else value
            if isinstance(inner, str) and inner.startswith("$") and not inner.startswith("$$"):
                found[name] = inner.removeprefix("$")
            if name != "_id" and value not in (0, 1) and (name not in found or _reworked(value)):
                computed.add(name)
    return found, computed


def _reworked(value: Any) -> bool:
    """Tell whether an expression changes what it takes from a field, other than in its type."""
    return isinstance(value, Mapping) and next(iter(value), "") not in MONGO_CASTS


def _selected(sql: str) -> tuple[str | None, dict[str, str], set[str]]:
    import sqlglot  # noqa: PLC0415 - only an audit that found something pays for it
    from sqlglot import exp  # noqa: PLC0415

    try:
        parsed = sqlglot.parse_one(sql, read="postgres")
    except sqlglot.errors.SqlglotError:
        return None, {}, {"text"}
    source = parsed.args.get("from") or parsed.args.get("from_")
    if not isinstance(parsed, exp.Select) or source is None or not isinstance(source.this, exp.Table):
        return None, {}, {"text"}
    found: dict[str, str] = {}
    computed: set[str] = set()
    for item in parsed.expressions:
        inner = item.this if isinstance(item, exp.Alias) else item
        while isinstance(inner, exp.Cast):
            inner = inner.this
        if isinstance(inner, exp.Column):
            found[item.alias_or_name] = inner.name
        if not item.is_star and (not isinstance(inner, exp.Column) or inner.table not in ("", source.this.alias_or_name)):
            computed.add(item.alias_or_name)
    table = source.this
    return (f"{table.db}.{table.name}" if table.db else table.name), found, computed


def repairs(audited: Audited, config: ServiceConfig) -> list[Repair]:
    """Return a proposal for each kind of damage that was found and that commands can put right."""
    wrong = {f.invariant for f in audited.findings}
    books, origins = audited.books, {table: origin_of(table, section) for table, section in config.books.items()}
    found: list[Repair] = []
    if "N-UNIQ" in wrong and "documents" in origins:
        found += _renumbered(audited, origins["documents"])
    if wrong & {"N-GAPLESS", "N-GAPBUDGET"} and audited.numbers is not None:
        found.append(_voids(audited))
    if "N-COUNTER>=MAX" in wrong and "counters" in origins and audited.numbers is not None:
        found += _raised(audited, origins["counters"])
    if "P-CONS" in wrong and "terms" in origins:
        found += _balanced_terms(books, origins["terms"])
    if "O-DRIFT" in wrong and "orders" in origins:
        found += _balanced_orders(books, origins["orders"])
    if "P-PEND1" in wrong and "payments" in origins:
        found += _one_waiting(books, origins["payments"])
    if "P-REFUND" in wrong and "payments" in origins:
        found += _refund_totals(books, origins["payments"])
    if "A-MATCH" in wrong and "audit" in origins and "payments" in books.tables:
        found += _told(books, origins["audit"])
    return [r for r in found if r.commands]


def _capped(commands: Sequence[str], mongo: bool) -> tuple[str, ...]:
    if len(commands) <= MOST:
        return tuple(commands)
    return (*commands[:MOST], _comment(f"and {len(commands) - MOST} more: audit again after these", mongo))


def _comment(text: str, mongo: bool) -> str:
    return f"{'//' if mongo else '--'} {text}"


def _renumbered(audited: Audited, origin: Origin) -> list[Repair]:
    """Give all but the first of each number's documents the next free number of their scope."""
    numbers = audited.numbers
    suspects = audited.suspects.filter(pl.col("number").is_not_null(), pl.col("id").is_not_null())
    again = suspects.sort(*KEY, "dated", "row", nulls_last=True).filter(~pl.struct(KEY).is_first_distinct())
    if numbers is None or again.is_empty():
        return []
    top = {(r["scope"], r["period"]): r["number"] for r in numbers.highest.iter_rows(named=True)}
    commands, unprinted = [], ""
    apart = origin.column("text") != origin.column("number")
    for row in again.iter_rows(named=True):
        place = (row["scope"], row["period"])
        top[place] = top.get(place, row["number"]) + 1
        changes = {"number": (row["number"], top[place])}
        if row["text"] is not None and apart:
            printed = _printed(audited.policy, row, top[place])
            if "text" in origin.computed:
                unprinted = "it is not a plain column of the query; unless it is made from the number, set it too"
            elif printed is None:
                unprinted = "no format of the policy tells how the new number is printed; set it too"
            else:
                changes["text"] = (row["text"], printed)
        commands.append(origin.update_all(_identity(row["id"], origin.mongo), changes))
    told = (_comment(f"the printed number is not changed here: {unprinted}", origin.mongo),) if unprinted else ()
    columns = [origin.column(c) for c in ("scope", "period", "number") if c in origin.columns]
    if origin.mongo:
        index = f"db.{origin.name}.createIndex({_json(dict.fromkeys(columns, 1))}, {{ unique: true }})"
    else:
        index = f"CREATE UNIQUE INDEX CONCURRENTLY ON {_quoted(origin.name)} ({', '.join(map(_quoted, columns))});"
    why = (
        "numbers were issued twice: the later documents get the next free ones, and an index forbids more. A number that a "
        "customer holds must not change: void such a document instead, and issue another"
    )
    if not columns:
        return [Repair(invariant="N-UNIQ", why=why, commands=(*told, *_capped(commands, origin.mongo)))]
    return [Repair(invariant="N-UNIQ", why=why, commands=(*told, *_capped(commands, origin.mongo), index))]


def _printed(policy: Policy, row: Mapping[str, Any], number: int) -> str | None:
    """Return the number as the policy prints it on this document, or None where that is not known."""
    if policy.format is None:
        return None
    template = read_template(policy.format)
    if found := re.fullmatch(template.pattern, row["text"]):  # its date and its scope stay as they stand there
        start, end = found.span("number")
        return f"{row['text'][:start]}{number:0{template.width}d}{row['text'][end:]}"
    if template.date_tokens or template.scope_keys:
        return None
    return format_number(policy.format, number, datetime.date.min)


def _voids(audited: Audited) -> Repair:
    assert audited.numbers is not None
    lines = []
    for hole in audited.numbers.holes.head(20).iter_rows(named=True):
        span = f"{hole['first']}" if hole["size"] == 1 else f"{hole['first']} to {hole['last']}"
        lines.append(_comment(f"{place_name(hole['scope'], hole['period'])}: {span}", mongo=False))
    return Repair(
        invariant="N-GAPLESS",
        why="numbers are missing: record each as void with the reason, after looking for its document in backups and mail",
        commands=tuple(lines),
    )


def _raised(audited: Audited, origin: Origin) -> list[Repair]:
    assert audited.numbers is not None
    counters = audited.books.table("counters").with_columns(pl.col("scope").fill_null(""), pl.col("period").fill_null(""))
    behind = counters.join(audited.numbers.highest.select(*PLACE, "number"), on=PLACE).filter(pl.col("value") < pl.col("number"))
    keys = [c for c in PLACE if c in origin.columns]
    commands = []
    for row in behind.sort(PLACE).iter_rows(named=True):
        value = origin.column("value")
        if origin.mongo:
            where = {**{origin.column(k): row[k] for k in keys}, value: row["value"]}
            commands.append(f"db.{origin.name}.updateOne({_json(where)}, {_json({'$set': {value: row['number']}})})")
        else:
            where_sql = " AND ".join(
                [*(f"{_quoted(origin.column(k))} = {_literal(row[k])}" for k in keys), f"{_quoted(value)} = {row['value']}"]
            )
            commands.append(f"UPDATE {_quoted(origin.name)} SET {_quoted(value)} = {row['number']} WHERE {where_sql};")
    why = "counters are behind the numbers that were issued: they are raised to the highest"
    return [Repair(invariant="N-COUNTER>=MAX", why=why, commands=_capped(commands, origin.mongo))]


def _balanced_terms(books: Books, origin: Origin) -> list[Repair]:
    terms = (
        books.table("terms")
        .join(net_by_term(books), left_on="id", right_on="term", how="left")
        .with_columns(pl.col("paid", "given").fill_null(0))
        .with_columns(right=pl.col("opening") - pl.col("paid") + pl.col("given"))
        .filter(pl.col("right") != pl.col("balance"))
        .sort("id")
    )
    commands = [
        origin.update(_identity(r["id"], origin.mongo), "balance", r["balance"], r["right"]) for r in terms.iter_rows(named=True)
    ]
    why = "balances of terms do not follow from their payments: they are set to what was owed less what was paid"
    return [Repair(invariant="P-CONS", why=why, commands=_capped(commands, origin.mongo))]


def _balanced_orders(books: Books, origin: Origin) -> list[Repair]:
    paid = books.table("installments").group_by("order").agg(pl.col("amount").sum().alias("paid"))
    orders = (
        books.table("orders")
        .filter(pl.col("status").ne_missing("cancelled"))
        .join(paid, left_on="id", right_on="order", how="left")
        .with_columns(pl.col("paid", "refunded", "discount", "advance").fill_null(0))
        .with_columns(right=pl.col("total") - pl.col("advance") - pl.col("discount") - pl.col("paid") + pl.col("refunded"))
        .filter(pl.col("right") != pl.col("balance"))
        .sort("id")
    )
    commands = []
    for row in orders.iter_rows(named=True):
        if row["advance"] and row["balance"] - row["right"] == row["advance"]:
            commands.append(
                _comment(
                    f"order {row['id']}: the difference is exactly its advance, so it is likely stored as an installment "
                    "too: delete that installment instead",
                    origin.mongo,
                )
            )
        else:
            commands.append(origin.update(_identity(row["id"], origin.mongo), "balance", row["balance"], row["right"]))
    why = "balances of orders do not follow from their installments"
    return [Repair(invariant="O-DRIFT", why=why, commands=_capped(commands, origin.mongo))]


def _one_waiting(books: Books, origin: Origin) -> list[Repair]:
    waiting = books.table("payments").filter(pl.col("status") == WAITING).sort("term", "account", "id", nulls_last=True)
    later = waiting.filter(~pl.struct("term", "account").is_first_distinct())
    commands = [
        origin.update(_identity(r["id"], origin.mongo), "status", WAITING, "cancelled") for r in later.iter_rows(named=True)
    ]
    why = "several payments await approval for one term: all but the first are cancelled (ask the payer which one is meant)"
    return [Repair(invariant="P-PEND1", why=why, commands=_capped(commands, origin.mongo))]


def _refund_totals(books: Books, origin: Origin) -> list[Repair]:
    given = books.table("refunds").group_by("payment").agg(pl.col("amount").sum().alias("given"))
    off = (
        books.table("payments")
        .join(given, left_on="id", right_on="payment", how="left")
        .with_columns(pl.col("given", "refunded").fill_null(0))
        .filter(pl.col("given") != pl.col("refunded"))
        .sort("id")
    )
    commands = [
        origin.update(_identity(r["id"], origin.mongo), "refunded", r["refunded"], r["given"]) for r in off.iter_rows(named=True)
    ]
    why = "payments say that another amount was refunded than their refunds make"
    return [Repair(invariant="P-REFUND", why=why, commands=_capped(commands, origin.mongo))]


def _told(books: Books, origin: Origin) -> list[Repair]:
    approvals = books.table("audit").filter(pl.col("action") == "approve").select("subject")
    silent = (
        books.table("payments").filter(pl.col("status") == "paid").join(approvals, left_on="id", right_on="subject", how="anti")
    )
    subject, action = origin.column("subject"), origin.column("action")
    commands = []
    for row in silent.sort("id").iter_rows(named=True):
        if origin.mongo:
            commands.append(f"db.{origin.name}.insertOne({_json({subject: row['id'], action: 'approve'})})")
        else:
            columns = f"{_quoted(subject)}, {_quoted(action)}"
            commands.append(f"INSERT INTO {_quoted(origin.name)} ({columns}) VALUES ({_literal(row['id'])}, 'approve');")
    why = "paid payments have no audit row: write down that they were approved, after finding out by whom"
    return [Repair(invariant="A-MATCH", why=why, commands=_capped(commands, origin.mongo))]


def _identity(text: Any, mongo: bool) -> Any:
    """Return an id as the store knows it; 24 hexadecimal digits are an ObjectId of MongoDB."""
    if mongo and isinstance(text, str) and len(text) == 24 and all(c in "0123456789abcdef" for c in text):
        return _Raw(f'ObjectId("{text}")')
    return text


@dataclass(frozen=True)
class _Raw:
    text: str


def _json(value: Any) -> str:
    if isinstance(value, _Raw):
        return value.text
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)}: {_json(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return ".".join(p if p.isidentifier() and p == p.lower() else '"' + p.replace('"', '""') + '"' for p in name.split("."))
