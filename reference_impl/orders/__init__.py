"""Orders with an advance, discounts, installments, cancellation and refunds, and the migration that cleans up old orders.

`rules` holds what is true on any store, `requests` what clients may ask. `postgres` is the implementation to copy and
`postgres_locking` another correct one; `broken_postgres` holds the ways to get it wrong, each a few lines away.
"""
