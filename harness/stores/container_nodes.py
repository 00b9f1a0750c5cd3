"""A MongoDB replica set of several containers on a network of their own.

Clients and nodes must know each node by the same address, so the containers are reached by their own addresses in that
network, which this machine's bridge leads to and no other machine does; no port is published.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pymongo.errors

from harness.model.errors import EnvironmentProblem
from harness.stores.container import Container, Premises
from harness.stores.container_mongo import PORT, mongo_plan
from harness.stores.embedded_mongo import new_set_name
from harness.stores.options import StoreOptions
from harness.stores.replica_set import ReplicaSet


class ContainerNode:
    """One container. See `harness.stores.replica_set.Node`."""

    def __init__(self, container: Container, network: Any) -> None:
        self._container = container
        self._network = network
        self._ip = container.inner_address
        self.address = f"{self._ip}:{PORT}"
        self.kill = container.kill
        self.start = container.start
        self.pause = container.pause
        self.resume = container.resume

    def stop(self) -> None:
        """Stop the server in good order."""
        self._container.stop("TERM")

    def cut_off(self) -> None:
        """Take it from its network."""
        self._container.cut_off(self._network)

    def reconnect(self) -> None:
        """Put it back, under its address."""
        self._container.reconnect(self._network, self._ip)

    def complain(self, reached: Callable[[], object]) -> None:
        """Wait, unless the container ended."""
        self._container.until(reached, (pymongo.errors.PyMongoError,))


def container_replica_set(options: StoreOptions, images: Sequence[str]) -> ReplicaSet:
    """Start a replica set of as many containers as the options say.

    Raises:
        EnvironmentProblem: Docker is missing or does not run, no image is to be had, a server died at the start, or the engine
            runs where its containers' addresses do not lead from here.
    """
    premises = Premises(options, images)
    with premises:
        if premises.engine.remote:
            raise EnvironmentProblem(
                f"the Docker engine runs on {premises.engine.remote}, whose containers cannot be reached one by one; a replica "
                "set of several containers needs an engine on this machine; use --mongo embedded,nodes=3"
            )
        network = premises.make_network()
        set_name = new_set_name()
        containers = [premises.run(mongo_plan(set_name), network=network.name) for _ in range(options.nodes)]
        nodes = [ContainerNode(container, network) for container in containers]
        about = f"container of {premises.image},"
        return ReplicaSet(nodes, set_name=set_name, journal=options.fsync, dispose=premises.close, about=about)
