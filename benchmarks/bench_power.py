"""How often a run of the size of the catalogue's matrix finds a broken variant of payments, orders and sales.

A correct variant that is quiet proves no more than a broken one being found by a run of the same size. So the broken cases of
these areas run at that size, where their own is larger. ``python -m benchmarks power`` takes one seed of each;
``python -m benchmarks.bench_power 3`` three.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.run.cases import run_cases
from harness.run.registry import scenario_named
from harness.run.stores import Stores
from harness.stores import StoreKind, StoreOptions
from reference_impl.cases import MATRIX_OPS, Case
from reference_impl.orders.catalogue import CASES as ORDERS
from reference_impl.payments.catalogue import CASES as PAYMENTS
from reference_impl.payments.catalogue import FOUGHT_OVER
from reference_impl.sales.catalogue import CASES as SALES

JOBS = 2


def at_matrix_size() -> Iterator[Case]:
    """Yield the broken cases of a larger size, made as small as a run of the matrix."""
    for case in (*PAYMENTS, *ORDERS, *SALES):
        if case.expect == "fail" and case.engine == "stress" and case.ops > MATRIX_OPS:
            fewer = FOUGHT_OVER if "payments" in scenario_named(case.scenario).settings else {}
            yield replace(case, ops=MATRIX_OPS, scenario_settings={**fewer, **case.scenario_settings})


def main(seeds: int = 1) -> None:
    """Print how many were found, of the scenarios that cut connections and of the others, and which were missed."""
    chosen: list[tuple[Any, int]] = [(case, seed) for case in at_matrix_size() for seed in range(1, seeds + 1)]
    runs, missed = Counter[bool](), Counter[bool]()
    options = StoreOptions(connections=60)
    with (
        tempfile.TemporaryDirectory() as out,
        Stores({StoreKind.POSTGRES: "embedded", StoreKind.MONGO: "embedded"}, options) as stores,
    ):
        for one in run_cases(chosen, stores, out=Path(out), jobs=JOBS):
            cutting = "vanish" in scenario_named(one.case.scenario).settings
            runs[cutting] += 1
            if not one.met:
                missed[cutting] += 1
                print(f"missed: {one.case.id} with seed {one.seed}", flush=True)
    for cutting, name in ((False, "where no connection is cut"), (True, "where connections are cut")):
        print(f"{name:<28}{runs[cutting] - missed[cutting]:>5} of {runs[cutting]} found, {MATRIX_OPS} operations each")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
