"""What a case is: a variant, a scenario and settings, with the verdict that is expected of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

LEVELS = RC, RR, SERIALIZABLE = "read_committed", "repeatable_read", "serializable"
"""PostgreSQL's isolation levels, each stricter than the one before."""

MATRIX_OPS = 300
"""Operations of one run, where a correct variant is to be quiet in every scenario at every setting.

Runs of this size find the broken variants of payments, orders and sales as well; ``python -m benchmarks power`` counts how
many. Named twins of the catalogue's rows, and scenarios that cut connections, take the rows' own, larger size.
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the catalogue on one store with one setting.

    ``id`` begins with the catalogue's row. ``expect`` is ``pass`` or ``fail``; for a failure one of ``invariants`` must speak.
    ``engine`` is ``explore`` where the window is too rare for full speed. ``ops`` is the total over all clients.
    """

    id: str
    area: str
    store: str
    variant: str
    scenario: str
    expect: str
    invariants: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    scenario_settings: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None
    engine: str = "stress"
    clients: int = 16
    ops: int = 300
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Stage(Case):
    """One stage of a case file: ``original``, ``published fix`` or ``true fix``."""

    stage: str


@dataclass(frozen=True, kw_only=True)
class CaseFile:
    """A document about a real race: what it was, what was shipped against it, and what is right."""

    title: str
    stages: tuple[Stage, ...]


def case(id: str, variant: str, scenario: str, expect: str, *spoke: str, area: str, **more: Any) -> Case:
    """Return a case of a variant. Of ``more``, what is no field of a case is a setting of the variant."""
    return Case(**_fields(id, variant, scenario, expect, spoke, area, more))


def right_id(variant: str, scenario: str, *, indexed: bool, level: str = RC) -> str:
    """Return the identity of a case in which a correct variant is to be quiet."""
    return f"OK-{variant.replace('.', '-')}-{scenario}{'-indexed' if indexed else ''}{'' if level == RC else '-' + level}"


def stage(id: str, stage: str, variant: str, scenario: str, *spoke: str, area: str, **more: Any) -> Stage:
    """Return a stage of a case file; it is expected to fail if an invariant is to speak."""
    return Stage(stage=stage, **_fields(id, variant, scenario, "fail" if spoke else "pass", spoke, area, more))


def at_stricter_levels(cases: Sequence[Case], right_from: Mapping[str, str | None]) -> list[Case]:
    """Return broken cases once more at each isolation level above READ COMMITTED, with what is expected there.

    Args:
        cases: cases without an isolation level of their own.
        right_from: by case, the level from which on the server stops the race, and running the whole transaction again is right;
            None where no level helps: what races is spread over several transactions, or nobody runs it again.
    """
    by_id = {case.id: case for case in cases}
    return [
        _at(by_id[id], level, right=first is not None and LEVELS.index(level) >= LEVELS.index(first))
        for id, first in right_from.items()
        for level in (RR, SERIALIZABLE)
    ]


def _at(case: Case, level: str, *, right: bool) -> Case:
    expect, invariants = ("pass", ()) if right else (case.expect, case.invariants)
    settings = {**case.settings, "isolation": level}
    return replace(case, id=f"{case.id}-{level}", settings=settings, expect=expect, invariants=invariants)


def _fields(
    id: str, variant: str, scenario: str, expect: str, spoke: tuple[str, ...], area: str, more: Mapping[str, Any]
) -> dict[str, Any]:
    known = {name: value for name, value in more.items() if name in _KNOWN}
    settings = {name: value for name, value in more.items() if name not in _KNOWN}
    return {
        "id": id,
        "area": area,
        "store": "postgres" if variant.startswith("pg.") else "mongo",
        "variant": f"reference:{variant}",
        "scenario": scenario,
        "expect": expect,
        "invariants": spoke,
        **known,
        "settings": {**known.get("settings", {}), **settings},
    }


_KNOWN = {known.name for known in fields(Case)}
