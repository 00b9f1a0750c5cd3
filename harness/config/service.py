"""``racegate.toml``: a service in any language, described in one file.

The file says where the service is, how each operation is a request, how its answer is to be read, how the books are read
from its database, and what to run. Every error names the file, the key and, where it can be found, the line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from harness.config.placeholders import with_environment
from harness.model.books import TABLES
from harness.model.errors import UsageError, nearest

DEFAULT_FILE = "racegate.toml"


@dataclass(frozen=True, kw_only=True)
class ServiceSection:
    """Where the service is. ``timeout`` and ``start_limit`` are seconds.

    ``command`` starts it (with the database's URL in the environment variable ``database_variable``); ``health`` is a path
    that answers 2xx once it is ready.
    """

    url: str
    command: tuple[str, ...] = ()
    directory: str = "."
    environment: Mapping[str, str] = field(default_factory=dict)
    database_variable: str = "DATABASE_URL"
    health: str = "/"
    timeout: float = 10.0
    start_limit: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OperationSection:
    """How one operation is a request, and what its answer means.

    Statuses that no list names mean what `harness.targets.classify` says of them. ``answer`` maps our names (``number``,
    ``text``, ``scope``, ``period``, ``document``, ``amount``) to dotted paths in the JSON answer; ``constants`` maps them to
    templates over the arguments.
    """

    path: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    ok: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    retryable: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()
    answer: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoreSection:
    """The service's database. It is written to by the service, so its owner repeats its name in ``disposable``."""

    postgres: str | None = None
    mongo: str | None = None
    disposable: str | None = None


@dataclass(frozen=True, kw_only=True)
class BooksSection:
    """How one canonical table is read: a SELECT, or a collection with an aggregation pipeline."""

    sql: str | None = None
    collection: str | None = None
    pipeline: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunSection:
    """One thing to run. ``settings`` are the scenario's."""

    scenario: str
    clients: int = 16
    ops: int = 500
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """A whole ``racegate.toml``."""

    service: ServiceSection
    operations: Mapping[str, OperationSection]
    store: StoreSection = field(default_factory=StoreSection)
    books: Mapping[str, BooksSection] = field(default_factory=dict)
    policy: str | Mapping[str, Any] | None = None
    runs: tuple[RunSection, ...] = ()


def load_service(path: Path) -> ServiceConfig:
    """Read and check a configuration file; environment variables are filled in.

    Raises:
        UsageError: the file cannot be read, is not TOML, or says something that makes no sense.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"the configuration {path} cannot be read: {e}; racegate init proposes one") from e
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{path} is not TOML: {e}") from e
    return _Reader(path, text).config(document)


class _Reader:
    """Turns a TOML document into the sections, and complains with file, line and key."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()

    def config(self, document: Mapping[str, Any]) -> ServiceConfig:
        known = [f.name for f in fields(ServiceConfig)]
        for key in document:
            if key not in known:
                raise self.wrong(key, f"is not a section{nearest(key, known)}; there are: {', '.join(known)}")
        if "service" not in document:
            raise self.wrong("service", 'is missing; add [service] with url = "http://127.0.0.1:3000"')
        operations = self._named(document, "operations", OperationSection)
        if not operations:
            raise self.wrong("operations", "is missing; add for example [operations.create] with a path and a body")
        books = self._named(document, "books", BooksSection)
        for table, section in books.items():
            if table not in TABLES:
                raise self.wrong(f"books.{table}", f"is not a canonical table{nearest(table, TABLES)}")
            if (section.sql is None) == (section.collection is None):
                raise self.wrong(f"books.{table}", "needs either sql or collection")
        runs = document.get("runs", [])
        if not isinstance(runs, list):
            raise self.wrong("runs", "is written [[runs]]: a list of tables")
        policy = document.get("policy")
        if policy is not None and not isinstance(policy, str | Mapping):
            raise self.wrong("policy", 'is a name (policy = "gapless") or a table of fields')
        store = self.section("store", document.get("store", {}), StoreSection)
        if store.postgres is not None and store.mongo is not None:
            raise self.wrong("store.mongo", "contradicts store.postgres: the books are read from one database")
        if books and store.postgres is None and store.mongo is None:
            raise self.wrong("store", "is missing: the books are read from it; add postgres = URL or mongo = URL")
        return ServiceConfig(
            service=self.section("service", document["service"], ServiceSection),
            operations=operations,
            store=store,
            books=books,
            policy=policy,
            runs=tuple(self.section(f"runs.{n}", run, RunSection) for n, run in enumerate(runs, start=1)),
        )

    def _named(self, document: Mapping[str, Any], key: str, section: Any) -> dict[str, Any]:
        group = document.get(key, {})
        if not isinstance(group, Mapping):
            raise self.wrong(key, f"is a group of tables: [{key}.NAME]")
        return {name: self.section(f"{key}.{name}", value, section) for name, value in group.items()}

    def section(self, where: str, value: Any, section: Any) -> Any:
        """Return the table ``value`` as the dataclass ``section``."""
        if not isinstance(value, Mapping):
            raise self.wrong(where, "is a table")
        hints = get_type_hints(section)
        declared = {f.name: f for f in fields(section)}
        for key in value:
            if key not in declared:
                raise self.wrong(f"{where}.{key}", f"is not known{nearest(key, declared)}; there are: {', '.join(declared)}")
        for name, item in declared.items():
            if name not in value and item.default is MISSING and item.default_factory is MISSING:
                raise self.wrong(f"{where}.{name}", "is missing")
        filled = {key: self.typed(f"{where}.{key}", item, hints[key]) for key, item in value.items()}
        return section(**{key: with_environment(item, f"{self._path}: {where}.{key}") for key, item in filled.items()})

    def typed(self, where: str, value: Any, kind: Any) -> Any:
        """Return the value if it is of the kind that the field declares."""
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is UnionType:
            kinds = [k for k in arguments if k is not NoneType]
            return self.typed(where, value, kinds[0])
        if origin is tuple:
            if not isinstance(value, list):
                raise self.wrong(where, f"is a list, not {value!r}")
            return tuple(self.typed(where, item, arguments[0]) for item in value)
        if origin is not None and issubclass(origin, Mapping):
            if not isinstance(value, Mapping):
                raise self.wrong(where, f"is a table, not {value!r}")
            return {k: v if arguments[1] is Any else self.typed(f"{where}.{k}", v, arguments[1]) for k, v in value.items()}
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(where, f"is {_ARTICLES[kind]}, not {value!r}")
        if kind in (int, float) and value <= 0:
            raise self.wrong(where, f"must be more than 0, not {value!r}")
        return value

    def wrong(self, where: str, what: str) -> UsageError:
        """Return the error, with the line on which the key stands if it can be found."""
        line = self._line_of(where)
        return UsageError(f"{self._path}{f':{line}' if line else ''}: {where} {what}")

    def _line_of(self, where: str) -> int | None:
        *tables, key = where.split(".")
        inside = not tables
        header = re.compile(r"^\s*\[+\s*([^\]]+?)\s*\]+")
        for number, line in enumerate(self._lines, start=1):
            if found := header.match(line):
                name = found[1].replace('"', "").replace(" ", "")
                if name == where:
                    return number
                inside = name == ".".join(t for t in tables if not t.isdigit())
            elif inside and re.match(rf"""^\s*["']?{re.escape(key)}["']?\s*[=.]""", line):
                return number
        return None


_ARTICLES: Mapping[Any, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
