"""What is missing between the first number of a scope and its highest.

The books are read after the store came to rest, so every hole is settled: no open transaction will still fill it. A void
number fills its hole, a reserved one does not. Then three questions are asked, each by its own rule:

- Is there a hole at all? (N-GAPLESS, where the policy allows none.)
- Is each hole explained? (N-EXPLAINED.) An attempt in the scope that failed, was rolled back, was repeated or whose end is
  not known may have burnt one number. A number that nobody's attempt can have burnt was skipped, or its document was lost:
  wrong at any budget. Which of the two is only known where a client was told the number.
- Are they few? (N-GAPBUDGET.)

Attempts are matched to holes by counting, from the narrow to the wide: an attempt whose scope and period are known explains a
hole there, one whose period is unknown any hole of its scope, and one whose scope is unknown any hole. Attempts at a
place are interchangeable, so counting decides exactly whether a matching exists.
"""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from harness.invariants.numbering.columns import (
    KEY,
    PLACE,
    acknowledged,
    documenting,
    not_ended,
    place_name,
    printed_like,
    stored,
    unreadable,
    unstored,
)
from harness.invariants.numbering.scopes import each_place
from harness.invariants.registry import NotChecked, invariant
from harness.invariants.telling import argument, rows, shown
from harness.model import Books, Finding, FindingClass, History, Policy
from harness.model.policy import Continuity, GapBudget

_NAMED = 3
"""Missing numbers that a sentence names."""


def _gapless_demanded(policy: Policy) -> str | None:
    return None if policy.continuity is Continuity.GAPLESS else f"policy {policy.name} allows gaps"


def _budget_demanded(policy: Policy) -> str | None:
    return None if policy.continuity is Continuity.BUDGET else f"policy {policy.name} has no gap budget"


