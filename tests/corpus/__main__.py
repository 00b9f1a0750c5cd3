"""Writes down what is said of the wrong cases: python -m tests.corpus. Read the difference before you keep it."""

from __future__ import annotations

import json

from tests.corpus.test_worlds import SAID, all_said

SAID.write_text("".join(json.dumps([name, what]) + "\n" for name, what in all_said().items()))
