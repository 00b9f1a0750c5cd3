"""Nothing real is harmed: a URL is written to only when its owner said so twice."""

from __future__ import annotations

from urllib.parse import urlsplit

import psycopg
import pytest

from harness.model import EnvironmentProblem, UnsafeStore, UsageError
from harness.stores import Database, StoreKind, StoreOptions, open_store, redact
from harness.stores.url import check_disposable


@pytest.mark.parametrize(
    ("url", "disposable", "what"),
    [
        ("postgresql://u:pw@h/shop", None, "say so: --disposable shop"),
        ("postgresql://u:pw@h/shop", "stop", "does not name the URL's database, 'shop'; nothing was touched"),
        ("postgresql://u:pw@h/shop_prod", "shop_prod", "looks like production"),
        ("postgresql://u:pw@h/Production", "Production", "looks like production"),
        ("postgresql://u:pw@h/live-shop", "live-shop", "looks like production"),
    ],
)
def test_a_url_that_is_not_marked_is_refused(url: str, disposable: str | None, what: str) -> None:
    with pytest.raises(UnsafeStore, match=what) as error:
        check_disposable(StoreKind.POSTGRES, url, disposable)
    assert "pw" not in str(error.value)


@pytest.mark.parametrize("name", ["shop_test", "delivery", "products", "olive"])
def test_a_url_that_is_marked_is_accepted(name: str) -> None:
    assert check_disposable(StoreKind.POSTGRES, f"postgresql://u:pw@h/{name}", name) == name


@pytest.mark.parametrize(
    ("kind", "url", "what"),
    [
        (StoreKind.POSTGRES, "mysql://u:pw@h/shop", "is not a postgres URL"),
        (StoreKind.MONGO, "postgresql://u:pw@h/shop", "is not a mongo URL"),
        (StoreKind.POSTGRES, "postgresql://u:pw@h", "names no database"),
    ],
)
def test_a_url_of_another_kind_is_a_wrong_call(kind: StoreKind, url: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as error:
        check_disposable(kind, url, "shop")
    assert "pw" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        (StoreKind.POSTGRES, "postgresql://u:s3cr3t@127.0.0.1:1/scratch"),
        (StoreKind.MONGO, "mongodb://u:s3cr3t@127.0.0.1:1/scratch"),
    ],
)
def test_a_server_that_is_not_there_is_the_environments_fault(kind: StoreKind, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.stores.url.CONNECT_TIMEOUT", 1)

    with pytest.raises(EnvironmentProblem, match="cannot connect to .*127.0.0.1:1") as error:
        open_store(kind, url, StoreOptions(disposable="scratch"))
    assert "s3cr3t" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_password_is_never_printed(postgres_database: Database) -> None:
    password = urlsplit(postgres_database.url).password
    assert password is not None
    url = postgres_database.url.replace(password, "s3cr3t")

    with pytest.raises(EnvironmentProblem, match="password authentication failed") as error:
        open_store(StoreKind.POSTGRES, url, StoreOptions(disposable=postgres_database.name))
    assert "s3cr3t" not in str(error.value)


def test_runs_at_a_postgres_url_work_in_a_schema_of_their_own(postgres_database: Database) -> None:
    store = open_store(StoreKind.POSTGRES, postgres_database.url, StoreOptions(disposable=postgres_database.name))
    one, two = store.create_database(), store.create_database()
    for database in (one, two):
        with psycopg.connect(database.url) as connection:
            connection.execute("CREATE TABLE documents (n int)")

    busy = psycopg.connect(one.url)
    busy.execute("INSERT INTO documents VALUES (1)")
    assert len(store.in_flight(one)) == 1
    assert store.in_flight(two) == []
    store.drop_database(one)
    busy.close()
    store.drop_database(two)
    store.close()

    with psycopg.connect(postgres_database.url) as connection:
        left = connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'racegate%'").fetchone()
    assert left == (0,)


def test_a_mongodb_url_is_left_empty_and_serves_one_run_at_a_time(mongo_database: Database) -> None:
    import pymongo

    store = open_store(StoreKind.MONGO, mongo_database.url, StoreOptions(disposable=mongo_database.name))
    database = store.create_database()
    with pytest.raises(EnvironmentProblem, match="one run at a time"):
        store.create_database()
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(database.url)
    with client:
        client[database.name].documents.insert_one({"n": 1})
        store.drop_database(database)
        assert client[database.name].list_collection_names() == []

        client[database.name].precious.insert_one({"n": 1})
        with pytest.raises(EnvironmentProblem, match="is not empty"):
            store.create_database()
    store.close()


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://u:pa:ss@w@h/db failed", "postgresql://u:***@h/db failed"),
        ("mongodb://a:b@h1,h2/db?x=1", "mongodb://a:***@h1,h2/db?x=1"),
        ("host=h password='top secret' user=u", "host=h password=*** user=u"),
        ("https://h/?token=abc&x=1", "https://h/?token=***&x=1"),
        ("postgresql://h/db", "postgresql://h/db"),
    ],
)
def test_passwords_are_hidden_wherever_they_stand(text: str, hidden: str) -> None:
    assert redact(text) == hidden


@pytest.mark.parametrize("spec", ["embeded", "", "docker"])
def test_a_store_that_is_none_of_the_three_ways_is_a_wrong_call(spec: str) -> None:
    with pytest.raises(UsageError, match="expected embedded, container, container:IMAGE, or a URL"):
        open_store(StoreKind.POSTGRES, spec, StoreOptions())
