"""Reads the history files of all processes into one `History`.

A file is read in blocks and decoded into columns; an operation is an invocation joined with the completion that follows
it in its process. Three kinds of incompleteness are told apart:

* a last line without its newline is torn: the process was killed while writing it. It is dropped, and an operation that
  it would have completed stays open;
* a file without its ending belongs to a process that was killed between two lines. Nothing is lost;
* anything else that no recorder writes (a line that is not an event, a completion without an invocation, an ending
  that counts other than what is there) is damage, reported with file and line, and never skipped.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from harness.model.errors import DamagedHistory, EnvironmentProblem
from harness.model.history import COLUMNS, History
from harness.recording.format import COMPLETIONS, SCHEMA

BLOCK = 32 * 1024 * 1024
"""Bytes decoded at a time: bounds the memory of a large file."""

_ERROR = pl.Struct(
    {
        "code": pl.String(),
        "message": pl.String(),
        "retryable": pl.Boolean(),
        "refusal": pl.Boolean(),
        "constraint": pl.String(),
    }
)
# Numbers are decoded as text first: as integers, an answer of 7.5 would silently become 7.
_VALUE = pl.Struct({name: pl.String() for name in ("scope", "period", "number", "text", "subject", "amount")})
_EVENT = pl.Struct(
    {
        "process": pl.Int64(),
        "type": pl.String(),
        "f": pl.String(),
        "time": pl.Int64(),
        "client": pl.Int64(),
        "token": pl.String(),
        "attempts": pl.Int64(),
        "error": _ERROR,
        "value": _VALUE,
    }
)


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What one history file says of itself."""

    path: Path
    worker: int
    opened: int
    ended: bool
    torn: bool
    events: int


def load(paths: Sequence[Path]) -> tuple[History, list[FileFacts]]:
    """Merge the processes' files into one history, ordered by invocation.

    Raises:
        DamagedHistory: a file holds something that no recorder writes.
        EnvironmentProblem: a file cannot be read, or there is none.
    """
    if not paths:
        raise EnvironmentProblem("there is no history file to read; a run folder keeps them in history/")
    frames: list[pl.DataFrame] = []
    facts: list[FileFacts] = []
    for path in paths:
        parts, fact = _load_file(path)
        frames.extend(parts)
        facts.append(fact)
    merged = pl.concat(frames) if frames else pl.DataFrame(schema=dict(COLUMNS))
    del frames
    return History(merged.sort("invoked"), open_at=min(f.opened for f in facts)), facts


def _load_file(path: Path) -> tuple[list[pl.DataFrame], FileFacts]:
    parts: list[pl.DataFrame] = []
    open_operations = pl.DataFrame(schema=_PAIRED)
    line, head, ended, torn, events = 1, None, None, False, 0
    for block, whole in _blocks(path):
        if not whole:
            torn = True
            continue
        lines = pl.read_csv(io.BytesIO(block), separator="\x01", quote_char=None, has_header=False, new_columns=["line"])["line"]
        if head is None:
            head = _header_of(path, lines[0])
            lines, line = lines.slice(1), line + 1
        if ended is not None and lines.len():
            raise _damaged(path, line, "an event after the ending")
        if lines.len() and lines[-1].startswith('{"type":"end"'):
            ended = orjson.loads(lines[-1])["events"]
            lines = lines.head(lines.len() - 1)
        frame = _decode(path, lines, line)
        line, events = line + lines.len(), events + lines.len()
        done, open_operations = _pair(path, frame, open_operations)
        parts.append(done)
    if head is None:
        raise _damaged(path, 1, f"no header; a history file begins with its schema, {SCHEMA}")
    if ended is not None and ended != events:
        raise _damaged(path, line, f"the ending counts {ended} events and {events} are there")
    parts.append(_operations(open_operations))
    fact = FileFacts(path=path, worker=head["worker"], opened=head["opened"], ended=ended is not None, torn=torn, events=events)
    return parts, fact


