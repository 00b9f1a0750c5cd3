"""Runs as recorded, found wherever a user points: a run folder, a folder of run folders, or a file of results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from harness.config.policy import kept_policy
from harness.model import History, Policy, RacegateError, UsageError
from harness.recording.loader import load
from harness.run.folder import RunFolder
from harness.run.measures import Measures, measures_of

IDENTITY = ("scenario", "target", "engine")
CONDITIONS = ("clients", "processes", "store", "operations_per_client")
"""Facts that must be equal before two runs' speed can be compared."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One run. ``measured`` is empty where only the result is there, or where a schedule decided the order."""

    result: Mapping[str, Any]
    source: str
    measured: Measures = field(default_factory=Measures)
    note: str = ""

    @property
    def key(self) -> str:
        """What must be the same for two runs to be the same thing, measured twice."""
        facts = self.result.get("facts", {})
        parts = {name: self.result.get(name) for name in IDENTITY}
        settings = {name: facts.get(name) for name in ("scenario_settings", "target_settings", "policy")}
        return orjson.dumps([parts, settings], option=orjson.OPT_SORT_KEYS).decode()

    @property
    def title(self) -> str:
        """What a reader calls it."""
        engine = self.result.get("engine")
        by = f" ({engine})" if engine != "stress" else ""
        return f"{self.result.get('scenario')} on {self.result.get('target')}{by}"

    @property
    def conditions(self) -> dict[str, Any]:
        """What speed depends on, by name."""
        facts = self.result.get("facts", {})
        versions = facts.get("versions", {})
        return {
            **{name: facts.get(name) for name in CONDITIONS if name in facts},
            "platform": versions.get("platform"),
            "python": ".".join(str(versions.get("python", "")).split(".")[:2]),
        }


def is_run(path: Path) -> bool:
    """Tell whether a folder is a run's."""
    return (path / "run.json").is_file()


def run_folders(path: Path) -> list[Path]:
    """Return the finished run folders at ``path``: itself, or those below it, in the order of their names.

    A folder without a result is that of a run that was interrupted; it is passed over.
    """
    if is_run(path):
        return [path]
    return sorted(found.parent for found in path.rglob("run.json") if (found.parent / "result.json").is_file())


def recorded_at(path: Path) -> list[Recorded]:
    """Return the runs at ``path``.

    Raises:
        UsageError: nothing is there, or it is neither run folders nor results.
    """
    if path.is_dir():
        folders = run_folders(path)
        if not folders:
            raise UsageError(f"{path} holds no finished run: expected a run folder, or a folder of them")
        return [_of_folder(folder) for folder in folders]
    return [_of_result(result, str(path)) for result in _results(path)]


def _results(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        document = orjson.loads(path.read_bytes())
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror}; expected a run folder or a file of results") from e
    except orjson.JSONDecodeError as e:
        raise UsageError(f"{path} is not JSON: {e}; expected a run folder or a file that --json wrote") from e
    documents: Sequence[Any] = document if isinstance(document, list) else [document]
    for found in documents:
        if not isinstance(found, Mapping) or not str(found.get("schema", "")).startswith("racegate.result/"):
            raise UsageError(f"{path} is not a result of racegate (schema racegate.result/1); give a run folder or --json's file")
        yield found


def _of_folder(folder: Path) -> Recorded:
    result = RunFolder.open(folder).read_json("result.json")
    return _measured(result, folder)


def _of_result(result: Mapping[str, Any], source: str) -> Recorded:
    """Return a result with the figures of its run folder, if that is still where the result says."""
    folder = result.get("folder")
    if folder and is_run(Path(folder)) and (Path(folder) / "result.json").is_file():
        kept = RunFolder.open(Path(folder)).read_json("result.json")
        if kept.get("timings") == result.get("timings"):
            return _measured(result, Path(folder))
    return Recorded(result=result, source=source, note="its run folder is not there: only verdicts and findings are compared")


def _measured(result: Mapping[str, Any], folder: Path) -> Recorded:
    if result.get("engine") == "explore":
        return Recorded(result=result, source=str(folder))
    kept = RunFolder.open(folder)
    try:
        whole, _ = load(kept.history_files())
        race = History(whole.operations.filter(pl.col("client") >= 0), open_at=whole.open_at)
        figures = measures_of(race, kept.read_books(), _policy(kept, result))
    except (RacegateError, OSError, pl.exceptions.PolarsError) as e:
        return Recorded(result=result, source=str(folder), note=f"its recorded data cannot be read: {e}")
    return Recorded(result=result, source=str(folder), measured=figures)


def _policy(kept: RunFolder, result: Mapping[str, Any]) -> Policy | None:
    """Return the run's policy, or None for one of an older version whose policy was in a file or a configuration."""
    name = result.get("facts", {}).get("policy")
    try:
        return kept_policy({"policy": name, **kept.read_json("run.json")})
    except RacegateError:
        return None
