"""The gate, again and again: correct variants must pass every time, each published fix must fail with the same finding.

Give the number of repetitions, and names if not all are wanted: python -m benchmarks.bench_gate 100 'term payments'
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.config.gate import GateCheck, GateConfig
from harness.run.gate import Gate
from harness.run.stores import Stores
from harness.stores import StoreOptions

EXPLORE, STRESS = ("explore",), ("stress",)
CORRECT = tuple(
    GateCheck(
        scenario=scenario,
        target=f"reference:{variant}",
        policy=policy,
        engines=engines,
        clients=8,
        ops=80,
        settings=more,
        interleavings=40,
    )
    for scenario, variant, policy, engines, more in (
        ("concurrent_creates", "pg.counter_row", "gapless", ("explore", "stress"), {}),
        ("creates_with_rollback", "pg.counter_row", "gapless", EXPLORE, {"refuse": 0.5}),
        ("double_approval", "pg.approve_in_one_transaction", None, EXPLORE, {"payments": 2}),
        ("installments_against_discount", "pg.balance_from_one_row", None, EXPLORE, {"orders": 2}),
        ("concurrent_creates", "mongo.counter_document", "payments-yearly", EXPLORE, {"document_type": "payment"}),
    )
)
FIXES = {
    "payment numbers": GateCheck(
        scenario="concurrent_creates",
        target="reference:mongo.check_next_retry_fallback",
        settings={"document_type": "payment"},
        policy="payments-yearly",
        engines=STRESS,
        ops=300,
        interleavings=10,
    ),
    "invoice sequences": GateCheck(scenario="concurrent_creates", target="reference:pg.increment_then_refresh", engines=EXPLORE),
    "invoice gaps": GateCheck(
        scenario="oversell",
        target="reference:pg.validate_before_transaction",
        engines=STRESS,
        ops=960,
        interleavings=10,
    ),
    "term payments": GateCheck(
        scenario="double_approval", target="reference:pg.lock_without_transaction", settings={"payments": 2}, engines=EXPLORE
    ),
    "order advances": GateCheck(
        scenario="installments_against_discount", target="reference:pg.stale_balance", settings={"orders": 2}, engines=EXPLORE
    ),
}


def repeated(name: str, checks: tuple[GateCheck, ...], stores: Stores, times: int) -> str:
    verdicts: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    began = time.perf_counter()
    for n in range(times):
        if n and n % 5 == 0:
            print(f"{name}: {n} of {times}: {dict(verdicts)} {dict(findings)}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as out:
            done = Gate(GateConfig(checks=checks, budget=1.0, seed=1), stores, out=Path(out)).run()
        verdicts[done.verdict.value] += 1
        for row in done.rows:
            if row.finding is not None:
                explored = row.engine == "explore"  # stress finds the same thing in other places
                findings[f"{row.finding.invariant} {_plain(row.finding.message) if explored else ''}".strip()] += 1
    seconds = (time.perf_counter() - began) / times
    told = "; ".join(f"{count} x {text}" for text, count in findings.most_common())
    return f"{name} | {', '.join(f'{n} {v}' for v, n in verdicts.items())} of {times} | {seconds:.1f} s each | {told}"


def _plain(message: str) -> str:
    return re.sub(r"\+\d+\.\d+ s", "", message)


def main(times: int = 10, names: Sequence[str] = ()) -> None:
    every = {**{name: (check,) for name, check in FIXES.items()}, "correct reference": CORRECT}
    with Stores({}, StoreOptions(connections=100)) as stores:
        for name, checks in every.items():
            if name in (names or every):
                print(repeated(name, checks, stores, times), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10, sys.argv[2:])
