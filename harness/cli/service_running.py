"""What run, explore and replay do with somebody's own service."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from harness.cli.output import say, this_command, write_json
from harness.cli.running import explore_and_show, restore_interrupts, run_and_show, run_with_progress, show
from harness.config.sections import RunSection, ServiceConfig
from harness.config.service import DEFAULT_FILE, load_service
from harness.engines.explore.token import Schedule
from harness.model import UsageError
from harness.model.finding import worst
from harness.run.capacity import Fresh
from harness.run.explored import Replay, replay
from harness.run.own_service import OwnService
from harness.run.request import build_request
from harness.run.result import RunResult, exit_status_of
from harness.run.run_request import RunRequest
from harness.run.stores import Stores
from harness.targets.http import HttpTarget

DEFAULT_CLIENTS = 16
SPARE_CONNECTIONS = 40

RESULTS_SCHEMA = "racegate.results/1"


def is_service(target: str | None, config: Path | None) -> bool:
    """Tell whether the call is about somebody's own service: it names one, or nothing, and there is a racegate.toml here."""
    return config is not None or ("://" in target if target is not None else Path(DEFAULT_FILE).is_file())


def run_service(config: Path | None, *, url: str | None, scenario: str | None, json: str | None, asked: Mapping[str, Any]) -> int:
    """Run one scenario, or all that the configuration lists, and return the exit status."""
    described = _described(config, url)
    results: list[RunResult] = []
    runs = _runs(described, scenario)
    clients = max(_clients(run, asked) for run in runs)
    restore_interrupts()
    with OwnService(described, url=url, wire=False, connections=2 * clients + SPARE_CONNECTIONS, say=say) as service:
        requests = [_request(run, service.target, asked, engine="stress") for run in runs]
        if len(requests) == 1:
            return run_and_show(requests[0], service.stores, json=json)
        for request in requests:
            results.append(run_with_progress(request, service.stores))
            show(results[-1], json=None, quiet=json == "-")
    if json is not None:
        write_json(results_document(results), json)
    return exit_status_of([r.verdict for r in results])


def load_service_with(
    config: Path | None,
    *,
    url: str | None,
    scenario: str | None,
    asked: Mapping[str, Any],
    run: Callable[[RunRequest, Stores, Sequence[str]], int],
) -> int:
    """Let ``run`` load the service with one scenario, told its limits, and return its exit status."""
    described = _described(config, url)
    section = _runs(described, scenario)[0]
    restore_interrupts()
    with _ready_for_load(described, section, url=url, asked=asked) as (request, stores):
        return run(request, stores, section.limits)


def service_capacity(
    config: Path | None,
    *,
    url: str | None,
    scenario: str | None,
    asked: Mapping[str, Any],
    run: Callable[[RunRequest, Fresh, Sequence[str]], int],
) -> int:
    """Let ``run`` find the service's capacity, told its limits, and return its exit status.

    For each step the service is started again on a fresh database; one that runs already keeps running, and its database
    gets its rows back. Raises UsageError if it has no database: then nothing tells one step's documents from the next one's.
    """
    described = _described(config, url)
    section = _runs(described, scenario)[0]
    store = described.store.postgres or described.store.mongo
    if store is None:
        raise UsageError(
            f"--find-capacity needs a fresh database for each step, and {described.file} names none; add [store] to it, "
            "or load the service with one number of users after the other"
        )
    restore_interrupts()

    def fresh(users: int) -> AbstractContextManager[tuple[RunRequest, Stores]]:
        return _ready_for_load(described, section, url=url, asked={**asked, "clients": users})

    kind = "postgres" if described.store.postgres is not None else "mongo"
    return run(_request(section, HttpTarget.of(described, url=url, store=kind), asked, engine="load"), fresh, section.limits)


@contextmanager
def _ready_for_load(
    described: ServiceConfig, section: RunSection, *, url: str | None, asked: Mapping[str, Any]
) -> Iterator[tuple[RunRequest, Stores]]:
    """Yield what is asked for and where, with the service there for as many clients."""
    connections = 2 * _clients(section, asked) + SPARE_CONNECTIONS
    with OwnService(described, url=url, wire=False, connections=connections, say=say) as service:
        yield _request(section, service.target, asked, engine="load"), service.stores


def explore_service(
    config: Path | None,
    *,
    url: str | None,
    scenario: str | None,
    json: str | None,
    asked: Mapping[str, Any],
    how: Mapping[str, Any],
) -> int:
    """Explore one scenario on the service, and return the exit status."""
    described = _described(config, url)
    run = _runs(described, scenario)[0]
    restore_interrupts()
    with OwnService(described, url=url, wire=True, connections=SPARE_CONNECTIONS, say=say) as service:
        request = _request(run, service.target, asked, engine="explore")
        return explore_and_show(request, service.stores, json=json, proxy=service.proxy, background=_background(described), **how)


def replay_service(config: Path | None, schedule: Schedule, *, url: str | None, times: int, out: Path) -> Replay:
    """Repeat a schedule that was found on a service; ``url`` is where it is, in place of what the configuration says."""
    described = _described(config, schedule.target)
    with OwnService(described, url=url, wire=True, connections=SPARE_CONNECTIONS, say=say) as service:
        return replay(
            schedule,
            service.stores,
            times=times,
            out=out,
            service=service.target,
            proxy=service.proxy,
            background=_background(described),
        )


def results_document(results: Sequence[RunResult]) -> dict[str, Any]:
    """Return the machine-readable result of several runs."""
    verdict = worst([r.verdict for r in results])
    return {"schema": RESULTS_SCHEMA, "verdict": verdict.value, "results": [r.to_json() for r in results]}


def _described(config: Path | None, url: str | None) -> ServiceConfig:
    path = config or Path(DEFAULT_FILE)
    if config is None and not path.exists():
        raise UsageError(
            f"{url or 'the target'} is a service, and {DEFAULT_FILE} is not here; name its description with --config FILE "
            "(racegate init proposes one)"
        )
    return load_service(path)


def _runs(config: ServiceConfig, scenario: str | None) -> Sequence[RunSection]:
    if scenario is not None:
        return [next((run for run in config.runs if run.scenario == scenario), RunSection(scenario=scenario))]
    if not config.runs:
        raise UsageError(f"name a scenario, or list what is to be fired in {config.file}: [[runs]] with scenario = NAME")
    return config.runs


def _clients(run: RunSection, asked: Mapping[str, Any]) -> int:
    return int(asked.get("clients") or run.clients)


def _request(run: RunSection, target: HttpTarget, asked: Mapping[str, Any], *, engine: str) -> RunRequest:
    chosen = {**run.settings, **asked["chosen"]}
    more = {k: v for k, v in asked.items() if k not in ("chosen", "clients", "ops")}
    ops = None if asked.get("duration") or engine == "explore" else asked.get("ops") or run.ops
    return build_request(
        scenario=run.scenario,
        target=target,
        chosen=chosen,
        clients=_clients(run, asked),
        ops=ops,
        engine=engine,
        command=this_command(asked["seed"]),
        **more,
    )


def _background(config: ServiceConfig) -> Sequence[str]:
    return config.target.background if config.target is not None else ()
