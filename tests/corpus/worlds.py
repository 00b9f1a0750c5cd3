"""Larger worlds made of the cases of the corpus: what is right beside what is wrong, and the same wrong several times over.

A case is put into a world with others by giving the others names and times of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from harness.invariants import judge
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
