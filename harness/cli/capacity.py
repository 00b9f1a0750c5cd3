"""What racegate load --find-capacity shows: the steps as they come, and at the end the targets in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.cli.output import ProgressDisplay, say, write_json
from harness.run.capacity import CAPACITY_SCHEMA, Capacity, Fresh, Step, find_capacity
from harness.run.limits import Limit
from harness.run.loaded import LoadOptions
from harness.run.result import exit_status_of
from harness.run.run_request import RunRequest


def capacity_and_show(
    requests: Sequence[tuple[RunRequest, Fresh]], options: LoadOptions, limits: Sequence[Limit], *, json: str | None
) -> int:
    """Find the capacity of each request's target, show them, and return the exit status.

    Args:
        requests: with the most users that there may be, and how its steps are made ready.
        options: how the load is made.
        limits: what a good step keeps.
        json: where the result goes.
    """
    found: list[Capacity] = []
    for request, fresh in requests:
        title = f"{request.scenario.name} on {request.target.name}"
        say(
            f"racegate: capacity of {title}: up to {request.clients} users, {request.duration or 0:g} s a step, "
            f"limits {', '.join(limit.text for limit in limits)}, seed {request.seed}"
        )
        logs = Path(request.out) / "logs"
        with ProgressDisplay(title=title, ops=request.ops, duration=request.duration) as display:
            found.append(find_capacity(request, fresh, options, limits, logs, display, lambda step: say(_line(step))))
    first = requests[0][0]
    if json is not None:
        write_json(
            {
                "schema": CAPACITY_SCHEMA,
                "scenario": first.scenario.name,
                "limits": [limit.text for limit in limits],
                "seed": first.seed,
                "command": first.command,
                "targets": [capacity.to_json() for capacity in found],
            },
            json,
        )
    if json != "-":
        print(text_of(found))
    return exit_status_of([capacity.verdict for capacity in found])


def text_of(found: Sequence[Capacity]) -> str:
    """Return everything for people."""
    parts = [_one(capacity) for capacity in found]
    if len(found) > 1:
        parts.append(_together(found))
    return "\n\n".join(parts)


def _one(capacity: Capacity) -> str:
    lines = [f"{capacity.target}{f' ({capacity.store})' if capacity.store else ''}", _HEAD]
    lines += [_line(step) for step in sorted(capacity.steps, key=lambda s: s.users)]
    best, knee = capacity.best, capacity.knee
    if best is None:
        lines.append("  capacity:   none that is correct and within the limits")
    else:
        lines.append(f"  capacity:   {best.rate:.0f} correct operations per second at {best.users} users, p95 {_ms(best.p95)}")
    lines.append(f"  ended:      {capacity.ended}")
    if knee is not None:
        lines.append(f"  knee:       {knee.users} users; beyond it they wait for one another")
    if capacity.ceiling:
        lines.append(
            f"  ceiling:    {capacity.ceiling:.0f} per second or more, one transaction after another (from the hold time)"
        )
    lines.append(f"  bottleneck: {capacity.bottleneck()}")
    lines.append(f"  law:        {capacity.fit.said() if capacity.fit else 'too few steps to fit one'}")
    return "\n".join(lines)


_HEAD = "   users   rate/s      p50      p95      p99  waiting  generator  verdict"


def _line(step: Step) -> str:
    waiting = "-" if step.lock_waits is None else f"{step.lock_waits:.1f}"
    broken = f"  {'; '.join(step.broken)}" if step.broken else ""
    return (
        f"  {step.users:6} {step.rate:8.0f} {_ms(step.p50):>8} {_ms(step.p95):>8} {_ms(step.p99):>8} {waiting:>8} "
        f"{100 * step.cpu:9.0f}%  {step.verdict.value}{broken}"
    )


def _together(found: Sequence[Capacity]) -> str:
    width = max(len(capacity.target) for capacity in found)
    lines = [f"{'target':{width}}  verdict  correct/s  users      p95  knee  ceiling/s"]
    for capacity in found:
        best, knee = capacity.best, capacity.knee
        lines.append(
            f"{capacity.target:{width}}  {capacity.verdict.value:7}  {f'{best.rate:.0f}' if best else '-':>9}  "
            f"{best.users if best else '-':>5} {_ms(best.p95 if best else None):>8}  {knee.users if knee else '-':>4}  "
            f"{f'{capacity.ceiling:.0f}' if capacity.ceiling else '-':>9}"
        )
    return "\n".join(lines)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}ms" if value < 1000 else f"{value / 1000:.2f}s"