@invariant("N-GAPLESS", tables=["documents"], unless=_gapless_demanded)
def gapless_numbers(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Every number from the scope's start to its maximum is issued or void."""
    if not books.complete:
        return []
    documents = _numbered(books, policy)
    return gapless_findings(missing(documents, policy), extents(documents, policy), documents, policy)


def _numbered(books: Books, policy: Policy) -> pl.DataFrame:
    """Return the documents. Raises NotChecked if not one number can be read: a gap is one between numbers."""
    documents = stored(books, policy)
    if why := unreadable(documents):
        raise NotChecked(why)
    return documents


def gapless_findings(holes: pl.DataFrame, spans: pl.DataFrame, documents: pl.DataFrame, policy: Policy) -> list[Finding]:
    """Tell of the holes (as `missing` returns them) where none is allowed; ``spans`` are as `extents` returns them.

    Of the documents those beside the holes are shown.
    """

    def one(scope: str, period: str, wrong: pl.DataFrame) -> Finding:
        total = int(wrong["size"].sum())
        span = spans.filter(pl.col("scope") == scope, pl.col("period") == period).row(0, named=True)
        return _finding(
            "N-GAPLESS",
            f"{names(wrong, policy)} of {place_name(scope, period)} {'is' if total == 1 else 'are'} neither issued nor void, "
            f"though the policy allows no gap ({span['present']} of {span['range']} numbers are there)",
            total=total,
            books={"documents": _around(documents, wrong)},
        )

    return each_place("N-GAPLESS", holes, one, many="more runs of numbers are missing")


@invariant("N-EXPLAINED", tables=["documents"])
def explained_gaps(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Every gap is matched by a failed, rolled-back or ambiguous attempt in its scope: none is skipped or lost."""
    if not books.complete:
        return []
    documents = _numbered(books, policy)
    holes = missing(documents, policy)
    if holes.is_empty():
        return []
    spare = attempts(history, documents, policy)
    total = int(holes["size"].sum())
    if policy.continuity is Continuity.NONE:
        return [_cost(holes, policy, f"{total} {_numbers(total)} missing, which policy {policy.name} allows", total)]
    left = _unmatched(holes, spare)
    if left.is_empty():
        return [_cost(holes, policy, f"{total} {_numbers(total)} missing, each explained by an attempt that failed", total)]
    if not history.complete:
        return []
    promised = _promised(history, documents, policy)

    def one(scope: str, period: str, wrong: pl.DataFrame) -> Finding:
        unexplained, gone, tried = wrong.select("unexplained", "missing", "tried").row(0)
        here = holes.filter(pl.col("scope") == scope, pl.col("period") == period)
        failed = spare.filter((pl.col("scope") == scope) | pl.col("scope").is_null())
        known = promised.filter(pl.col("scope") == scope, pl.col("period") == period)
        known = known.join_where(
            here.select("first", "last"), pl.col("number") >= pl.col("first"), pl.col("number") <= pl.col("last")
        )
        return _finding(
            "N-EXPLAINED",
            f"{names(here, policy)} of {place_name(scope, period)} {'is' if gone == 1 else 'are'} missing and "
            f"{_why(gone, tried)}: {_fate(unexplained, min(known.height, unexplained))}",
            total=unexplained,
            operations=shown(history, history.operations.join(failed, on="token", how="semi")),
            books={"documents": _around(documents, here)},
        )

    return each_place("N-EXPLAINED", left, one, many="more with numbers that no attempt explains")


@invariant("N-GAPBUDGET", tables=["documents"], unless=_budget_demanded)
def gaps_within_budget(history: History, books: Books, policy: Policy) -> list[Finding]:
    """Settled gaps stay within the policy's budget, in each scope and over all."""
    if not books.complete:
        return []
    documents = _numbered(books, policy)
    return budget_findings(missing(documents, policy), extents(documents, policy), documents, policy)


def budget_findings(holes: pl.DataFrame, spans: pl.DataFrame, documents: pl.DataFrame, policy: Policy) -> list[Finding]:
    """Tell where the holes are more than the budget allows, in each scope and over all; as `gapless_findings`."""
    budget = policy.budget
    sizes = holes.group_by(PLACE).agg(pl.col("size").sum().alias("missing"))
    judged = (
        spans.join(sizes, on=PLACE)
        .with_columns(base=pl.col("range" if budget.denominator == "range" else "present"))
        .with_columns(share=pl.col("missing") / pl.col("base"))
        .sort("share", "scope", "period", descending=[True, False, False])
    )
    over = judged.filter(pl.col("share") > budget.normal)
    classed = over.with_columns(
        bad=pl.struct("missing", "base").map_elements(
            lambda r: over_budget(r["missing"], r["base"], budget), return_dtype=pl.Boolean()
        )
    )

    def one(scope: str, period: str, wrong: pl.DataFrame) -> Finding:
        row = wrong.row(0, named=True)
        here = holes.filter(pl.col("scope") == scope, pl.col("period") == period)
        return _finding(
            "N-GAPBUDGET",
            f"{budget_sentence(row['missing'], row['base'], place_name(scope, period), budget)} ({names(here, policy)})",
            total=row["missing"],
            books={"documents": _around(documents, here)},
            finding_class=FindingClass.VIOLATION if row["bad"] else FindingClass.COST,
        )

    findings = []
    for bad, finding_class in ((True, FindingClass.VIOLATION), (False, FindingClass.COST)):
        many = "more over the budget" if bad else "more with more gaps than normal"
        part = classed.filter(pl.col("bad") == bad)
        findings += each_place("N-GAPBUDGET", part, one, finding_class=finding_class, many=many)
    if judged.height and spans.height > 1:
        findings += _rolled_up(spans, int(sizes["missing"].sum()), budget)
    return findings


def missing(documents: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Return the runs of numbers that no document holds: scope, period, ``first``, ``last``, ``size``, and the document after."""
    taken = _taken(documents, policy)
    return (
        taken.with_columns(before=pl.when(_same_place()).then(pl.col("number").shift(1)).otherwise(policy.start - 1))
        .filter(pl.col("number") - pl.col("before") > 1)
        .select(
            *PLACE,
            first=pl.col("before") + 1,
            last=pl.col("number") - 1,
            size=pl.col("number") - pl.col("before") - 1,
            next="number",
            text="text",
        )
    )


def extents(documents: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Return for each place how many numbers are ``present`` and how many the ``range`` from start to maximum has."""
    return (
        _taken(documents, policy)
        .group_by(PLACE)
        .agg(present=pl.len(), range=pl.col("number").max() - policy.start + 1)
        .sort(PLACE)
        .with_columns(pl.col("present").cast(pl.Int64()))
    )


def attempts(history: History, documents: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Return how many numbers the attempts of each place may have burnt: scope, period (null where unknown), ``burnt``.

    Each try of an operation but the one that made its document may have burnt one, and so may each repetition of a request
    that had its document already. A deletion explains the number that it took away. What makes a document takes a number for
    it, whether or not its answers name one, and so does a sale for its receipt.
    """
    tries = history.operations.filter(pl.col("f").is_in({*documenting(history), "sell", "delete"})).select(
        "f", "scope", "period", "token", "outcome", "arguments", tries=pl.col("attempts").fill_null(1)
    )
    settled = tries["outcome"] == "ok"
    made = pl.struct("token", "f").is_first_distinct() & (pl.col("f") != "delete")
    done = tries.filter(settled)
    if done["token"].n_unique() == done.height:
        made = pl.col("f") != "delete"
    done = done.with_columns(burnt=pl.col("tries") - made.cast(pl.Int64()))
    spare = pl.concat([tries.filter(~settled).with_columns(burnt=pl.col("tries")), done]).filter(pl.col("burnt") > 0)
    if spare["scope"].null_count() and policy.scope_keys:
        parts = [argument(key) for key in policy.scope_keys]
        spare = spare.with_columns(scope=pl.coalesce("scope", pl.concat_str(parts, separator="/")))
    known = documents["scope"].unique()
    spare = spare.with_columns(scope=pl.when(pl.col("scope").is_in(known.implode())).then("scope"))
    return spare.with_columns(period=pl.when(pl.col("scope").is_not_null()).then("period"))


def binomial_tail(at_least: int, of: int, rate: float) -> float:
    """Return the exact probability of ``at_least`` or more successes in ``of`` trials at ``rate`` each."""
    if at_least <= 0:
        return 1.0
    if at_least > of or rate <= 0:
        return 0.0
    if rate >= 1:
        return 1.0
    logs = (
        math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) + k * math.log(rate) + (of - k) * math.log1p(-rate)
        for k in range(at_least, of + 1)
    )
    return min(1.0, math.fsum(math.exp(x) for x in logs))


def names(holes: pl.DataFrame, policy: Policy) -> str:
    """Name the missing numbers as they would have been printed: ``INV-00005 and INV-00006``, ``INV-00005 to INV-00019``."""
    parts: list[str] = []
    named = 0
    for hole in holes.head(_NAMED).iter_rows(named=True):
        ends = dict.fromkeys((hole["first"], hole["last"]))
        printed = [printed_like(policy, hole["text"], hole["next"], number) for number in ends]
        parts += printed if hole["size"] <= 2 else [" to ".join(printed)]
        named += hole["size"]
    left = int(holes["size"].sum()) - named
    if left:
        return f"{', '.join(parts)} and {left} more"
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def _taken(documents: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Return each number that is issued or void once, sorted, with its printed text."""
    return (
        documents.filter(pl.col("number") >= policy.start, pl.col("status") != "reserved")
        .select(*PLACE, "number", "text", place=pl.struct(PLACE).rank("dense"))
        .sort("place", "number", maintain_order=True)
        .filter(~(_same_place() & (pl.col("number") == pl.col("number").shift(1))))
    )


def _same_place() -> pl.Expr:
    """Tell whether a row of a sorted table is of the place of the row before it: integers, as text takes ten times as long."""
    return (pl.col("place") == pl.col("place").shift(1)).fill_null(value=False)


def _unmatched(holes: pl.DataFrame, spare: pl.DataFrame) -> pl.DataFrame:
    """Return the places with more holes than attempts can explain: ``missing``, ``tried`` and ``unexplained``."""
    gone = holes.group_by(PLACE, maintain_order=True).agg(pl.col("size").sum().alias("missing"))
    exact = spare.filter(pl.col("period").is_not_null()).group_by(PLACE).agg(pl.col("burnt").sum().alias("exact"))
    loose = spare.filter(pl.col("period").is_null()).group_by("scope").agg(pl.col("burnt").sum().alias("loose"))
    anywhere = int(spare.filter(pl.col("scope").is_null())["burnt"].sum())
    after = (
        gone.join(exact, on=PLACE, how="left", maintain_order="left")
        .join(loose, on="scope", how="left", maintain_order="left")
        .with_columns(pl.col("exact", "loose").fill_null(0))
        .with_columns(left=(pl.col("missing") - pl.col("exact")).clip(lower_bound=0))
        .with_columns(unexplained=_less(pl.col("left"), pl.col("loose"), over="scope"))
        .with_columns(unexplained=_less(pl.col("unexplained"), pl.lit(anywhere)))
    )
    return after.filter(pl.col("unexplained") > 0).select(
        *PLACE, "missing", "unexplained", tried=pl.col("missing") - pl.col("unexplained")
    )


def _less(need: pl.Expr, pool: pl.Expr, over: str | None = None) -> pl.Expr:
    """Return what each row still needs after the pool has been handed out from the first row on."""
    before = need.cum_sum().over(over) - need if over else need.cum_sum() - need
    return (need - (pool - before).clip(lower_bound=0)).clip(lower_bound=0)


def over_budget(gone: int, base: int, budget: GapBudget) -> bool:
    """Tell whether so many missing numbers of ``base`` are a violation of the budget, and not chance."""
    if gone <= budget.investigate * base:
        return False
    return base >= budget.minimum_sample or binomial_tail(gone, base, budget.investigate) <= budget.significance


def budget_sentence(gone: int, base: int, where: str, budget: GapBudget) -> str:
    """Say how many numbers of ``base`` are missing ``where``, and what the budget allows."""
    counted = "numbers" if budget.denominator == "range" else "issued numbers"
    share = gone / base
    verb = "is" if gone == 1 else "are"
    text = f"{gone} of {base} {counted} of {where} {verb} missing: {share:.1%}, where up to {budget.normal:.0%} is normal"
    if share <= budget.investigate:
        return text
    text += f" and more than {budget.investigate:.0%} is to be investigated"
    if base >= budget.minimum_sample:
        return text
    chance = binomial_tail(gone, base, budget.investigate)
    proof = "too unlikely to be chance" if chance <= budget.significance else "which may still be chance"
    return (
        f"{text}; at a true rate of {budget.investigate:.0%} as many would be missing with a probability of {chance:.3f}, {proof}"
    )


def _rolled_up(spans: pl.DataFrame, gone: int, budget: GapBudget) -> list[Finding]:
    base = int(spans["range" if budget.denominator == "range" else "present"].sum())
    if gone <= budget.normal * base:
        return []
    bad = over_budget(gone, base, budget)
    return [
        _finding(
            "N-GAPBUDGET",
            budget_sentence(gone, base, f"all {spans.height} scopes together", budget),
            total=gone,
            finding_class=FindingClass.VIOLATION if bad else FindingClass.COST,
        )
    ]


def _cost(holes: pl.DataFrame, policy: Policy, message: str, total: int) -> Finding:
    return Finding(
        finding_class=FindingClass.COST,
        invariant="N-EXPLAINED",
        message=f"{message}: {names(holes, policy)}",
        evidence={"operations": [], "rows": {}},
        total=total,
    )


def _promised(history: History, documents: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Return the numbers whose document was acknowledged, is not in the books, and was not deleted on record; each once."""
    told = acknowledged(history, documents, policy).filter(pl.col("completed").is_not_null())
    gone = unstored(told, documents).join(documents, on="token", how="anti")
    return not_ended(gone, history, documents, ("delete",)).select(KEY).unique()


def _why(gone: int, tried: int) -> str:
    """Say how many of the missing numbers an attempt explains."""
    if tried:
        return f"attempts explain only {tried} of them"
    return f"no attempt explains {'it' if gone == 1 else 'them'}"


def _fate(unexplained: int, lost: int) -> str:
    """Say what became of the numbers that nothing explains; of ``lost`` many it is known."""
    known = "1 document was acknowledged and is lost" if lost == 1 else f"{lost} documents were acknowledged and are lost"
    if lost == unexplained:
        return known
    left = unexplained - lost
    fate = "was skipped, or its document was lost" if left == 1 else "were skipped, or their documents were lost"
    if lost:
        return f"{known}; {left} more {'number' if left == 1 else 'numbers'} {fate}"
    return f"{left} {'number' if left == 1 else 'numbers'} {fate}"


def _numbers(count: int) -> str:
    return "number is" if count == 1 else "numbers are"


def _finding(
    invariant: str,
    message: str,
    *,
    total: int,
    operations: list[dict[str, Any]] | None = None,
    books: dict[str, list[dict[str, Any]]] | None = None,
    finding_class: FindingClass = FindingClass.VIOLATION,
) -> Finding:
    """Return a finding whose sentence counts the numbers itself."""
    return Finding(
        finding_class=finding_class,
        invariant=invariant,
        message=message,
        evidence={"operations": operations or [], "rows": books or {}},
        total=total,
    )


def _around(documents: pl.DataFrame, holes: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the documents on both sides of the first, the longest and the last hole."""
    picked = pl.concat([holes.head(1), holes.sort("size", descending=True).head(1), holes.tail(1)])
    edges = pl.concat(
        [
            picked.select(*PLACE, number=pl.col("first") - 1),
            picked.select(*PLACE, number=pl.col("last") + 1),
        ]
    )
    return rows(documents.join(edges, on=[*PLACE, "number"], how="semi").sort("number").drop("row"))
