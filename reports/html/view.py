"""One run's part of the report: every text and picture that the template places, as frozen values."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from reports.html import gaps, lanes, latency, numbers, over_time, steps
from reports.html.charts import Chart
from reports.html.material import Material
from reports.html.scales import count, duration
from reports.html.steps import Drawn
from reports.repeats import drawn_before

T = TypeVar("T")

MOST_FINDINGS = 40
MOST_LANE_DIAGRAMS = 8
MOST_OPERATIONS = 12
MOST_ROWS = 12
LONGEST_TEXT = 2_000
LONGEST_CELL = 300

CLASS_MEANS = {
    "violation": "the books or an answer are wrong",
    "liveness": "clients saw errors that a correct system absorbs, or nothing got done",
    "indeterminate": "nobody can say: ambiguity was not resolved, or evidence is missing",
    "cost": "allowed, but worth knowing",
}
_ORDER = ("violation", "liveness", "indeterminate", "cost")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: what it shows, headings, rows of texts; ``states`` colours rows."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    states: Sequence[str] = ()
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class FindingView:
    """A finding as it is shown. ``replay`` is the command that repeats its schedule, where it has one."""

    number: int
    finding_class: str
    means: str
    invariant: str
    message: str
    total: int
    tables: Sequence[Table]
    lanes: Chart | None
    steps: steps.Steps | None
    drawn: Drawn | None
    note: str
    replay: str
    schedule: str
    further: str


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run as it is shown. ``brief`` says that pictures were left out to keep the file small."""

    id: str
    verdict: str
    scenario: str
    target: str
    facts: Sequence[tuple[str, str]]
    operations: Mapping[str, int]
    command: str
    folder: str
    findings: Sequence[FindingView]
    findings_left_out: int
    charts: Sequence[Chart]
    numbers: Sequence[Chart]
    numbers_left_out: int
    latency: Table | None
    latency_charts: Sequence[Chart]
    gaps: Table | None
    gap_demand: str
    schedules: Sequence[tuple[str, str]]
    checked: Sequence[str]
    skipped: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    missing: Sequence[str]
    brief: bool


def run_view(material: Material, *, id: str, brief: bool = False) -> RunView:
    """Turn what a run left behind into what is shown of it."""
    result, asked = material.result, material.asked
    missing = list(material.missing)
    charts: list[Chart] = []
    number_charts: list[Chart] = []
    latency_charts: list[Chart] = []
    numbers_left_out, times, gap_rows = 0, None, None
    history = material.history
    if history is not None and not brief:
        events = result.get("facts", {}).get("load", {}).get("live", {}).get("events", [])
        over = _attempt(
            missing,
            "operations over time",
            lambda: over_time.over_time(history, result["findings"], material.files, events),
        )
        charts = [over_time.chart(over, name=f"{id}-over-time")] if over else []
        times = _attempt(missing, "latency", lambda: latency.latency(history))
        if times:
            curve = latency.percentile_curve(times, name=f"{id}-curve")
            latency_charts = [latency.histogram(times, name=f"{id}-histogram"), *([curve] if curve else [])]
        policy = material.policy
        if policy is not None:
            found = _attempt(missing, "numbers", lambda: numbers.numbers(history, material.books, policy))
            places, numbers_left_out = found or ([], 0)
            number_charts = [numbers.chart(p, name=f"{id}-numbers-{n}") for n, p in enumerate(places)]
            gap_rows = _attempt(missing, "gaps", lambda: gaps.gap_table(history, material.books, policy))
        elif material.books.has("documents"):
            missing.append("The policy of this run is not known here: numbers and gaps are not shown.")
    findings = sorted(enumerate(result["findings"], start=1), key=lambda nf: _ORDER.index(nf[1]["class"]))
    shown = findings[:MOST_FINDINGS]
    return RunView(
        id=id,
        verdict=result["verdict"],
        scenario=result["scenario"],
        target=result["target"],
        facts=_facts(result),
        operations=result["operations"],
        command=result.get("command", ""),
        folder=str(result.get("folder", material.path)),
        findings=[
            _finding(
                material,
                id,
                n,
                f,
                brief=brief or at >= MOST_LANE_DIAGRAMS,
                bare=brief and at >= MOST_LANE_DIAGRAMS,
                alike=alike,
            )
            for at, ((n, f), alike) in enumerate(zip(shown, drawn_before([f for _, f in shown]), strict=True))
        ],
        findings_left_out=max(0, len(findings) - MOST_FINDINGS),
        charts=charts,
        numbers=number_charts,
        numbers_left_out=numbers_left_out,
        latency=Table(caption="Time from invocation to completion", headings=latency.HEADINGS, rows=latency.table(times))
        if times
        else None,
        latency_charts=latency_charts,
        gaps=_gap_table(gap_rows) if gap_rows else None,
        gap_demand=f"Policy {material.policy.name}: {gap_rows.demand}." if gap_rows and material.policy else "",
        schedules=_schedules(result),
        checked=result.get("checked", []),
        skipped=sorted(result.get("skipped", {}).items()),
        settings=_settings(result, asked),
        missing=missing,
        brief=brief,
    )


