"""What a run was asked to do, as its folder keeps it."""

from __future__ import annotations

import time
from typing import Any

from harness.config.policy import plain
from harness.run.run_request import RunRequest
from harness.run.versions import versions
from harness.targets.http import HttpTarget, shown_url


def asked(request: RunRequest, store: str | None) -> dict[str, Any]:
    """Return the content of ``run.json``. ``store`` describes the server, without a password."""
    return {
        "schema": "racegate.run/1",
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "scenario": request.scenario.name,
        "target": request.target.name,
        "engine": request.engine,
        "seed": request.seed,
        "clients": request.clients,
        "processes": request.processes,
        "ops": request.ops,
        "duration": request.duration,
        "budget": request.budget,
        "scenario_settings": dict(request.settings),
        "target_settings": dict(request.target.settings),
        "policy": request.policy.name,
        "policy_rules": plain(request.policy),
        "store": store,
        "versions": versions(),
        "command": request.command,
        **_service(request),
    }


def _service(request: RunRequest) -> dict[str, str | None]:
    """Return the configuration that describes somebody's own service, and the URL that was named in place of the one there."""
    target: Any = request.target
    if not isinstance(target, HttpTarget):
        return {}
    described = target.config.target
    named = described is None or target.label != shown_url(described.url)
    return {"config": target.config.file, "url": target.label if named else None}
