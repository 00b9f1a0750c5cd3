"""Applications that will not speak without TLS: the proxy ends it, and is trusted by a certificate of its own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psycopg
import pytest

from harness.model.errors import EnvironmentProblem, UsageError
from harness.stores import Database
from harness.wire import certificates
from harness.wire.base import WireProxy
from harness.wire.opening import open_proxy
from tests.harness.wire.watching import Watch


@pytest.fixture
def proxy(postgres_database: Database) -> Iterator[WireProxy]:
    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (a int)")
    proxy = open_proxy("postgres", postgres_database.url, tls=True)
    yield proxy
    proxy.close()


def authority(proxy: WireProxy) -> str:
    return parse_qs(urlsplit(proxy.url).query)["sslrootcert"][0]


def test_psycopg_verifies_the_proxy_and_is_held_as_without_tls(proxy: WireProxy) -> None:
    watch = Watch(proxy)
    with psycopg.connect(proxy.url) as connection:
        assert connection.pgconn.ssl_in_use
        connection.execute("INSERT INTO t VALUES (%s)", (1,))
        assert connection.execute("SELECT repeat('x', 1000000) FROM t").fetchone() == ("x" * 1_000_000,)
    assert [s.text.split()[0] for s in watch.steps()] == ["BEGIN", "INSERT", "SELECT", "COMMIT"]


def test_asyncpg_verifies_the_proxy(proxy: WireProxy) -> None:
    watch = Watch(proxy)
    plain = proxy.url.partition("?")[0]

    async def work() -> None:
        connection = await asyncpg.connect(plain, ssl=ssl.create_default_context(cafile=authority(proxy)))
        await connection.execute("INSERT INTO t VALUES (1)")
        await connection.close()

    asyncio.run(asyncio.wait_for(work(), 20))
    assert watch.texts() == ["INSERT INTO t VALUES (1)"]


def test_clients_that_do_not_ask_go_on_without(proxy: WireProxy) -> None:
    with psycopg.connect(proxy.url.partition("?")[0] + "?sslmode=disable") as connection:
        assert not connection.pgconn.ssl_in_use


def test_a_client_that_trusts_another_authority_is_refused_by_itself(proxy: WireProxy) -> None:
    other = certificates.LocalCertificate()
    try:
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            psycopg.connect(proxy.url, sslrootcert=str(other.authority))
    finally:
        other.close()
    with psycopg.connect(proxy.url):  # and the proxy goes on
        pass


def test_a_client_that_demands_binding_to_the_servers_channel_fails_by_design(proxy: WireProxy) -> None:
    with pytest.raises(psycopg.OperationalError, match="channel binding"):
        psycopg.connect(proxy.url + "&channel_binding=require")


def test_without_tls_a_client_that_requires_it_refuses(postgres_proxy: WireProxy) -> None:
    with pytest.raises(psycopg.OperationalError, match="server does not support SSL, but SSL was required"):
        psycopg.connect(postgres_proxy.url + "?sslmode=require")


def test_the_key_dies_with_the_proxy(postgres_database: Database) -> None:
    proxy = open_proxy("postgres", postgres_database.url, tls=True)
    folder = Path(authority(proxy)).parent
    assert {f.name for f in folder.iterdir()} == {"authority.pem", "key.pem"}
    assert folder.stat().st_mode & 0o077 == 0
    proxy.close()
    assert not folder.exists()


def test_a_machine_without_openssl_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EnvironmentProblem, match="needs the program openssl on PATH; install OpenSSL, or go without TLS"):
        certificates.LocalCertificate()


def test_there_is_none_for_mongodb() -> None:
    with pytest.raises(UsageError, match="for PostgreSQL alone"):
        open_proxy("mongo", "mongodb://127.0.0.1/x", tls=True)
