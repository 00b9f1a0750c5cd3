"""Which versions a run was made with: part of what makes it repeatable."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def versions() -> dict[str, str]:
    """Return the versions of racegate, Python and the drivers, and the platform."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("racegate", "psycopg", "pymongo", "sqlalchemy", "polars", "locust", "hypothesis"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
