"""Writes the pages of the documentation that are made from the code: python docs/generate.py"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer.main

from harness.cli.app import build_app
from harness.config.published import config_schema
from harness.invariants import REGISTRY
from harness.model.books import STATUSES, TABLES

DOCS = Path(__file__).parent
MADE = "<!-- Made by docs/generate.py from the code; change it there. -->\n"

FAMILIES: Mapping[str, str] = {
    "N": "Numbers",
    "P": "Payments",
    "O": "Orders",
    "S": "Stock and credit",
    "A": "Audit log and outbox",
    "L": "Liveness",
}

BUGS: Mapping[str, str] = {
    "N-UNIQ": "Two requests read the same count or the same highest number, and both take the next one.",
    "N-GAPLESS": "A number is drawn from a sequence, which does not roll back, and then the document fails.",
    "N-EXPLAINED": "A fallback takes the count plus one, or a clock, and jumps ahead. Or an acknowledged document is gone, for example "
    "by a delete that nobody recorded.",
    "N-GAPBUDGET": "Validation runs after the number was drawn, so every refusal burns one: three gaps in a hundred become ten.",
    "N-MONO": "Numbers are handed out in blocks to several servers: who came later gets the lower one.",
    "N-PERIOD": "The year is taken from the server's clock in UTC: a document of New Year's morning in Manila is counted in the old year.",
    "N-FMT": "The tenth thousand outgrows its padding and is cut, or a fallback prints a time stamp where a number belongs.",
    "N-SCOPE": "The unique index covers the number alone, so the second company cannot issue its first invoice; or it covers too much.",
    "N-COUNTER1": "Two requests both find no counter and both create one: from then on each hands out the same numbers.",
    "N-COUNTER>=MAX": "A counter was restored from a backup or set by hand, and hands out numbers that exist.",
    "N-DOC1": "A retry after a conflict gives the same document a second number, or an update writes one number into two documents.",
    "N-DURABLE": "The client was told a number before the transaction committed, or with a write concern that a failover undoes.",
    "N-IMMUT": "A repair renumbers documents that customers hold already, or a deleted document's number is issued again.",
    "N-VOID": "A cancelled document's number goes back into the pool, or a void gives no reason.",
    "P-ONCE": "A double click, a retry after a lost reply or a webhook that is delivered twice takes effect twice.",
    "P-KEYMATCH": "A key is used again for another request, which is answered with the first one's result and never carried out.",
    "P-TERM1": "One clerk approves while another rejects: both read that it awaits approval, and both write.",
    "P-PEND1": "Two tabs submit a payment for the same term: each finds none that waits.",
    "P-CONS": "Two approvals read the same balance, and the later write undoes the earlier: money came in and the balance does not show it.",
    "P-NOOVER": "Two payments that each fit are accepted at once, and together they exceed what is owed.",
    "P-REFUND": "Two refunds of the same payment both find that nothing was refunded yet.",
    "P-EXACT": "Amounts are kept as binary fractions: 0.1 + 0.2 is not 0.3, and balances end in ...9999.",
    "P-SPLIT": "Each part of an amount is rounded by itself: the parts do not make the whole.",
    "O-BAL": "The advance is stored in the order and as the first installment, and is subtracted twice or not at all.",
    "O-DRIFT": "A stored balance is changed by read and write: what came in between is lost.",
    "O-INST": "The next installment's number is the count plus one: two at once get the same.",
    "O-CANCEL": "An order is cancelled while it is paid: the money is kept for an order that does not exist.",
    "O-CONS": "A migration deletes every installment that equals the advance, and with it a genuine payment.",
    "S-STOCK": "The stock is checked and reduced in two steps: the last piece is sold twice, or a voided sale goes back twice.",
    "S-CREDIT": "The limit is checked before the sale and the open amount raised after it: two sales at once exceed it. Or two voids write back what they read: one is lost.",
    "A-MATCH": "The audit row is written after the commit: when the process dies between the two, nobody can say who approved.",
    "A-DELIVER": "The publisher remembers the highest event that it saw: one that commits later with a lower id is passed over.",
    "L-RETRY": "Serialization failures and deadlocks reach the client as errors, though trying again would have helped.",
    "L-PROGRESS": "A lock is never released, or every request is refused: nothing is wrong with the books, because nothing happens.",
}


def invariants() -> str:
    """Return the page on the invariants."""
    lines = [
        MADE,
        "# Invariants",
        "",
        "What must hold after concurrent clients are done. Each is a pure function of the history, the books and the policy; each names "
        "the first example of what is wrong, and counts the rest.",
    ]
    for letter, family in FAMILIES.items():
        lines += ["", f"## {family}"]
        for id, invariant in REGISTRY.items():
            if id.partition("-")[0] == letter:
                needs = f" Reads {', '.join(invariant.tables)}." if invariant.tables else ""
                lines += ["", f"### {id}", "", f"{invariant.summary}{needs}", "", f"*The bug that it catches:* {BUGS[id]}"]
    return "\n".join(lines) + "\n"


def configuration() -> str:
    """Return the page on racegate.toml."""
    schema = config_schema()
    lines = [
        MADE,
        "# racegate.toml",
        "",
        "`racegate schema config` prints this as a JSON schema. `{name}` stands for an argument of the operation, `${NAME}` for an "
        "environment variable, whose value is kept out of everything that is printed or written.",
        "",
        "| section | meaning |",
        "|---|---|",
        *(f"| `{name}` | {_cell(section['description'])} |" for name, section in schema["properties"].items()),
    ]
    titles = {
        "TargetSection": "[target]",
        "OperationSection": "[operations.NAME] and [login]",
        "StoreSection": "[store]",
        "BooksSection": "[books.TABLE]",
        "RunSection": "[[runs]]",
    }
    for name, title in titles.items():
        section = schema["$defs"][name]
        lines += ["", f"## {title}", "", section["description"], "", "| key | type | default | meaning |", "|---|---|---|---|"]
        for key, item in section["properties"].items():
            default = "required" if key in section["required"] else f"`{item['default']}`" if "default" in item else ""
            lines.append(f"| `{key}` | {_type(item)} | {default} | {_cell(item['description'])} |")
    lines += [
        "",
        "## Canonical tables",
        "",
        "The columns that a query of the books may give. Money is in minor units (cents); what is not given is unknown.",
    ]
    lines += ["", "| table | columns |", "|---|---|"]
    for table, columns in TABLES.items():
        if table != "inexact":
            lines.append(f"| `{table}` | {', '.join(f'`{c}` ({_simple(kind)})' for c, kind in columns.items())} |")
    lines += [
        "",
        "`stock.sold` counts the pieces of sales that are not void; `customers.sold` sums sales on credit that are neither paid nor void. "
        "Both are 0 where there are none: `coalesce(sum(...), 0)`.",
        "",
        "A status is one of these words; a query translates the service's own (`CASE status WHEN 'APPROVED' THEN 'paid' ... END AS status`).",
        "",
        "| column | words |",
        "|---|---|",
        *(f"| `{table}.status` | {', '.join(f'`{word}`' for word in words)} |" for table, words in STATUSES.items()),
    ]
    return "\n".join(lines) + "\n"


def _simple(kind: Any) -> str:
    text = str(kind)
    return {"String": "text", "Int64": "whole number", "Boolean": "true or false"}.get(
        text, "time" if "Datetime" in text else text
    )


def _type(item: Mapping[str, Any]) -> str:
    if "oneOf" in item:
        return " or ".join(_type(kind) for kind in item["oneOf"])
    return {"string": "text", "integer": "whole number", "object": "table", "array": "list"}.get(item["type"], str(item["type"]))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def commands() -> str:
    """Return the page on the commands."""
    group: Any = typer.main.get_command(build_app())
    lines = [MADE, "# Commands", "", "Exit status: 0 pass, 1 fail, 2 wrong call, 3 environment, 4 unknown."]
    for name, command in group.commands.items():
        lines += ["", f"## racegate {name}", "", " ".join((command.help or "").split("\n\n")[0].split())]
        rows = []
        for parameter in command.params:
            if parameter.name == "help":
                continue
            called = (
                ", ".join(f"`{o}`" for o in parameter.opts)
                if parameter.param_type_name == "option"
                else f"`{parameter.name.upper()}`"
            )
            rows.append(f"| {called} | {_cell(' '.join((getattr(parameter, 'help', None) or '').split()))} |")
        if rows:
            lines += ["", "| option | meaning |", "|---|---|", *rows]
    return "\n".join(lines) + "\n"


PAGES = {"invariants.md": invariants, "reference/configuration.md": configuration, "reference/commands.md": commands}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())


if __name__ == "__main__":
    main()