def _attempt(missing: list[str], what: str, make: Callable[[], T]) -> T | None:
    """Return what ``make`` returns; if this part of the report cannot be made, say so and go on with the others."""
    try:
        return make()
    except Exception as e:  # noqa: BLE001 - a report without one picture is better than none
        missing.append(f"The part on {what} could not be made ({type(e).__name__}: {cut(str(e), LONGEST_CELL)}).")
        return None


def _finding(
    material: Material, run: str, number: int, finding: Mapping[str, Any], *, brief: bool, bare: bool, alike: str | None
) -> FindingView:
    """Return a finding as it is shown.

    Without pictures if ``brief``. Without its schedule, which is said, if ``bare``, or if that is drawn above for the invariant
    ``alike``.
    """
    evidence = finding.get("evidence", {})
    note = ""
    if alike is not None:
        note = f"Its schedule is that of {alike} above."
    elif evidence.get("steps") and bare:
        note = f"Its schedule is left out, to keep this file small: findings/{number}.svg shows it."
    diagram = None
    if material.history is not None and not brief:
        found = lanes.lanes(material.history, finding)
        diagram = lanes.chart(found, name=f"{run}-lanes-{number}") if found else None
    schedule = finding.get("schedule") or ""
    file = shlex.quote(str(material.path / "findings" / f"{number}.schedule"))
    rest = {
        k: v
        for k, v in evidence.items()
        if k not in ("operations", "rows", "steps", "clients", "choices") and v not in (None, [], {}, "")
    }
    return FindingView(
        number=number,
        finding_class=finding["class"],
        means=CLASS_MEANS.get(finding["class"], ""),
        invariant=finding["invariant"],
        message=cut(finding["message"], LONGEST_TEXT),
        total=finding.get("total", 1),
        tables=_evidence(evidence),
        lanes=diagram,
        steps=None if note else steps.steps_of(evidence),
        note=note,
        drawn=None
        if brief or note
        else steps.drawn(
            evidence, sentence=f"{finding['invariant']}: {cut(finding['message'], LONGEST_TEXT)}", name=f"{run}-steps-{number}"
        ),
        replay=f"racegate replay {file}" if schedule else "",
        schedule=schedule,
        further=cut(json.dumps(rest, indent=2, default=str, ensure_ascii=False), LONGEST_TEXT) if rest else "",
    )


def _evidence(evidence: Mapping[str, Any]) -> list[Table]:
    tables = []
    operations = [o for o in evidence.get("operations") or [] if isinstance(o, Mapping)]
    if operations:
        tables.append(
            Table(
                caption="Operations",
                headings=("client", "from", "to", "operation", "token", "outcome", "answer"),
                rows=[_operation(o) for o in operations[:MOST_OPERATIONS]],
                left_out=max(0, len(operations) - MOST_OPERATIONS),
            )
        )
    rows = evidence.get("rows") or {}
    for name, found in rows.items() if isinstance(rows, Mapping) else [("rows", rows)]:
        shown = [r for r in found if isinstance(r, Mapping)] if isinstance(found, list) else []
        if shown:
            columns = list(dict.fromkeys(column for row in shown for column in row))
            tables.append(
                Table(
                    caption=f"Rows of {name}",
                    headings=columns,
                    rows=[[cut(row.get(c, ""), LONGEST_CELL) for c in columns] for row in shown[:MOST_ROWS]],
                    left_out=max(0, len(shown) - MOST_ROWS),
                )
            )
    return tables


def _operation(operation: Mapping[str, Any]) -> list[str]:
    answer = _answer(operation.get("result")) or " ".join(str(operation[k]) for k in ("code", "message") if operation.get(k))
    shown = [operation.get(k, "") for k in ("client", "invoked", "completed", "f", "token", "outcome")]
    return [*(cut(value, LONGEST_CELL) for value in shown), cut(answer, LONGEST_CELL)]


def _answer(result: Any) -> str:
    """Return an answer, which evidence holds as JSON text, as people read it: ``number 4, basis the count 3``."""
    try:
        told = json.loads(result) if isinstance(result, str) else result
    except ValueError:
        return str(result)
    if not isinstance(told, Mapping):
        return str(told or "")
    return ", ".join(f"{k} {cut(v, LONGEST_CELL)}" for k, v in told.items() if v not in (None, "", [], {}))


