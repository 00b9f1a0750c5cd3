"""How likely so many gaps are, and what an attempt may have burnt."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import polars as pl
import pytest

from harness.config.policy import load_policy
from harness.invariants.numbering.gaps import attempts, binomial_tail, budget_findings
from harness.model import FindingClass, History, Operation, Outcome
from harness.model.policy import Continuity, GapBudget, Policy


def exact(at_least: int, of: int, rate: Fraction) -> float:
    return float(sum(comb(of, k) * rate**k * (1 - rate) ** (of - k) for k in range(at_least, of + 1)))


@pytest.mark.parametrize(
    ("at_least", "of", "rate"), [(1, 4, "1/20"), (2, 7, "1/20"), (5, 5, "1/2"), (30, 400, "1/20"), (1, 1, "9/10")]
)
def test_the_tail_is_that_of_the_binomial_distribution(at_least: int, of: int, rate: str) -> None:
    assert binomial_tail(at_least, of, float(Fraction(rate))) == pytest.approx(exact(at_least, of, Fraction(rate)), rel=1e-9)


@pytest.mark.parametrize(
    ("at_least", "of", "rate", "expected"),
    [(0, 5, 0.0, 1.0), (1, 5, 0.0, 0.0), (6, 5, 0.5, 0.0), (5, 5, 1.0, 1.0), (0, 5, 1.0, 1.0), (6, 5, 1.0, 0.0)],
)
def test_what_is_certain_and_what_is_impossible(at_least: int, of: int, rate: float, expected: float) -> None:
    assert binomial_tail(at_least, of, rate) == expected


def test_no_probability_is_above_one_by_rounding() -> None:
    tails = [binomial_tail(1, of, 0.9) for of in range(20, 200)]
    assert max(tails) == 1.0


def test_a_probability_at_the_significance_is_no_chance() -> None:
    place = {"scope": ["a"], "period": [""]}
    holes = pl.DataFrame({**place, "first": [2], "last": [2], "size": [1], "next": [3], "text": ["3"]})
    spans = pl.DataFrame({**place, "present": [3], "range": [4]})
    documents = pl.DataFrame(schema={**dict.fromkeys(("scope", "period", "row"), pl.String()), "number": pl.Int64()})
    for significance, expected in ((binomial_tail(1, 4, 0.05), FindingClass.VIOLATION), (0.18, FindingClass.COST)):
        budget = GapBudget(significance=significance)
        policy = Policy(name="p", continuity=Continuity.BUDGET, budget=budget)
        (found,) = budget_findings(holes, spans, documents, policy)
        assert found.finding_class is expected
        assert ("too unlikely to be chance" in found.message) is (expected is FindingClass.VIOLATION)


def test_an_attempt_whose_tries_nobody_counted_was_one() -> None:
    refused = Operation(
        process=1, client=1, f="create", token="a", arguments={"scope": "x"}, invoked=1, completed=2, outcome=Outcome.FAIL
    )
    operations = History.of([refused]).operations.with_columns(attempts=pl.lit(None, pl.Int64()))
    documents = pl.DataFrame({"scope": ["x"]})
    assert attempts(History(operations), documents, load_policy("company-series"))["burnt"].to_list() == [1]
