"""The history file format, version 1: one JSON object a line, Jepsen's field names first, ours after them.

A file belongs to one operating-system process. Its first line is a header, its last an ending that counts the events;
a file without the ending belongs to a process that was killed. Between them every line is one event::

    {"process":3,"type":"invoke","f":"create","time":81,"client":3,"token":"c3.0-0","error":null,"value":{"amount":5}}
    {"process":3,"type":"ok","f":"create","time":94,"client":3,"token":"c3.0-0","attempts":1,"error":null,"value":{}}

``type`` is invoke, ok, fail or info; ``time`` is in nanoseconds on the machine-wide monotonic clock; ``value`` holds the
arguments on an invocation and the answer on a completion. A process has at most one open operation, so a completion
belongs to the last invocation of its process. ``value`` is written last so that a reader can lift it out unparsed.

The ending also holds the CRC-32 of every byte before it, so that no damage passes for what was recorded, and the header the
machine's boot id where it has one: the times of two machines, or of two boots, cannot be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from harness.model.operation import Failure

SCHEMA = "racegate.history/1"

COMPLETIONS = ("ok", "fail", "info")


def header(*, worker: int, pid: int, opened: int, boot: str | None = None) -> bytes:
    """Return the first line of a file: format, worker number, process id, the monotonic time in ns and whose clock that is."""
    clock = {"clock": "monotonic", "opened": opened} | ({"boot": boot} if boot is not None else {})
    return orjson.dumps({"schema": SCHEMA, "worker": worker, "pid": pid, **clock}) + b"\n"


def invocation(*, process: int, client: int, f: str, token: str, arguments: Mapping[str, Any], time: int) -> bytes:
    """Return the line that says an operation is about to be called."""
    return (
        orjson.dumps(
            {
                "process": process,
                "type": "invoke",
                "f": f,
                "time": time,
                "client": client,
                "token": token,
                "error": None,
                "value": arguments,
            }
        )
        + b"\n"
    )


def completion(
    *,
    process: int,
    client: int,
    f: str,
    token: str,
    outcome: str,
    time: int,
    attempts: int,
    result: Mapping[str, Any] | None,
    failure: Failure | None,
) -> bytes:
    """Return the line that says what became of an operation. A result that JSON cannot hold becomes its text."""
    error = failure and {
        "code": failure.code,
        "message": failure.message,
        "retryable": failure.retryable,
        "refusal": failure.refusal,
        "constraint": failure.constraint,
    }
    return (
        orjson.dumps(
            {
                "process": process,
                "type": outcome,
                "f": f,
                "time": time,
                "client": client,
                "token": token,
                "attempts": attempts,
                "error": error,
                "value": result,
            },
            default=str,
        )
        + b"\n"
    )


def ending(*, events: int, crc: int | None = None) -> bytes:
    """Return the last line of a file that was closed in good order. ``crc`` is the CRC-32 of all lines before it."""
    return orjson.dumps({"type": "end", "events": events} | ({"crc": crc} if crc is not None else {})) + b"\n"
