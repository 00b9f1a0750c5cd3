"""Term payments: an assessment split into terms, payments that await approval, approvals, refunds and webhooks.

`rules` holds what is true on any store, `requests` what clients may ask. `postgres` and `mongo` are the correct
implementations; the modules named ``broken_*`` beside them are the ways to get it wrong, each a few lines away.
"""
