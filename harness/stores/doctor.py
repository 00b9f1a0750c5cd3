"""What this machine can run, and what is missing."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from harness.model.errors import RacegateError


@dataclass(frozen=True, kw_only=True)
class Examination:
    """One thing that was looked at. ``needed`` tells whether racegate is of no use without it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = False


def examine() -> list[Examination]:
    """Look at Python, the embedded servers, Docker, a browser and Node, and say what to do about what is missing."""
    return [
        Examination(
            name="python",
            ok=sys.version_info >= (3, 11),
            detail=f"{platform.python_version()} on {platform.platform()}",
            remedy="install Python 3.11 or newer",
            needed=True,
        ),
        _found("postgres embedded", _postgres),
        _found("mongo embedded", _mongo),
        _docker(),
        _program("chromium", ("chromium", "chromium-browser", "google-chrome"), "browser tests", "apt install chromium"),
        _program("node", ("node",), "driving Node programs in tests", "install Node.js 20 or newer"),
    ]


def _found(name: str, look: Callable[[], str]) -> Examination:
    try:
        return Examination(name=name, ok=True, detail=look(), needed=True)
    except RacegateError as e:
        what, _, remedy = str(e).partition("; ")
        return Examination(name=name, ok=False, detail=what, remedy=remedy, needed=True)


def _postgres() -> str:
    from harness.stores.embedded_postgres import postgres_binaries  # noqa: PLC0415 - brings a driver along

    found = postgres_binaries()
    return f"PostgreSQL {found.version} in {found.folder}"


def _mongo() -> str:
    from harness.stores.embedded_mongo import mongo_binary  # noqa: PLC0415 - brings a driver along

    found = mongo_binary()
    return f"MongoDB {found.version} in {found.path.parent}"


def _docker() -> Examination:
    remedy = "install and start Docker to use --postgres container and --mongo container"
    program = shutil.which("docker")
    if program is None:
        return Examination(name="docker", ok=False, detail="no docker on PATH", remedy=remedy)
    done = subprocess.run([program, "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False)
    if done.returncode:
        return Examination(name="docker", ok=False, detail="the engine does not answer", remedy=remedy)
    return Examination(name="docker", ok=True, detail=f"engine {done.stdout.strip()}")


def _program(name: str, candidates: tuple[str, ...], use: str, remedy: str) -> Examination:
    for candidate in candidates:
        if path := shutil.which(candidate):
            return Examination(name=name, ok=True, detail=path)
    return Examination(name=name, ok=False, detail=f"not on PATH; only needed for {use}", remedy=remedy)
