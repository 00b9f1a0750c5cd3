"""Checking histories: operations a second and peak memory of the exact number check, of all numbering rules, and of the search.

Each measurement runs in a process of its own, so that its peak memory is its own. Wall time is of a machine that others may
use as well; the processor's time (over all cores) is what the check itself took. The histories are those of a correct
allocator under 64 clients, on disk as Parquet; in half of them 5 % of the operations have an unknown outcome, and half of those
took a number. 100 million operations are written in parts, and checked in the memory of one part.

``RACEGATE_BENCH_OPS`` limits the largest history (default 100000000).
"""

from __future__ import annotations

import csv
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from harness.config.policy import load_policy
from harness.invariants import REGISTRY, judge
from harness.invariants.linearizability import MODELS, check_linearizable
from harness.invariants.numbering.exact import check_numbers
from harness.model import COLUMNS, TABLES, Books, History, Verdict
from harness.recording.etcd_log import read_etcd_log
from harness.recording.formats import read_history

SIZES = (1_000_000, 10_000_000, 100_000_000)
CHUNK = 5_000_000
PORCUPINE = Path(__file__).parents[1] / "tests" / "corpus" / "porcupine"

PORCUPINES_OWN = 0.73 / 102
"""Seconds for one etcd history: porcupine's, measured on two shared cores with Go 1.19 (102 histories in 0.73 s)."""


