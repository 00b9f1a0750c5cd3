"""Gaps: how many numbers are missing, whether each is explained, and whether there are too many.

Counted after the store came to rest, so a hole is not the number of a transaction that is still open. Void and reserved
numbers fill holes. The missing numbers of a scope and period lie between the policy's start and the highest number.

A gap is explained by an attempt that took a number and gave no document: an operation that failed, or whose outcome nobody
knew and the books denied, or a try that the target made and rolled back (``attempts`` beyond the first). Attempts are
interchangeable, so it is enough to count them: a scope with more missing numbers than such attempts has lost a document,
and no budget covers that.
"""

from __future__ import annotations

from math import comb

import polars as pl

from harness.invariants.issued import PLACE, creates, documents, printed, scope_of_arguments
from harness.invariants.registry import invariant
from harness.invariants.telling import listed, rows, shown, violation
from harness.model import Books, Continuity, Finding, FindingClass, GapBudget, History, Policy


def missing_numbers(books: Books, policy: Policy) -> pl.DataFrame:
    """Return a row for each scope and period: ``highest``, ``issued``, ``missing``, and ``holes`` as (first, last) ranges.

    Numbers below the policy's start do not count.
    """
    numbers = (
        documents(books)
        .filter(pl.col("number") >= policy.start)
        .select(*PLACE, "number")
        .unique()
        .sort(*PLACE, "number")
        .with_columns(before=pl.col("number").shift(1).over(PLACE).fill_null(policy.start - 1))
    )
    hole = pl.col("number") - pl.col("before") > 1
    return (
        numbers.group_by(PLACE, maintain_order=True)
        .agg(
            highest=pl.col("number").max(),
            issued=pl.len().cast(pl.Int64()),
            missing=(pl.col("number") - pl.col("before") - 1).sum(),
            holes=pl.struct(first=pl.col("before") + 1, last=pl.col("number") - 1).filter(hole),
        )
        .sort(PLACE)
    )


def explanations(history: History, policy: Policy) -> tuple[dict[str, int], int]:
    """Return how many attempts took a number in vain, by scope, and how many of unknown scope."""
    attempts = creates(history).select(
        scope=pl.coalesce("scope", scope_of_arguments(policy)),
        vain=(pl.col("attempts") - 1).clip(0) + (pl.col("outcome") != "ok").cast(pl.Int64()),
    )
    counted = attempts.group_by("scope").agg(pl.col("vain").sum())
    found = {scope: vain for scope, vain in counted.iter_rows() if scope is not None}
    nowhere = sum(vain for scope, vain in counted.iter_rows() if scope is None)
    return found, nowhere


