"""Sales at branches: stock, credit, discounts, prices, and one series of invoice numbers per branch and day.

`rules` holds what is true on any store, `requests` what clients may ask. `postgres` is the implementation to copy;
`broken_postgres` holds the ways to get it wrong, each a few lines away.
"""
