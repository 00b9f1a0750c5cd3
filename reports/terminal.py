"""The report on a terminal: verdict first, then what is wrong, then how to see it again."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from harness.engines.explore.diagram import lanes
from harness.run.folder import RunFolder
from reports.repeats import drawn_before

STYLES = {"pass": "bold green", "fail": "bold red", "unknown": "bold yellow"}
CLASS_STYLES = {"violation": "red", "liveness": "yellow", "indeterminate": "yellow", "cost": "cyan"}
MOST_OPERATIONS = 6


class Terminal:
    """Renders runs as text of a given width, with colours if asked."""

    name = "terminal"
    filename = "report.txt"

    def render(self, folders: Sequence[Path], *, colours: bool = False, width: int = 100) -> str:
        """Return the report. Raises UsageError if a folder is not a run folder."""
        buffer = io.StringIO()
        console = Console(
            file=buffer,
            width=width,
            force_terminal=colours,
            no_color=not colours,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=False,
        )
        for folder in folders:
            run(console, RunFolder.open(folder).read_json("result.json"))
        return "".join(line.rstrip() + "\n" for line in buffer.getvalue().splitlines())


def run(console: Console, result: Mapping[str, Any]) -> None:
    """Print one run's result."""
    verdict, operations, facts = result["verdict"], result["operations"], result.get("facts", {})
    title = Text(f"{verdict.upper():<8}", style=STYLES[verdict])
    title.append(f"{result['scenario']} on {result['target']}", style="bold")
    console.print(title)
    total = sum(operations.values())
    where = ", ".join(str(x) for x in (facts.get("store"), f"{facts.get('clients')} clients", f"seed {result['seed']}") if x)
    _indented(console, where)
    rate = f"; {facts['operations_per_second']:,.0f} per second" if facts.get("operations_per_second") else ""
    _indented(
        console,
        f"{total} operations: {operations['ok']} ok, {operations['fail']} failed or refused, {operations['info']} unknown{rate}",
    )
    for line in _of_schedules(result.get("schedules") or {}):
        _indented(console, line)
    findings = result["findings"]
    for n, (finding, alike) in enumerate(zip(findings, drawn_before(findings), strict=True), start=1):
        _finding(console, finding, f"{result['folder']}/findings/{n}.schedule" if result.get("folder") else None, alike)
    console.print()
    _indented(console, f"checked: {', '.join(result.get('checked', [])) or 'nothing'}")
    for invariant, why in result.get("skipped", {}).items():
        _indented(console, f"not checked: {invariant} ({why})")
    if command := result.get("command"):
        _command(console, f"        again:   {command}")
    if folder := result.get("folder"):
        _indented(console, f"kept in: {folder}")


def _of_schedules(schedules: Mapping[str, Any]) -> Iterator[str]:
    """Yield what there is to say about an explored run: what was tried, what was left out, what could not be held."""
    if not schedules:
        return
    yield f"{schedules['explored']} schedules explored, coverage {schedules['coverage']}, {schedules['diverged']} diverged"
    if schedules.get("audited"):
        yield (
            f"{schedules['audited']} of those that the reduction left out were tried too: "
            f"{schedules['missed'] or 'none'} ended in a way of its own"
        )
    if outside := schedules.get("waited_outside"):
        who = ", ".join(str(client) for client in outside)
        yield (
            f"client {who} waited inside the application, where nothing can be held: for a connection of a pool that is smaller "
            "than the number of clients, or for a lock of the process"
        )


def _finding(console: Console, finding: Mapping[str, Any], schedule: str | None, alike: str | None) -> None:
    console.print()
    head = Text(f"  {finding['invariant']:<13} ", style="bold")
    head.append(finding["class"], style=CLASS_STYLES.get(finding["class"], ""))
    if finding.get("total", 1) > 1:
        head.append(f", {finding['total']:,} times")
    console.print(head)
    _indented(console, finding["message"], left=4)
    if alike:
        _indented(console, f"by the same interleaving as {alike} above", left=4)
        return
    if steps := finding.get("evidence", {}).get("steps"):
        for line in lanes(steps, clients=finding["evidence"]["clients"]).splitlines():
            console.print(Text(_printable(f"    {line}")), soft_wrap=True)
        _command(console, f"    again: racegate replay {schedule or finding['schedule']}")
        return
    operations = finding.get("evidence", {}).get("operations", [])
    for operation in operations[:MOST_OPERATIONS]:
        _indented(console, _operation_line(operation), left=6)
    if len(operations) > MOST_OPERATIONS:
        _indented(console, f"... and {len(operations) - MOST_OPERATIONS} more in findings/", left=6)


def _operation_line(operation: Mapping[str, Any]) -> str:
    """Say in one line what a client did and was told: ``client 3  +0.412 s to +0.413 s  create c3.0-5 -> ok {...}``."""
    parts = [f"client {operation.get('client')}"]
    if operation.get("invoked"):
        parts.append(f"{operation['invoked']} to {operation.get('completed') or 'never'}")
    parts.append(f"{operation.get('f')} {operation.get('token')} -> {operation.get('outcome')}")
    parts.extend(str(operation[k]) for k in ("subject", "code", "result") if operation.get(k))
    return "  ".join(parts)


def _indented(console: Console, text: str, left: int = 8) -> None:
    console.print(Padding(Text(_printable(text)), (0, 0, 0, left)))


def _command(console: Console, line: str) -> None:
    """Print a line to be copied: never broken in two."""
    console.print(Text(_printable(line)), soft_wrap=True)


def _printable(text: str) -> str:
    """Everything from the system under test is untrusted: control characters never reach the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


FORMAT = Terminal()
