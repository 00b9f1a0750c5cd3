"""A MongoDB replica set of several nodes whose servers can be hurt on purpose, whatever each node runs in.

What a client was told must survive the loss of any one node. To see whether it does, a run stops replication (by the server's
own failpoint ``stopReplProducer``, which is why our servers run with ``enableTestCommands``), lets clients write, kills the
primary and brings the rest back to work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import pymongo
import pymongo.errors

from harness.model.errors import EnvironmentProblem
from harness.stores.base import Database, StoreKind
from harness.stores.embedded_mongo import initiate
from harness.stores.mongo import CONTROL, MongoDatabases, problem

START_LIMIT = 90.0
"""Seconds that the nodes may take until one is primary and the others follow it."""

WATCHFUL = "heartbeatFrequencyMS=1000&connectTimeoutMS=5000&localThresholdMS=60000"
"""With their defaults drivers wait half a minute for the answer of a server that is frozen or cut off, and read from no
secondary whose first answer came a few milliseconds later than another's."""

HOLD = "stopReplProducer"
"""The failpoint that keeps a secondary from fetching what the primary did."""

NOT_SECONDARY = 95

FROZEN = 600
"""Seconds that a secondary which is held does not stand for election by itself, unless it is released before."""


class Node(Protocol):
    """One server of the set."""

    address: str
    """``host:port``, as clients and the other nodes reach it."""

    def kill(self) -> None:
        """Kill it (SIGKILL)."""

    def stop(self) -> None:
        """Stop it in good order (SIGTERM)."""

    def start(self) -> None:
        """Start it again, on the same address and data."""

    def pause(self) -> None:
        """Freeze it."""

    def resume(self) -> None:
        """Let it go on."""

    def cut_off(self) -> None:
        """Let nobody reach it, and it nobody. Raises UsageError where this cannot be done."""

    def reconnect(self) -> None:
        """Undo `cut_off`."""

    def complain(self, reached: Callable[[], object]) -> None:
        """Wait until ``reached`` is true. Raises EnvironmentProblem with the server's last words if it dies or takes too long."""


