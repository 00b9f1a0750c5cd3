from __future__ import annotations

import pytest

from harness.model.errors import UsageError
from harness.wire.opening import open_proxy


@pytest.mark.parametrize(
    ("kind", "url", "message"),
    [
        ("mysql", "mysql://x", "there is no proxy for 'mysql': it is postgres or mongo"),
        ("postgres", "mongodb://x/y", "a proxy needs a URL that begins with postgresql://, not mongodb://"),
        ("postgres", "postgresql://a,b/y", "in front of one PostgreSQL server; name one host"),
        ("mongo", "postgresql://x/y", "a proxy needs a URI that begins with mongodb://, not postgresql://"),
        ("mongo", "mongodb+srv://x/y", "a proxy needs a URI that begins with mongodb://"),
        ("mongo", "mongodb://x/y?tls=true", "the proxy speaks to MongoDB without TLS"),
        ("mongo", "mongodb://x/y?loadBalanced=true", "remove loadBalanced=true"),
        ("mongo", "mongodb://%2Ftmp%2Fm.sock/y", "reached over TCP"),
    ],
)
def test_a_url_that_no_proxy_can_stand_in_front_of_is_refused(kind: str, url: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        open_proxy(kind, url)
    assert message in str(raised.value)
