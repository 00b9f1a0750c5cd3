"""One server in a container, through testcontainers: made, watched, killed and started again, removed.

Its data lies in memory. The server is not the container's first process: a small shell script is, which starts it and, when
it is killed on purpose, waits to be told to start it again. So container, data and port outlive the server, as a machine and its
disk do; restarting the container would lose the memory and move the port.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.model.errors import EnvironmentProblem
from harness.stores.docker_engine import EVERY_ADDRESS, LABEL, LOOPBACK, Engine, explained, reason
from harness.stores.options import StoreOptions
from harness.stores.redaction import redact

START_LIMIT = 120.0
"""Seconds that a container may take to serve, once its image is there."""

REAPER = Path(__file__).with_name("reaper.py")

NETWORK_TRIES = 10
"""How often another range of addresses is tried when somebody else took the free one."""

SCRATCH = "/racegate"
"""A folder of ours in the container, in memory."""

SCRATCH_SIZE = "mode=1777"
"""How such folders are mounted: they may grow to half of the memory, as the engine lets them."""

HELD, ENDED, ORDERED = f"{SCRATCH}/held", f"{SCRATCH}/ended", f"{SCRATCH}/pid"

KEEPER = f"""
while :; do
  "$@" &
  server=$!
  echo $server >{ORDERED}
  wait $server
  status=$?
  [ -e {HELD} ] || exit $status
  : >{ENDED}
  while [ -e {HELD} ]; do sleep 0.02; done
  rm -f {ENDED}
done
"""
"""The container's first process: ends with the server, unless the server was ended on purpose."""

STOP = f'touch {HELD} && kill -{{signal}} "$(cat {ORDERED})" && while [ ! -e {ENDED} ]; do sleep 0.02; done'
KILL = f"touch {HELD}; kill -9 -1; while [ ! -e {ENDED} ]; do sleep 0.02; done"
"""Every process but the keeper and the shell that runs this: all the processes of a server, as a crash does."""


