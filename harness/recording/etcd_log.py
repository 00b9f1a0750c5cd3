"""Jepsen's log of a compare-and-set register, as porcupine's etcd corpus has it: one line an event.

::

    INFO  jepsen.util - 4	:invoke	:cas	[1 4]
    INFO  jepsen.util - 4	:fail	:cas	[1 4]
    INFO  jepsen.util - 2	:info	:write	:timed-out

The lines are in the order of their times, which are not recorded: a line's number stands for it. A failed cas was answered: it
found another value. A failed read has told nothing. An operation that ends with info, or not at all, may have happened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.model import DamagedHistory, Failure, History, Operation, Outcome

LINE = re.compile(
    r"INFO\s+jepsen\.util\s+-\s+(?P<process>\d+)\s+:(?P<type>invoke|ok|fail|info)\s+:(?P<f>read|write|cas)\s+"
    r"(?P<value>nil|\d+|\[\d+ \d+\]|:timed-out)\s*"
)


def read_etcd_log(text: str, path: Path) -> list[Operation]:
    """Return the operations of a log. Lines that are not jepsen.util's are left out.

    Raises:
        DamagedHistory: a line is none of these, or a process completes what it never invoked, or invokes twice.
    """
    open_ones: dict[int, tuple[str, Any, int]] = {}
    operations: list[Operation] = []
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if number == len(lines) and operations and text[-1] != "\n" and LINE.fullmatch(line) is None:
            raise _damaged(path, number, f"not an event, and the last line is not whole: {line[:60]!r}")
        if not line.strip() or "jepsen.util - " not in line:
            continue
        found = LINE.fullmatch(line)
        if found is None:
            raise _damaged(path, number, f"not an event: {line[:60]!r}")
        process, kind, f = int(found["process"]), found["type"], found["f"]
        value = _value(found["value"])
        if kind == "invoke":
            if process in open_ones:
                raise _damaged(path, number, f"process {process} invokes while it has an open operation")
            open_ones[process] = (f, value, number)
            continue
        if process not in open_ones or open_ones[process][0] != f:
            raise _damaged(path, number, f"process {process} completes a {f} that it never invoked")
        operations.append(_operation(process, *open_ones.pop(process), kind=kind, value=value, completed=number))
    operations += [_operation(process, *asked, kind="info", value=None, completed=None) for process, asked in open_ones.items()]
    if not operations:
        raise DamagedHistory(f"{path} holds no event of jepsen.util")
    return sorted(operations, key=lambda o: o.invoked)


def _operation(process: int, f: str, asked: Any, invoked: int, *, kind: str, value: Any, completed: int | None) -> Operation:
    answered_no = kind == "fail" and f == "cas"
    outcome = Outcome.OK if answered_no else Outcome(kind)
    return Operation(
        process=process,
        client=process,
        f=f,
        token=f"{process}-{invoked}",
        arguments={"value": asked},
        invoked=invoked,
        completed=completed,
        outcome=outcome,
        result={"value": False if answered_no else value} if outcome is Outcome.OK else None,
        failure=None if outcome is Outcome.OK else Failure(code="timed-out", message=""),
    )


def _value(text: str) -> Any:
    if text in ("nil", ":timed-out"):
        return None
    return [int(v) for v in text[1:-1].split()] if text[0] == "[" else int(text)


def write_etcd_log(history: History | Iterable[Operation]) -> Iterator[str]:
    """Yield the lines of a register's history.

    Raises:
        ValueError: an operation is not a read, write or cas of whole numbers.
    """
    events = []
    for operation in history:
        if operation.f not in ("read", "write", "cas"):
            raise ValueError(f"the log of a register has no {operation.f!r}; export as jepsen-edn or jepsen-json")
        events.append((operation.invoked, 0, operation))
        if operation.completed is not None:
            events.append((operation.completed, 1, operation))
    for _, completes, operation in sorted(events, key=lambda e: e[:2]):
        asked, answered = operation.arguments.get("value"), (operation.result or {}).get("value")
        kind, value = "invoke", asked
        if completes:
            refused = operation.outcome is Outcome.OK and operation.f == "cas" and answered is False
            kind = "fail" if refused else operation.outcome.value
            value = answered if operation.f == "read" else asked
        timed_out = completes and (kind == "info" or (kind == "fail" and operation.f != "cas"))
        said = ":timed-out" if timed_out else _written(value)
        yield f"INFO  jepsen.util - {operation.process}\t:{kind}\t:{operation.f}\t{said}\n"


def _written(value: Any) -> str:
    if value is None:
        return "nil"
    if isinstance(value, list | tuple):
        return "[" + " ".join(_written(v) for v in value) + "]"
    if not isinstance(value, int):
        raise ValueError(f"the log of a register holds whole numbers, not {value!r}")
    return str(value)


def _damaged(path: Path, line: int, what: str) -> DamagedHistory:
    return DamagedHistory(f"{path}:{line} is damaged: {what}. Restore the file; nothing can be said about a part of it")
