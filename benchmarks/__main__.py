"""Runs every benchmark that takes minutes at most, or those named: python -m benchmarks stress recording."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

LONG = ("load_long",)
"""Run only when named."""

FOLDER = Path(__file__).parent


def main() -> int:
    """Run the benchmarks and print their tables."""
    known = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))
    chosen = sys.argv[1:] or [name for name in known if name not in LONG]
    for name in chosen:
        if name not in known:
            print(f"no benchmark is called {name!r}; there are: {', '.join(known)}", file=sys.stderr)
            return 2
        module = import_module(f"benchmarks.bench_{name}")
        print(f"\n== {name}: {(module.__doc__ or '').strip().splitlines()[0]}", flush=True)
        module.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
