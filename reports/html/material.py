"""Everything that one run's part of the report is made of, read from its folder.

What cannot be read is told and left out: a report on a folder whose history is damaged still shows the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from harness.config.policy import kept_policy
from harness.invariants.resolution import resolve
from harness.model import Books, History, Policy, RacegateError
from harness.recording.loader import FileFacts, load
from harness.run.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Material:
    """One run as read. ``history`` is None when it could not be read, ``missing`` says why; it holds the race alone."""

    path: Path
    result: Mapping[str, Any]
    asked: Mapping[str, Any]
    history: History | None
    books: Books
    policy: Policy | None
    files: tuple[FileFacts, ...] = ()
    missing: tuple[str, ...] = field(default=())


def gather(path: Path) -> Material:
    """Read a run folder.

    Raises:
        UsageError: it is not a run folder, or has no readable result.
    """
    folder = RunFolder.open(path)
    result, asked = folder.read_json("result.json"), folder.read_json("run.json")
    missing: list[str] = []
    try:
        books = folder.read_books()
    except (OSError, pl.exceptions.PolarsError) as e:
        books = Books(complete=False)
        missing.append(f"The books could not be read ({type(e).__name__}): gaps are not shown.")
    history: History | None = None
    files: list[FileFacts] = []
    try:
        whole, files = load(folder.history_files())
        resolved = resolve(whole, books)
        history = History(resolved.operations.filter(pl.col("client") >= 0), open_at=whole.open_at)
    except RacegateError as e:
        missing.append(f"The history could not be read: {e}")
    return Material(
        path=path,
        result=result,
        asked=asked,
        history=history,
        books=books,
        policy=_policy_of(asked, result),
        files=tuple(files),
        missing=tuple(missing),
    )


def _policy_of(asked: Mapping[str, Any], result: Mapping[str, Any]) -> Policy | None:
    name = result.get("facts", {}).get("policy")
    try:
        return kept_policy({"policy": name, **asked})
    except RacegateError:
        return None  # an older version kept the name alone of a policy that was in a file or a configuration
