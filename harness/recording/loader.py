"""Reads the history files of all processes into one `History`.

A file is read in blocks and decoded into columns; an operation is an invocation joined with the completion that follows
it in its process. Three kinds of incompleteness are told apart:

* a last line without its newline is torn: the process was killed while writing it. It is dropped, and an operation that
  it would have completed stays open;
* a file without its ending belongs to a process that was killed between two lines. Nothing is lost;
* anything else that no recorder writes (a line that is not an event, a completion without an invocation, an ending
  that counts other than what is there, or whose checksum is another) is damage, reported with file and line, and never skipped.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from harness.model.errors import DamagedHistory, EnvironmentProblem
from harness.model.history import COLUMNS, History
from harness.recording.format import COMPLETIONS, SCHEMA, ending

BLOCK = 4 * 1024 * 1024
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
    """What one history file says of itself. ``boot`` names the clock of its times, where it is known."""

    path: Path
    worker: int
    opened: int
    ended: bool
    torn: bool
    events: int
    boot: str | None = None


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
    del parts  # in_order gives back what it has put in order
    one_clock(facts)
    return History(in_order(frames), open_at=min(f.opened for f in facts)), facts


def in_order(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Return all operations in the order of their invocation, one column after the other: memory for one more, not for all.

    A column without any value is kept as one null. The list is emptied.
    """
    if not frames:
        return pl.DataFrame(schema=dict(COLUMNS))
    invoked = pl.concat([frame["invoked"] for frame in frames])
    order = None if invoked.is_sorted() else invoked.arg_sort()
    ordered = [invoked if order is None else invoked.gather(order)]
    empty: list[str] = []
    for name in COLUMNS:
        if name != "invoked":
            if all(_is_empty(frame, name) for frame in frames):
                empty.append(name)
            else:
                column = pl.concat([frame[name] for frame in frames])
                ordered.append(column.rechunk() if order is None else column.gather(order))
                del column
        frames[:] = [frame.drop(name) for frame in frames]
    frames.clear()
    return pl.DataFrame(ordered).with_columns(_nulls(empty)).select(list(COLUMNS))


def _is_empty(frame: pl.DataFrame, name: str) -> bool:
    return int(frame.select(pl.col(name).null_count()).item()) == frame.height


def _nulls(names: Sequence[str]) -> list[pl.Expr]:
    """Return columns without a value: one null, however many rows."""
    return [pl.lit(None, COLUMNS[name]).alias(name) for name in names]


def one_clock(facts: Sequence[FileFacts]) -> None:
    """Make sure that the times of all files can be compared. Raises DamagedHistory if they are of several clocks."""
    clocks = {f.boot: f for f in facts if f.boot is not None}
    if len(clocks) > 1:
        one, other = list(clocks.values())[:2]
        raise DamagedHistory(
            f"{one.path} and {other.path} were recorded on two machines, or before and after a restart: their clocks cannot be "
            "compared. Check the files of one machine by themselves"
        )


def _load_file(path: Path) -> tuple[list[pl.DataFrame], FileFacts]:
    parts: list[pl.DataFrame] = []
    open_operations = pl.DataFrame(schema=_PAIRED)
    line, head, end, torn, events, crc = 1, None, None, False, 0, 0
    for block, whole in _blocks(path):
        if not whole:
            torn = True
            continue
        lines = _lines(path, block, line)
        if head is None:
            head = _header_of(path, lines[0])
            lines, line = lines.slice(1), line + 1
        if end is not None and lines.len():
            raise _damaged(path, line, "an event after the ending")
        if lines.len() and str(lines[-1]).startswith('{"type":"end"'):
            end = _ending_of(path, lines[-1], line + lines.len() - 1)
            lines = lines.head(lines.len() - 1)
            before = block[: block[:-1].rfind(b"\n") + 1]
        crc = zlib.crc32(block if end is None else before, crc)
        frame = _decode(path, lines, line)
        line, events = line + lines.len(), events + lines.len()
        done, open_operations = _pair(path, frame, open_operations)
        parts.append(done)
    if head is None:
        raise _damaged(path, 1, f"no header; a history file begins with its schema, {SCHEMA}")
    if end is not None and end["events"] != events:
        raise _damaged(path, line, f"the ending counts {end['events']} events and {events} are there")
    if end is not None and end.get("crc", crc) != crc:
        raise _damaged(path, line, "its checksum is not that of what is there: something was changed since it was recorded")
    if torn and end is not None:
        raise _damaged(path, line + 1, "something follows the ending")
    parts.append(_operations(open_operations))
    return parts, FileFacts(
        path=path,
        worker=head["worker"],
        opened=head["opened"],
        ended=end is not None,
        torn=torn,
        events=events,
        boot=head.get("boot"),
    )


def _lines(path: Path, block: bytes, first: int) -> pl.Series:
    try:
        # An empty line would be left out of the columns, and a separator of theirs would cut a line: no JSON has either.
        if first == 1 and not block.startswith(b"{"):
            raise _damaged(path, 1, f"no header; a history file begins with its schema, {SCHEMA}")
        if b"\x01" in block or b"\n\n" in block or block[:1] == b"\n" or b"\r" in block:
            raise _damaged(path, first + block.count(b"\n", 0, _odd(block)), "an empty line, or one with control characters")
        return pl.read_csv(
            io.BytesIO(block),
            separator="\x01",
            quote_char=None,
            has_header=False,
            new_columns=["line"],
            schema={"line": pl.String()},
        )["line"]
    except pl.exceptions.PolarsError as e:
        raise _damaged(path, first, f"not readable as lines of text ({str(e).splitlines()[0]})") from e


def _odd(block: bytes) -> int:
    """Return where a block first holds what no line of ours has."""
    found = [at for at in (block.find(b"\x01"), block.find(b"\r"), block.find(b"\n\n") + 1 or -1) if at >= 0]
    return 0 if block[:1] == b"\n" else min(found)


def _ending_of(path: Path, text: str, line: int) -> dict[str, Any]:
    """Return the ending, which is exactly as a recorder writes it."""
    try:
        end: dict[str, Any] = orjson.loads(text)
        as_written = ending(events=end["events"], crc=end.get("crc"))
    except (ValueError, KeyError, TypeError):
        as_written = b""
    if as_written != text.encode() + b"\n":
        raise _damaged(path, line, f"not an ending: {text[:60]!r}")
    return end


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
    if not all(type(head.get(key)) is int and abs(head[key]) < 1 << 63 for key in ("worker", "opened")):
        raise _damaged(path, 1, "the header lacks its worker or the time at which it was opened")
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
    found = (
        joined.select(
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
        )
        .cast(pl.Schema(COLUMNS))
        .with_columns(_own(c) for c, kind in COLUMNS.items() if kind == pl.String())
    )
    return found.with_columns(_nulls([name for name in COLUMNS if _is_empty(found, name)]))


def _own(column: str) -> pl.Expr:
    """Return a column of text in memory of its own: as a part of each line it would keep the whole of every line alive."""
    return pl.concat_str(column, pl.lit("")).alias(column)


def _damaged(path: Path, line: int, what: str) -> DamagedHistory:
    return DamagedHistory(f"{path}:{line} is damaged: {what}. Restore the file, or leave it out and accept an unknown verdict")
