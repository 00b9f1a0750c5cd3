"""Mutation testing of the invariants: every comparison, boundary and aggregate is broken in turn, and a test must notice.

Run with ``python -m tests.mutation [part of a path ...]``, or with ``--sample N`` for a quick look.
"""