def _gap_table(table: gaps.GapTable) -> Table:
    return Table(
        caption="Missing numbers by scope",
        headings=gaps.HEADINGS,
        rows=[gaps.cells(row) for row in table.rows],
        states=[row.state for row in table.rows],
        left_out=table.left_out,
    )


def _facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts, operations = result.get("facts", {}), result["operations"]
    rate = facts.get("operations_per_second")
    shown = [
        ("operations", count(sum(operations.values()))),
        ("ok", count(operations["ok"])),
        ("failed or refused", count(operations["fail"])),
        ("unknown", count(operations["info"])),
        ("per second", count(round(rate)) if rate else ""),
        ("engine", result["engine"]),
        ("clients", str(facts.get("clients") or "")),
        ("store", facts.get("store") or ""),
        ("seed", str(result["seed"])),
        ("took", duration(result["timings"]["total"]) if "total" in result["timings"] else ""),
    ]
    return [(name, cut(value, LONGEST_CELL)) for name, value in shown if value]


def _schedules(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    schedules = result.get("schedules")
    if not schedules:
        return []
    means = {
        "exhaustive": "every interleaving that matters was carried out",
        "sampled": "a sample: interleavings that were not tried may still fail",
        "preemptions": "every interleaving with at most that many voluntary switches; others may still fail",
    }
    label = next((text for prefix, text in means.items() if str(schedules["coverage"]).startswith(prefix)), "")
    known = [
        ("schedules explored", count(schedules["explored"])),
        ("coverage", f"{schedules['coverage']}: {label}" if label else str(schedules["coverage"])),
        ("diverged on replay", count(schedules["diverged"])),
    ]
    more = [(name, cut(text(value, schedules), LONGEST_CELL)) for key, name, text in _SCHEDULES if (value := schedules.get(key))]
    told = {"explored", "coverage", "diverged", "missed", *(key for key, _, _ in _SCHEDULES)}
    others = [(k.replace("_", " "), cut(v, LONGEST_CELL)) for k, v in schedules.items() if k not in told and v]
    return known + more + others


def _among(clients: Sequence[int]) -> str:
    *most, last = (str(client) for client in clients)
    return f"clients {', '.join(most)} and {last}" if most else f"client {last}"


_SCHEDULES: Sequence[tuple[str, str, Callable[[Any, Mapping[str, Any]], str]]] = (
    ("failing", "went wrong", lambda n, _: count(n)),
    ("endings", "different endings", lambda n, _: count(n)),
    ("cut_short", "broken off", lambda n, _: f"{count(n)}: all that could follow had been seen"),
    (
        "audited",
        "left out, and tried after all",
        lambda n, every: f"{count(n)}, of which {every.get('missed') or 'none'} ended in a way of its own",
    ),
    ("faults", "faults that could strike", lambda kinds, _: ", ".join(kind.replace("_", " ") for kind in kinds)),
    ("alike", "do the same, and may change places", lambda groups, _: "; ".join(_among(group) for group in groups)),
    (
        "waited_outside",
        "waited inside the application",
        lambda who, _: f"{_among(who)}: for a connection or a lock of its own, where nothing can be held",
    ),
    ("per_second", "schedules a second", lambda n, _: count(n)),
)
"""What else an exploration tells, where it is not nothing: its name in the result, in the report, and the words."""


def _settings(result: Mapping[str, Any], asked: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    facts = result.get("facts", {})
    asking = [
        (k.replace("_", " "), asked.get(k))
        for k in ("began", "clients", "processes", "ops", "duration", "budget", "policy", "database")
    ]
    groups: list[tuple[str, list[tuple[str, Any]]]] = [
        ("run", asking),
        ("target settings", list((asked.get("target_settings") or facts.get("target_settings") or {}).items())),
        ("scenario settings", list((asked.get("scenario_settings") or facts.get("scenario_settings") or {}).items())),
        ("seconds by phase", [(k, duration(v)) for k, v in result["timings"].items()]),
        ("versions", list((asked.get("versions") or facts.get("versions") or {}).items())),
    ]
    shown = [(name, [(cut(k, LONGEST_CELL), cut(v, LONGEST_CELL)) for k, v in pairs if v is not None]) for name, pairs in groups]
    return [(name, pairs) for name, pairs in shown if pairs]


def cut(value: object, longest: int) -> str:
    """Return a value as text of at most ``longest`` characters."""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest:,} characters more)"