COMPLAINT = re.compile(r"fatal|error|could not|no space|invalid|denied", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a server's container is made of. ``command`` is handed to the image's entrypoint; ``port`` is inside.

    ``stop_signal`` is the one that ends the server at once.
    """

    command: Sequence[str]
    port: int
    stop_signal: str = "KILL"
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_folders: Sequence[str] = ()


class Premises:
    """What one store has in the engine: everything made under its token, and the reaper that removes it if nobody else does.

    Args:
        options: where logs are kept.
        images: candidates, best first: see `harness.stores.images.candidates`.

    Raises:
        EnvironmentProblem: Docker is missing or does not run, or no image is to be had.
    """

    def __init__(self, options: StoreOptions, images: Sequence[str]) -> None:
        self.engine = Engine()
        self.token = secrets.token_hex(8)
        self._folder = options.folder
        self._containers: list[Container] = []
        self._reaper: subprocess.Popen[bytes] | None = None
        try:
            self.image, found = self.engine.find_image(images)
        except BaseException:
            self.engine.close()
            raise
        configuration = found.attrs.get("Config") or {}
        self._volumes = list(configuration.get("Volumes") or {})
        self._entrypoint = list(configuration.get("Entrypoint") or [])
        self._reaper = subprocess.Popen(
            [sys.executable, str(REAPER), self.token],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def run(self, plan: Plan, *, network: str | None = None) -> Container:
        """Start a container. One on a network of ours is reached by its own address, any other by a published port."""
        from docker.errors import DockerException  # noqa: PLC0415
        from requests.exceptions import RequestException  # noqa: PLC0415
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415

        try:
            made: Any = DockerContainer(self.image)
            made.with_envs(**plan.environment)
            made.with_command(["-c", KEEPER, "racegate", *self._entrypoint, *plan.command])
            for folder in dict.fromkeys([*self._volumes, *plan.memory_folders, SCRATCH]):
                made.with_tmpfs_mount(folder, SCRATCH_SIZE)
            if network is None:
                # The published port of another machine's engine is reached from here, ours by nobody else.
                made.ports[f"{plan.port}/tcp"] = (EVERY_ADDRESS if self.engine.remote else LOOPBACK,)
            placed = {"network": network} if network else {}
            made.with_kwargs(labels={LABEL: self.token}, entrypoint=["sh"], shm_size="256m", **placed)
            made.start()
            container = Container(made.get_wrapped_container(), plan, image=self.image, remote=self.engine.remote)
        except (DockerException, RequestException, OSError) as e:
            raise self.engine.trouble(f"the container of {self.image} could not be started", e) from e
        self._containers.append(container)
        return container

    def make_network(self) -> Any:
        """Make a network of this store's own, with addresses that a container can be given again, and return it."""
        from docker.errors import APIError, DockerException  # noqa: PLC0415
        from docker.types import IPAMConfig, IPAMPool  # noqa: PLC0415

        networks, name = self.engine.client.networks, f"racegate-{self.token}"
        for attempt in range(NETWORK_TRIES):
            try:
                # The engine knows a free range, and gives addresses on demand only in one that was asked for by name.
                free = networks.create(name, driver="bridge", labels={LABEL: self.token})
                free.reload()
                subnet = free.attrs["IPAM"]["Config"][0]["Subnet"]
                free.remove()
                asked = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
                return networks.create(name, driver="bridge", ipam=asked, labels={LABEL: self.token})
            except DockerException as e:
                taken = isinstance(e, APIError) and "overlap" in str(e).lower()
                if not taken or attempt == NETWORK_TRIES - 1:
                    raise self.engine.trouble("no network for the containers could be made", e) from e
        raise AssertionError("the last try returns or raises")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Keep the logs and remove everything, if what was done inside failed."""
        if error is not None:
            with contextlib.suppress(OSError, EnvironmentProblem):
                self.keep_logs()
            self.close()

    def keep_logs(self) -> None:
        """Write the logs of the containers to the folder of the options, if there is one."""
        if self._folder is None:
            return
        for n, container in enumerate(self._containers, start=1):
            self._folder.mkdir(parents=True, exist_ok=True)
            name = self.image.split("@", maxsplit=1)[0].replace("/", "-").replace(":", "-")
            (self._folder / f"{name}-{n}.log").write_text(redact(container.log()), encoding="utf-8")

    def close(self) -> None:
        """Remove everything and wait until it is gone. May be called twice."""
        reaper, self._reaper = self._reaper, None
        if reaper is None:
            return
        from docker.errors import DockerException  # noqa: PLC0415
        from requests.exceptions import RequestException  # noqa: PLC0415

        assert reaper.stdin is not None
        try:
            self.engine.remove(self.token)
            reaper.stdin.write(b"tidy")
        except (DockerException, RequestException, OSError):
            pass  # the reaper goes on trying
        finally:
            with contextlib.suppress(OSError):
                reaper.stdin.close()
            reaper.wait()
            self.engine.close()


class Container:
    """A running container and the server in it."""

    def __init__(self, made: Any, plan: Plan, *, image: str, remote: str | None) -> None:
        self._made = made
        self._inner_port = plan.port
        self._stop_signal = plan.stop_signal
        self._image = image
        self._remote = remote
        made.reload()

    @property
    def inner_address(self) -> str:
        """Its own address in its network: an IP address."""
        self._made.reload()
        networks = self._made.attrs["NetworkSettings"]["Networks"].values()
        return next((str(n["IPAddress"]) for n in networks if n["IPAddress"]), "")

    def address(self) -> tuple[str, int]:
        """Return where it is reached: the published port, or, where that leads nowhere, its own address.

        The published port leads nowhere when racegate itself runs in a container beside it.
        """
        self._made.reload()
        published = (self._made.ports.get(f"{self._inner_port}/tcp") or [None])[0]
        if published is None:
            return self.inner_address, self._inner_port
        outside = (self._remote or LOOPBACK, int(published["HostPort"]))
        inside = (self.inner_address, self._inner_port)
        if self._remote is None and not _answers(outside) and inside[0] and _answers(inside):
            return inside
        return outside

    def until(self, reached: Callable[[], object], trouble: tuple[type[Exception], ...], *, limit: float = START_LIMIT) -> None:
        """Ask again and again until the server serves. Raises EnvironmentProblem with its last words when it does not."""
        end = time.monotonic() + limit
        while True:
            try:
                if reached():
                    return
                last = "not ready"
            except trouble as e:
                last = str(e)
            self._made.reload()
            if self._made.status in ("exited", "dead") or time.monotonic() > end:
                words = explained(" ".join((telling(self.log(tail=40)) or last).split()))
                raise EnvironmentProblem(f"the container of {self._image} does not serve: {redact(words)}")
            time.sleep(0.02)  # between two questions; the answer is the condition

    def log(self, tail: int | str = "all") -> str:
        """Return what the server said."""
        from docker.errors import DockerException  # noqa: PLC0415

        try:
            said: bytes = self._made.logs(tail=tail)
        except DockerException as e:
            return f"no log: {reason(e)}"
        return said.decode(errors="replace")

    def order(self, order: str) -> None:
        """Carry out ``kill``, ``start``, ``restart``, ``pause`` or ``resume``, and return when it is done."""
        if order == "restart":
            self.stop(self._stop_signal)
            self.start()
        else:
            {"kill": self.kill, "start": self.start, "pause": self.pause, "resume": self.resume}[order]()

    def stop(self, signal: str) -> None:
        """Send the server a signal that ends it, and wait until it has ended."""
        self._order(STOP.format(signal=signal))

    def kill(self) -> None:
        """Kill every process of the server."""
        self._order(KILL)

    def start(self) -> None:
        """Start the server again after `stop` or `kill`."""
        self._order(f"rm -f {HELD}")

    def pause(self) -> None:
        """Freeze every process of the container."""
        self._did("pause", self._made.pause)

    def resume(self) -> None:
        """Let them go on."""
        self._did("resume", self._made.unpause)

    def cut_off(self, network: Any) -> None:
        """Take the container from its network: nobody reaches it, and it reaches nobody."""
        self._did("cut off", lambda: network.disconnect(self._made, force=True))

    def reconnect(self, network: Any, address: str) -> None:
        """Put it back into its network under the address that it had."""
        self._did("reconnect", lambda: network.connect(self._made, ipv4_address=address))

    def _order(self, script: str) -> None:
        done = self._did("order", lambda: self._made.exec_run(["sh", "-c", script]))
        if done.exit_code:
            said = " ".join(done.output.decode(errors="replace").split())
            raise EnvironmentProblem(f"the container of {self._image} did not obey: {said or done.exit_code}")

    def _did(self, what: str, deed: Callable[[], Any]) -> Any:
        from docker.errors import DockerException  # noqa: PLC0415
        from requests.exceptions import RequestException  # noqa: PLC0415

        try:
            return deed()
        except (DockerException, RequestException) as e:
            raise EnvironmentProblem(f"cannot {what} the container of {self._image}: {reason(e)}") from e


def telling(log: str) -> str:
    """Return the lines of a server's log that say why it died, or else the last ones, as one line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return " | ".join([line for line in lines if COMPLAINT.search(line)][-2:] or lines[-3:])[:400]


def _answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=1.0):
            return True
    except OSError:
        return False
