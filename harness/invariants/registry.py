"""The invariants by id. A user's own are registered with the same decorator as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.model import Books, Finding, History, Policy, UsageError, nearest

Check = Callable[[History, Books, Policy], Sequence[Finding]]


class NotChecked(Exception):
    """Raised by a rule that has nothing to compare, with the reason: it is told as not checked, and has not passed."""


@dataclass(frozen=True, kw_only=True)
class Invariant:
    """A named rule. ``tables`` are the canonical tables without which it has nothing to say, ``columns`` such ``table.column``.

    A column is only asked for where its table is kept. ``unless`` returns the reason for which a policy has no use for the
    rule, or None where it applies.
    """

    id: str
    summary: str
    tables: tuple[str, ...]
    columns: tuple[str, ...]
    check: Check
    unless: Callable[[Policy], str | None] = lambda policy: None


REGISTRY: dict[str, Invariant] = {}


def invariant(
    id: str,
    *,
    tables: Iterable[str] = (),
    columns: Iterable[str] = (),
    unless: Callable[[Policy], str | None] = lambda policy: None,
) -> Callable[[Check], Check]:
    """Register a pure function of history, books and policy as the invariant ``id``.

    The first line of its docstring becomes its summary.

    Raises:
        UsageError: the id is taken, or the function has no docstring.
    """

    def register(check: Check) -> Check:
        if id in REGISTRY:
            raise UsageError(
                f"invariant {id} is defined twice: by {_where(REGISTRY[id].check)} and by {_where(check)}; rename one"
            )
        summary = (check.__doc__ or "").strip().split("\n")[0]
        if not summary:
            raise UsageError(f"invariant {id} ({_where(check)}) needs a docstring: its first line is shown to users")
        REGISTRY[id] = Invariant(id=id, summary=summary, tables=tuple(tables), columns=tuple(columns), check=check, unless=unless)
        return check

    return register


def named(id: str) -> Invariant:
    """Return the invariant with this id. Raises UsageError with the nearest name if there is none."""
    try:
        return REGISTRY[id]
    except KeyError:
        raise UsageError(f"no invariant is called {id!r}{nearest(id, REGISTRY)}; see: racegate list invariants") from None


def _where(check: Check) -> str:
    return f"{getattr(check, '__module__', '?')}.{getattr(check, '__qualname__', '?')}"
