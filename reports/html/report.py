"""Puts the parts together: one page on any number of runs, below a size at which no browser and no CI artefact complains."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from harness.engines.explore.picture import RULES
from harness.model import Verdict, worst
from harness.run.versions import versions
from reports.html.charts import Chart
from reports.html.material import gather
from reports.html.scales import amount
from reports.html.view import run_view

LIMIT = 4_800_000
"""Bytes that the page may have, whatever it reports on."""

NOTE = 1000
"""Bytes kept for the note on runs that have no part of their own."""

MOST_LISTED = 3_000
"""Runs that the overview lists; their rows take about 400 bytes each."""

_RANK = {"fail": 0, "unknown": 1, "pass": 2}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run in the overview. ``section`` is empty when the run has no part of its own."""

    verdict: str
    scenario: str
    target: str
    engine: str
    operations: Mapping[str, int]
    spoke: str
    folder: str
    section: str


class HtmlReport:
    """Renders runs as one self-contained HTML file."""

    name = "html"
    filename = "report.html"

    def render(self, folders: Sequence[Path], *, colours: bool = False, width: int = 100) -> str:
        """Return the page. Raises UsageError if a folder is not a run folder."""
        results = [gather_result(folder) for folder in folders]
        order = sorted(range(len(results)), key=lambda n: (_RANK[results[n]["verdict"]], n))
        shell = page(results, dict.fromkeys(range(len(results)), ""), folders)
        room = LIMIT - len(shell.encode()) - NOTE
        sections: dict[int, str] = {}
        for n in order:
            part, room = section(folders[n], n, room)
            if part:
                sections[n] = part
        return page(results, sections, folders)


def gather_result(folder: Path) -> Mapping[str, Any]:
    """Return a run folder's result. Raises UsageError if it has none."""
    from harness.run.folder import RunFolder  # noqa: PLC0415

    result: Mapping[str, Any] = RunFolder.open(folder).read_json("result.json")
    return result


def section(folder: Path, n: int, room: int) -> tuple[str, int]:
    """Return a run's part of the page and the bytes that are left; without pictures, or empty, if there is no more room."""
    material = gather(folder)
    for brief in (False, True):
        view = run_view(material, id=f"run-{n + 1}", brief=brief)
        part = _environment().get_template("run.html.j2").render(run=view)
        if len(part.encode()) <= room:
            return part, room - len(part.encode())
    return "", room


def page(results: Sequence[Mapping[str, Any]], sections: Mapping[int, str], folders: Sequence[Path]) -> str:
    """Return the whole page around the runs' parts."""
    verdicts = [Verdict(r["verdict"]) for r in results]
    order = sorted(range(len(results)), key=lambda n: (_RANK[results[n]["verdict"]], n))
    style, script = _file("style.css") + RULES, _file("script.js")
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            verdict=worst(verdicts).value,
            counts=[(v, sum(x.value == v for x in verdicts)) for v in ("fail", "unknown", "pass")],
            rows=[_row(results[n], f"run-{n + 1}" if n in sections else "") for n in order[:MOST_LISTED]],
            not_listed=max(0, len(results) - MOST_LISTED),
            not_detailed=len(results) - len(sections) if folders else 0,
            sections=[Markup(sections[n]) for n in order if n in sections],  # rendered and escaped by the template
            style=Markup(style),  # our own file
            script=Markup(script),  # our own file
            style_hash=_hash(style),
            script_hash=_hash(script),
            version=versions().get("racegate", ""),
        )
    )


def _row(result: Mapping[str, Any], section: str) -> Row:
    spoke = dict.fromkeys(f["invariant"] for f in result["findings"] if f["class"] != "cost")
    return Row(
        verdict=result["verdict"],
        scenario=result["scenario"],
        target=result["target"],
        engine=result["engine"],
        operations=result["operations"],
        spoke=", ".join(spoke) or "none",
        folder=str(result.get("folder", "")),
        section=section,
    )


def hints_json(chart: Chart) -> Markup:
    """Return a chart's hints for its script element: nothing in it can end the element or begin a comment."""
    rows = [[round(h.x, 1), round(h.y, 1), h.text] for h in chart.hints]
    text = json.dumps(rows, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # safe: escaped above


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports.html", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["hints"] = hints_json
    environment.globals["amount"] = amount
    return environment


@cache
def _file(name: str) -> str:
    return (files("reports.html") / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """Return the content's hash for the page's security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


FORMAT = HtmlReport()
