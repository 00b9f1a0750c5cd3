"""Proposes a ``racegate.toml`` from what a database and an OpenAPI document show, and says what it could not guess."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.config.number_format import read_template
from harness.config.toml_text import as_text, inline
from harness.model.errors import UsageError
from harness.run.openapi import ProposedOperation

Columns = Mapping[str, str]
"""A table's columns with their types."""

TABLE_WORDS: Mapping[str, tuple[str, ...]] = {
    "documents": ("invoice", "document", "receipt", "bill", "creditnote", "voucher"),
    "counters": ("counter", "sequence", "numberseries", "numbering"),
    "payments": ("payment",),
    "terms": ("term", "due", "fee"),
    "orders": ("order",),
    "installments": ("installment", "instalment"),
    "refunds": ("refund",),
    "stock": ("stock", "inventory", "product", "item"),
    "customers": ("customer",),
    "audit": ("audit", "activitylog", "log"),
}
"""What tables that hold a canonical table's rows are called, without separators and in the singular."""

_STATUS = ("status", "state")
_AMOUNT = ("amount", "cents", "amountcents", "paidamount", "total", "totalamount", "value")
_TOKEN = ("idempotencykey", "clienttoken", "token", "requestid", "reference", "externalid")

COLUMN_WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "documents": {
        "number": ("number", "no", "sequence", "seq", "sequencenumber", "counter"),
        "text": ("text", "printed", "number", "no", "code"),
        "scope": (
            "scope",
            "company",
            "companyid",
            "tenant",
            "tenantid",
            "organization",
            "organizationid",
            "user",
            "userid",
            "branch",
        ),
        "period": ("period", "year", "fiscalyear"),
        "token": _TOKEN,
        "status": _STATUS,
        "dated": ("date", "issuedat", "issued", "dated", "createdat", "created"),
        "amount": _AMOUNT,
        "reason": ("voidreason", "reason", "cancelreason"),
    },
    "counters": {
        "scope": ("scope", "company", "companyid", "tenant", "tenantid", "name", "user", "userid", "branch", "id"),
        "period": ("period", "year", "fiscalyear"),
        "value": ("value", "lastnumber", "last", "current", "sequence", "counter", "seq", "number"),
    },
    "payments": {
        "term": ("term", "termid", "order", "orderid", "invoice", "invoiceid"),
        "account": ("account", "accountid", "student", "studentid", "customer", "customerid"),
        "amount": _AMOUNT,
        "refunded": ("refunded", "refundedamount"),
        "status": _STATUS,
        "token": _TOKEN,
    },
    "terms": {
        "account": ("account", "accountid", "student", "studentid"),
        "opening": ("opening", "amount", "due", "owed", "original", "originalamount"),
        "balance": ("balance", "remaining", "outstanding"),
        "assessment": ("assessment", "total", "totalassessment"),
    },
    "orders": {
        "total": ("total", "totalamount", "amount"),
        "advance": ("advance", "advancepaid", "deposit", "downpayment"),
        "discount": ("discount", "discountamount"),
        "balance": ("balance", "balanceamount", "remaining", "outstanding"),
        "status": _STATUS,
        "refunded": ("refunded", "refundedamount"),
    },
    "installments": {
        "order": ("order", "orderid"),
        "number": ("number", "no", "sequence"),
        "amount": _AMOUNT,
        "token": _TOKEN,
    },
    "refunds": {"payment": ("payment", "paymentid"), "amount": _AMOUNT, "token": _TOKEN},
    "stock": {
        "item": ("id", "item", "itemid", "product", "productid", "sku"),
        "opening": ("opening", "initial", "initialquantity"),
        "quantity": ("quantity", "stock", "onhand", "available"),
        "sold": ("sold", "soldquantity"),
    },
    "customers": {
        "limit": ("limit", "creditlimit"),
        "open_amount": ("openamount", "balance", "outstanding", "owed"),
    },
    "audit": {
        "subject": ("subject", "subjectid", "entity", "entityid", "payment", "paymentid", "record", "recordid"),
        "action": ("action", "event", "type", "operation"),
        "token": _TOKEN,
    },
}

