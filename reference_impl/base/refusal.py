"""A business "no", which is an answer and not a fault; and what a driver says of a fault."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """The request was understood and refused, and nothing was changed.

    ``refusal`` is a stable code for programs, the message is for people, ``status`` is the HTTP status that the service
    answers with, and ``figures`` are the amounts (minor units) and other facts that the message speaks of.
    """

    def __init__(self, refusal: str, message: str, *, status: int = 409, **figures: Any) -> None:
        super().__init__(message)
        self.refusal = refusal
        self.status = status
        self.figures = figures


def invalid(message: str, **figures: Any) -> Refused:
    """Return the refusal of a request that makes no sense whatever the books hold (HTTP 422)."""
    return Refused("invalid_request", message, status=422, **figures)


def unknown(kind: str, name: str) -> Refused:
    """Return the refusal of a request about something that does not exist, or belongs to another company (HTTP 404)."""
    return Refused(f"unknown_{kind}", f"There is no {kind} {name!r}.", status=404)


def first_words(error: Exception) -> str:
    """Return the first line of the driver's own words, which hold no password."""
    return str(getattr(error, "orig", None) or error).strip().split("\n")[0]
