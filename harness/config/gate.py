"""What ``racegate gate`` runs: the section ``[gate]`` of ``racegate.toml``, or a file that holds nothing else.

::

    [gate]
    budget = "2m"
    seed = 1

    [[gate.checks]]
    scenario = "concurrent_creates"
    target = "reference:pg.counter_row"

The other sections of the file describe a service and are read elsewhere. A check without a target is fired at that service.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.config.durations import parse_seconds
from harness.model.errors import UsageError, nearest

ENGINES = ("explore", "stress")
DEFAULT_BUDGET = 120.0
MOST_EXPLORED = 8
"""Clients beyond which an exploration has no end worth waiting for."""


@dataclass(frozen=True, kw_only=True)
class GateCheck:
    """One scenario on one target; without a target, on the service that the same file describes.

    ``engines`` are ``explore``, ``stress`` or both. ``clients`` and ``ops`` (in all, per round) are of the stress engine,
    ``explore_clients``, ``explore_operations`` (of each client), ``interleavings`` (at most) and ``faults`` of the explorer.
    """

    scenario: str
    target: str = ""
    engines: tuple[str, ...] = ENGINES
    settings: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None
    clients: int = 16
    ops: int = 600
    explore_clients: int = 2
    explore_operations: int = 1
    interleavings: int = 500
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """What the gate runs, in which order, and for how long (``budget``, in seconds)."""

    checks: tuple[GateCheck, ...]
    budget: float = DEFAULT_BUDGET
    seed: int = 0
    path: Path = Path("racegate.toml")


def load_gate(path: Path) -> GateConfig:
    """Read and check the gate's part of a configuration file.

    Raises:
        UsageError: the file cannot be read, is not TOML, has no gate, or says something that makes no sense.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"the configuration {path} cannot be read: {e}; write [gate] with [[gate.checks]] into it") from e
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{path} is not TOML: {e}") from e
    gate = document.get("gate")
    if not isinstance(gate, Mapping):
        raise UsageError(f'{path}: [gate] is missing; add [[gate.checks]] with scenario = "..." and target = "..."')
    _only(path, "gate", gate, ("budget", "seed", "policy", "checks"))
    checks = gate.get("checks")
    if not isinstance(checks, list) or not checks:
        raise UsageError(f"{path}: gate.checks is empty: a gate that checks nothing proves nothing; add [[gate.checks]]")
    policy = gate.get("policy")
    return GateConfig(
        checks=tuple(
            _check(path, f"gate.checks.{n}", check, policy, described="target" in document)
            for n, check in enumerate(checks, start=1)
        ),
        budget=_budget(path, gate.get("budget", DEFAULT_BUDGET)),
        seed=_whole(path, "gate.seed", gate.get("seed", 0), least=0),
        path=path,
    )


def _check(path: Path, where: str, value: Any, policy: Any, *, described: bool) -> GateCheck:
    if not isinstance(value, Mapping):
        raise UsageError(f"{path}: {where} is a table: [[gate.checks]]")
    declared = {f.name: f for f in fields(GateCheck)}
    _only(path, where, value, tuple(declared))
    chosen: dict[str, Any] = {"policy": policy} if policy is not None else {}
    for name, item in value.items():
        chosen[name] = _typed(path, f"{where}.{name}", item, declared[name].default)
    if "scenario" not in chosen:
        raise UsageError(f"{path}: {where}.scenario is missing")
    if "target" not in chosen and not described:
        raise UsageError(f"{path}: {where}.target is missing; name one, or describe your service in [target]")
    check = GateCheck(**chosen)
    for engine in check.engines:
        if engine not in ENGINES:
            raise UsageError(f"{path}: {where}.engines: no engine is called {engine!r}; there are: {', '.join(ENGINES)}")
    if not check.engines:
        raise UsageError(f"{path}: {where}.engines is empty; leave it out for both, or name one of: {', '.join(ENGINES)}")
    if check.explore_clients > MOST_EXPLORED:
        raise UsageError(f"{path}: {where}.explore_clients must be {MOST_EXPLORED} or fewer, not {check.explore_clients}")
    return check


def _typed(path: Path, where: str, value: Any, default: Any) -> Any:
    if where.endswith(".settings"):
        if not isinstance(value, Mapping):
            raise UsageError(f"{path}: {where} is a table of settings, not {value!r}")
        return dict(value)
    if isinstance(default, tuple):
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(v, str) for v in listed):
            raise UsageError(f"{path}: {where} is a list of names, not {value!r}")
        return tuple(dict.fromkeys(listed))
    if isinstance(default, int):
        return _whole(path, where, value, least=1)
    if not isinstance(value, str):
        raise UsageError(f"{path}: {where} is a text, not {value!r}")
    return value


def _whole(path: Path, where: str, value: Any, *, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{path}: {where} is a whole number, {least} or more, not {value!r}")
    return value


def _budget(path: Path, value: Any) -> float:
    try:
        return parse_seconds(str(value))
    except ValueError as e:
        raise UsageError(f"{path}: gate.budget: {e}") from e


def _only(path: Path, where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise UsageError(f"{path}: {where}.{key} is not known{nearest(key, known)}; there are: {', '.join(known)}")