NEEDED: Mapping[str, tuple[str, ...]] = {
    "documents": (),
    "counters": ("value",),
    "payments": ("amount", "status"),
    "terms": ("opening", "balance"),
    "orders": ("total", "balance"),
    "installments": ("order", "amount"),
    "refunds": ("payment", "amount"),
    "stock": ("item", "quantity"),
    "customers": ("limit", "open_amount"),
    "audit": ("subject", "action"),
}
"""Columns without which a table is not taken for the canonical one."""

MONEY = {"amount", "refunded", "opening", "balance", "assessment", "total", "advance", "discount", "limit", "open_amount"}
_INTEGER = re.compile(r"int|serial|long|number", re.IGNORECASE)
_TEXT = re.compile(r"char|text|string|citext", re.IGNORECASE)
_DECIMAL = re.compile(r"numeric|decimal|real|double|float|money", re.IGNORECASE)


@dataclass
class Proposal:
    """The sections as text, and sentences on what was not guessed."""

    lines: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)


def propose(
    tables: Mapping[str, Columns],
    some: Callable[[str, str], Sequence[str]],
    operations: Sequence[ProposedOperation],
    *,
    url: str | None,
    mongo: bool,
) -> Proposal:
    """Return a proposal.

    Args:
        tables: the database's tables (or collections) with their columns and types; empty without a database.
        some: returns some values of a table's column as text.
        operations: what the OpenAPI document shows; empty without one.
        url: where the service is, if the document says so.
        mongo: the tables are collections.
    """
    books = Proposal()
    policy = _books(tables, some, books, mongo=mongo)
    service = _service(operations, url)
    unsure = [*service.unsure, *books.unsure]
    head = [
        "# Proposed by racegate init. Read it before you use it: what follows was guessed from names and types.",
        *(["#", "# Could not be guessed:", *(f"#   - {line}" for line in unsure)] if unsure else []),
        "",
    ]
    store = [
        "# The database that the service writes to while it is tested. Never production: its rows are changed and put back.",
        "# [store]",
        f'# {"mongo" if mongo else "postgres"} = "${{DATABASE_URL}}"',
        '# disposable = "the database\'s name, repeated"',
        "",
    ]
    run = [
        "# What racegate run and racegate explore fire; see racegate list scenarios.",
        "[[runs]]",
        f'scenario = "{_scenario({o.name for o in operations})}"',
        "clients = 8",
        "ops = 200",
    ]
    return Proposal(lines=[*head, *policy, *service.lines, *store, *books.lines, *run], unsure=unsure)


def _scenario(names: set[str]) -> str:
    if "create" in names or not names:
        return "concurrent_creates"
    for scenario, needs in (
        ("double_approval", {"open_account", "submit", "approve"}),
        ("installments_at_once", {"open_order", "pay_installment"}),
        ("double_submit", {"open_account", "submit"}),
    ):
        if needs <= names:
            return scenario
    return "concurrent_creates"


def _service(operations: Sequence[ProposedOperation], url: str | None) -> Proposal:
    found = Proposal()
    found.lines += ["[target]", f"url = {as_text(url or 'http://127.0.0.1:3000')}"]
    if url is None:
        found.unsure.append("where the service is: target.url")
    found.lines += [
        '# command = "npm start"   # lets racegate start the service, with the database in DATABASE_URL and a port in PORT',
        '# health = "/health"      # a path that answers 2xx or 3xx once it is ready',
        '# headers = { Authorization = "Bearer ${API_TOKEN}" }',
        "",
    ]
    for operation in operations:
        found.lines += operation.lines()
        found.unsure += operation.unsure
    if not operations:
        found.unsure.append("how an operation is a request: operations.create is an example")
        found.lines += [
            "[operations.create]",
            'path = "/invoices"',
            'body = { company = "{company}", amount = "{amount}", reference = "{token}" }',
            'answer = { number = "number" }',
            'constants = { scope = "{company}", period = "" }',
            "",
        ]
    return found


