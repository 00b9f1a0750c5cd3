"""Errors as answers (RFC 9457): a stable type for programs, a sentence for people, the figures that the sentence speaks of.

======  ===============================================================================================================
status  meaning
======  ===============================================================================================================
400     the request could not be read (not JSON, a name given twice, no key)
403     refused: a permission is missing
404     refused: there is no such account, payment, order ... of this company, or no such path
405     this path takes another method
409     refused: the books do not allow it
413     the body is too large
415     the body is of another kind, not in UTF-8, or compressed
422     refused: the request makes no sense whatever the books hold
500     a bug: the outcome is not known
503     nothing happened; the same request may be sent again
504     nobody knows whether it happened; send the same request again with the same key to find out
======  ===============================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from pymongo.errors import PyMongoError, ServerSelectionTimeoutError
from sqlalchemy.exc import DBAPIError

from reference_impl.base.mongo import violated as mongo_violated
from reference_impl.base.postgres import sqlstate, violated
from reference_impl.base.refusal import Refused
from reference_impl.service.lines import NoLine

NOTHING_HAPPENED = frozenset({"40001", "40P01", "55P03", "57014", "57P03"})
"""SQLSTATEs (PostgreSQL, appendix A) with which the server says that the transaction is rolled back and may be repeated.

So may one that broke a constraint (class 23) or met a lack of resources (class 53).
"""
REPEATABLE_CLASSES = frozenset({"23", "53"})
LOST_CLASSES = frozenset({"08", "57", "58"})
"""Connection lost, server shut down, disk failed: the commit may have been carried out."""

WRITE_CONFLICT, NO_SUCH_TRANSACTION, DUPLICATE_KEY = 112, 251, 11000
MONGO_NOTHING_HAPPENED = frozenset({WRITE_CONFLICT, 244, 246, NO_SUCH_TRANSACTION, 10107, DUPLICATE_KEY})

MEDIA_TYPE = "application/problem+json"

MEANINGS: Mapping[int, str] = {
    400: "the request could not be read",
    403: "refused: a permission is missing",
    404: "refused: there is no such thing",
    405: "this path takes another method",
    409: "refused: the books do not allow it",
    413: "the body is too large",
    415: "the body is of another kind, not in UTF-8, or compressed",
    422: "refused: the request makes no sense",
    503: "nothing happened; it may be sent again",
    504: "nobody knows whether it happened; send it again with the same key",
}

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "why an operation was not carried out",
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "names the kind of problem"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "a sentence for people"},
        "code": {"type": "string", "description": "the end of the type"},
        "figures": {"type": "object", "description": "amounts in minor units, and other facts that the sentence speaks of"},
    },
    "required": ["type", "title", "status", "detail", "code", "figures"],
}

LOST = "The store did not say whether it happened. Send the same request again with the same Idempotency-Key to find out."


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An answer that is not a success. ``figures`` are amounts (minor units) and other facts that the message speaks of."""

    status: int
    code: str
    message: str
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """As it is sent."""
        return {
            "type": f"urn:racegate:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.message,
            "code": self.code,
            "figures": self.figures,
        }


def problem_of(error: Exception) -> Problem:
    """Return what an error of an operation means to the client."""
    if isinstance(error, Refused):
        return Problem(status=error.status, code=error.refusal, message=str(error), figures=error.figures)
    if isinstance(error, NoLine):
        return _again("no_line", "The store cannot be reached or has no line left.")
    if isinstance(error, DBAPIError):
        return _of_postgres(error)
    if isinstance(error, PyMongoError):
        return _of_mongo(error)
    return Problem(status=500, code="internal_error", message="Something went wrong that nobody thought of; it is in the log.")


def _of_postgres(error: DBAPIError) -> Problem:
    state = sqlstate(error)
    if error.connection_invalidated or state is None or state[:2] in LOST_CLASSES - {"57"}:
        return Problem(status=504, code="outcome_unknown", message=LOST)
    if state in NOTHING_HAPPENED or state[:2] in REPEATABLE_CLASSES:
        met = violated(error)
        return _again(state, f"It conflicts with another request on {met}." if met else "Another request was in the way.")
    if state[:2] in LOST_CLASSES:
        return Problem(status=504, code="outcome_unknown", message=LOST)
    return Problem(status=500, code=state, message="The store refused a statement of this service; it is in the log.")


def _of_mongo(error: PyMongoError) -> Problem:
    code = getattr(error, "code", None)
    if error.has_error_label("UnknownTransactionCommitResult"):
        return Problem(status=504, code="outcome_unknown", message=LOST)
    if isinstance(error, ServerSelectionTimeoutError):
        return _again("no_line", "The store cannot be reached.")
    if error.has_error_label("TransientTransactionError") or code in MONGO_NOTHING_HAPPENED:
        met = mongo_violated(error)
        return _again(
            f"mongo_{code}", f"It conflicts with another request on {met}." if met else "Another request was in the way."
        )
    return Problem(status=504, code="outcome_unknown", message=LOST)


def _again(code: str, why: str) -> Problem:
    return Problem(status=503, code=code, message=f"{why} Send it again, with the same key.")