def main() -> None:
    """Print the figures."""
    largest = int(os.environ.get("RACEGATE_BENCH_OPS", SIZES[-1]))
    folder = Path(tempfile.mkdtemp(prefix="racegate-bench-"))
    try:
        for share in (0.0, 0.05):
            for size in (s for s in SIZES if s <= largest):
                _in_a_process("write", folder, size, share)
                print(
                    f"numbers {_millions(size)} ops, {share:4.0%} ambiguous: {_in_a_process('numbers', folder, size, share)}",
                    flush=True,
                )
                shutil.rmtree(folder / _name(size, share))
        for size in (s for s in SIZES[:2] if s <= largest):
            print(
                f"rules   {_millions(size)} ops, documents and history in memory: {_in_a_process('rules', folder, size, 0)}",
                flush=True,
            )
        print(f"etcd    {_in_a_process('etcd', folder, 0, 0)}", flush=True)
        print(f"kv      {_in_a_process('kv', folder, 0, 0)}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _millions(size: int) -> str:
    return f"{size / 1e6:5.0f} M"


def _name(size: int, share: float) -> str:
    return f"{size}-{share}"


def _in_a_process(what: str, folder: Path, size: int, share: float) -> str:
    command = [sys.executable, "-m", "benchmarks.bench_checking", what, str(folder), str(size), str(share)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def creates(size: int, share: float, *, seed: int, at: int = 0, number: int = 0) -> tuple[pl.DataFrame, int, int]:
    """Return the creates of a correct allocator, sorted by invocation, and the time and number at which they end."""
    chance = np.random.default_rng(seed)
    effect = at + np.cumsum(chance.integers(100, 2_000, size))
    unknown = chance.random(size) < share
    took = ~unknown | (chance.random(size) < 0.5)
    numbers = number + np.cumsum(took)
    frame = pl.DataFrame(
        {
            "number": numbers,
            "invoked": effect - chance.integers(1, 20_000, size),
            "completed": effect + chance.integers(1, 20_000, size),
            "unknown": unknown,
        }
    )
    unknown_ = pl.col("unknown")
    frame = frame.select(
        scope=pl.lit("acme/invoice"),
        period=pl.lit(""),
        number=pl.when(~unknown_).then("number"),
        token=pl.format("c{}", pl.int_range(at, at + pl.len())),
        invoked="invoked",
        completed=pl.when(~unknown_).then("completed"),
        outcome=pl.when(unknown_).then(pl.lit("info")).otherwise(pl.lit("ok")),
    ).sort("invoked")
    return frame, int(effect[-1]), int(numbers[-1])


def write(folder: Path, size: int, share: float) -> None:
    """Write a history in parts."""
    into = folder / _name(size, share)
    into.mkdir()
    at = number = 0
    for part, start in enumerate(range(0, size, CHUNK)):
        frame, at, number = creates(min(CHUNK, size - start), share, seed=part, at=at, number=number)
        frame.write_parquet(into / f"{part:03d}.parquet", row_group_size=500_000, compression="lz4")


def numbers(folder: Path, size: int, share: float) -> None:
    """Check it: the best of three where that is quick, because the machine may be shared."""
    wall = cpu = 1e9
    for _ in range(3 if size <= 10_000_000 else 1):
        began, busy = time.perf_counter(), time.process_time()
        found = check_numbers(pl.scan_parquet(folder / _name(size, share) / "*.parquet"))
        wall, cpu = min(wall, time.perf_counter() - began), min(cpu, time.process_time() - busy)
        assert found.valid, found.totals
    print(_figures(size, wall, cpu))


def _figures(size: int, wall: float, cpu: float) -> str:
    return (
        f"{wall:7.2f} s ({size / wall / 1e6:4.1f} M ops/s), {cpu:7.2f} s of processor ({size / cpu / 1e6:4.1f} M ops/s), "
        f"peak {_peak():5.0f} MB"
    )


def rules(folder: Path, size: int, share: float) -> None:
    """Judge history and books with every numbering rule."""
    frame, _, _ = creates(size, 0.0, seed=1)
    text = pl.concat_str(pl.lit("INV-"), pl.col("number").cast(pl.String()).str.zfill(5))
    operations = frame.with_columns(
        process=pl.int_range(pl.len()) % 64,
        client=pl.int_range(pl.len()) % 64,
        f=pl.lit("create"),
        attempts=pl.lit(1),
        text=text,
        arguments=pl.lit("{}"),
        result=pl.lit("{}"),
    )
    full = operations.select(*(pl.col(c) if c in operations.columns else pl.lit(None).alias(c) for c in COLUMNS))
    stored = frame.select(
        "scope",
        "period",
        "number",
        "token",
        id=pl.col("number").cast(pl.String()),
        text=text,
        status=pl.lit("issued"),
        dated=pl.lit(0).cast(pl.Datetime("us", "UTC")),
    )
    documents = stored.select(*(pl.col(c) if c in stored.columns else pl.lit(None).alias(c) for c in TABLES["documents"]))
    books = Books(tables={"documents": documents.cast(dict(TABLES["documents"]))})
    history = History(full.cast(dict(COLUMNS)))
    ids = [i for i in REGISTRY if i.startswith(("N-", "L-"))] + ["P-ONCE", "P-KEYMATCH"]
    held = _peak()
    began, busy = time.perf_counter(), time.process_time()
    judgement = judge(history, books, load_policy("company-series"), ids)
    wall, cpu = time.perf_counter() - began, time.process_time() - busy
    assert not judgement.findings, judgement.findings
    print(f"{_figures(size, wall, cpu)}, of which {held:.0f} are history and books; {len(judgement.checked)} rules")


def etcd(folder: Path, size: int, share: float) -> None:
    """Read and search every etcd log."""
    logs = [(int(r["log"]), r["linearizable"] == "true") for r in csv.DictReader((PORCUPINE / "etcd/verdicts.csv").open())]
    best = busy = 1e9
    for _ in range(5):
        began, used = time.perf_counter(), time.process_time()
        for log, linearizable in logs:
            path = PORCUPINE / "etcd" / f"etcd_{log:03d}.log"
            found = check_linearizable(read_etcd_log(path.read_text(), path), MODELS["register"])
            assert (found.verdict is Verdict.PASS) is linearizable
        best, busy = min(best, time.perf_counter() - began), min(busy, time.process_time() - used)
    own = PORCUPINES_OWN * len(logs)
    print(
        f"{len(logs)} histories read and searched in {best:.3f} s ({busy:.3f} s of processor); porcupine took {own:.3f} s for as "
        f"many (measured before, not in this run): {best / own:.2f}x; peak {_peak():.0f} MB"
    )


def kv(folder: Path, size: int, share: float) -> None:
    """Read and search the largest key-value histories."""
    said = []
    for name in ("c50-ok", "c50-bad"):
        history = read_history(PORCUPINE / "kv" / f"{name}.txt.gz").history
        began, used = time.perf_counter(), time.process_time()
        found = check_linearizable(history, MODELS["kv"])
        wall, busy = time.perf_counter() - began, time.process_time() - used
        said.append(f"{name} {found.verdict.value} in {wall:.3f} s ({busy:.3f} s of processor)")
    print(f"{', '.join(said)} (porcupine: 0.295 s and 0.031 s); peak {_peak():.0f} MB")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        _, _what, _folder, _size, _share = sys.argv
        globals()[_what](Path(_folder), int(_size), float(_share))
