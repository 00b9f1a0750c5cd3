"""Whatever happens to a history on its way, a check ends with a verdict or one clear error, and never passes what is damaged."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli.main import main
from harness.model import EnvironmentProblem, Failure, History, Operation, Outcome, UsageError, Verdict
from harness.recording import format as ours
from harness.recording.formats import HistoryFormat, write_history
from harness.run.check_history import check_file

MS = 1_000_000


def operation(
    f: str, process: int, span: tuple[int, int | None], argument: object, answer: object, outcome: str = "ok"
) -> Operation:
    return Operation(
        process=process,
        client=process % 10,
        f=f,
        token=f"{process}-{span[0]}",
        arguments={"value": argument},
        invoked=span[0] * MS,
        completed=span[1] * MS,
        outcome=Outcome(outcome),
        result={"value": answer} if outcome == "ok" else None,
        failure=None if outcome == "ok" else Failure(code="timeout", message="no answer"),
    )


REGISTER = History.of(
    [
        operation("write", 0, (1, 9), 1, 1),
        operation("write", 1, (2, 12), 2, None, "info"),
        operation("read", 2, (10, 14), None, 1),
        operation("cas", 0, (15, 20), [1, 3], True),
        operation("read", 2, (17, 25), None, 3),
        operation("write", 11, (26, 31), 4, 4),
        operation("read", 0, (27, 29), None, 3),
    ],
    open_at=0,
)


def create(process: int, span: tuple[int, int], number: int | None) -> Operation:
    made = operation("create", process, span, None, None, "ok" if number else "info")
    result = {"scope": "acme/invoice", "period": "", "number": number, "text": f"INV-{number:05d} ü"} if number else None
    return replace(made, arguments={"scope": "acme/invoice"}, result=result, failure=None)


NUMBERS = History.of(
    [create(0, (1, 5), 1), create(1, (2, 8), None), create(2, (3, 9), 2), create(0, (10, 12), 4), create(2, (11, 15), 5)],
    open_at=0,
)

CASES = [
    (REGISTER, HistoryFormat.JEPSEN_EDN),
    (REGISTER, HistoryFormat.JEPSEN_JSON),
    (REGISTER, HistoryFormat.ETCD_LOG),
    (REGISTER, HistoryFormat.RACEGATE),
    (NUMBERS, HistoryFormat.RACEGATE),
    (NUMBERS, HistoryFormat.PARQUET),
]
NAMES = [f"{'numbers' if history is NUMBERS else 'register'} as {form}" for history, form in CASES]
FORMS = pytest.mark.parametrize("at", range(len(CASES)), ids=NAMES)


@cache
def written(at: int) -> bytes:
    history, form = CASES[at]
    with tempfile.TemporaryDirectory() as folder:
        write_history(history, Path(folder) / "history", form)
        return (Path(folder) / "history").read_bytes()


def verdict(content: bytes, name: str = "history", **options: bool) -> Verdict | None:
    """Return the verdict about a file with this content, None where it is refused in one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            return check_file(path, shrinking=0.2, **options).verdict
        except (UsageError, EnvironmentProblem) as e:
            said = str(e)
    assert said
    assert "\n" not in said
    return None


