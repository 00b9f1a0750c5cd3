"""An interleaving as lanes: a column for each client, a row for each step. Text in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.engines.explore.play import Run

LANE = 46
"""Characters of a lane."""


HAPPENED = {
    "lose_request": "the connection broke before the statement arrived",
    "lose_reply": "carried out, but the connection broke before the reply",
    "kill_backend": "the server's process was killed before the statement",
    "kill_client": "the client was killed before the statement was sent",
}
"""What is said of a step that met a fault."""


def rows_of(run: Run) -> list[dict[str, Any]]:
    """Return the steps of a run as plain values, for a finding's evidence."""
    return [
        {
            "client": row.client,
            "statement": " ".join(row.step.text.split()),
            "parameters": [str(p) for p in row.step.parameters],
            "result": HAPPENED[row.fault] if row.fault else _result(row.result),
            "waited": row.blocked,
            "fault": row.fault,
        }
        for row in run.rows
    ]


def lanes(rows: Sequence[Mapping[str, Any]], *, clients: int, sentence: str = "") -> str:
    """Draw rows as `rows_of` returns them, with the finding's sentence below."""
    lines = ["    " + "".join(f"client {n}".ljust(LANE) for n in range(clients)).rstrip()]
    for at, row in enumerate(rows, start=1):
        text = _cut(_short(str(row["statement"])), LANE - 2)
        result = ("waits, then " if row["waited"] else "") + str(row["result"] or "")
        before = "".join("|".ljust(LANE) for _ in range(int(row["client"])))
        after = "".join("|".ljust(LANE) for _ in range(clients - int(row["client"]) - 1))
        lines.append(f"{at:>3} {before}{text.ljust(LANE)}{after}".rstrip())
        if result:
            lines.append(f"    {before}{('  -> ' + _cut(result, LANE - 7)).ljust(LANE)}{after}".rstrip())
    if sentence:
        lines += ["", f"    {sentence}"]
    return "\n".join(lines)


def _short(statement: str) -> str:
    for long, brief in (("INSERT INTO ", "INSERT "), ("DELETE FROM ", "DELETE "), (" ISOLATION LEVEL ", " ")):
        statement = statement.replace(long, brief)
    return statement


def _cut(text: str, width: int) -> str:
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return plain if len(plain) <= width else plain[: width - 3] + "..."


def _result(result: Any) -> str:
    if result is None:
        return ""
    if result.error:
        return f"{result.error} {result.message or ''}".strip()
    shown = ", ".join("(" + ", ".join(str(v) for v in row) + ")" for row in result.first_rows)
    return f"{result.tag} {shown}".strip()