def _blocks(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Yield blocks of whole lines, and at the end what is left of a torn one (with False)."""
    rest = b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(BLOCK):
                chunk = rest + chunk
                cut = chunk.rfind(b"\n") + 1
                rest = chunk[cut:]
                if cut:
                    yield chunk[:cut], True
    except OSError as e:
        raise EnvironmentProblem(f"cannot read the history {path}: {e.strerror}") from e
    if rest:
        yield rest, False


def _header_of(path: Path, line: str | None) -> dict[str, Any]:
    try:
        head = orjson.loads(line or "")
    except orjson.JSONDecodeError:
        head = None
    if not isinstance(head, dict) or head.get("schema") != SCHEMA:
        seen = head.get("schema") if isinstance(head, dict) else line
        raise _damaged(path, 1, f"expected a header with schema {SCHEMA}, saw {str(seen)[:60]!r}")
    return head


def _decode(path: Path, lines: pl.Series, first: int) -> pl.DataFrame:
    """Return the events of the lines as columns, ``raw`` being the value as JSON text."""
    frame = pl.DataFrame({"line": lines}, schema={"line": pl.String()})
    try:
        decoded = frame.with_columns(
            event=pl.col("line").str.json_decode(_EVENT),
            raw=pl.col("line").str.split_exact(',"value":', 1).struct.field("field_1").str.head(-1),
            at=pl.int_range(first, first + pl.len()),
        ).drop("line")
    except pl.exceptions.PolarsError as e:
        raise _first_damage(path, lines, first) from e
    events = decoded.unnest("event")
    wrong = events.filter(
        pl.any_horizontal(pl.col("process", "type", "f", "time", "client", "token", "raw").is_null())
        | ~pl.col("type").is_in(["invoke", *COMPLETIONS])
    )
    if wrong.height:
        raise _damaged(path, wrong["at"][0], "not an event")
    return events


def _first_damage(path: Path, lines: pl.Series, first: int) -> DamagedHistory:
    """Find the line that could not be decoded: the slow way, on the way to an error."""
    for offset, text in enumerate(lines):
        one = pl.Series([text], dtype=pl.String())
        try:
            pl.DataFrame({"line": one}).select(pl.col("line").str.json_decode(_EVENT))
        except pl.exceptions.PolarsError:
            return _damaged(path, first + offset, f"not an event: {str(text)[:60]!r}")
    return _damaged(path, first, "not readable as events")


_PAIRED = {
    "at": pl.Int64(),
    "process": pl.Int64(),
    "type": pl.String(),
    "f": pl.String(),
    "time": pl.Int64(),
    "client": pl.Int64(),
    "token": pl.String(),
    "attempts": pl.Int64(),
    "error": _ERROR,
    "value": _VALUE,
    "raw": pl.String(),
}


def _pair(path: Path, events: pl.DataFrame, carried: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Join invocations with the completions that follow them; return finished operations and open invocations."""
    frame = pl.concat([carried, events.select(list(_PAIRED))]) if carried.height else events
    before = pl.col("type").shift(1).over("process")
    invoked = pl.col("type") == "invoke"
    wrong = frame.filter(pl.when(invoked).then(before.is_in(["invoke", "info"])).otherwise(before.fill_null("none") != "invoke"))
    if wrong.height:
        row = wrong.row(0, named=True)
        what = "invokes while it has an open operation" if row["type"] == "invoke" else "completes what it never invoked"
        raise _damaged(path, row["at"], f"process {row['process']} {what}")
    frame = frame.with_columns(turn=invoked.cum_sum().over("process"))
    calls = frame.filter(invoked)
    answers = frame.filter(~invoked).select(
        "process",
        "turn",
        completed="time",
        outcome="type",
        answer="value",
        answer_raw="raw",
        tries="attempts",
        why="error",
    )
    joined = calls.join(answers, on=["process", "turn"], how="left", maintain_order="left")
    done = joined.filter(pl.col("completed").is_not_null())
    left = joined.filter(pl.col("completed").is_null())
    return _operations(done), left.select(list(_PAIRED))


def _operations(joined: pl.DataFrame) -> pl.DataFrame:
    """Return joined invocations and completions with the columns of a history."""
    if "completed" not in joined.columns:
        joined = joined.with_columns(
            completed=pl.lit(None, pl.Int64()),
            outcome=pl.lit("info"),
            answer=pl.lit(None, _VALUE),
            answer_raw=pl.lit(None, pl.String()),
            tries=pl.lit(1, pl.Int64()),
            why=pl.lit(None, _ERROR),
        )

    def either(name: str) -> pl.Expr:
        return pl.coalesce(pl.col("answer").struct.field(name), pl.col("value").struct.field(name))

    def whole(text: pl.Expr) -> pl.Expr:
        return text.cast(pl.Int64(), strict=False)

    why = pl.col("why").struct
    return joined.select(
        process="process",
        client="client",
        f="f",
        token="token",
        invoked="time",
        completed="completed",
        outcome="outcome",
        attempts=pl.col("tries").fill_null(1),
        scope=either("scope"),
        period=either("period"),
        number=whole(pl.col("answer").struct.field("number")),
        text=pl.col("answer").struct.field("text"),
        subject=either("subject"),
        amount=whole(either("amount")),
        code=why.field("code"),
        message=why.field("message"),
        retryable=why.field("retryable"),
        refusal=why.field("refusal"),
        constraint=why.field("constraint"),
        arguments="raw",
        result=pl.when(pl.col("answer_raw") != "null").then(pl.col("answer_raw")),
    ).cast(pl.Schema(COLUMNS))


def _damaged(path: Path, line: int, what: str) -> DamagedHistory:
    return DamagedHistory(f"{path}:{line} is damaged: {what}. Restore the file, or leave it out and accept an unknown verdict")
