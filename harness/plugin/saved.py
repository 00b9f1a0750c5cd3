"""Schedules that broke something, kept from one test session to the next: tried first, and forgotten when they break no more."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from hashlib import blake2s
from pathlib import Path


class SavedSchedules:
    """One file per race in a folder, named by a digest of the test that it belongs to. Safe between processes.

    A folder that cannot be written to keeps nothing: a session must not fail for its memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def load(self, race: str) -> str:
        """Return the token that the race was left with, or an empty string."""
        path = self._path(race)
        if path is None:
            return ""
        try:
            return path.read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError):
            return ""

    def save(self, race: str, token: str) -> bool:
        """Keep a token, with the race's name for people; tell whether that was possible."""
        path = self._path(race)
        if path is None:
            return False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
                file.write(f"{token}\n{race}\n")
            os.replace(file.name, path)
        except OSError:
            return False
        return True

    def forget(self, race: str) -> None:
        """Remove the race's token, if there is one."""
        if (path := self._path(race)) is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def folder_of(self, race: str) -> Path | None:
        """Return a folder of the race's own, for whoever keeps more than a token."""
        path = self._path(race)
        return None if path is None else path.with_suffix(".programs")

    def _path(self, race: str) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{blake2s(race.encode(), digest_size=12).hexdigest()}.schedule"
