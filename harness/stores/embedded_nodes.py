"""A MongoDB replica set of several processes on this machine."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pymongo.errors

from harness.model.errors import EnvironmentProblem, UsageError
from harness.stores.embedded_mongo import START_LIMIT, MongoBinary, mongo_binary, new_set_name, process_flags
from harness.stores.options import StoreOptions
from harness.stores.ports import free_port
from harness.stores.process import SupervisedServer, data_folder, keep_log
from harness.stores.replica_set import ReplicaSet

TRIES = 5
"""How often the set is started again when a port that was free is taken after all."""


class EmbeddedNode:
    """One process. See `harness.stores.replica_set.Node`."""

    def __init__(self, binary: MongoBinary, options: StoreOptions, set_name: str) -> None:
        self._folder = data_folder("mongo")
        self._options = options
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._log = self._folder / "server.log"
        self._server = SupervisedServer(
            command=[str(binary.path), *process_flags(self._folder, port, set_name)],
            stop_signal=signal.SIGKILL,
            log=self._log,
            remove=[self._folder],
        )

    def kill(self) -> None:
        """Kill it."""
        self._server.order("kill")

    def stop(self) -> None:
        """Stop it in good order."""
        self._server.order("stop", within=60.0)

    def start(self) -> None:
        """Start it again."""
        self._server.order("start")

    def pause(self) -> None:
        """Freeze it (SIGSTOP)."""
        self._server.order("pause")

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._server.order("resume")

    def cut_off(self) -> None:
        """Refuse: the processes share one loopback, which cannot be cut for one of them."""
        raise UsageError("an embedded node cannot be cut off from the others; pause it, or use --mongo container")

    def reconnect(self) -> None:
        """Nothing was cut."""

    def complain(self, reached: Callable[[], object]) -> None:
        """Wait, unless the process ended."""
        limit = time.monotonic() + START_LIMIT
        while True:
            try:
                if reached():
                    return
            except pymongo.errors.PyMongoError as e:
                if self._server.exited is not None or time.monotonic() > limit:
                    keep_log(self._log, self._options.folder)
                    raise EnvironmentProblem(f"MongoDB did not start: {self._server.last_words(1)}") from e
            time.sleep(0.01)  # between two questions; the answer is the condition

    def close(self) -> None:
        """Stop it and remove its data."""
        self._server.close()


def embedded_replica_set(options: StoreOptions) -> ReplicaSet:
    """Start a replica set of as many processes as the options say.

    Raises:
        EnvironmentProblem: no binary, no room, no port, or a server died at the start (with its last words).
    """
    binary = mongo_binary()
    for attempt in range(TRIES):
        nodes: list[EmbeddedNode] = []
        set_name = new_set_name()

        def dispose(nodes: list[EmbeddedNode] = nodes) -> None:
            for node in nodes:
                node.close()

        try:
            for _ in range(options.nodes):
                nodes.append(EmbeddedNode(binary, options, set_name))
            return ReplicaSet(nodes, set_name=set_name, journal=options.fsync, dispose=dispose, about="embedded")
        except EnvironmentProblem as e:
            dispose()
            if "in use" not in str(e) or attempt == TRIES - 1:
                raise
        except BaseException:
            dispose()
            raise
    raise AssertionError("the last try returns or raises")
