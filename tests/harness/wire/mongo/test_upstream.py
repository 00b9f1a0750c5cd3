from __future__ import annotations

import pytest

from harness.wire.mongo.upstream import mongo_upstream


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mongodb://u:p@db:6000/shop", ("db", 6000)),
        ("mongodb://db/shop", ("db", 27017)),
        ("mongodb://[::1]:6000/shop", ("::1", 6000)),
        ("mongodb://[::1]/shop", ("::1", 27017)),
    ],
)
def test_the_server_is_found_as_a_driver_finds_it(url: str, address: tuple[str, int]) -> None:
    upstream = mongo_upstream(url)
    assert (upstream.host, upstream.port) == address


def test_the_application_gets_the_same_uri_at_the_proxys_address() -> None:
    upstream = mongo_upstream("mongodb://u:p%40@db:6000/shop?replicaSet=rs&appName=x")
    assert upstream.url(7) == "mongodb://u:p%40@127.0.0.1:7/shop?replicaSet=rs&appName=x"
    assert upstream.shown(7) == "mongodb://u@127.0.0.1:7/shop"
