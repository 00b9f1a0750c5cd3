"""Somebody's own service for the time of a run: its database, itself, and the state that is put back afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from harness.config.sections import ServiceConfig, TargetSection
from harness.engines.explore.scene import BEFORE, MongoScene, PostgresScene
from harness.model.errors import EnvironmentProblem, UsageError
from harness.model.scenario import StoreNeeds
from harness.run.phases import come_to_rest
from harness.run.service_process import ServiceProcess, address_for, wait_until_healthy
from harness.run.stores import Stores
from harness.stores import StoreOptions, open_store
from harness.stores.base import Database, Store, StoreKind
from harness.stores.inplace import open_in_place
from harness.stores.url import check_not_production
from harness.targets.http import HttpTarget, shown_url
from harness.wire.base import WireProxy
from harness.wire.opening import open_proxy

EXPLORE_TIMEOUT = 60.0
"""Seconds that a request may take while its statements are held."""

SHORT_LIMIT = 5.0
"""Seconds in which a service that is said to run already must answer."""


class OwnService:
    """A service described by a configuration. Use it as a context manager: what it opens and starts ends with it.

    Args:
        config: the description.
        url: where the service is, in place of what the configuration says.
        wire: hold its statements: it is given a proxy's URL in place of the database's.
        connections: how many it may need.
        say: prints one line for people.

    Raises:
        UsageError: the configuration has no target, or what it names may not be written to.
        EnvironmentProblem: the database or the service does not start or cannot be reached.
    """

    def __init__(
        self, config: ServiceConfig, *, url: str | None, wire: bool, connections: int, say: Callable[[str], None]
    ) -> None:
        if config.target is None:
            raise UsageError(f'{config.file} has no [target]; add it with url = "http://127.0.0.1:3000"')
        check_not_production(urlsplit(url or config.target.url).hostname or "", "the service's host")
        self._section: TargetSection = config.target
        self._config, self._url, self._wire, self._connections, self._say = config, url, wire, connections, say
        self._held = ExitStack()
        self.proxy: WireProxy | None = None
        self.target: HttpTarget
        self.stores: Stores

    @property
    def background(self) -> Sequence[str]:
        """Regular expressions of statements that are the service's own."""
        return self._section.background

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self._open(opening)
            self._held = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def _open(self, opening: ExitStack) -> None:
        section = self._section
        kind, spec = self._where()
        given: str | None = None
        store: Store | None = None
        database: Database | None = None
        if kind is not None:
            store, database = self._database(kind, spec, opening)
            given = database.url
            if self._wire:
                self.proxy = open_proxy(kind.value, database.url)
                opening.callback(self.proxy.close)
                given = self.proxy.url
        elif self._wire:
            raise UsageError(f"{self._config.file} has no [store], so there is no wire that could be held; add postgres or mongo")
        else:
            self._say(f"racegate: {self._config.file} has no [store]: answers alone are judged, and what is written stays")
        url = self._url or address_for(section)
        putting_back = opening.enter_context(ExitStack())  # before the start: a service of ours has ended when rows are put back
        self._start(url, given, opening)
        if store is not None and database is not None and "://" in spec:
            self._put_back_at_the_end(store, database, putting_back)
        target = HttpTarget.of(self._config, url=url, store=kind.value if kind else None)
        if self._url is not None:
            target = replace(target, label=shown_url(self._url))
        self.target = replace(target, timeout=max(target.timeout, EXPLORE_TIMEOUT)) if self._wire else target
        self.stores = _GivenStores(store, database)

    def _where(self) -> tuple[StoreKind | None, str]:
        section = self._config.store
        if section.postgres is not None:
            kind, spec = StoreKind.POSTGRES, section.postgres
        elif section.mongo is not None:
            kind, spec = StoreKind.MONGO, section.mongo
        else:
            return None, ""
        if "://" not in spec and (not self._section.command or self._url is not None):
            raise UsageError(
                f"{self._config.file}: store.{kind} = {spec!r} is a fresh database, which only a service that racegate starts "
                "can be given; add target.command (and no --target), or name the database's URL"
            )
        return kind, spec

    def _database(self, kind: StoreKind, spec: str, opening: ExitStack) -> tuple[Store, Database]:
        if "://" in spec:
            store = open_in_place(kind, spec, self._config.store.disposable)
        else:
            store = open_store(kind, spec, StoreOptions(connections=self._connections))
        opening.callback(store.close)
        database = store.create_database()
        opening.callback(store.drop_database, database)
        return store, database

    def _start(self, url: str, given: str | None, opening: ExitStack) -> None:
        section = self._section
        shown = shown_url(url)
        process: ServiceProcess | None = None
        limit = section.start_limit
        connections: Callable[[], int] | None = None
        if section.command and self._url is None:
            log = Path(opening.enter_context(tempfile.TemporaryDirectory(prefix="racegate-service-"))) / "service.log"
            root = Path(self._config.file).parent
            process = ServiceProcess(section, url=url, database_url=given, root=root, log=log)
            opening.callback(process.close)
        elif self.proxy is not None:
            self._say(f"racegate: start the service with this database (and its user's password): {self.proxy.shown}")
            self._say(
                f"racegate: waiting until {shown}{section.health} is healthy; one that runs already has to be started again"
            )
            connections = self.proxy.connections_made
        else:
            limit = min(limit, SHORT_LIMIT)
        wait_until_healthy(url, section, limit=limit, process=process, shown=shown, connections=connections)

    def _put_back_at_the_end(self, store: Store, database: Database, closing: ExitStack) -> None:
        """Remember what somebody's own database holds, and put it back when the run is over and its transactions have ended."""
        scene: PostgresScene | MongoScene
        if database.kind is StoreKind.POSTGRES:
            scene = PostgresScene(database.url, copies=BEFORE)
            if scene.left_over():
                raise EnvironmentProblem(
                    f"an earlier run on {database.name} was killed before it put the rows back; its copies are in the schema "
                    f"{BEFORE}: look at them, then DROP SCHEMA {BEFORE} CASCADE"
                )
        else:
            scene = MongoScene(database)
        scene.remember()
        closing.callback(scene.close)
        closing.callback(come_to_rest, store, database)


@dataclass
class _Given:
    """A store whose one database is there already, perhaps with rows, and stays."""

    store: Store
    database: Database
    lived_in: bool = True

    @property
    def kind(self) -> StoreKind:
        return self.store.kind

    @property
    def description(self) -> str:
        return self.store.description

    def create_database(self) -> Database:
        return self.database

    def drop_database(self, database: Database) -> None:
        """Whoever opened it drops it."""

    def in_flight(self, database: Database) -> list[str]:
        return self.store.in_flight(database)

    def end_in_flight(self, database: Database) -> int:
        return self.store.end_in_flight(database)

    def close(self) -> None:
        """Whoever opened it closes it."""


class _GivenStores(Stores):
    """The one store of a service."""

    def __init__(self, store: Store | None, database: Database | None) -> None:
        super().__init__({}, StoreOptions())
        self._given = _Given(store, database) if store is not None and database is not None else None

    def get(self, kind: str, *, logs: Path | None = None) -> Store:
        """Return it."""
        if self._given is None or self._given.kind != kind:
            raise UsageError(f"the service's configuration names no {kind} store")
        return self._given  # type: ignore[return-value]  # its kind and description are read-only

    def get_own(self, kind: str, needs: StoreNeeds, *, logs: Path | None = None) -> Store:
        """Refuse: the service works on its own server, which is not ours to hurt."""
        raise UsageError("servers are hurt on purpose only if racegate started them; a service brings its own")
