"""Memory: peak of the process that loads and judges a history of one million operations, recorded by another.

The history is written by the real recorder; books are made to match. What the workers use that drive a target is not in the
figure, because it does not grow with the number of operations.
"""

from __future__ import annotations

import multiprocessing as mp
import resource
import tempfile
import time
from pathlib import Path

OPERATIONS = 1_000_000
WRITERS = 2


def write(folder: str, worker: int, operations: int) -> None:
    """Record this worker's share."""
    from harness.model import Outcome
    from harness.recording.recorder import Recorder, now

    recorder = Recorder(Path(folder) / f"worker-{worker}.jsonl", worker=worker)
    for n in range(operations):
        number = n * WRITERS + worker + 1
        arguments = {"company": "company-0", "document_type": "invoice", "at": "2026-12-31T12:00:00+00:00", "amount": number}
        token = f"c{worker}.0-{n}"
        recorder.invoke(process=worker, client=worker, f="create", token=token, arguments=arguments)
        result = {
            "scope": "company-0/invoice",
            "period": "",
            "number": number,
            "text": f"INV-{number:05d}",
            "document": str(number),
        }
        recorder.complete(
            process=worker, client=worker, f="create", token=token, outcome=Outcome.OK, at=now(), attempts=1, result=result
        )
    recorder.close()


def judged(folder: str) -> tuple[float, float, str]:
    """Load and judge; return peak megabytes, seconds and the verdict."""
    import polars as pl

    from harness.config.policy import load_policy
    from harness.invariants import judge
    from harness.model import TABLES, Books
    from harness.recording.loader import load

    began = time.perf_counter()
    history, _ = load(sorted(Path(folder).glob("*.jsonl")))
    documents = history.operations.select(
        id=pl.col("number").cast(pl.String()),
        scope="scope",
        period="period",
        number="number",
        text="text",
        token="token",
        status=pl.lit("issued"),
        amount="amount",
        dated=pl.lit(None, TABLES["documents"]["dated"]),
        reason=pl.lit(None, pl.String()),
        document=pl.lit(None, pl.String()),
    ).select(list(TABLES["documents"]))
    ids = ["N-UNIQ", "N-GAPLESS", "N-EXPLAINED", "N-FMT", "N-DURABLE", "N-IMMUT", "P-ONCE", "P-KEYMATCH", "L-RETRY", "L-PROGRESS"]
    judgement = judge(history, Books(tables={"documents": documents}), load_policy("gapless"), ids)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return peak, time.perf_counter() - began, judgement.verdict.value


def main() -> None:
    """Print the figure."""
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        writers = [context.Process(target=write, args=(folder, n, OPERATIONS // WRITERS)) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        with context.Pool(1) as pool:
            peak, seconds, verdict = pool.apply(judged, (folder,))
    print(f"{OPERATIONS:,} operations: verdict {verdict}, {seconds:.1f} s to load and judge, peak {peak:,.0f} MB (aim < 500)")


if __name__ == "__main__":
    main()