@invariant("N-EXPLAINED", tables=["documents"])
def gaps_are_explained(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Every gap is matched by an attempt that failed, was rolled back or stayed unknown; any other is a lost document."""
    if policy.continuity is Continuity.NONE:
        return []
    gaps = missing_numbers(books, policy).filter(pl.col("missing") > 0)
    by_scope, nowhere = explanations(history, policy)
    totals = gaps.group_by("scope").agg(pl.col("missing").sum()).rows()
    lost = {scope: missing - by_scope.get(scope, 0) for scope, missing in totals if missing > by_scope.get(scope, 0)}
    if sum(lost.values()) <= nowhere:
        return []
    scope = max(sorted(lost), key=lambda s: lost[s])
    worst = gaps.filter(pl.col("scope") == scope).sort("missing", descending=True).row(0, named=True)
    return [
        violation(
            "N-EXPLAINED",
            f"{printed(worst)} lacks {_ranges(worst)}, and only {by_scope.get(scope, 0) + nowhere} failed or unknown "
            f"attempts explain {worst['missing']} missing numbers up to {worst['highest']}: documents are lost",
            total=sum(lost.values()),
            operations=shown(history, creates(history).filter(pl.col("outcome") != "ok")),
            books={"gaps": _plain(gaps)},
        )
    ]


@invariant("N-GAPLESS", tables=["documents"])
def no_gaps(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Under a gapless policy every number from the start to the highest is issued or void."""
    if policy.continuity is not Continuity.GAPLESS:
        return []
    gaps = missing_numbers(books, policy).filter(pl.col("missing") > 0)
    if gaps.is_empty():
        return []
    worst = gaps.sort("missing", descending=True, maintain_order=True).row(0, named=True)
    failed = creates(history).filter(pl.col("outcome") != "ok")
    because = f"; {failed.height} creates failed or stayed unknown" if failed.height else ""
    return [
        violation(
            "N-GAPLESS",
            f"{printed(worst)} lacks {_ranges(worst)} of {worst['highest']}, and its numbers must be gapless{because}",
            total=int(gaps["missing"].sum()),
            operations=shown(history, failed),
            books={"gaps": _plain(gaps)},
        )
    ]


@invariant("N-GAPBUDGET", tables=["documents"])
def gaps_within_budget(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Gaps stay within the policy's budget, in every scope and over all of them."""
    if policy.continuity is not Continuity.BUDGET:
        return []
    table = missing_numbers(books, policy)
    if table.is_empty():
        return []
    places = [(printed(row), row["missing"], row["issued"]) for row in table.iter_rows(named=True)]
    if len(places) > 1:
        places.append(("all scopes together", int(table["missing"].sum()), int(table["issued"].sum())))
    judged = [(where, *judge_gaps(missing, issued, policy.budget)) for where, missing, issued in places if missing]
    findings = []
    for wanted in (FindingClass.VIOLATION, FindingClass.COST):
        told = [(where, text, share) for where, kind, text, share in judged if kind is wanted]
        if told:
            where, text, _ = max(told, key=lambda t: t[2])
            findings.append(
                violation(
                    "N-GAPBUDGET",
                    f"{where}: {text}",
                    total=len(told),
                    books={"gaps": _plain(table.filter(pl.col("missing") > 0))},
                    finding_class=wanted,
                )
            )
    return findings


def judge_gaps(missing: int, issued: int, budget: GapBudget) -> tuple[FindingClass | None, str, float]:
    """Return what so many gaps mean under a budget: their class (None: within it), a sentence, and their share.

    Below the minimum sample the share alone proves little, so a violation also needs that a system which loses no more
    than the budget's limit would rarely lose so many: the exact binomial tail.
    """
    whole = issued + missing if budget.denominator == "range" else issued
    share = missing / whole if whole else 0.0
    text = f"{missing} of {whole} numbers are missing, {share:.1%}"
    if share <= budget.normal:
        return None, f"{text}, within the normal {budget.normal:.0%}", share
    if share <= budget.investigate:
        return FindingClass.COST, f"{text}, above the normal {budget.normal:.0%}", share
    if whole >= budget.minimum_sample:
        return FindingClass.VIOLATION, f"{text}, above the {budget.investigate:.0%} that must be investigated", share
    chance = binomial_tail(missing, whole, budget.investigate)
    if chance <= budget.significance:
        return (
            FindingClass.VIOLATION,
            f"{text}, above the {budget.investigate:.0%} that must be investigated; by chance that many happen with "
            f"p = {chance:.3f}",
            share,
        )
    return FindingClass.COST, f"{text}, but so few numbers prove nothing (p = {chance:.3f})", share


def binomial_tail(at_least: int, of: int, rate: float) -> float:
    """Return the probability of ``at_least`` or more successes ``of`` independent trials with this rate."""
    return sum(comb(of, k) * rate**k * (1 - rate) ** (of - k) for k in range(at_least, of + 1))


def _ranges(row: dict[str, object]) -> str:
    holes = row["holes"]
    assert isinstance(holes, list)
    return listed(str(h["first"]) if h["first"] == h["last"] else f"{h['first']} to {h['last']}" for h in holes)


def _plain(gaps: pl.DataFrame) -> list[dict[str, object]]:
    return rows(gaps.with_columns(pl.col("holes").list.head(10)))
