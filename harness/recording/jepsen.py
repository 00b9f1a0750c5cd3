"""Histories in Jepsen's form: one map an event, as EDN or JSON, one after another or in one vector.

An event has ``process, type, f, value`` and usually ``time`` (ns) and ``error``; ``type`` is invoke, ok, fail or info. An
operation is an invocation and the completion that follows it in its process. One that never completes, or completes with
info, may have happened or not. A definite failure did not happen. Processes that are not numbers (``:nemesis``) are no
clients and are left out. A value ``#jepsen.independent/tuple [k v]``, and a field ``key`` as in porcupine's key-value files,
name the object.

Ours: an invocation's value is the arguments' ``value``, a completion's the answer's; anything else of arguments or answer
makes the value a map. Reference: Jepsen's ``jepsen.history``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from harness.model import DamagedHistory, Failure, History, Operation, Outcome
from harness.recording import edn
from harness.recording.edn import Keyword

TYPES = ("invoke", "ok", "fail", "info")

FAILED: Final = "failed"
"""The code of a failure that gives no reason."""


class Tuple(list[Any]):
    """Jepsen's pair of a key and a value of that key's object."""


TAGS = {"jepsen.independent/tuple": Tuple, "jepsen.independent.Tuple": Tuple, "inst": str, "uuid": str}


def read_edn(text: str, path: Path) -> list[Operation]:
    """Return the operations of an EDN history. Raises DamagedHistory with file and line where it is not one."""
    try:
        values = list(edn.read_all(text, TAGS))
    except edn.EdnError as e:
        raise _damaged(path, text.count("\n", 0, e.position) + 1, f"{e}") from e
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    return operations_of(values, path)


def read_json(text: bytes, path: Path) -> list[Operation]:
    """Return the operations of a JSON history, an array or one object a line. Raises DamagedHistory where it is not one."""
    if text.lstrip()[:1] == b"[":
        try:
            return operations_of(orjson.loads(text), path)
        except orjson.JSONDecodeError as e:
            raise _damaged(path, e.lineno, f"not JSON: {e.msg}") from e
    events = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                events.append(orjson.loads(line))
            except orjson.JSONDecodeError as e:
                raise _damaged(path, number, f"not JSON: {e.msg}") from e
    return operations_of(events, path)


def operations_of(events: Iterable[Any], path: Path) -> list[Operation]:
    """Pair invocations with completions. Raises DamagedHistory with the event's place where that cannot be done."""
    open_ones: dict[int, tuple[Mapping[str, Any], int]] = {}
    operations: list[Operation] = []
    count = 0
    before: int | None = None
    for place, event in enumerate(events, 1):
        count = place
        if not isinstance(event, Mapping) or event.get("type") not in TYPES or "f" not in event or "process" not in event:
            raise _damaged(path, place, "not an event with process, type and f")
        process = event["process"]
        if not isinstance(process, int) or isinstance(process, bool):
            continue
        time = event.get("time")
        if time is None:
            time = place
        if not isinstance(time, int) or (before is not None and time < before):
            raise _damaged(path, place, f"its time {time!r} is not a number of ns that follows {before}")
        before = time
        if event["type"] == "invoke":
            if process in open_ones:
                raise _damaged(path, place, f"process {process} invokes while it has an open operation")
            open_ones[process] = (event, time)
        else:
            if process not in open_ones:
                raise _damaged(path, place, f"process {process} completes what it never invoked")
            operations.append(_operation(*open_ones.pop(process), event, time))
    if not count:
        raise DamagedHistory(f"{path} holds no event; expected maps with process, type, f and value")
    operations += [_operation(event, time, None, None) for event, time in open_ones.values()]
    return sorted(operations, key=lambda o: o.invoked)


def _operation(asked: Mapping[str, Any], invoked: int, done: Mapping[str, Any] | None, completed: int | None) -> Operation:
    outcome = Outcome(str(done["type"])) if done is not None else Outcome.INFO
    key, value = _keyed(asked)
    arguments: dict[str, Any] = {"value": _plain(value)}
    if key is not None:
        arguments["key"] = _plain(key)
    result = None
    failure = None
    if done is not None and outcome is Outcome.OK:
        result = {"value": _plain(_keyed(done)[1])}
    elif done is not None:
        error = done.get("error") or (FAILED if outcome is Outcome.FAIL else None)
        failure = Failure(code=str(_plain(error)), message="") if error else None
    process = int(asked["process"])
    return Operation(
        process=process,
        client=process,
        f=str(asked["f"]),
        token=f"{process}-{invoked}",
        arguments=arguments,
        invoked=invoked,
        completed=completed,
        outcome=outcome,
        result=result,
        failure=failure,
    )


def _keyed(event: Mapping[str, Any]) -> tuple[Any, Any]:
    value = event.get("value")
    if isinstance(value, Tuple) and len(value) == 2:
        return value[0], value[1]
    return event.get("key"), value


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | frozenset):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Keyword) else value


def events_of(history: History | Iterable[Operation]) -> Iterator[dict[str, Any]]:
    """Yield the events of a history in the order of their times, as Jepsen's maps. An invocation comes before a return."""
    events = []
    for operation in history:
        events.append((operation.invoked, 0, operation))
        if operation.completed is not None:
            events.append((operation.completed, 1, operation))
    for time, completes, operation in sorted(events, key=lambda e: e[:2]):
        event: dict[str, Any] = {"process": operation.process, "type": operation.outcome.value if completes else "invoke"}
        event["f"] = operation.f
        if (key := operation.arguments.get("key")) is not None:
            event["key"] = key
        answered = completes and operation.outcome is Outcome.OK
        event["value"] = _value((operation.result or {}) if answered else operation.arguments)
        event["time"] = time
        if completes and operation.failure is not None:
            event["error"] = operation.failure.code
        yield event


def _value(parts: Mapping[str, Any]) -> Any:
    rest = {k: v for k, v in parts.items() if k != "key"}
    return rest["value"] if set(rest) <= {"value"} and rest else rest or None


def write_edn(history: History | Iterable[Operation], *, timed: bool = True) -> Iterator[str]:
    """Yield a line of EDN for each event. Without times, key-value histories are as porcupine reads them."""
    for event in events_of(history):
        said = {**event, "type": Keyword(event["type"]), "f": Keyword(event["f"])}
        if not timed:
            del said["time"]
        yield edn.write(said) + "\n"


def write_json(history: History | Iterable[Operation]) -> Iterator[bytes]:
    """Yield a line of JSON for each event."""
    for event in events_of(history):
        yield orjson.dumps(event) + b"\n"


def _damaged(path: Path, place: int, what: str) -> DamagedHistory:
    return DamagedHistory(f"{path}:{place} is damaged: {what}. Restore the file; nothing can be said about a part of it")
