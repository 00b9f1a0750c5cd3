"""Any variant as an HTTP service: each operation is a POST, each "no" a typed error, each token an ``Idempotency-Key``.

`provider` is what others find through an entry point, `app` the routes, `body` how a request is read, `problems` how errors
become answers, `lines` the connection pool, `schemas` the OpenAPI document's part on arguments.
"""

from reference_impl.service.provider import SERVICE

__all__ = ["SERVICE"]
