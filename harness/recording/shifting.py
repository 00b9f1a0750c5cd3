"""Brings a history file that was recorded by another clock to ours.

What is known of the other clock is by how much it is ahead, at least and at most. An invocation is set as early as it can have
been, a completion as late: whatever the true times are, they lie within, and what was certainly one after the other by the
true times but cannot be told apart by the clocks counts as concurrent.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import orjson

from harness.model.errors import DamagedHistory, EnvironmentProblem
from harness.recording.format import ending

_TIME = re.compile(rb'"time":(-?\d+)')
_OPENED = re.compile(rb'"opened":(-?\d+)')
_BOOT = re.compile(rb',"boot":"[^"]*"')


def shift(source: Path, to: Path, *, least: int, most: int, boot: str | None) -> int:
    """Write a copy of a history file with its times brought to our clock, and return how many lines it has.

    Args:
        source: as it was recorded.
        to: the copy.
        least, most: ns that its clock is ahead of ours.
        boot: what names our clock.

    Raises:
        DamagedHistory: the file is not what was recorded: a copy would look sound.
        EnvironmentProblem: one of the files cannot be read or written.
    """
    theirs = ours = events = 0
    try:
        with source.open("rb") as read, to.open("xb") as written:
            for line in read:
                if line.startswith(b'{"type":"end"'):
                    end = orjson.loads(line)
                    if end.get("crc", theirs) != theirs:
                        raise DamagedHistory(f"{source} is damaged: its checksum is not that of what is there")
                    written.write(ending(events=end["events"], crc=ours))
                    continue
                theirs = zlib.crc32(line, theirs)
                moved = _line(line, least, most) if events else _head(line, most, boot)
                ours = zlib.crc32(moved, ours)
                written.write(moved)
                events += 1
    except OSError as e:
        raise EnvironmentProblem(f"the history {source} cannot be copied to {to}: {e.strerror}") from e
    except (orjson.JSONDecodeError, KeyError) as e:
        raise DamagedHistory(f"{source} is damaged: its last line is no ending") from e
    return events


def _head(line: bytes, most: int, boot: str | None) -> bytes:
    named = b',"boot":' + orjson.dumps(boot) if boot is not None else b""
    line = _BOOT.sub(b"", line, count=1).rstrip().removesuffix(b"}") + named + b"}\n"
    return _OPENED.sub(lambda found: b'"opened":%d' % (int(found[1]) - most), line, count=1)


def _line(line: bytes, least: int, most: int) -> bytes:
    """Return the event at our time. The first ``time`` is the event's own: what a system answered stands behind it."""
    ahead = most if b'"type":"invoke"' in line[:64] else least
    return _TIME.sub(lambda found: b'"time":%d' % (int(found[1]) - ahead), line, count=1)
