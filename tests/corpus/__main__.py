"""Writes down what is said of the cases and of their nearest neighbours: python -m tests.corpus. Read the difference first."""

from __future__ import annotations

import json

from tests.corpus.test_worlds import CASES, NEAR, SAID, all_said, near

for path, told in ((SAID, all_said()), (NEAR, {str(case): near(case) for case in CASES})):
    path.write_text("".join(json.dumps([name, what]) + "\n" for name, what in told.items()))
