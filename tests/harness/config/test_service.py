"""A service is described in one file, and every mistake in it names file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.placeholders import dig, fill, placeholders
from harness.config.service import load_service
from harness.model import UsageError

GOOD = """
[target]
url = "http://127.0.0.1:3000"
headers = { Authorization = "Bearer ${SERVICE_TOKEN}" }
timeout = 2

[operations.create]
path = "/companies/{company}/invoices"
headers = { Idempotency-Key = "{token}" }
body = { amount = "{amount}", reference = "ref {token}" }
refused = [409]
answer = { number = "invoice.number", text = "invoice.text" }
constants = { scope = "{company}/invoice" }

[store]
postgres = "postgresql://127.0.0.1/shop"
disposable = "shop"

[books.documents]
sql = "SELECT id::text, number FROM invoices"

[[runs]]
scenario = "concurrent_creates"
clients = 8
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "racegate.toml"
    path.write_text(text)
    return path


def test_a_whole_file_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "s3cr3t")

    config = load_service(written(tmp_path, GOOD))

    assert config.target.headers == {"Authorization": "Bearer s3cr3t"}
    assert config.target.timeout == 2.0
    assert config.operations["create"].refused == (409,)
    assert config.books["documents"].sql == "SELECT id::text, number FROM invoices"
    assert [(run.scenario, run.clients, run.ops) for run in config.runs] == [("concurrent_creates", 8, 500)]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('url = "http', 'uri = "http', r":3: target.uri is not known; did you mean 'url'"),
        ("timeout = 2", 'timeout = "soon"', r":5: target.timeout is a number, not 'soon'"),
        ("timeout = 2", "timeout = 0", r":5: target.timeout must be more than 0"),
        ("refused = [409]", "refused = 409", r":11: operations.create.refused is a list, not 409"),
        ('path = "/companies/{company}/invoices"', "", r"operations.create.path is missing"),
        ("[books.documents]", "[books.document]", r"books.document is not a canonical table; did you mean 'documents'"),
        ('sql = "SELECT id::text, number FROM invoices"', "", r"books.documents needs either sql or collection"),
        ("[store]", "[stores]", r"stores is not a section; did you mean 'store'"),
        ('disposable = "shop"', 'mongo = "mongodb://h/x"', r"store.mongo contradicts store.postgres"),
        ("clients = 8", "clients = true", r"runs.1.clients is a whole number, not True"),
        ("[target]", "[target", r"is not TOML"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, says: str
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "s3cr3t")

    with pytest.raises(UsageError, match=says) as error:
        load_service(written(tmp_path, GOOD.replace(old, new, 1)))
    assert "\n" not in str(error.value)


def test_a_variable_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVICE_TOKEN", raising=False)

    with pytest.raises(UsageError, match="target.headers.*needs the environment variable SERVICE_TOKEN, which is not set"):
        load_service(written(tmp_path, GOOD))


def test_a_file_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="racegate init proposes one"):
        load_service(tmp_path / "missing.toml")


def test_a_placeholder_alone_keeps_its_type_and_among_others_becomes_text() -> None:
    template = {"amount": "{amount}", "note": "{amount} for {company}", "lines": ["{amount}", 7]}

    assert fill(template, {"amount": 5, "company": "acme"}) == {"amount": 5, "note": "5 for acme", "lines": [5, 7]}
    assert placeholders(template) == {"amount", "company"}


def test_an_argument_that_does_not_exist_is_named() -> None:
    with pytest.raises(UsageError, match=r"no argument \{amuont\}; did you mean 'amount'"):
        fill("{amuont}", {"amount": 5})


@pytest.mark.parametrize(("path", "found"), [("a.b.1", "y"), ("a.b.9", None), ("a.x", None), ("a.b.0.c", None), ("n", 3)])
def test_an_answer_is_read_by_a_dotted_path(path: str, found: object) -> None:
    assert dig({"a": {"b": ["x", "y"]}, "n": 3}, path) == found
