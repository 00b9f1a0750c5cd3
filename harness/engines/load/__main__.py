"""Starts a process of Locust's. Locust is imported before anything of ours, because it patches what drivers decide by."""

# ruff: noqa: E402 - the order of these imports is the point
import sys

_THERE = list(sys.modules)

import locust  # noqa: F401

from harness.engines.load.drivers import imported_too_early
from harness.engines.load.process import main

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), imported_too_early(_THERE)))
