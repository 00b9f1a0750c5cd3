"""A run's folder: everything that the run knew and found, enough to judge and report it again elsewhere.

::

    runs/2026-11-20T10-00-00/
      run.json          what was asked: scenario, target, settings, seed, the policy's rules, versions, the command to repeat it
      history/          one file per process, as recorded
      books/            one Parquet file per canonical table; incomplete.json if they were not read to the end
      findings/         one JSON file per finding, and where an engine knows one its .schedule, drawn as .svg
      result.json       the verdict (schema racegate.result/1)
      stores/           logs of servers that failed
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from harness.model.books import Books, filled
from harness.model.errors import EnvironmentProblem, UsageError

INCOMPLETE = "books/incomplete.json"
"""Is there when the books were not read to the end."""


class RunFolder:
    """A run's folder on disk.

    Raises:
        EnvironmentProblem: it cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def make(cls, out: Path) -> RunFolder:
        """Make a new folder below ``out``, named by the time, with a counter if that second is taken."""
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
        for n in itertools.count(1):
            path = out / (stamp if n == 1 else f"{stamp}-{n}")
            try:
                path.mkdir(parents=True)
                for part in ("history", "books", "findings"):
                    (path / part).mkdir()
            except FileExistsError:
                if out.exists() and not out.is_dir():
                    raise EnvironmentProblem(f"--out {out} is a file; name a folder") from None
                continue
            except OSError as e:
                raise EnvironmentProblem(f"cannot make the run folder {path}: {e.strerror}; choose another --out") from e
            return cls(path)
        raise AssertionError("unreachable: the counter has no end")

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return an existing run folder. Raises UsageError if there is none at ``path``."""
        if not (path / "run.json").is_file():
            raise UsageError(f"{path} is not a run folder: it has no run.json")
        return cls(path)

    @property
    def history(self) -> Path:
        """Where the processes write their history files."""
        return self.path / "history"

    def history_files(self) -> list[Path]:
        """Return the history files in a stable order."""
        return sorted(self.history.glob("*.jsonl"))

    def write_json(self, name: str, value: Any) -> Path:
        """Write one JSON file of the run and return its path."""
        return self._write(name, orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str) + b"\n")

    def read_json(self, name: str) -> Any:
        """Read one JSON file of the run. Raises UsageError if it is missing or not JSON."""
        try:
            return orjson.loads((self.path / name).read_bytes())
        except (OSError, orjson.JSONDecodeError) as e:
            raise UsageError(f"{self.path / name} cannot be read: {e}") from e

    def write_books(self, books: Books) -> None:
        """Keep the books as Parquet files, each with the columns that the target gives."""
        for name, frame in books.tables.items():
            given = frame.select(column for column in frame.columns if books.gives(name, column))
            try:
                given.write_parquet(self.path / "books" / f"{name}.parquet")
            except OSError as e:
                raise _unwritable(self.path, e) from e
        if not books.complete:
            self.write_json(INCOMPLETE, {"trouble": books.trouble})

    def read_books(self) -> Books:
        """Read the books back, with what was the trouble with them."""
        kept = {file.stem: pl.read_parquet(file) for file in sorted((self.path / "books").glob("*.parquet"))}
        tables = {name: filled(name, frame) for name, frame in kept.items()}
        given = {name: frozenset(frame.columns) for name, frame in kept.items()}
        if (self.path / INCOMPLETE).exists():
            return Books(tables=tables, given=given, complete=False, trouble=self.read_json(INCOMPLETE)["trouble"])
        return Books(tables=tables, given=given)

    def write_findings(self, findings: list[Mapping[str, Any]]) -> None:
        """Keep each finding in a file of its own, with its schedule and the picture of that beside it."""
        for n, finding in enumerate(findings, start=1):
            self.write_json(f"findings/{n}.json", finding)
            if finding.get("schedule"):
                self._write(f"findings/{n}.schedule", f"{finding['schedule']}\n".encode())
            evidence = finding.get("evidence") or {}
            if steps := evidence.get("steps"):
                from harness.engines.explore.picture import picture  # noqa: PLC0415 - reading a folder needs no engine

                told = f"{finding['invariant']}: {finding['message']}"
                drawn = picture(steps, sentence=told, alone=True)
                self._write(f"findings/{n}.svg", f"{drawn}\n".encode())

    def _write(self, name: str, content: bytes) -> Path:
        path = self.path / name
        try:
            path.write_bytes(content)
        except OSError as e:
            raise _unwritable(path, e) from e
        return path


def _unwritable(path: Path, e: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(f"cannot write {path}: {e.strerror}; choose another --out")
