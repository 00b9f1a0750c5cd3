"""From history, books and policy to a verdict."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from harness.invariants.matching import as_stored, foreign_words, strange_tokens, tokens_given_up, unmatched, without_tokens
from harness.invariants.registry import Invariant, NotChecked, named
from harness.invariants.resolution import ambiguous, resolve
from harness.model import Books, Finding, FindingClass, History, Policy, Verdict, verdict_of


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict with its evidence. ``history`` is the resolved one; ``skipped`` says why an invariant could not be checked."""

    verdict: Verdict
    findings: Sequence[Finding]
    checked: Sequence[str]
    skipped: Mapping[str, str] = field(default_factory=dict)
    history: History


def judge(
    history: History, books: Books, policy: Policy, ids: Iterable[str], *, broken_before: Set[str] = frozenset()
) -> Judgement:
    """Resolve what is ambiguous, check every invariant, and say what it means.

    An invariant without its tables or columns is skipped, and so is one for which the policy has no use, or that finds nothing
    to compare; one that crashes is an indeterminate finding, because a broken checker must never look like a sound system;
    nothing checked is unknown. What the rules in ``broken_before`` find, which the rows from before the race break by
    themselves, is indeterminate: it may be older than the race.

    Raises:
        UsageError: there is no invariant of that id.
    """
    strange = strange_tokens(history, books)
    if without := [*(s.table for s in strange), *tokens_given_up(books)]:
        books = without_tokens(books, without)
    resolved = resolve(history, books)
    resolved, elsewhere = as_stored(resolved, books)
    findings = [*ambiguous(resolved, books), *unmatched(resolved, books, policy, strange), *elsewhere, *foreign_words(books)]
    checked: list[str] = []
    skipped: dict[str, str] = {}
    for invariant in [named(id) for id in dict.fromkeys(ids)]:
        if reason := _nothing_to_say(invariant, books, policy):
            skipped[invariant.id] = reason
            continue
        try:
            found = list(invariant.check(resolved, books, policy))
        except NotChecked as e:
            skipped[invariant.id] = str(e)
            continue
        except Exception as e:  # noqa: BLE001 - a checker that crashes has not passed
            found = [_crashed(invariant, e)]
        findings += [_perhaps_older(f) for f in found] if invariant.id in broken_before else found
        checked.append(invariant.id)
    return Judgement(
        verdict=verdict_of(findings, checked=len(checked)),
        findings=findings,
        checked=checked,
        skipped=skipped,
        history=resolved,
    )


def _nothing_to_say(invariant: Invariant, books: Books, policy: Policy) -> str | None:
    if absent := [table for table in invariant.tables if not books.has(table)]:
        return f"the target keeps no {' and no '.join(absent)}"
    if why := invariant.unless(policy):
        return why
    missing = [name for name in invariant.columns if books.has(name.split(".")[0]) and not books.gives(*name.split("."))]
    return f"the books do not give {' and '.join(missing)}" if missing else None


def _perhaps_older(finding: Finding) -> Finding:
    if finding.finding_class is not FindingClass.VIOLATION:
        return finding
    told = (
        f"{finding.message}; the rows from before the race break {finding.invariant} by themselves, so this may be older than it"
    )
    return replace(finding, finding_class=FindingClass.INDETERMINATE, message=told)


def _crashed(invariant: Invariant, error: Exception) -> Finding:
    why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return Finding(
        finding_class=FindingClass.INDETERMINATE,
        invariant=invariant.id,
        message=f"{invariant.id} could not be checked ({why}); this is likely a bug in it",
        evidence={"operations": [], "rows": {}, "traceback": "".join(traceback.format_exception(error))},
    )
