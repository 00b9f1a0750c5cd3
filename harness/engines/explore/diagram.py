"""An interleaving as lanes: a column for each client, a row for each step. Text in, text out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.engines.explore.play import Run

LANE = 46
"""Characters of a lane."""


_PLACE = re.compile(r"\$(\d+)")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")

HAPPENED = {
    "lose_request": "the connection broke before the statement arrived",
    "lose_reply": "carried out, but the connection broke before the reply",
    "kill_backend": "the server's process was killed before the statement",
    "kill_client": "the client was killed before the statement was sent",
}
"""What is said of a step that met a fault."""


def rows_of(run: Run, *, wrong: bool = True) -> list[dict[str, Any]]:
    """Return the steps of a run as plain values, for a finding's evidence.

    ``wrong`` marks the last step that made something visible to others: in the shortest interleaving that breaks an invariant
    everything was well before it; nothing is marked in a run that was not ``wrong``. ``until`` is the number of the step, counted
    from 1, that let one that waited go on.
    """
    last = max((at for at, row in enumerate(run.rows) if row.footprint.publishes and row.fault in ("", "lose_reply")), default=-1)
    return [
        {
            "client": row.client,
            "statement": " ".join(row.step.text.split()),
            "parameters": [_literal(p) for p in row.step.parameters],
            "result": HAPPENED[row.fault] if row.fault else _result(row.result),
            "waited": row.blocked,
            "holders": list(row.holders),
            "until": row.until,
            "fault": row.fault,
            "wrong": wrong and at == last,
        }
        for at, row in enumerate(run.rows)
    ]


def lanes(rows: Sequence[Mapping[str, Any]], *, clients: int, sentence: str = "") -> str:
    """Draw rows as `rows_of` returns them, with the finding's sentence below."""
    lines = ["    " + "".join(f"client {n}".ljust(LANE) for n in range(clients)).rstrip()]
    for at, row in enumerate(rows, start=1):
        text = _cut(_short(filled(str(row["statement"]), row.get("parameters") or ())), LANE - 2)
        result = waits(row) + str(row["result"] or "")
        before = "".join("|".ljust(LANE) for _ in range(int(row["client"])))
        after = "".join("|".ljust(LANE) for _ in range(clients - int(row["client"]) - 1))
        mark = "!" if row.get("wrong") else " "
        lines.append(f"{at:>3}{mark}{before}{text.ljust(LANE)}{after}".rstrip())
        if result:
            lines.append(f"    {before}{('  -> ' + _cut(result, LANE - 7)).ljust(LANE)}{after}".rstrip())
    if sentence:
        lines += ["", f"    {sentence}"]
    return "\n".join(lines)


def waits(row: Mapping[str, Any]) -> str:
    """Say for whom a step waited, if it did."""
    if not row.get("waited"):
        return ""
    holders = " and ".join(str(client) for client in row.get("holders") or ())
    return f"waits for client {holders}, then " if holders else "waits, then "


def filled(statement: str, parameters: Sequence[str]) -> str:
    """Return the statement with its parameters in their places, for reading only."""
    return _PLACE.sub(lambda m: parameters[int(m[1]) - 1] if 0 < int(m[1]) <= len(parameters) else m[0], statement)


def _literal(parameter: object) -> str:
    """Return a parameter as it would stand in the statement; the wire does not tell numbers from texts."""
    if parameter is None:
        return "NULL"
    text = str(parameter)
    return text if _NUMBER.fullmatch(text) or isinstance(parameter, bytes) else f"""'{text.replace("'", "''")}'"""


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
