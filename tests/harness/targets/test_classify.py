"""Only what definitely did not happen is called a failure; the rest is unknown."""

from __future__ import annotations

import psycopg
import psycopg.errors
import pymongo.errors
import pytest
import sqlalchemy.exc

from harness.model import Outcome
from harness.targets.classify import classify_error, classify_status


def test_a_refusal_is_an_answer() -> None:
    class Refused(Exception):
        refusal = "awaiting_approval"

    outcome, failure = classify_error(Refused("already awaiting approval"))

    assert (outcome, failure.code, failure.refusal, failure.retryable) == (
        Outcome.FAIL,
        "awaiting_approval",
        True,
        False,
    )


@pytest.mark.parametrize(
    ("error", "outcome", "retryable"),
    [
        (psycopg.errors.SerializationFailure, Outcome.FAIL, True),
        (psycopg.errors.DeadlockDetected, Outcome.FAIL, True),
        (psycopg.errors.LockNotAvailable, Outcome.FAIL, True),
        (psycopg.errors.UniqueViolation, Outcome.FAIL, True),
        (psycopg.errors.CheckViolation, Outcome.FAIL, False),
        (psycopg.errors.InFailedSqlTransaction, Outcome.FAIL, False),
        (psycopg.errors.UndefinedTable, Outcome.FAIL, False),
        (psycopg.errors.AdminShutdown, Outcome.INFO, False),
        (psycopg.errors.StatementCompletionUnknown, Outcome.INFO, False),
        (psycopg.errors.ConnectionFailure, Outcome.INFO, False),
        (psycopg.errors.InternalError_, Outcome.INFO, False),
    ],
)
def test_sqlstates_have_classes(error: type[psycopg.Error], outcome: Outcome, retryable: bool) -> None:
    seen, failure = classify_error(error("boom"))

    assert (seen, failure.code, failure.retryable) == (outcome, error.sqlstate, retryable)


def test_a_lost_connection_has_no_sqlstate_and_is_unknown() -> None:
    outcome, failure = classify_error(psycopg.OperationalError("server closed the connection unexpectedly\n\tmore"))

    assert (outcome, failure.message) == (Outcome.INFO, "server closed the connection unexpectedly")


def test_sqlalchemys_wrapper_is_looked_through() -> None:
    wrapped = sqlalchemy.exc.OperationalError("SELECT 1", {}, psycopg.errors.SerializationFailure("again"))

    assert classify_error(wrapped)[1].code == "40001"


@pytest.mark.parametrize(
    ("code", "labels", "outcome", "retryable"),
    [
        (112, ["TransientTransactionError"], Outcome.FAIL, True),
        (11000, [], Outcome.FAIL, True),
        (251, ["TransientTransactionError"], Outcome.FAIL, True),
        (121, [], Outcome.FAIL, False),
        (64, [], Outcome.INFO, False),
        (91, ["RetryableWriteError"], Outcome.INFO, False),
        (112, ["UnknownTransactionCommitResult"], Outcome.INFO, True),
        (99999, [], Outcome.INFO, False),
    ],
)
def test_mongodb_codes_have_classes(code: int, labels: list[str], outcome: Outcome, retryable: bool) -> None:
    error = pymongo.errors.OperationFailure("boom", code, {"errorLabels": labels})

    seen, failure = classify_error(error)

    assert (seen, failure.code, failure.retryable) == (outcome, f"mongo:{code}", retryable)


def test_a_duplicate_key_names_the_index_that_it_hit() -> None:
    error = pymongo.errors.DuplicateKeyError("E11000", 11000, {"keyPattern": {"scope": 1, "number": 1}})

    assert classify_error(error)[1].constraint == "scope,number"


def test_a_lost_mongodb_connection_is_unknown() -> None:
    assert classify_error(pymongo.errors.AutoReconnect("connection closed"))[0] is Outcome.INFO


def test_anything_unheard_of_is_unknown_and_keeps_its_name() -> None:
    outcome, failure = classify_error(ZeroDivisionError("division by zero"))

    assert (outcome, failure.code, failure.message) == (Outcome.INFO, "ZeroDivisionError", "division by zero")


@pytest.mark.parametrize(
    ("status", "outcome", "refusal"),
    [
        (200, Outcome.OK, None),
        (201, Outcome.OK, None),
        (409, Outcome.FAIL, True),
        (422, Outcome.FAIL, True),
        (429, Outcome.FAIL, False),
        (500, Outcome.INFO, False),
        (503, Outcome.INFO, False),
        (504, Outcome.INFO, False),
    ],
)
def test_http_statuses_have_classes(status: int, outcome: Outcome, refusal: bool | None) -> None:
    seen, failure = classify_status(status, "text")

    assert (seen, failure and failure.refusal) == (outcome, refusal)
