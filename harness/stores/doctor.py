"""What this machine can run, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.model.errors import EnvironmentProblem, RacegateError
from harness.stores.base import StoreKind
from harness.stores.images import DEFAULTS, candidates

if TYPE_CHECKING:
    from harness.stores.docker_engine import Engine


@dataclass(frozen=True, kw_only=True)
class Examination:
    """One thing that was looked at. ``needed`` tells whether racegate is of no use without it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = False


def examine() -> list[Examination]:
    """Look at Python, the embedded servers, Docker and its images, a browser and Node; say what to do about what is missing."""
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
        *_containers(),
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


def _containers() -> list[Examination]:
    """Look for an engine, and in it for an image of each server."""
    from docker.errors import DockerException  # noqa: PLC0415 - a quarter of a second, like the next

    from harness.stores.docker_engine import Engine  # noqa: PLC0415

    try:
        engine = Engine()
    except EnvironmentProblem as e:
        what = str(e).partition("; ")[0]
        return [
            Examination(name="docker", ok=False, detail=what, remedy=_start_docker()),
            *(
                Examination(name=f"{kind} container", ok=False, detail="nobody knows without Docker; embedded needs none")
                for kind in StoreKind
            ),
        ]
    try:
        where = f" on {engine.remote}" if engine.remote else ""
        try:
            version = engine.client.version()["Version"]
        except DockerException as e:
            problem = engine.trouble("the engine does not say its version", e)
            return [Examination(name="docker", ok=False, detail=str(problem), remedy=_start_docker())]
        return [
            Examination(name="docker", ok=True, detail=f"engine {version}{where}"),
            *(_image(kind, engine) for kind in StoreKind),
        ]
    finally:
        engine.close()


def _image(kind: StoreKind, engine: Engine) -> Examination:
    wanted = candidates(kind, "")
    default = DEFAULTS[kind]
    name = f"{kind} container"
    try:
        found = engine.present(wanted)
    except EnvironmentProblem as e:
        return Examination(name=name, ok=False, detail=str(e), remedy="see: docker image ls")
    if found is None:
        build = "" if os.environ.get(default.variable) else "; make images builds one without a registry"
        return Examination(
            name=name,
            ok=False,
            detail=f"the image {_short(wanted[0])} is not here",
            remedy=f"the first run pulls it where a registry can be reached, or: docker pull {wanted[0]}{build}",
        )
    origin = {default.local: "built here by make images", default.official: "the official one"}
    return Examination(name=name, ok=True, detail=f"image {_short(found[0])}, {origin.get(found[0], f'of {default.variable}')}")


def _short(image: str) -> str:
    return image.partition("@")[0]


def _start_docker() -> str:
    if shutil.which("dockerd") is None:
        return "install Docker to use --postgres container and --mongo container (on Debian: apt install docker.io)"
    return "start Docker to use --postgres container and --mongo container: containers/engine as root, or its service"


def _program(name: str, candidates: tuple[str, ...], use: str, remedy: str) -> Examination:
    for candidate in candidates:
        if path := shutil.which(candidate):
            return Examination(name=name, ok=True, detail=path)
    return Examination(name=name, ok=False, detail=f"not on PATH; only needed for {use}", remedy=remedy)
