"""The schedule of an explored finding: who was let through, step by step, a column for each client.

It is shown twice: as a picture, which tells at a glance who waited for whom, and as a table, because its statements are what
people read, select and search for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.engines.explore.picture import NARROW, WIDE, picture

MOST_STEPS = 200
LONGEST = 400


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: its client's column, the statement with its parameters, what came back, whether it waited for a lock and for
    whose, and whether it is the one after which the books were wrong."""

    client: int
    statement: str
    parameters: str
    answer: str
    waited: bool
    holders: str
    wrong: bool


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The steps as pictures: ``wide`` for a page with room, ``narrow`` for a phone."""

    wide: Markup
    narrow: Markup


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Steps in the order in which they were let through."""

    clients: Sequence[int]
    steps: Sequence[Step]
    left_out: int


def drawn(evidence: Mapping[str, Any], *, sentence: str, name: str) -> Drawn | None:
    """Return the pictures of a finding's steps, or None if it has none. ``name`` is unique in the page."""
    found = _found(evidence)
    if not found:
        return None
    wide, narrow = (
        picture(found, sentence=sentence, name=f"{name}-{word}", shape=shape)
        for word, shape in (("wide", WIDE), ("narrow", NARROW))
    )
    return Drawn(wide=Markup(wide), narrow=Markup(narrow))  # the picture escapes what it writes


def _found(evidence: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    steps = (s for s in evidence.get("steps") or [] if isinstance(s, Mapping))
    return [s for s in steps if isinstance(s.get("client"), int) and s["client"] >= 0]


def steps_of(evidence: Mapping[str, Any]) -> Steps | None:
    """Return the steps that a finding's evidence holds under ``steps``, or None."""
    found = _found(evidence)
    if not found:
        return None
    return Steps(
        clients=sorted({s["client"] for s in found}),
        steps=[_step(s) for s in found[:MOST_STEPS]],
        left_out=max(0, len(found) - MOST_STEPS),
    )


def _step(step: Mapping[str, Any]) -> Step:
    parameters = step.get("parameters") or []
    told = ", ".join(str(p) for p in parameters) if isinstance(parameters, list) else str(parameters)
    return Step(
        client=step["client"],
        statement=_cut(str(step.get("statement", ""))),
        parameters=_cut(told),
        answer=_cut(str(step.get("result") or "")),
        waited=bool(step.get("waited")),
        holders=_cut(" and ".join(f"client {client}" for client in step.get("holders") or ())),
        wrong=bool(step.get("wrong")),
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
