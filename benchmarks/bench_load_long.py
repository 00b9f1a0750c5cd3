"""Ten minutes of load at the highest rate, two workers: memory of every process, and sent = received = checked.

A correct variant and a broken one, each as long, on a store of racegate's own. Memory is the resident set of every process that
racegate started, looked at every few seconds; start, middle and end are medians of a tenth of the run each. What Locust and the
store need for themselves is in it. With RACEGATE_BENCH_SECONDS the runs are of another length.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import psutil

from harness.recording.loader import load
from harness.run.folder import RunFolder

SECONDS = int(os.environ.get("RACEGATE_BENCH_SECONDS", "600"))
USERS = 16
WORKERS = 2
LOOK = 2.0
FLAT = 1.25
"""How many times larger a process may be at the end than in the middle to count as flat."""

NAMES = {"harness.engines.load": "locust", "postgres": "postgres", "harness.cli.main": "racegate", "supervisor": "supervisor"}


def main() -> None:
    """Print both runs."""
    with tempfile.TemporaryDirectory() as name:
        for variant in ("pg.counter_row", "pg.count_plus_one"):
            one(variant, Path(name) / variant)


def one(variant: str, folder: Path) -> None:
    """Run one variant and print what became of it."""
    words = ["load", "concurrent_creates", "--target", f"reference:{variant}", "--users", str(USERS), "--processes", str(WORKERS)]
    words += ["--duration", f"{SECONDS}s", "--seed", "1", "--out", str(folder), "--json", str(folder.with_suffix(".json"))]
    program = f"import sys; from harness.cli.main import main; sys.exit(main({words!r}))"
    folder.mkdir()
    with (folder / "said.log").open("w") as said:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=said, stderr=said)
        looks = watched(process, folder)
    result: dict[str, Any] = orjson.loads(folder.with_suffix(".json").read_bytes())
    tell(variant, process.returncode, result, folder)
    if looks:
        memory(looks)


def watched(process: subprocess.Popen[bytes], folder: Path) -> list[dict[str, int]]:
    """Look at the memory of every process while the users are at work; return bytes by name."""
    looks: list[dict[str, int]] = []
    while process.poll() is None:
        time.sleep(LOOK)
        sizes = list(folder.glob("*/history/load-*.jsonl"))
        if len(sizes) == WORKERS and not list(folder.glob("*/books/*.parquet")):
            with contextlib.suppress(psutil.Error):
                everybody = psutil.Process(process.pid)
                looks.append(memory_of([everybody, *everybody.children(recursive=True)]))
    everybody_there = max((len(look) for look in looks), default=0)
    return [look for look in looks if len(look) == everybody_there]


def memory_of(processes: Sequence[psutil.Process]) -> dict[str, int]:
    """Return the resident bytes of each Locust process, of racegate itself, and of all others together."""
    found: dict[str, int] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            name = next((label for part, label in NAMES.items() if part in words), "other")
            key = f"{name} {process.pid}" if name == "locust" else name
            resident = process.memory_info()
            found[key] = found.get(key, 0) + resident.rss - getattr(resident, "shared", 0)
    return found


def tell(variant: str, status: int, result: dict[str, Any], folder: Path) -> None:
    """Print the verdict, the rate, and whether every operation that was sent was received and checked."""
    facts = result["facts"]["load"]
    run = next(path.parent for path in folder.glob("*/run.json"))
    files = [file for file in RunFolder.open(run).history_files() if file.name != "opening.jsonl"]
    history, _ = load(files)
    sent, received, checked = facts["counts"]["invoked"], len(history), sum(result["operations"].values())
    same = "equal" if sent == received == checked else "NOT EQUAL"
    seconds, written = facts["seconds"], sum(f.stat().st_size for f in files) / 1e6
    print(f"\n{variant}: verdict {result['verdict']}, exit status {status}, {seconds:.0f} s, {WORKERS} workers, {USERS} users")
    print(f"  {sent / seconds:.0f} operations/s, {facts['correct_per_second']:.0f} of them correct; {facts['errors']} errors")
    print(f"  sent {sent}, received {received}, checked {checked}: {same}; history {written:.0f} MB")
    for finding in result["findings"][:3]:
        print(f"  {finding['invariant']} ({finding['class']}): {finding['message'][:120]}")
    timings = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result["timings"].items() if seconds >= 0.5)
    print(f"  timings: {timings}")


def memory(looks: Sequence[dict[str, int]]) -> None:
    """Print the memory of each process at the start, in the middle and at the end."""
    tenth = max(1, len(looks) // 10)
    middle = len(looks) // 2
    parts = {"start": looks[:tenth], "middle": looks[middle : middle + tenth], "end": looks[-tenth:]}
    print(f"  {'own memory, MB':20} {'start':>8} {'middle':>8} {'end':>8}")
    for name in sorted(set.intersection(*(set(look) for look in looks)) or looks[-1]):
        at = {part: statistics.median(look.get(name, 0) for look in some) / 1e6 for part, some in parts.items()}
        flat = "" if at["end"] <= FLAT * at["middle"] else "  GROWS"
        print(f"  {name:20} {at['start']:8.0f} {at['middle']:8.0f} {at['end']:8.0f}{flat}")


if __name__ == "__main__":
    main()
