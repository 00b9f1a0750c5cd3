"""Markdown for a pull request or a step summary: a table of runs, then what is wrong with each.

GitHub drops a step summary of more than 1 MiB whole, so the report stops well before that and says what it left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.run.folder import RunFolder

LIMIT = 900 * 1024
"""Bytes of UTF-8 that a report may have."""

MARKS = {"pass": "✅ pass", "fail": "❌ fail", "unknown": "❔ unknown"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&@])")


class Markdown:
    """Renders runs as Markdown."""

    name = "markdown"
    filename = "report.md"

    def render(self, folders: Sequence[Path], *, colours: bool = False, width: int = 100) -> str:
        """Return the Markdown text. Raises UsageError if a folder is not a run folder."""
        results = [RunFolder.open(folder).read_json("result.json") for folder in folders]
        text = "\n".join(["## racegate", "", *table(results), ""])
        for n, result in enumerate(results):
            part = "\n".join(details(result))
            if len((text + part).encode()) > LIMIT:
                return text + f"\n{len(results) - n} more runs are in the run folders.\n"
            text += part
        return text


def table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one row a run."""
    lines = ["| verdict | scenario | target | operations | findings |", "|---|---|---|---|---|"]
    for r in results:
        spoke = ", ".join(dict.fromkeys(f["invariant"] for f in r["findings"])) or "none"
        count = " / ".join(str(r["operations"][o]) for o in ("ok", "fail", "info"))
        lines.append(f"| {MARKS[r['verdict']]} | {plain(r['scenario'])} | {plain(r['target'])} | {count} | {plain(spoke)} |")
    return lines


def details(result: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with one run and how to see it again; nothing for a run without findings."""
    if not result["findings"]:
        return []
    lines = [f"### {MARKS[result['verdict']]}: {plain(result['scenario'])} on {plain(result['target'])}", ""]
    for f in result["findings"]:
        times = f" ({f['total']:,} times)" if f.get("total", 1) > 1 else ""
        lines.append(f"- **{plain(f['invariant'])}** {f['class']}{times}: {plain(f['message'])}")
    if command := result.get("command"):
        lines += ["", "```console", _fenced(command), "```"]
    return [*lines, ""]


def plain(text: str) -> str:
    """Escape text from the system under test: no markup, no mention, no line break."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split())).replace("\\@", "@\N{ZERO WIDTH SPACE}")


def _fenced(text: str) -> str:
    return " ".join(text.split()).replace("```", "'''")


FORMAT = Markdown()
