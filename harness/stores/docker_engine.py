"""The Docker engine of this machine: reaching it, finding images, and saying in one line what is the matter with it."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from harness.model.errors import EnvironmentProblem
from harness.stores.redaction import redact

LABEL = "org.racegate.store"
"""On everything that racegate makes in the engine, with the token of the store that it belongs to."""

DEFAULT_HOST = "unix:///var/run/docker.sock"
LOOPBACK = "127.0.0.1"
EVERY_ADDRESS = "0.0.0.0"

SIGNS = (
    ("no space left on device", "its disk is full; free some: docker system prune"),
    ("port is already allocated", "no port is free for it; end some containers or servers"),
    ("address already in use", "no port is free for it; end some containers or servers"),
    ("permission denied", "this user may not talk to Docker; add it to the group docker, or use embedded instead of container"),
    ("non-overlapping ipv4 address pool", "Docker has no network left; remove some: docker network prune"),
)
"""What an engine's or a server's words mean, and what to do."""


class Engine:
    """A connection to the engine. Close it.

    Raises:
        EnvironmentProblem: Docker is missing, does not run, or may not be used by us.
    """

    def __init__(self) -> None:
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # each store has a reaper of its own
        from docker.errors import DockerException  # noqa: PLC0415 - a quarter of a second, for those who use containers
        from testcontainers.core.config import testcontainers_config  # noqa: PLC0415
        from testcontainers.core.docker_client import DockerClient, get_docker_host  # noqa: PLC0415

        testcontainers_config.ryuk_disabled = True
        try:
            _knock(get_docker_host() or os.environ.get("DOCKER_HOST") or DEFAULT_HOST)
            self.client: Any = DockerClient().client
        except (DockerException, OSError) as e:
            raise EnvironmentProblem(f"Docker is missing or does not run ({reason(e)}); {_remedy(e)}") from e
        url = urlsplit(self.client.api.base_url)
        self.remote: str | None = None if url.scheme.startswith("http+") else url.hostname
        """The engine's host when it is another machine, which is where published ports are then."""

    def present(self, names: Sequence[str]) -> tuple[str, Any] | None:
        """Return the first image that is on the engine's machine, with its name, or None."""
        from docker.errors import DockerException, ImageNotFound  # noqa: PLC0415

        for name in names:
            try:
                return name, self.client.images.get(name)
            except ImageNotFound:
                continue
            except DockerException as e:
                raise self.trouble(f"the image {name} cannot be looked up", e) from e
        return None

    def find_image(self, names: Sequence[str]) -> tuple[str, Any]:
        """Return the first image that is there, or pull the first. Raises EnvironmentProblem when it is not to be had."""
        from docker.errors import DockerException  # noqa: PLC0415

        if found := self.present(names):
            return found
        wanted = names[0]
        try:
            self.client.images.pull(wanted)
            return wanted, self.client.images.get(wanted)
        except DockerException as e:
            raise EnvironmentProblem(
                f"the image {wanted} is neither on this machine nor to be had ({reason(e)}); build one with make images, "
                "or name another: container:IMAGE"
            ) from e

    def trouble(self, what: str, error: BaseException) -> EnvironmentProblem:
        """Return an error of the engine as ours, on one line."""
        return EnvironmentProblem(f"{what}: {explained(reason(error))}")

    def remove(self, token: str) -> int:
        """Remove what carries the token, and return how much that was. Nothing there is no error."""
        return remove_labelled(self.client, token)

    def close(self) -> None:
        """Close the connection."""
        self.client.close()


def remove_labelled(client: Any, token: str) -> int:
    """Remove the containers, their volumes, and then the networks that carry the token; return how many were found."""
    from docker.errors import APIError, NotFound  # noqa: PLC0415

    chosen = {"label": f"{LABEL}={token}"}
    found = 0
    for container in client.api.containers(all=True, filters=chosen):
        found += 1
        try:
            client.api.remove_container(container["Id"], force=True, v=True)
        except NotFound:
            continue
        except APIError as e:
            if "already in progress" not in str(e):
                raise
    for network in client.api.networks(filters=chosen):
        found += 1
        try:
            client.api.remove_network(network["Id"])
        except NotFound:
            continue
    return found


def _knock(host: str) -> None:
    """Connect to the engine's socket once: the SDK leaves a socket open that it could not connect. Raises OSError."""
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(host.removeprefix("unix://"))


def reason(error: BaseException) -> str:
    """Return why the engine failed, in few words: its explanation, or the innermost exception's."""
    said = getattr(error, "explanation", None) or getattr(error, "strerror", None) or _innermost(str(error))
    return redact(" ".join(str(said).split()))[:240]


def explained(words: str) -> str:
    """Return what was said with what it means and what to do, where that is known."""
    for sign, meaning in SIGNS:
        if sign in words.lower():
            return f"{meaning} ({words})"
    return words


def _innermost(text: str) -> str:
    errors = re.findall(r"\w*Error\((?:\d+, )?'([^']+)'\)", text)
    numbered = re.findall(r"\[Errno -?\d+\] ([A-Za-z ]+)", text)
    found: list[str] = errors or numbered or [text]
    return found[-1]


def _remedy(error: BaseException) -> str:
    for sign, meaning in SIGNS:
        if sign in str(error).lower():
            return meaning
    return "start it, or use embedded instead of container"