def _books(
    tables: Mapping[str, Columns], some: Callable[[str, str], Sequence[str]], found: Proposal, *, mongo: bool
) -> list[str]:
    """Propose the books into ``found`` and return the lines of the policy."""
    taken: set[str] = set()
    absent: list[str] = []
    policy = ['policy = { name = "ours", continuity = "explained" }', ""]
    for canonical in COLUMN_WORDS:
        name, mapped = _best(canonical, tables, taken)
        if name is None:
            absent.append(canonical)
            continue
        taken.add(name)
        notes: list[str] = []
        if canonical == "documents":
            policy = _policy(name, mapped, tables[name], some, found)
            if "scope" not in mapped:
                notes.append("no column looks like the scope in which numbers are counted; all documents are taken for one")
            if "token" not in mapped:
                notes.append("no column holds the client's token; without it an unanswered request stays unknown")
        writer = _pipeline if mongo else _select
        found.lines += [
            f"[books.{canonical}]",
            *(f"# {note}" for note in notes),
            *writer(name, mapped, tables[name], found, canonical),
            "",
        ]
    if tables and absent:
        found.unsure.append(f"which tables hold {', '.join(absent)}, if any do: [books.NAME]")
    if tables and not taken:
        found.unsure.append("any table of the books: no name is familiar")
    return policy


def _best(canonical: str, tables: Mapping[str, Columns], taken: set[str]) -> tuple[str | None, dict[str, str]]:
    ranked = []
    for name, columns in tables.items():
        plain = _plain(name)
        word = next((w for w in TABLE_WORDS[canonical] if w in plain), None)
        if name in taken or word is None:
            continue
        mapped = _mapped(canonical, name, columns)
        enough = all(c in mapped for c in NEEDED[canonical])
        if canonical == "documents":
            enough = "number" in mapped or "text" in mapped
        if enough:
            ranked.append((len(plain) - len(word), -len(mapped), name, mapped))
    if not ranked:
        return None, {}
    _, _, name, mapped = min(ranked, key=lambda r: r[:3])
    return name, mapped


def _mapped(canonical: str, table: str, columns: Columns) -> dict[str, str]:
    """Return the column behind each canonical one."""
    found: dict[str, str] = {}
    own = _plain(table)
    names = {column: _plain(column) for column in columns}
    short = {c: n.removeprefix(own) or n for c, n in names.items()}
    identity = next((c for c in columns if c in ("id", "_id", "uuid")), None)
    if identity is not None and canonical not in ("counters", "stock"):
        found["id"] = identity
    for wanted, words in COLUMN_WORDS[canonical].items():
        for word in words:
            fits = [c for c in columns if c not in found.values() and word in (names[c], short[c]) and _fits(wanted, columns[c])]
            if fits:
                found[wanted] = fits[0]
                break
    return found


def _fits(wanted: str, kind: str) -> bool:
    if wanted == "text":
        return bool(_TEXT.search(kind))
    if wanted in ("number", "value", "quantity", "sold"):
        return bool(_INTEGER.search(kind))
    if wanted in MONEY:
        return bool(_INTEGER.search(kind) or _DECIMAL.search(kind))
    if wanted == "dated":
        return "date" in kind.lower() or "time" in kind.lower()
    return True


