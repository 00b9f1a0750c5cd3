"""Hooks, options and fixtures. Imports nothing heavy: this is read by every pytest session, whether it races or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.plugin.races import Defaults, Races
    from harness.run.stores import Stores
    from harness.stores.base import Database, Store

ENGINES = ("explore", "stress")
MARKER = (
    "racegate(budget, engine, seed, times): how races of this test are run: seconds (or '30s') for each, explore or stress for "
    "racegate.check, the seed of what is drawn, rounds of stress"
)
CONNECTIONS = 100


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command line options."""
    group = parser.getgroup("racegate", "races on real databases")
    group.addoption("--racegate-postgres", default="embedded", metavar="STORE", help="embedded, container, or a URL")
    group.addoption("--racegate-mongo", default="embedded", metavar="STORE", help="embedded, container, or a URL")
    group.addoption(
        "--racegate-disposable", metavar="NAME", help="the name of the database in the URL, repeated: yes, it may be wiped"
    )
    group.addoption("--racegate-budget", metavar="TIME", help="seconds for each race, instead of every marker's: 30s, 2m")
    group.addoption("--racegate-engine", choices=ENGINES, help="what racegate.check does, instead of every marker's")
    group.addoption("--racegate-seed", type=int, metavar="N", help="the seed of what is drawn; default: 0")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture(scope="session")
def racegate_stores(pytestconfig: pytest.Config) -> Iterator[Stores]:
    """The servers of this session, each started when first needed. Every xdist worker has its own."""
    from harness.run.stores import Stores  # noqa: PLC0415 - heavy
    from harness.stores import StoreOptions  # noqa: PLC0415
    from harness.stores.base import StoreKind  # noqa: PLC0415

    specs = {
        StoreKind.POSTGRES: str(pytestconfig.getoption("--racegate-postgres")),
        StoreKind.MONGO: str(pytestconfig.getoption("--racegate-mongo")),
    }
    options = StoreOptions(connections=CONNECTIONS, disposable=pytestconfig.getoption("--racegate-disposable"))
    with Stores(specs, options) as stores:
        yield stores


@pytest.fixture(scope="session")
def racegate_postgres_store(racegate_stores: Stores) -> Store:
    """A PostgreSQL server."""
    return racegate_stores.get("postgres")


@pytest.fixture(scope="session")
def racegate_mongo_store(racegate_stores: Stores) -> Store:
    """A MongoDB replica set."""
    return racegate_stores.get("mongo")


@pytest.fixture
def racegate_postgres(racegate_postgres_store: Store) -> Iterator[Database]:
    """A fresh PostgreSQL database, dropped after the test."""
    database = racegate_postgres_store.create_database()
    yield database
    racegate_postgres_store.drop_database(database)


@pytest.fixture
def racegate_mongo(racegate_mongo_store: Store) -> Iterator[Database]:
    """A fresh MongoDB database, dropped after the test."""
    database = racegate_mongo_store.create_database()
    yield database
    racegate_mongo_store.drop_database(database)


@pytest.fixture
def racegate(request: pytest.FixtureRequest, racegate_stores: Stores, tmp_path: Path) -> Iterator[Races]:
    """Races as tests: ``racegate.explore``, ``racegate.stress``, ``racegate.replay`` and ``racegate.check``."""
    from harness.plugin.races import Races  # noqa: PLC0415 - heavy
    from harness.plugin.saved import SavedSchedules  # noqa: PLC0415

    opened: list[Database] = []

    def fresh() -> Database:
        opened.append(racegate_stores.get("postgres").create_database())
        return opened[-1]

    yield Races(
        request.node.nodeid,
        stores=racegate_stores,
        database=fresh,
        saved=SavedSchedules(_folder(request.config)),
        defaults=_defaults(request.node, request.config.getoption),
        out=tmp_path / "racegate",
    )
    for database in opened:
        racegate_stores.get("postgres").drop_database(database)


def _folder(config: pytest.Config) -> Path | None:
    """Return where schedules are kept: pytest's own cache, unless that is switched off."""
    cache: Any = getattr(config, "cache", None)
    return None if cache is None else Path(cache.mkdir("racegate"))


def _defaults(node: Any, option: Callable[[str], Any]) -> Defaults:
    """Return what the markers say, the nearest first, and what the command line says instead."""
    from harness.config.durations import parse_seconds  # noqa: PLC0415
    from harness.plugin.races import Defaults  # noqa: PLC0415

    chosen: dict[str, Any] = {}
    for marker in node.iter_markers("racegate"):
        if marker.args or not marker.kwargs.keys() <= {"budget", "engine", "seed", "times"}:
            raise pytest.UsageError(f"{node.nodeid}: the marker is racegate(budget=..., engine=..., seed=..., times=...)")
        chosen = {**marker.kwargs, **chosen}
    for name in ("budget", "engine", "seed"):
        if (value := option(f"--racegate-{name}")) is not None:
            chosen[name] = value
    if chosen.get("engine", "explore") not in ENGINES:
        raise pytest.UsageError(f"{node.nodeid}: no engine is called {chosen['engine']!r}; there are: {', '.join(ENGINES)}")
    if "budget" in chosen:
        try:
            chosen["budget"] = parse_seconds(str(chosen["budget"]))
        except ValueError as e:
            raise pytest.UsageError(f"{node.nodeid}: the budget of a race: {e}") from e
    return Defaults(**chosen)
