"""The machine-readable results of several runs as one JSON array."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson

from harness.run.folder import RunFolder


class JsonResults:
    """Renders runs as a JSON array of results, each of schema ``racegate.result/1``."""

    name = "json"
    filename = "results.json"

    def render(self, folders: Sequence[Path], *, colours: bool = False, width: int = 100) -> str:
        """Return the JSON text. Raises UsageError if a folder is not a run folder."""
        results = [RunFolder.open(folder).read_json("result.json") for folder in folders]
        return orjson.dumps(results, option=orjson.OPT_INDENT_2).decode() + "\n"


FORMAT = JsonResults()
