"""The published schema agrees with what is read, and a configuration that breaks it gets one clear line."""

from __future__ import annotations

import copy
import json
import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.cli.main import main
from harness.config.published import config_schema
from harness.config.service import parse_service
from harness.model import UsageError
from tests.harness.config.toml_writer import as_toml

FILE = Path("racegate.toml")

GOOD: dict[str, Any] = {
    "policy": {"name": "ours", "format": "INV-{00000}", "continuity": "gapless", "budget": {"normal": 0.01}},
    "target": {
        "url": "http://127.0.0.1:3000",
        "command": ["node", "server.mjs"],
        "directory": ".",
        "environment": {"A": "b"},
        "database_variable": "DATABASE_URL",
        "port_variable": "PORT",
        "health": "/health",
        "timeout": 5.5,
        "start_limit": 20,
        "headers": {"Authorization": "Bearer x"},
        "background": ["SELECT 1"],
    },
    "login": {"path": "/login", "body": {"user": "u{client}"}, "encoding": "form"},
    "operations": {
        "create": {
            "path": "/companies/{company}/invoices",
            "method": "POST",
            "headers": {"Idempotency-Key": "{token}"},
            "body": {"amount": "{amount}"},
            "ok": [201],
            "refused": [409, 422],
            "retryable": [429],
            "unknown": [503],
            "refused_when": {"success": "false"},
            "answer": {"number": "invoice.number"},
            "constants": {"scope": "{company}"},
        }
    },
    "store": {"postgres": "postgresql://127.0.0.1/shop", "disposable": "shop"},
    "books": {
        "documents": {"sql": "SELECT id, number FROM invoices", "source": "invoices", "key": "id"},
        "payments": {"sql": "SELECT id FROM payments"},
    },
    "runs": [{"scenario": "concurrent_creates", "clients": 8, "ops": 100, "settings": {"scopes": 2}}],
}


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*at, key)
        yield from paths(item, (*at, key))


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


WRONG: tuple[Any, ...] = (True, -3, 0, 2.5, "", "no such thing", [], [True], {}, {"zzz": 1}, 10**30, "${NOT_SET_ANYWHERE}")


def broken(count: int) -> list[tuple[str, dict[str, Any]]]:
    """Return so many configurations that differ from a good one in one place and do not fit the schema any more."""
    chance, validator = random.Random(20261121), jsonschema.Draft202012Validator(config_schema())
    places, found = sorted(paths(GOOD), key=str), {}
    while len(found) < count:
        document, path = copy.deepcopy(GOOD), chance.choice(places)
        holder = at(document, path[:-1])
        how = chance.randrange(3)
        if how == 0:
            holder[path[-1]] = chance.choice(WRONG)
        elif how == 1 and isinstance(holder, dict):
            holder[f"{path[-1]}x"] = holder.pop(path[-1])
        else:
            del holder[path[-1]]
        if not validator.is_valid(document):
            found[json.dumps(document, sort_keys=True)] = (f"{'.'.join(map(str, path))} {how}", document)
    return list(found.values())


def test_a_good_configuration_fits_the_schema_and_is_read() -> None:
    text = as_toml(GOOD)
    assert tomllib.loads(text) == GOOD
    jsonschema.validate(GOOD, config_schema())
    assert parse_service(text, FILE).target is not None


def test_two_hundred_broken_configurations_each_get_one_clear_line() -> None:
    cases = broken(200)
    assert len(cases) == 200
    for place, document in cases:
        text = as_toml(document)
        with pytest.raises(UsageError) as error:
            parse_service(text, FILE)
        said = str(error.value)
        assert said.startswith("racegate.toml"), place
        assert "\n" not in said, place
        keys = [k for k in place.split(" ")[0].split(".") if not k.isdigit()]
        assert any(k in said for k in keys), f"{place}: {said}"


def test_an_error_names_the_line_of_its_key() -> None:
    text = as_toml({**GOOD, "runs": [GOOD["runs"][0], {"scenario": "x", "clients": "many"}]})
    line = next(n for n, t in enumerate(text.splitlines(), 1) if "many" in t)
    with pytest.raises(UsageError, match=rf"^racegate.toml:{line}: runs.2.clients is a whole number, not 'many'$"):
        parse_service(text, FILE)


def test_a_key_below_a_text_of_several_lines_is_found() -> None:
    text = (
        '[target]\nurl = "http://h"\n[operations.a]\npath = "/"\n[books.documents]\nsql = """\nSELECT x\nfoo = 1\n"""\nfoo = 2\n'
    )
    with pytest.raises(UsageError, match=r"^racegate.toml:10: books.documents.foo is not known"):
        parse_service(text, FILE)


values = st.recursive(
    st.none().map(lambda _: "x") | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_whatever_stands_in_a_place_it_is_read_or_refused_in_one_line(data: st.DataObject) -> None:
    document = copy.deepcopy(GOOD)
    path = data.draw(st.sampled_from(sorted(paths(GOOD), key=str)))
    at(document, path[:-1])[path[-1]] = data.draw(values)
    text = as_toml(document)
    try:
        parse_service(text, FILE)
    except UsageError as e:
        said = str(e)
    else:
        said = ""
    assert "\n" not in said


@given(st.text() | st.binary().map(lambda b: b.decode("latin-1")))
@example("[target]\nurl = 'http://[::'")
@example("policy = 1979-05-27\n[target]\nurl='http://h'")
@example("a" * 10_000)
@example("x = " + "[" * 5_000)
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_service(text, FILE)


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "config"]) == 0
    assert json.loads(capsys.readouterr().out) == config_schema()
    assert main(["schema", "result"]) == 0
    assert json.loads(capsys.readouterr().out)["title"]
