from __future__ import annotations

import pytest

from harness.wire.postgres.upstream import postgres_upstream


@pytest.mark.parametrize(
    ("url", "address", "path"),
    [
        ("postgresql://u:p@db:6000/shop", ("db", 6000), None),
        ("postgresql://u@/shop", ("127.0.0.1", 5432), None),
        ("postgresql://u@/shop?host=db2&port=6001", ("db2", 6001), None),
        ("postgresql://u@/shop?host=/var/run", ("/var/run", 5432), "/var/run/.s.PGSQL.5432"),
    ],
)
def test_the_server_is_found_as_a_driver_finds_it(url: str, address: tuple[str, int], path: str | None) -> None:
    upstream = postgres_upstream(url)
    assert ((upstream.host, upstream.port), upstream.path) == (address, path)


def test_the_application_gets_the_same_url_at_the_proxys_address() -> None:
    upstream = postgres_upstream("postgresql://u:p%40@db:6000/shop?sslmode=prefer&options=-c%20x%3D1&host=db2")
    assert upstream.url(7) == "postgresql://u:p%40@127.0.0.1:7/shop?options=-c%20x%3D1"
    assert upstream.shown(7) == "postgresql://u@127.0.0.1:7/shop"