class ReplicaSet:
    """Several nodes as one store. See `harness.stores.base.Store`; ``kind`` of every fault is a method's name.

    Args:
        nodes: running servers, not yet a set.
        set_name: the name that they were started with.
        journal: whether what a majority acknowledged is on their disks.
        dispose: ends the nodes and removes their data.
        about: where the nodes run: ``embedded``.

    Raises:
        EnvironmentProblem: they did not become a set.
    """

    kind = StoreKind.MONGO
    faults = frozenset(
        {
            *("kill_primary", "stop_primary", "pause_primary", "cut_off_primary", "step_down"),
            *("hold_replication", "hold_one_secondary", "release_replication", "bring_back"),
        }
    )

    def __init__(self, nodes: Sequence[Node], *, set_name: str, journal: bool, dispose: Callable[[], None], about: str) -> None:
        self._nodes = list(nodes)
        self._set_name = set_name
        self._dispose = dispose
        self._away: dict[int, str] = {}
        """The nodes that are not at work, and what was done to them."""
        self._held: set[int] = set()
        """The nodes that fetch nothing: the failpoint is set on them."""
        self._frozen: set[int] = set()
        """The nodes that do not stand for election."""
        addresses = [node.address for node in nodes]
        self._direct = [_client(f"mongodb://{address}/?directConnection=true") for address in addresses]
        everybody = ",".join(addresses)
        self.client = _client(f"mongodb://{everybody}/?replicaSet={set_name}&{WATCHFUL}")
        try:
            for node, direct in zip(self._nodes, self._direct, strict=True):
                node.complain(lambda direct=direct: direct.admin.command("ping"))  # type: ignore[misc]
            self._nodes[0].complain(lambda: initiate(self._direct[0], addresses, set_name=set_name, journal=journal))
            self._await_health()
            version = self.client.server_info()["version"]
        except BaseException:
            self.close()
            raise
        self._databases = MongoDatabases(
            self.client,
            uri=f"mongodb://{everybody}/{{name}}?replicaSet={set_name}&appName={{name}}&{WATCHFUL}",
            shown=f"mongodb://{everybody}/{{name}}",
        )
        self.description = f"MongoDB {version}, {about} replica set of {len(nodes)} nodes"

    def create_database(self) -> Database:
        """Return a fresh database."""
        return self._databases.create()

    def drop_database(self, database: Database) -> None:
        """Drop it and end what is in flight in it."""
        self._databases.drop(database)

    def in_flight(self, database: Database) -> list[str]:
        """Describe the operations and open transactions of its clients, and writes that no majority has yet."""
        try:
            status = self.client.admin.command("replSetGetStatus")["optimes"]
        except pymongo.errors.PyMongoError as e:
            raise problem(e) from e
        behind = (
            [] if status["lastCommittedOpTime"] == status["appliedOpTime"] else ["writes that no majority of the nodes has yet"]
        )
        return self._databases.in_flight(database) + behind

    def end_in_flight(self, database: Database) -> int:
        """Kill those operations and sessions."""
        return self._databases.end_in_flight(database)

    # Faults ---------------------------------------------------------------------------------------------------------

    def kill_primary(self) -> str:
        """Kill the primary (SIGKILL); the others elect another."""
        return self._take_away("killed", "kill")

    def stop_primary(self) -> str:
        """Stop the primary in good order: it hands over first."""
        return self._take_away("stopped", "stop")

    def pause_primary(self) -> str:
        """Freeze the primary: its connections stay open and silent."""
        return self._take_away("paused", "pause")

    def cut_off_primary(self) -> str:
        """Cut the primary off from clients and nodes: it goes on, and believes for a while that it leads."""
        return self._take_away("cut off", "cut_off")

    def step_down(self) -> str:
        """Make the primary hand over, without waiting for anybody to catch up."""
        number = self.primary()
        try:
            self._direct[number].admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=0, force=True)
        except pymongo.errors.PyMongoError as e:
            # A node that steps down may close the connection instead of answering. Connections are closed for other reasons
            # as well, so it is asked whether it leads. A subclass says that the node was not reached, or did not lead.
            if type(e) is not pymongo.errors.AutoReconnect or self._still_leads(number):
                raise problem(e) from e
        self._let_stand()
        return f"{self._nodes[number].address}, the primary, stepped down"

    def hold_replication(self) -> str:
        """Keep every secondary from fetching what the primary does, until `release_replication`, whichever node leads by then.

        On a machine that stalls for a second, the others would elect another, and a fault would take that one away: nothing would
        be lost. So those that are held do not stand for election until a fault takes the primary away.
        """
        leader = self.primary()
        self._set(leader)
        return self._hold([number for number in self._at_work() if number != leader])

    def hold_one_secondary(self) -> str:
        """Keep one secondary from fetching: a majority goes on, that one's data grows old."""
        return self._hold(self._secondaries()[:1])

    def release_replication(self) -> str:
        """Let the secondaries fetch again."""
        for number in sorted(self._held - self._away.keys()):
            self._clear(number)
        self._let_stand()
        return "the secondaries fetch again"

    def bring_back(self) -> str:
        """Start, wake or reconnect the nodes that are not at work, let them fetch, and wait until all follow one primary."""
        back = sorted(self._away)
        for number in back:
            node, what = self._nodes[number], self._away.pop(number)
            {"killed": node.start, "stopped": node.start, "paused": node.resume, "cut off": node.reconnect}[what]()
            if what in ("killed", "stopped"):
                self._held.discard(number)  # it starts without the failpoint
                self._frozen.discard(number)
            elif number in self._held:
                self._clear(number)
        self._let_stand()
        self._await_health()
        return f"{', '.join(self._nodes[n].address for n in back) or 'nobody'} came back"

    def recover(self) -> None:
        """Undo every fault that is still in force."""
        self.release_replication()
        self.bring_back()

    # The set --------------------------------------------------------------------------------------------------------

    def primary(self) -> int:
        """Return the number of the node that leads, waiting for an election if there is none.

        A primary that was just cut off may still believe that it leads; the one of the latest election counts.
        """
        found: list[tuple[Any, int]] = []

        def leads() -> bool:
            found.clear()
            for number in self._at_work():
                hello = self._hello(number)
                if hello.get("isWritablePrimary"):
                    found.append((hello["electionId"], number))
            return bool(found)

        self._until(leads, "has no primary")
        return max(found)[1]

    def close(self) -> None:
        """End the nodes and remove their data."""
        self.client.close()
        for direct in self._direct:
            direct.close()
        self._dispose()

    def _at_work(self) -> list[int]:
        return [number for number in range(len(self._nodes)) if number not in self._away]

    def _secondaries(self) -> list[int]:
        primary = self.primary()
        return [number for number in self._at_work() if number != primary]

    def _take_away(self, what: str, deed: str) -> str:
        number = self.primary()
        getattr(self._nodes[number], deed)()
        self._away[number] = what
        self._let_stand()
        return f"{self._nodes[number].address}, the primary, was {what}"

    def _hold(self, numbers: Sequence[int]) -> str:
        for number in numbers:
            self._freeze(number)
        for number in numbers:
            times = self._set(number) + 1
            self._until(partial(self._stands_still, number, times), "does not stop replicating")
        return f"{', '.join(self._nodes[n].address for n in numbers)} fetched no more"

    def _stands_still(self, number: int, times: int) -> bool:
        """Whether it came to the failpoint so many times, or leads by now: a primary fetches nothing."""
        try:
            self._direct[number].admin.command("waitForFailPoint", HOLD, timesEntered=times, maxTimeMS=1000)
        except pymongo.errors.ExecutionTimeout:
            return bool(self._hello(number).get("isWritablePrimary"))
        except pymongo.errors.PyMongoError as e:
            raise problem(e) from e
        return True

    def _set(self, number: int) -> int:
        entered = int(self._command(number, {"configureFailPoint": HOLD, "mode": "alwaysOn"}).get("count", 0))
        self._held.add(number)
        return entered

    def _clear(self, number: int) -> None:
        self._command(number, {"configureFailPoint": HOLD, "mode": "off"})
        self._held.discard(number)

    def _freeze(self, number: int) -> None:
        """Keep a node from standing for election. One that leads has no need of it; one that stands just now is waited for."""
        self._frozen.add(number)
        self._until(
            lambda: self._stand(number, FROZEN) or bool(self._hello(number).get("isWritablePrimary")), "does not end an election"
        )

    def _let_stand(self) -> None:
        for number in sorted(self._frozen - self._away.keys()):
            self._stand(number, 0)
            self._frozen.discard(number)

    def _stand(self, number: int, never_for: int) -> bool:
        """Tell a node for how many seconds it is not to stand for election; return false if it leads, or stands just now."""
        try:
            self._command(number, {"replSetFreeze": never_for})
        except EnvironmentProblem as e:
            if not (isinstance(e.__cause__, pymongo.errors.OperationFailure) and e.__cause__.code == NOT_SECONDARY):
                raise
            return False
        return True

    def _command(self, number: int, command: dict[str, Any]) -> dict[str, Any]:
        admin = self._direct[number].admin
        try:
            try:
                done: dict[str, Any] = admin.command(command)
            except pymongo.errors.AutoReconnect:  # a node that rolls back or steps down closes the connections it had
                done = admin.command(command)
        except pymongo.errors.PyMongoError as e:
            raise problem(e) from e
        return done

    def _hello(self, number: int) -> dict[str, Any]:
        try:
            with pymongo.timeout(1.0):
                hello: dict[str, Any] = self._direct[number].admin.command("hello")
        except pymongo.errors.PyMongoError:
            return {}
        return hello

    def _still_leads(self, number: int) -> bool:
        answer: dict[str, Any] = {}

        def answers() -> bool:
            answer.update(self._hello(number))
            return bool(answer)

        self._until(answers, "does not say who leads")
        return bool(answer["isWritablePrimary"])

    def _await_health(self) -> None:
        def healthy() -> bool:
            hellos = [self._hello(number) for number in self._at_work()]
            leading = sum(bool(h.get("isWritablePrimary")) for h in hellos)
            return leading == 1 and all(h.get("isWritablePrimary") or h.get("secondary") for h in hellos)

        self._until(healthy, "is not at work")

    def _until(self, reached: Callable[[], bool], trouble: str) -> None:
        limit = time.monotonic() + START_LIMIT
        while not reached():
            if time.monotonic() > limit:
                raise EnvironmentProblem(f"the replica set {trouble} after {START_LIMIT:.0f} s; is the machine overloaded?")
            time.sleep(0.02)  # between two questions; the answer is the condition


def _client(uri: str) -> pymongo.MongoClient[Any]:
    return pymongo.MongoClient(uri, appname=CONTROL, serverSelectionTimeoutMS=20_000)
