"""Whatever history somebody has: recognised by its content, read into one form, and written in the forms of others.

Read: a run folder, one of our history files, Parquet with the columns of a history, Jepsen's EDN and JSON, and the log format
of the etcd corpus; each but a folder and Parquet also compressed (``.gz``). Written: all of them but the run folder.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import polars as pl

from harness.model import COLUMNS, DamagedHistory, EnvironmentProblem, History, Operation, UsageError
from harness.recording import format as ours
from harness.recording.etcd_log import read_etcd_log, write_etcd_log
from harness.recording.jepsen import read_edn, read_json, write_edn, write_json
from harness.recording.loader import FileFacts, load, one_clock


class HistoryFormat(StrEnum):
    """Forms that a history can have."""

    RACEGATE = "racegate"
    PARQUET = "parquet"
    JEPSEN_EDN = "jepsen-edn"
    JEPSEN_JSON = "jepsen-json"
    ETCD_LOG = "etcd-log"
    PORCUPINE_KV = "porcupine-kv"


@dataclass(frozen=True, kw_only=True)
class ReadHistory:
    """A history with the form in which it was found. ``timed`` is false where lines stand for times."""

    history: History
    format: HistoryFormat
    timed: bool = True


def read_history(path: Path, *, open_ends: bool = False) -> ReadHistory:
    """Read a history in any form.

    What shows that a part may be missing (an operation that never completes, a file of ours without its ending) makes the
    history incomplete, so that nothing about it can pass; ``open_ends`` says that this is as it should be: the clients died.

    Raises:
        DamagedHistory: the file is empty, or not a history, or damaged; the message names file and line.
        EnvironmentProblem: it cannot be read.
        UsageError: the folder is not a run folder.
    """
    if path.is_dir():
        files = sorted((path / "history").glob("*.jsonl"))
        if not files:
            raise UsageError(f"{path} is not a run folder: it has no history/*.jsonl; name a run folder or a history file")
        return ReadHistory(history=_ours(files, open_ends), format=HistoryFormat.RACEGATE)
    content = _content(path)
    kind = _recognise(content, path)
    if kind is HistoryFormat.PARQUET:
        return ReadHistory(history=_parquet(path), format=kind)
    if kind is HistoryFormat.RACEGATE:
        if path.suffix == ".gz":
            raise UsageError(f"{path}: decompress our own history files first: gunzip {path}")
        return ReadHistory(history=_ours([path], open_ends), format=kind)
    operations = _READERS[kind](content, path)
    timed = b":time" in content if kind is HistoryFormat.JEPSEN_EDN else b'"time"' in content
    try:
        return ReadHistory(history=_foreign(operations, open_ends), format=kind, timed=timed)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as e:
        raise DamagedHistory(f"{path} is damaged: it holds a value that no operation has ({str(e).splitlines()[0]})") from e


def write_history(history: History, path: Path, kind: HistoryFormat) -> None:
    """Write a history in another form.

    Raises:
        UsageError: the form cannot hold it.
        EnvironmentProblem: the file cannot be written.
    """
    try:
        if kind is HistoryFormat.PARQUET:
            history.operations.write_parquet(path)
            return
        with path.open("wb") as file:
            for line in _WRITERS[kind](history):
                file.write(line if isinstance(line, bytes) else line.encode())
    except (ValueError, TypeError) as e:
        raise UsageError(f"{kind} cannot hold this history: {e}") from e
    except OSError as e:
        raise EnvironmentProblem(f"cannot write {path}: {e.strerror}") from e


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except gzip.BadGzipFile as e:
        raise DamagedHistory(f"{path} is not compressed as its name says: {e}") from e
    except (EOFError, zlib.error) as e:
        raise DamagedHistory(f"{path} is damaged: the compressed data ends early or is broken ({e})") from e
    except OSError as e:
        raise EnvironmentProblem(f"cannot read the history {path}: {e.strerror}") from e
    if not content.strip():
        raise DamagedHistory(f"{path} is empty; there is nothing to check")
    return content


def _recognise(content: bytes, path: Path) -> HistoryFormat:
    head = content[:4096].lstrip()
    if head[:4] == b"PAR1":
        return HistoryFormat.PARQUET
    if ours.SCHEMA.split("/", 1)[0].encode() in head.split(b"\n", 1)[0]:
        return HistoryFormat.RACEGATE
    if head.startswith((b'{"', b'[{"', b"[ {", b"[\n")) and b":process" not in head:
        return HistoryFormat.JEPSEN_JSON
    if head.startswith((b"{", b"[", b"#jepsen", b";")):
        return HistoryFormat.JEPSEN_EDN
    if b"jepsen.util - " in head:
        return HistoryFormat.ETCD_LOG
    raise DamagedHistory(
        f"{path} is not a history that racegate knows: expected a run folder, {ours.SCHEMA}, Parquet, Jepsen's EDN or JSON, "
        f"or a log of jepsen.util, and it begins with {head[:40]!r}"
    )


_READERS: Mapping[HistoryFormat, Callable[[bytes, Path], list[Operation]]] = {
    HistoryFormat.JEPSEN_EDN: lambda content, path: read_edn(_text(content, path), path),
    HistoryFormat.JEPSEN_JSON: read_json,
    HistoryFormat.ETCD_LOG: lambda content, path: read_etcd_log(_text(content, path), path),
}


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        raise DamagedHistory(f"{path}:{line} is damaged: not text in UTF-8") from e


def _foreign(operations: list[Operation], open_ends: bool) -> History:
    left = [o for o in operations if o.completed is None]
    if left and not open_ends:
        what = f"{len(left)} operations never complete" if len(left) > 1 else "one operation never completes"
        return History.of(
            operations, complete=False, trouble=f"{what}, so the end may be missing; if clients died there, say --open-ends"
        )
    return History.of(operations)


def _parquet(path: Path) -> History:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as e:
        raise DamagedHistory(f"{path} is damaged: {(str(e).splitlines() or ['not Parquet'])[0]}") from e
    if missing := [c for c in ("process", "f", "invoked", "completed", "outcome") if c not in frame.columns]:
        raise DamagedHistory(f"{path} is not a history: it has no column {missing[0]!r}")
    full = frame.select(*(pl.col(c) if c in frame.columns else pl.lit(None).alias(c) for c in COLUMNS))
    try:
        history = History(full.cast(dict(COLUMNS)), open_at=int(frame["invoked"].min() or 0))  # type: ignore[arg-type]
    except pl.exceptions.PolarsError as e:
        raise DamagedHistory(f"{path} is not a history: {str(e).splitlines()[0]}") from e
    return _in_time(history, path)


def _ours(paths: list[Path], open_ends: bool) -> History:
    parts: list[History] = []
    facts: list[FileFacts] = []
    for path in paths:
        part, (fact,) = load([path])
        parts.append(_in_time(part, path, since=fact.opened))
        facts.append(fact)
    one_clock(facts)
    whole = History(
        pl.concat([p.operations for p in parts]).sort("invoked", maintain_order=True), open_at=min(f.opened for f in facts)
    )
    cut = [f for f in facts if f.torn or not f.ended]
    if not cut or open_ends:
        return whole
    names = ", ".join(f.path.name for f in cut[:3]) + (f" and {len(cut) - 3} more" if len(cut) > 3 else "")
    return History(
        whole.operations,
        complete=False,
        trouble=f"no ending in {names}, so a part may be missing; if its process was killed, say --open-ends",
        open_at=whole.open_at,
    )


def _in_time(history: History, path: Path, *, since: int | None = None) -> History:
    """Make sure that no operation ends before it begins or, where that is known, begins before its file was opened."""
    wrong = history.operations.filter(pl.col("completed") < pl.col("invoked"))
    if wrong.height:
        raise DamagedHistory(
            f"{path} is damaged: {wrong.height} operations end before they begin, the first a {wrong['f'][0]} of process "
            f"{wrong['process'][0]}; its clock was set back, or its lines are out of order"
        )
    early = history.operations.filter(pl.col("invoked") < since) if since is not None else wrong
    if early.height:
        raise DamagedHistory(
            f"{path} is damaged: {early.height} operations begin before the file was opened; its clock was set back"
        )
    own = history.operations.filter(pl.col("process").is_not_null()).sort("process", "invoked")
    before = pl.col("completed").shift(1).over("process")
    crossed = own.filter(before > pl.col("invoked"))
    if crossed.height:
        raise DamagedHistory(
            f"{path} is damaged: process {crossed['process'][0]} begins an operation before its last one ended; "
            "its lines are out of order"
        )
    return history


def _write_ours(history: History) -> Iterable[bytes]:
    """Yield one file of ours that holds the whole history."""
    events = []
    for operation in history:
        events.append((operation.invoked, 0, operation))
        if operation.completed is not None:
            events.append((operation.completed, 1, operation))
    head = ours.header(worker=0, pid=0, opened=history.open_at)
    crc = zlib.crc32(head)
    yield head
    for time, completes, o in sorted(events, key=lambda e: e[:2]):
        common: dict[str, Any] = {"process": o.process, "client": o.client, "f": o.f, "token": o.token, "time": time}
        if completes:
            how = o.outcome.value
            line = ours.completion(**common, outcome=how, attempts=o.attempts, result=o.result, failure=o.failure)
        else:
            line = ours.invocation(**common, arguments=o.arguments)
        crc = zlib.crc32(line, crc)
        yield line
    yield ours.ending(events=len(events), crc=crc)


_WRITERS: Mapping[HistoryFormat, Callable[[History], Iterable[str | bytes]]] = {
    HistoryFormat.RACEGATE: _write_ours,
    HistoryFormat.JEPSEN_EDN: write_edn,
    HistoryFormat.JEPSEN_JSON: write_json,
    HistoryFormat.ETCD_LOG: write_etcd_log,
    HistoryFormat.PORCUPINE_KV: lambda history: write_edn(history, timed=False),
}
