"""One business request and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What is known of an operation. Jepsen's contract: ok must have happened, fail must not, info may be either."""

    OK = "ok"
    FAIL = "fail"
    INFO = "info"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an operation is not ok.

    ``code`` is a stable name: a SQLSTATE (``40001``), a MongoDB code (``mongo:112``), an HTTP status (``http:503``),
    or the name of a refusal (``discount_not_permitted``). ``retryable`` marks errors that a documented retry absorbs.
    ``refusal`` marks a business "no", which is an answer and not a fault. ``constraint`` is the violated index, if any.
    """

    code: str
    message: str
    retryable: bool = False
    refusal: bool = False
    constraint: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation of a history: invocation and, unless the client vanished, completion.

    Times are nanoseconds on the machine's monotonic clock. ``process`` follows Jepsen: after an ``info`` the client goes
    on under a new process, so a process never has two open operations; ``client`` stays. ``attempts`` counts the
    tries that the target itself made.
    """

    process: int
    client: int
    f: str
    token: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    invoked: int
    completed: int | None = None
    outcome: Outcome = Outcome.INFO
    result: Mapping[str, Any] | None = None
    failure: Failure | None = None
    attempts: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something done on purpose while an operation runs.

    ``kind`` is what is done: ``refuse``, the business says no; ``vanish``, the client's connection is cut and the client
    gives up; ``kill``, its process is killed; ``lose_reply``, the operation completes and its client never hears of it.
    ``point`` is the named point in the target at which it is done (a lost reply needs none).
    """

    kind: str
    point: str = "replied"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What a scenario asks a client to do next: the operation before it has an outcome.

    ``think`` is a pause in seconds before the call. ``goes_on`` marks the calls of a job without whose end the books are not
    in order, such as a migration: they are made even where a client has used up its share of operations.
    """

    f: str
    token: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fault: Fault | None = None
    think: float = 0.0
    goes_on: bool = False
