"""``racegate.toml``: a service in any language, described in one file.

The file says where the service is, how each operation is a request, how its answer is to be read, how the books are read
from its database, and what to run. Every error names the file, the line and the key, on one line.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from harness.config.placeholders import variables, with_environment
from harness.config.policy import policy_from, policy_names
from harness.config.sections import (
    BooksSection,
    OperationSection,
    RunSection,
    ServiceConfig,
    StoreSection,
    TargetSection,
)
from harness.config.toml_lines import key_lines, line_of
from harness.model.books import TABLES
from harness.model.errors import UsageError, nearest
from harness.model.policy import Policy
from harness.stores.redaction import conceal

DEFAULT_FILE = "racegate.toml"
SECTIONS = ("target", "login", "operations", "store", "books", "policy", "runs", "gate")
ENCODINGS = ("json", "form")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def load_service(path: Path, *, without: Collection[str] = ()) -> ServiceConfig:
    """Read and check a configuration file; environment variables are filled in, and kept out of everything that is printed.

    Args:
        path: of the file.
        without: sections that are not needed and not read: an audit needs no service, nor the secrets that it takes.

    Raises:
        UsageError: the file cannot be read, is not TOML, or says something that makes no sense.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise UsageError(f"the configuration {path} cannot be read: {e.strerror}; racegate init proposes one") from e
    except ValueError as e:  # not UTF-8, or a name that no file can have
        raise UsageError(f"the configuration {path} cannot be read: {e}; it is a text file in UTF-8") from e
    return parse_service(text, path, without=without)


def parse_service(text: str, path: Path, *, without: Collection[str] = ()) -> ServiceConfig:
    """Check the text of a configuration file. Raises UsageError as `load_service` does."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        where = re.search(r"\(at line (\d+), column (\d+)\)", str(e))
        line = f":{where[1]}" if where else ""
        raise UsageError(" ".join(f"{path}{line} is not TOML: {e or 'it is nested too deeply'}".split())) from e
    return _Reader(path, text, without).config({key: value for key, value in document.items() if key not in without})


def policy_of(config: ServiceConfig, default: str) -> Policy | str:
    """Return the configuration's policy, or the name of one. Raises UsageError as `harness.config.policy` does."""
    if config.policy is None:
        return default
    if isinstance(config.policy, str):
        beside = Path(config.file).parent / config.policy  # a file is named from where the configuration lies
        return str(beside) if config.policy.endswith(".toml") and beside.is_file() else config.policy
    return policy_from(config.policy, where=f"{config.file}: policy")


