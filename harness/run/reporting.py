"""What a report format is: something that renders run folders, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class ReportFormat(Protocol):
    """What an entry point in the group ``racegate.reports`` names."""

    name: str
    filename: str
    """What the file is called when it is written next to others: ``report.html``."""

    def render(self, folders: Sequence[Path], *, colours: bool = False, width: int = 100) -> str:
        """Return the report on these run folders as text. Raises UsageError if one is not a run folder."""
