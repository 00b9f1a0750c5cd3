"""racegate load --ui: runs that are started and stopped on Locust's page, each judged when its users are gone."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.cli.output import say
from harness.cli.running import show
from harness.config.policy import policy_names
from harness.engines.load.engine import LoadEngine
from harness.engines.load.plan import Page
from harness.model import Verdict
from harness.model.errors import RacegateError, UsageError
from harness.run.loaded import LoadOptions, for_the_page, run_load
from harness.run.registry import scenarios, target_names
from harness.run.request import build_request
from harness.run.result import RunResult, exit_status_of
from harness.run.run_request import RunRequest
from harness.run.stores import Stores
from harness.targets.http import HttpTarget

PASSWORD = "RACEGATE_UI_PASSWORD"
"""Environment variable with the password of the page; without it one is drawn and printed."""

LONGEST = 7 * 24 * 3600.0
"""Seconds after which a run that nobody stops is over."""


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """How the page is shown: ``login`` asks for a password, and a run ends after ``seconds`` unless its start says when."""

    host: str
    port: int
    login: bool
    seconds: float | None = None


def serve_page(
    page: PageOptions, stores: Stores, request: RunRequest, options: LoadOptions, asked: Mapping[str, Any], *, json: str | None
) -> int:
    """Show the page until Ctrl-C, and return the exit status of all runs that were made there together.

    Args:
        page: where and how.
        stores: where runs take place.
        request: what the form shows at first.
        options: how the load is made, apart from what the form says.
        asked: what the form does not ask for, as `build_request` takes it.
        json: where the result of the last run goes.

    Raises:
        EnvironmentProblem: the page cannot be shown, or one of Locust's processes is gone.
    """
    verdicts: list[Verdict] = []
    logs = Path(tempfile.mkdtemp(prefix="racegate-locust-"))
    with LoadEngine(processes=asked["processes"], logs=logs, page=_page(page, request, options)) as engine:
        say(f"racegate: the page is at {engine.address} ; stop with Ctrl-C")
        while (form := engine.next_wanted()) is not None:
            try:
                result = _run(form, engine, stores, request, options, asked, again=bool(verdicts))
            except RacegateError as e:
                say(f"racegate: {e}")
                engine.tell("refused", text=str(e))
                continue
            show(result, json=json)
            verdicts.append(result.verdict)
            engine.tell("verdict", result=for_the_page(result))
            if engine.interrupted:
                break
    shutil.rmtree(logs, ignore_errors=True)  # an error that names a log has left it where it is
    if not verdicts:
        say("racegate: nothing was started on the page: nothing is proved")
    return exit_status_of(verdicts or [Verdict.UNKNOWN])


def _run(
    form: Mapping[str, Any],
    engine: LoadEngine,
    stores: Stores,
    first: RunRequest,
    options: LoadOptions,
    asked: Mapping[str, Any],
    *,
    again: bool,
) -> RunResult:
    seconds = form.get("seconds")
    processes = asked["processes"]
    target: Any = first.target
    service = target if isinstance(target, HttpTarget) else None
    if service is not None and again:
        raise UsageError("the service's database holds the documents of the run before; start racegate again for another")
    request = build_request(
        **{
            **asked,
            "scenario": form.get("scenario") or first.scenario.name,
            "target": service or form.get("target") or first.target.name,
            "policy": form.get("policy") or asked.get("policy"),
            "engine": "load",
            "command": first.command,
            "clients": max(form["users"], processes),
            "ops": None,
            "duration": seconds or LONGEST,
            "budget": LONGEST,
        }
    )
    request = replace(request, duration=seconds)
    how = replace(options, spawn_rate=form["spawn_rate"])
    return run_load(request, stores, how, engine=engine, tell=lambda sample: engine.tell("live", sample=sample))


def _page(page: PageOptions, request: RunRequest, options: LoadOptions) -> Page:
    password = None
    if page.login:
        password = os.environ.get(PASSWORD)
        if not password:
            password = secrets.token_urlsafe(12)
            say(f"racegate: the page's password is {password} (any user name; choose your own with {PASSWORD})")
    return Page(
        host=page.host,
        port=page.port,
        password=password,
        choices=choices_for(request.target),
        preset={"scenario": request.scenario.name, "target": request.target.name, "policy": ""},
        users=request.clients,
        spawn_rate=options.spawn_rate,
        seconds=page.seconds,
        longest=LONGEST,
    )


def choices_for(target: Any) -> dict[str, list[str]]:
    """Return what can be chosen on the page: of a service that is described in a file, only what it can be asked for."""
    if isinstance(target, HttpTarget):
        known, able = [target.name], [name for name in scenarios() if _fits(name, target)]
    else:
        known, able = target_names(), list(scenarios())
    return {"scenario": sorted(able), "target": sorted(known), "policy": ["", *policy_names()]}


def _fits(scenario: str, service: HttpTarget) -> bool:
    try:
        build_request(scenario=scenario, target=service)
    except UsageError:
        return False
    return True