Damage = Callable[[bytes], bytes]


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Return the content with one thing done to it: cut, left out, repeated, overwritten, put in, or lines exchanged."""
    kind = draw(
        st.sampled_from(["cut", "leave out", "repeat", "overwrite", "put in", "exchange", "drop a line", "repeat a line"])
    )
    size = len(content)
    at = draw(st.integers(0, size - 1))
    end = min(size, at + draw(st.integers(1, 1 + size // 3)))
    if kind == "cut":
        return content[:at]
    if kind == "leave out":
        return content[:at] + content[end:]
    if kind == "repeat":
        return content[:end] + content[at:]
    other = draw(st.one_of(st.binary(min_size=1, max_size=6), st.sampled_from(LIKELY)))
    if kind == "overwrite":
        return content[:at] + other + content[at + len(other) :]
    if kind == "put in":
        return content[:at] + other + content[at:]
    lines = content.splitlines(keepends=True)
    one, two = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
    if kind == "exchange":
        lines[one], lines[two] = lines[two], lines[one]
    elif kind == "drop a line":
        del lines[one]
    else:
        lines.insert(two, lines[one])
    return b"".join(lines)


LIKELY = [
    b"\n",
    b"\n\n",
    b"\r\n",
    b"\x00",
    b"\x01",
    b"9",
    b"-",
    b"1e999",
    b'"',
    b"null",
    b"{",
    b"}",
    b"[",
    b":nil",
    b"99999999999999999999",
]


@FORMS
def test_as_it_was_written_it_passes(at: int) -> None:
    assert verdict(written(at)) is Verdict.PASS


@FORMS
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_damaged_history_gives_a_verdict_or_one_clear_line(at: int, data: st.DataObject) -> None:
    history, form = CASES[at]
    content = data.draw(damaged(written(at)))
    found = verdict(content)
    if form is HistoryFormat.RACEGATE and content != written(at):
        assert found is not Verdict.PASS


@FORMS
def test_a_history_that_ends_early_never_passes(at: int) -> None:
    """Except, in forms without an ending, where nothing was going on at the cut: that is a shorter history."""
    history, form = CASES[at]
    content = written(at)
    lines = [at for at in range(len(content)) if content[at : at + 1] == b"\n"]
    near = {end for at in lines for end in (at, at + 1, at + 2)} if form is not HistoryFormat.PARQUET else set()
    for end in sorted({*range(0, len(content), max(1, len(content) // 40)), *near} & {*range(len(content))}):
        if form not in (HistoryFormat.RACEGATE, HistoryFormat.PARQUET) and quiet(history, content, end):
            continue
        assert verdict(content[:end]) is not Verdict.PASS, content[:end]


def quiet(history: History, content: bytes, end: int) -> bool:
    """Tell whether a cut leaves whole events of which every operation is complete."""
    events = sorted(t for o in history for t in (o.invoked, o.completed) if t is not None)
    kept = content[:end].count(b"\n") + (1 if content[end : end + 1] == b"\n" else 0)
    if not (content[:end].endswith(b"\n") or content[end : end + 1] == b"\n") or not kept:
        return False
    last = events[kept - 1]
    return all(o.completed is not None and o.completed <= last for o in history if o.invoked <= last)


@pytest.mark.parametrize("form", [HistoryFormat.JEPSEN_EDN, HistoryFormat.JEPSEN_JSON])
def test_events_in_another_order_than_that_of_their_times_are_refused(form: HistoryFormat) -> None:
    lines = written([f for _, f in CASES].index(form)).splitlines(keepends=True)
    for one in range(len(lines) - 1):
        swapped = [*lines[:one], lines[one + 1], lines[one], *lines[one + 2 :]]
        assert verdict(b"".join(swapped)) is None


@pytest.mark.parametrize("form", [HistoryFormat.JEPSEN_EDN, HistoryFormat.JEPSEN_JSON])
def test_an_array_without_its_end_is_refused(form: HistoryFormat) -> None:
    lines = written([f for _, f in CASES].index(form)).splitlines()
    whole = b"[" + (b"\n" if form is HistoryFormat.JEPSEN_EDN else b",\n").join(lines) + b"]"
    assert verdict(whole) is Verdict.PASS
    for end in range(1, len(whole), 3):
        assert verdict(whole[:end]) is None


@pytest.mark.parametrize("at", [0, 1, 2], ids=NAMES[:3])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_damaged_compressed_history_is_refused(at: int, data: st.DataObject) -> None:
    content = gzip.compress(written(at), mtime=0)
    assert verdict(content, "history.gz") is Verdict.PASS
    broken = data.draw(damaged(content))
    if broken[:10] == content[:10] and not unpacks_to(broken, written(at)):
        assert verdict(broken, "history.gz") is not Verdict.PASS


def unpacks_to(packed: bytes, whole: bytes) -> bool:
    """Tell whether nothing was lost: zeros may follow a gzip member (RFC 1952 leaves it open, gzip(1) accepts them)."""
    try:
        return gzip.decompress(packed) == whole
    except (OSError, EOFError, zlib.error):
        return False


@settings(max_examples=80, deadline=None)
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=80).map(str.encode)))
def test_what_is_no_history_at_all_is_refused(content: bytes) -> None:
    assert verdict(content) is None


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\t\n", b"[]", b"{}", b"[\n]\n", b"PAR1", b"PAR1PAR1", b"\xff\xfe", b"#_{}"])
def test_an_empty_history_is_refused(content: bytes) -> None:
    assert verdict(content) is None


def file(*operations: Operation, opened: int = 0, boot: str | None = None, worker: int = 0) -> bytes:
    """Return a file of ours with these operations, in order of their times."""
    events = sorted(
        [(o.invoked, 0, o) for o in operations] + [(o.completed, 1, o) for o in operations if o.completed is not None],
        key=lambda e: e[:2],
    )
    body = ours.header(worker=worker, pid=1, opened=opened, boot=boot)
    for time, completes, o in events:
        who = {"process": o.process, "client": o.client}
        if completes:
            body += ours.completion(
                **who, f=o.f, token=o.token, outcome=o.outcome.value, time=time, attempts=1, result=o.result, failure=o.failure
            )
        else:
            body += ours.invocation(**who, f=o.f, token=o.token, arguments=o.arguments, time=time)
    return body + ours.ending(events=len(events), crc=zlib.crc32(body))


def test_a_recording_without_operations_is_unknown() -> None:
    assert verdict(file()) in (Verdict.UNKNOWN, None)


def folder_of(path: Path, files: Sequence[bytes]) -> Path:
    (path / "history").mkdir()
    for worker, content in enumerate(files):
        (path / "history" / f"worker-{worker}.jsonl").write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("boots", "passes"),
    [(("a", "a"), True), (("a", None), True), (("a", "b"), False)],
    ids=["one", "one, as far as known", "two"],
)
def test_clocks_that_cannot_be_compared_are_refused(tmp_path: Path, boots: tuple[str | None, str | None], passes: bool) -> None:
    one, two = file(create(0, (1, 5), 1), boot=boots[0]), file(create(1, (6, 9), 2), boot=boots[1], worker=1)
    path = folder_of(tmp_path, [one, two])
    if passes:
        assert check_file(path).verdict is Verdict.PASS
    else:
        with pytest.raises(EnvironmentProblem, match="clocks cannot be compared"):
            check_file(path)


@pytest.mark.parametrize("skew", [-20, -8, -3, 3, 8, 20])
def test_a_process_whose_clock_is_wrong_does_not_make_a_wrong_history_pass(tmp_path: Path, skew: int) -> None:
    """Two processes that were told the same number stay wrong, however their clocks differ."""
    moved = create(1, (30 + skew, 33 + skew), 2)
    path = folder_of(tmp_path, [file(create(0, (1, 5), 1), create(0, (30, 31), 2)), file(moved, worker=1)])
    assert check_file(path).verdict is Verdict.FAIL


def test_a_lost_file_of_a_process_does_not_pass(tmp_path: Path) -> None:
    """Its numbers are missing, and nobody else can have taken them."""
    path = folder_of(tmp_path, [file(create(0, (1, 5), 1), create(0, (20, 25), 3))])
    assert check_file(path).verdict is Verdict.FAIL


def test_the_command_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "history").write_bytes(written(4)[:-9] + b"\n")
    assert main(["check", str(tmp_path / "history")]) in (3, 4)
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
