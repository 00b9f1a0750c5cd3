"""Recording: microseconds an operation costs, invocation and completion, and how fast a history is read back."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from harness.model import Outcome
from harness.recording.loader import load
from harness.recording.recorder import Recorder, now

OPERATIONS = 200_000


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "worker-0.jsonl"
        recorder = Recorder(path, worker=0)
        arguments = {"company": "acme", "document_type": "invoice", "at": "2026-12-31T12:00:00+00:00", "amount": 100}
        began = time.perf_counter()
        for n in range(OPERATIONS):
            recorder.invoke(process=0, client=0, f="create", token=f"c0.0-{n}", arguments=arguments)
            recorder.complete(
                process=0,
                client=0,
                f="create",
                token=f"c0.0-{n}",
                outcome=Outcome.OK,
                at=now(),
                result={"scope": "acme/invoice", "period": "", "number": n, "text": "INV-00004", "document": str(n)},
            )
        each = (time.perf_counter() - began) / OPERATIONS * 1e6
        recorder.close()
        began = time.perf_counter()
        history, _ = load([path])
        rate = len(history) / (time.perf_counter() - began)
    print(f"recording  {each:.1f} us an operation (aim < 15)")
    print(f"loading    {rate:,.0f} operations/s")


if __name__ == "__main__":
    main()
