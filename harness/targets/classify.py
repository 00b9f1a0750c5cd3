"""Errors to outcomes: one table for SQLSTATEs, MongoDB codes and HTTP statuses.

``fail`` is said only where the operation definitely did not happen. Anything that is not listed is ``info``: nobody
knows. That is Maelstrom's error registry and Jepsen's contract; guessing here turns a lost reply into a lost document.

Sources: PostgreSQL documentation, appendix A (error codes); MongoDB's ``error_codes.yml`` and the transactions and
retryable-writes specifications (error labels); RFC 9110 section 15.
"""

from __future__ import annotations

from typing import Any

from harness.model.operation import Failure, Outcome

DEFINITE_SQLSTATE_CLASSES = frozenset({"0A", "21", "22", "23", "25", "26", "28", "2D", "3D", "3F", "42", "44", "53", "P0"})
"""Classes whose errors abort the statement and its transaction: the work is definitely not there."""

DEFINITE_SQLSTATES = frozenset({"40001", "40P01", "40002", "55P03", "57014", "57P03"})
"""Codes of otherwise unsure classes that are definite. 40003 (completion unknown) and 57P01 (killed) are not."""

RETRYABLE_SQLSTATES = frozenset({"40001", "40P01", "55P03", "23505"})
"""What a documented retry absorbs (23505 when the conflict is on the number itself)."""

DEFINITE_MONGO_CODES = frozenset(
    {
        2,  # BadValue
        9,  # FailedToParse
        13,  # Unauthorized
        14,  # TypeMismatch
        18,  # AuthenticationFailed
        20,  # IllegalOperation
        26,  # NamespaceNotFound
        112,  # WriteConflict
        121,  # DocumentValidationFailure
        225,  # TransactionTooOld
        244,  # TransactionAborted
        246,  # SnapshotUnavailable
        251,  # NoSuchTransaction
        256,  # TransactionCommitted
        263,  # OperationNotSupportedInTransaction
        10107,  # NotWritablePrimary
        11000,  # DuplicateKey
        11001,
        12582,
    }
)

RETRYABLE_MONGO_CODES = frozenset({112, 244, 246, 251, 10107, 11000})

REFUSED_HTTP_STATUSES = frozenset({400, 401, 402, 403, 404, 405, 406, 409, 410, 411, 412, 413, 414, 415, 422, 423, 428})
"""The service understood and said no."""

RETRYABLE_HTTP_STATUSES = frozenset({425, 429})
"""The service says that it did nothing and that a later attempt may work."""


def classify_error(error: BaseException) -> tuple[Outcome, Failure]:
    """Return the outcome that an exception from a target means, with its reason.

    An exception that carries ``outcome`` and ``failure`` is classified already (an HTTP answer is). An attribute ``refusal``
    (a stable code) marks a business "no". SQLAlchemy's wrapper is looked through. Driver
    errors are recognised by their attributes, so no driver is imported here.
    """
    known = getattr(error, "failure", None)
    if isinstance(known, Failure):
        return Outcome(getattr(error, "outcome", Outcome.INFO)), known
    refusal = getattr(error, "refusal", None)
    if isinstance(refusal, str):
        return Outcome.FAIL, Failure(code=refusal, message=_first_line(error), refusal=True)
    cause = getattr(error, "orig", None) or error
    sqlstate = getattr(cause, "sqlstate", None)
    if isinstance(sqlstate, str):
        return _by_sqlstate(sqlstate, cause)
    if hasattr(cause, "has_error_label"):
        return _by_mongo_code(cause)
    return Outcome.INFO, Failure(code=type(cause).__name__, message=_first_line(cause))


def classify_status(status: int, message: str) -> tuple[Outcome, Failure | None]:
    """Return the outcome that an HTTP status means by default; a configuration may say otherwise."""
    if 200 <= status < 300:
        return Outcome.OK, None
    code = f"http:{status}"
    if status in REFUSED_HTTP_STATUSES:
        return Outcome.FAIL, Failure(code=code, message=message, refusal=True)
    if status in RETRYABLE_HTTP_STATUSES:
        return Outcome.FAIL, Failure(code=code, message=message, retryable=True)
    return Outcome.INFO, Failure(code=code, message=message)


def _by_sqlstate(sqlstate: str, error: Any) -> tuple[Outcome, Failure]:
    definite = sqlstate in DEFINITE_SQLSTATES or sqlstate[:2] in DEFINITE_SQLSTATE_CLASSES
    diagnostic = getattr(error, "diag", None)
    failure = Failure(
        code=sqlstate,
        message=_first_line(error),
        retryable=sqlstate in RETRYABLE_SQLSTATES,
        constraint=getattr(diagnostic, "constraint_name", None),
    )
    return (Outcome.FAIL if definite else Outcome.INFO), failure


def _by_mongo_code(error: Any) -> tuple[Outcome, Failure]:
    code, details = _mongo_code(error)
    unknown = error.has_error_label("UnknownTransactionCommitResult")
    transient = error.has_error_label("TransientTransactionError")
    definite = not unknown and (transient or code in DEFINITE_MONGO_CODES)
    failure = Failure(
        code=f"mongo:{code}" if code is not None else type(error).__name__,
        message=_first_line(error),
        retryable=transient or code in RETRYABLE_MONGO_CODES,
        constraint=",".join(details.get("keyPattern") or ()) or None,
    )
    return (Outcome.FAIL if definite else Outcome.INFO), failure


def _mongo_code(error: Any) -> tuple[int | None, dict[str, Any]]:
    """Return the server's code and the details it gave; bulk writes hide them in their first write error."""
    details = getattr(error, "details", None) or {}
    if write_errors := details.get("writeErrors"):
        first = write_errors[0]
        return first.get("code"), first
    code = getattr(error, "code", None)
    return (code if isinstance(code, int) else None), details


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.split("\n")[0][:500]