class _Reader:
    """Turns a TOML document into the sections, and complains with file, line and key."""

    def __init__(self, path: Path, text: str, without: Collection[str]) -> None:
        self._path = path
        self._without = without
        self._lines = key_lines(text)

    def config(self, document: Mapping[str, Any]) -> ServiceConfig:
        for key in document:
            if key not in SECTIONS:
                raise self.wrong(key, f"is not a section{nearest(key, SECTIONS)}; there are: {', '.join(SECTIONS)}")
        operations = self._named(document, "operations", OperationSection)
        books = self._named(document, "books", BooksSection)
        runs = document.get("runs", [])
        if not isinstance(runs, list):
            raise self.wrong("runs", "is written [[runs]]: a list of tables")
        config = ServiceConfig(
            target=self.section("target", document["target"], TargetSection) if "target" in document else None,
            login=self.section("login", document["login"], OperationSection) if "login" in document else None,
            operations=operations,
            store=self.section("store", document.get("store", {}), StoreSection),
            books=books,
            policy=document.get("policy"),
            runs=tuple(self.section(f"runs.{n}", run, RunSection) for n, run in enumerate(runs, start=1)),
            secrets=tuple(conceal(variables(document))),
            file=str(self._path),
        )
        self._check(config)
        return config

    def _check(self, config: ServiceConfig) -> None:
        """Check what single values cannot show."""
        if not self._without and config.target is None and config.store == StoreSection() and not config.books:
            raise self.wrong("target", 'is missing; add [target] with url = "http://127.0.0.1:3000"')
        if config.target is not None:
            self._check_target(config.target)
            if not config.operations:
                raise self.wrong("operations", "is missing; add for example [operations.create] with a path and a body")
        if config.store.postgres is not None and config.store.mongo is not None:
            raise self.wrong("store.mongo", "contradicts store.postgres: the books are read from one database")
        for name, section in (*((f"operations.{n}", s) for n, s in config.operations.items()), ("login", config.login)):
            if section is not None:
                self._check_operation(name, section)
        for table, book in config.books.items():
            self._check_book(table, book, config.store)
        self._check_policy(config.policy)

    def _check_target(self, target: TargetSection) -> None:
        try:
            parts = urlsplit(target.url)
            fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
        except ValueError:
            fine = False
        if not fine:
            raise self.wrong("target.url", "is not the URL of a service, such as http://127.0.0.1:3000")
        if parts.port == 0 and not target.command:
            raise self.wrong("target.url", "has port 0, which only a service that racegate starts can have; add a command")
        if isinstance(target.command, str):
            try:
                shlex.split(target.command)
            except ValueError as e:
                raise self.wrong("target.command", f"is not a command: {e}") from e
        if not target.health.startswith("/"):
            raise self.wrong("target.health", "is a path and begins with /")
        for pattern in target.background:
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as e:
                raise self.wrong("target.background", f"is not a regular expression: {e}") from e

    def _check_operation(self, name: str, section: OperationSection) -> None:
        if not section.path.startswith("/"):
            raise self.wrong(f"{name}.path", "is a path and begins with /")
        if section.method.upper() not in METHODS:
            raise self.wrong(f"{name}.method", f"is one of {', '.join(METHODS)}{nearest(section.method.upper(), METHODS)}")
        if section.encoding not in ENCODINGS:
            raise self.wrong(f"{name}.encoding", f"is json or form{nearest(section.encoding, ENCODINGS)}")
        seen: dict[int, str] = {}
        for key in ("ok", "refused", "retryable", "unknown"):
            for status in getattr(section, key):
                if not 100 <= status <= 599:
                    raise self.wrong(f"{name}.{key}", f"holds HTTP statuses from 100 to 599, not {status}")
                if seen.setdefault(status, key) != key:
                    raise self.wrong(f"{name}.{key}", f"says {status}, which {name}.{seen[status]} says too; choose one")

    def _check_book(self, table: str, book: BooksSection, store: StoreSection) -> None:
        where = f"books.{table}"
        if table not in TABLES or table == "inexact":
            raise self.wrong(where, f"is not a canonical table{nearest(table, TABLES)}; there are: {', '.join(TABLES)}")
        if (book.sql is None) == (book.collection is None):
            raise self.wrong(where, "needs either sql or collection")
        if book.sql is not None and not book.sql.strip().rstrip(";"):
            raise self.wrong(f"{where}.sql", "is empty")
        if book.sql is not None and book.pipeline:
            raise self.wrong(f"{where}.pipeline", "belongs to a collection, and this table is read by sql")
        if book.sql is not None and store.mongo is not None:
            raise self.wrong(f"{where}.sql", "is for PostgreSQL, and store.mongo is MongoDB; use collection and pipeline")
        if book.collection is not None and store.postgres is not None:
            raise self.wrong(f"{where}.collection", "is for MongoDB, and store.postgres is PostgreSQL; use sql")

    def _check_policy(self, policy: Any) -> None:
        if policy is None:
            return
        if isinstance(policy, Mapping):
            try:
                policy_from(policy, where="policy")
            except UsageError as e:
                key = next((k for k in policy if re.search(rf"\b{re.escape(k)}\b", str(e))), None)
                line = line_of(self._lines, f"policy.{key}" if key else "policy")
                raise UsageError(" ".join(f"{self._path}{f':{line}' if line else ''}: {e}".split())) from e
            return
        if not isinstance(policy, str):
            raise self.wrong("policy", 'is a name (policy = "gapless") or a table of fields')
        if not policy.endswith(".toml") and "/" not in policy and policy not in policy_names():
            raise self.wrong("policy", f"is not a policy's name{nearest(policy, policy_names())}; see: racegate list policies")

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
        return section(**{key: with_environment(item, self._at(f"{where}.{key}")) for key, item in filled.items()})

    def typed(self, where: str, value: Any, kind: Any) -> Any:
        """Return the value if it is of the kind that the field declares."""
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is UnionType:
            kinds = [k for k in arguments if k is not NoneType]
            if len(kinds) > 1 and isinstance(value, list) == (kinds[0] is str):
                return self.typed(where, value, kinds[1])
            return self.typed(where, value, kinds[0])
        if origin is tuple:
            if not isinstance(value, list):
                raise self.wrong(where, f"is a list, not {_shown(value)}")
            return tuple(self.typed(where, item, arguments[0]) for item in value)
        if origin is not None and issubclass(origin, Mapping):
            if not isinstance(value, Mapping):
                raise self.wrong(where, f"is a table, not {_shown(value)}")
            return {k: v if arguments[1] is Any else self.typed(f"{where}.{k}", v, arguments[1]) for k, v in value.items()}
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            try:
                value = float(value)
            except OverflowError:
                raise self.wrong(where, "is too large a number") from None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(where, f"is {_ARTICLES[kind]}, not {_shown(value)}")
        if kind in (int, float) and not 0 < value < 1e12:
            raise self.wrong(where, f"must be more than 0{' and less than 10^12' if value > 0 else ''}, not {value!r}")
        if kind is str and not value and not _MAY_BE_EMPTY.search(where):
            raise self.wrong(where, "is empty")
        return value

    def _at(self, where: str) -> str:
        line = line_of(self._lines, where)
        return f"{self._path}{f':{line}' if line else ''}: {where}"

    def wrong(self, where: str, what: str) -> UsageError:
        """Return the error, with the line on which the key stands if it can be found."""
        return UsageError(" ".join(f"{self._at(where)} {what}".split()))


_MAY_BE_EMPTY = re.compile(r"\.(environment|headers|constants|refused_when)\.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_ARTICLES: Mapping[Any, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
