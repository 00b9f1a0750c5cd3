"""Larger worlds made of the cases of the corpus: what is right beside what is wrong, and the same wrong several times over.

A case is put into a world with others by giving the others names and times of their own. The nearest neighbours of a case differ
from it in one outcome, one operation, one row or one value.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from harness.invariants import judge
from harness.model import TABLES, Failure, Operation, Outcome
from tests.corpus.reading import Case

NAMES = frozenset(
    ("id", "token", "scope", "document", "term", "account", "order", "item", "payment", "subject", "event", "customer", "product")
)
"""Columns, arguments and parts of answers that name something."""

SECOND = 1_000_000_000


def renamed(case: Case, prefix: str, *, later: int = 0, clients: int = 0) -> Case:
    """Return the case with other names, each beginning with ``prefix``, ``later`` ns later, and by other clients."""
    operations = [
        replace(
            o,
            token=prefix + o.token,
            process=o.process + clients if o.client >= 0 else o.process,
            client=o.client + clients if o.client >= 0 else o.client,
            invoked=o.invoked + later,
            completed=None if o.completed is None else o.completed + later,
            arguments=_named(o.arguments, prefix),
            result=None if o.result is None else _named(o.result, prefix),
        )
        for o in case.operations
    ]
    rows = {table: [_named(row, prefix) for row in items] for table, items in case.rows.items()}
    return replace(case, operations=operations, rows={**rows, **{t: case.rows[t] for t in case.rows if t == "indexes"}})


def _named(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k: prefix + v if k in NAMES and isinstance(v, str) else v for k, v in values.items()}


def together(case: Case, others: Iterable[Case]) -> Case:
    """Return a case with everything in it that any of them has."""
    operations = list(case.operations)
    rows = {table: list(items) for table, items in case.rows.items()}
    for other in others:
        operations += other.operations
        for table, items in other.rows.items():
            if table != "indexes":
                rows.setdefault(table, []).extend(items)
    return replace(case, operations=operations, rows=rows)


def neighbours(case: Case, cases: Iterable[Case]) -> list[Case]:
    """Return the accepted cases of the same rule, about the same tables, that are right under the case's policy as well."""
    return [
        other
        for other in cases
        if other.verdict == "accept"
        and not other.alone
        and other.invariant == case.invariant
        and set(other.rows) == set(case.rows)
        and other.lacks == case.lacks
        and (other.rows.get("indexes") == case.rows.get("indexes"))
        and not _findings(replace(other, policy=case.policy))
    ]


def said(case: Case) -> list[dict[str, Any]]:
    """Return what is said of a case: class, rule, sentence and total of each finding, its operations, and its rows by table."""
    return [
        {
            "says": f"{f.finding_class.value} {f.invariant} ({f.total}): {f.message}",
            "operations": [f"{o['f']} {o['token']} by {o.get('client')}" for o in f.evidence["operations"]],
            "rows": {table: [_row(row) for row in rows] for table, rows in f.evidence["rows"].items()},
        }
        for f in _findings(case)
    ]


def _row(row: Mapping[str, Any]) -> str:
    return " ".join(str(row[name]) for name in ("id", "event", "item", "scope", "text", "number") if name in row)


def _findings(case: Case) -> Any:
    return judge(case.history, case.books, case.policy, [case.invariant]).findings


STATES: Mapping[str, list[str]] = {
    "documents": ["issued", "void", "reserved"],
    "payments": ["awaiting_approval", "paid", "rejected", "cancelled"],
    "orders": ["open", "paid", "cancelled"],
}
OTHER = {"approve": "reject", "reject": "approve", "submit": "cancel", "create": "void", "void": "create", "deliver": "approve"}
MILLISECOND = 1_000_000


NULLABLE = ("token", "text", "term", "reason", "document", "delivered")
"""Columns that a target may leave empty."""


def nearest(case: Case, count: int) -> list[Case]:
    """Return ``count`` cases that differ from this one in one thing each, always the same ones."""
    chance = random.Random(str(case))
    return [_changed(case, chance) for _ in range(count)]


def _changed(case: Case, chance: random.Random) -> Case:
    rows = [(table, at) for table, items in case.rows.items() if table != "indexes" for at in range(len(items))]
    places = [("", at) for at in range(len(case.operations))] + rows
    if not places:
        return case
    table, at = chance.choice(places)
    if not table:
        operations = list(case.operations)
        operations[at : at + 1] = _other_operations(operations[at], operations, chance)
        return replace(case, operations=operations)
    items = list(case.rows[table])
    items[at : at + 1] = _other_rows(table, items[at], items, chance)
    return replace(case, rows={**case.rows, table: items})


def _other_operations(o: Operation, all_: list[Operation], chance: random.Random) -> list[Operation]:
    later = {"invoked": o.invoked + 7 * MILLISECOND, "completed": (o.completed or o.invoked) + 9 * MILLISECOND}
    fails = Failure(code="40001", message="could not serialize", retryable=True)
    refused = Failure(code="not_permitted", message="not permitted", refusal=True)
    again = replace(o, process=o.process + 7, client=o.client + 7, **later)
    failed = replace(o, outcome=Outcome.FAIL, result=None, failure=fails)
    answer = dict(o.result or {})
    for name in ("number", "amount", "left"):
        if isinstance(answer.get(name), int):
            answer[name] += chance.choice((-1, 1))
    kinds: list[list[Operation]] = [
        [],
        [failed],
        [replace(o, outcome=Outcome.FAIL, result=None, failure=refused)],
        [replace(o, outcome=Outcome.INFO, result=None, failure=None)],
        [replace(o, outcome=Outcome.OK, result=o.result or {"scope": "acme/invoice", "period": ""}, failure=None)],
        [replace(o, completed=None, outcome=Outcome.INFO, result=None)],
        [o, again],
        [o, replace(again, token=o.token + "+")],
        [o, replace(again, result=answer or None)],
        [failed, replace(failed, process=o.process + 7, **later)],
        [replace(o, result=answer or None)],
        [replace(o, f=OTHER.get(o.f, "read"))],
        [o, replace(again, f=OTHER.get(o.f, "read"))],
        [replace(o, token=chance.choice(all_).token)],
        [replace(o, invoked=max(0, o.invoked - 11 * MILLISECOND))],
        [replace(o, **later)],
        [replace(o, attempts=o.attempts + 2)],
    ]
    return chance.choice(kinds)


def _other_rows(table: str, row: dict[str, Any], all_: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    name = chance.choice(sorted(set(TABLES[table]) & {*row, "token", "status"}))
    value = row.get(name)
    another = chance.choice(all_).get(name)
    if isinstance(value, bool):
        changed: Any = not value
    elif isinstance(value, int):
        changed = chance.choice((value - 1, value + 1, 0, -value, *([None] if name == "number" else [])))
    elif name == "status" and table in STATES:
        changed = chance.choice(STATES[table])
    else:
        changed = chance.choice((another, *([None] if name in NULLABLE else [])))
    twin = {**row, **({"id": f"{row['id']}+"} if isinstance(row.get("id"), str) else {})}
    return chance.choice([[], [row, twin], [row, {**twin, name: changed}], *[[{**row, name: changed}]] * 4])
