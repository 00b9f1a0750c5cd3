"""Errors of a history that others recorded, which says nothing of retries and refusals."""

from __future__ import annotations

import polars as pl

from harness.invariants import judge
from harness.model import Books, Failure, FindingClass, History, Operation, Outcome
from harness.model.policy import Policy


def test_an_error_of_which_nothing_more_is_known_is_no_refusal_and_not_for_a_retry() -> None:
    failed = Operation(
        process=1,
        client=1,
        f="create",
        token="a",
        arguments={},
        invoked=1,
        completed=2,
        outcome=Outcome.FAIL,
        failure=Failure(code="40001", message="no"),
    )
    told = History.of([failed]).operations
    bare = told.with_columns(refusal=pl.lit(None, pl.Boolean()), retryable=pl.lit(None, pl.Boolean()))
    (found,) = judge(History(pl.concat([told, bare])), Books(), Policy(name="plain"), ["L-RETRY"]).findings
    assert (found.finding_class, found.total) == (FindingClass.LIVENESS, 2)
    assert found.message.startswith("clients saw an unexpected error 40001 2 times on create; ")
