"""Numbered documents: which scope and period a document belongs to, how its number is printed, and how it is drawn.

`series` holds what is true on any store. `postgres` and `mongo` are the correct implementations; the modules named
``broken_*`` beside them are the ways to get it wrong, each a few lines away.
"""
