"""What racegate load shows while it runs and when it is done."""

from __future__ import annotations

from harness.cli.output import ProgressDisplay, say
from harness.cli.running import show
from harness.run.loaded import LoadOptions, run_load
from harness.run.result import exit_status_of
from harness.run.run_request import RunRequest
from harness.run.stores import Stores


def load_and_show(request: RunRequest, stores: Stores, options: LoadOptions, *, json: str | None) -> int:
    """Run, show the result, and return the exit status."""
    title = f"{request.scenario.name} on {request.target.name}"
    where = f"in {request.processes} Locust process{'es' * (request.processes > 1)}"
    if options.arrivals is None:
        how = f"{request.clients} users {where}, {options.spawn_rate:g} started per second"
    else:
        how = f"{options.arrivals.text} arrivals per second {where}, at most {request.clients} in flight"
    say(f"racegate: {title}: {how}, seed {request.seed}")
    with ProgressDisplay(title=title, ops=request.ops, duration=request.duration) as display:
        result = run_load(request, stores, options, display)
    show(result, json=json)
    return exit_status_of([result.verdict])