def _plain(name: str) -> str:
    """Return a name without separators, in lower case and in the singular."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return plain.removesuffix("s") if not plain.endswith("ss") and plain != "status" else plain


def _policy(
    table: str, mapped: dict[str, str], columns: Columns, some: Callable[[str, str], Sequence[str]], found: Proposal
) -> list[str]:
    lines = ["# What the numbers must obey. continuity: none, explained, budget or gapless; see racegate list policies."]
    parts = ['name = "ours"', 'continuity = "explained"']
    found.unsure.append("whether gaps in the numbers are allowed: policy.continuity")
    if "text" in mapped:
        template = guess_format(some(table, mapped["text"]))
        if template is None:
            found.unsure.append(f"how {table}.{mapped['text']} is made of the number: policy.format")
        else:
            parts.append(f"format = {as_text(template)}")
            if "{yyyy}" in template:
                found.unsure.append('whether numbers start again each year: policy.period = "year" and books.documents.period')
    del columns
    return [*lines, f"policy = {{ {', '.join(parts)} }}", ""]


def guess_format(texts: Sequence[str]) -> str | None:
    """Return the template that printed numbers follow, such as ``INV-{00000}``, or None if they follow none."""
    if not texts:
        return None
    heads = {re.sub(r"\d+$", "", t) for t in texts}
    if len(heads) != 1 or not all(re.search(r"\d$", t) for t in texts):
        dated = {re.sub(r"20\d\d(?=\D*\d+$)", "{yyyy}", re.sub(r"\d+$", "", t) + "0") for t in texts}
        if len(dated) != 1:
            return None
        head = dated.pop()[:-1]
    else:
        head = heads.pop()
    tails = [re.sub(r"^\D*", "", t[len(head.replace("{yyyy}", "2026")) :]) if "{yyyy}" in head else t[len(head) :] for t in texts]
    if "{yyyy}" not in head and all(re.match(r"20\d\d\d{3,}$", t) for t in tails):
        head, tails = f"{head}{{yyyy}}", [t[4:] for t in tails]
    width = min(len(t) for t in tails)
    template = f"{head}{{{'0' * width}}}" if width else None
    if template is None or re.search(r"\d", head.replace("{yyyy}", "")):
        return None
    try:
        pattern = read_template(template).pattern
    except UsageError:
        return None
    return template if all(re.fullmatch(pattern, t) for t in texts) else None


def _select(table: str, mapped: dict[str, str], columns: Columns, found: Proposal, canonical: str) -> list[str]:
    parts = []
    for wanted, column in mapped.items():
        expression = _quoted(column)
        if wanted in MONEY and _DECIMAL.search(columns[column]):
            expression += " * 100"
            found.unsure.append(
                f"whether {table}.{column} ({columns[column]}) is in major units: books.{canonical}.{wanted} takes it so"
            )
        parts.append(expression if expression == wanted else f"{expression} AS {_quoted(wanted)}")
    if canonical == "documents" and "number" not in mapped:
        parts.append(f"substring({_quoted(mapped['text'])} FROM '[0-9]+$')::bigint AS number")
        found.unsure.append(f"whether the digits at the end of {table}.{mapped['text']} are the number")
    return ['sql = """', f"SELECT {', '.join(parts)}", f'FROM {_quoted(table)}"""']


def _pipeline(table: str, mapped: dict[str, str], columns: Columns, found: Proposal, canonical: str) -> list[str]:
    project: dict[str, Any] = {}
    for wanted, column in mapped.items():
        value: Any = f"${column}"
        if wanted == "id":
            value = {"$toString": value}
        elif wanted in MONEY and _DECIMAL.search(columns[column]):
            value = {"$multiply": [value, 100]}
            found.unsure.append(
                f"whether {table}.{column} ({columns[column]}) is in major units: books.{canonical}.{wanted} takes it so"
            )
        project[wanted] = value
    if canonical == "documents" and "number" not in mapped:
        digits = {"$regexFind": {"input": f"${mapped['text']}", "regex": "[0-9]+$"}}
        project["number"] = {"$toLong": {"$getField": {"field": "match", "input": digits}}}
        found.unsure.append(f"whether the digits at the end of {table}.{mapped['text']} are the number")
    return [f"collection = {as_text(table)}", f"pipeline = [{{ {as_text('$project')} = {inline(project)} }}]"]


def _quoted(name: str) -> str:
    return (
        name
        if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in ("order", "user", "limit")
        else '"' + name.replace('"', '""') + '"'
    )
