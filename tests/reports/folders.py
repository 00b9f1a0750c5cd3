"""Run folders written by the real recorder's format and the real folder, with times that the test chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config.policy import load_policy
from harness.invariants import judge
from harness.model import Books, Failure, Finding, History, Operation, Outcome, Verdict, verdict_of
from harness.recording import format as lines
from harness.run.folder import RunFolder
from harness.run.result import RunResult, finding_to_json

OPENED = 5_000_000_000


def create(
    n: int,
    *,
    client: int,
    began: float,
    took: float = 0.004,
    number: int | None = None,
    scope: str = "acme/invoice",
    failure: Failure | None = None,
    token: str | None = None,
) -> Operation:
    """Return one create, ``began`` and ``took`` in seconds since recording began."""
    invoked = OPENED + round(began * 1e9)
    answer = (
        None if number is None else {"scope": scope, "period": "", "number": number, "text": f"INV-{number:05}", "basis": "4"}
    )
    info = failure is not None and failure.code in ("vanished", "reply_lost")
    outcome = Outcome.OK if failure is None else Outcome.INFO if info else Outcome.FAIL
    return Operation(
        process=client,
        client=client,
        f="create",
        token=token or f"c{client}.0-{n}",
        arguments={"company": scope.split("/", maxsplit=1)[0], "amount": 100 + n},
        invoked=invoked,
        completed=invoked + round(took * 1e9),
        outcome=outcome,
        result=answer,
        failure=failure,
    )


def document(operation: Operation) -> dict[str, Any]:
    """Return the row that a create leaves in the books."""
    answer = operation.result or {}
    return {
        "id": operation.token,
        "scope": answer["scope"],
        "period": "",
        "number": answer["number"],
        "text": answer["text"],
        "token": operation.token,
        "status": "issued",
    }


def write_run(
    path: Path,
    operations: Sequence[Operation],
    *,
    books: Books | None = None,
    findings: Sequence[Finding] | None = None,
    verdict: Verdict | None = None,
    invariants: Sequence[str] = ("N-UNIQ", "N-EXPLAINED"),
    scenario: str = "concurrent_creates",
    target: str = "reference:pg.count_plus_one",
    policy: str = "company-series",
    engine: str = "stress",
    schedules: Mapping[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write a run folder of these operations, judged by the real invariants unless findings are given."""
    for part in ("history", "books", "findings"):
        (path / part).mkdir(parents=True)
    folder = RunFolder(path)
    _write_history(folder.history / "worker-0.0.jsonl", operations)
    if books is None:
        books = Books.of(documents=[document(o) for o in operations if o.outcome is Outcome.OK])
    judgement = judge(History.of(operations, open_at=OPENED), books, load_policy(policy), invariants)
    found = list(judgement.findings if findings is None else findings)
    result = RunResult(
        verdict=verdict or verdict_of(found, checked=len(judgement.checked)),
        seed=7,
        scenario=scenario,
        target=target,
        engine=engine,
        operations={o.value: sum(x.outcome is o for x in operations) for o in Outcome},
        findings=found,
        timings={"start": 0.25, "race": 1.5, "total": 2.0},
        checked=judgement.checked,
        skipped={"N-GAPLESS": f"policy {policy} allows gaps"},
        schedules=schedules,
        facts={"store": "PostgreSQL 18.4, embedded", "clients": 4, "policy": policy, "operations_per_second": 1234.0},
        folder=path,
        command=f"racegate run {scenario} --target {target} --seed 7",
        **more,
    )
    asked = {
        "schema": "racegate.run/1",
        "began": "2026-11-20T10:00:00+0000",
        "policy": policy,
        "clients": 4,
        "processes": 2,
        "target_settings": {"isolation": "read_committed"},
        "scenario_settings": {"scopes": 1},
        "versions": {"python": "3.11.7"},
    }
    folder.write_json("run.json", asked)
    folder.write_books(books)
    folder.write_findings([finding_to_json(f) for f in found])
    folder.write_json("result.json", result.to_json())
    return path


def _write_history(path: Path, operations: Sequence[Operation]) -> None:
    events: list[tuple[int, int, bytes]] = []
    for o in operations:
        call = lines.invocation(process=o.process, client=o.client, f=o.f, token=o.token, arguments=o.arguments, time=o.invoked)
        events.append((o.invoked, 1, call))
        if o.completed is not None:
            answer = lines.completion(
                process=o.process,
                client=o.client,
                f=o.f,
                token=o.token,
                outcome=o.outcome.value,
                time=o.completed,
                attempts=o.attempts,
                result=o.result,
                failure=o.failure,
            )
            events.append((o.completed, 0, answer))
    ordered = [line for _, _, line in sorted(events, key=lambda e: e[:2])]
    path.write_bytes(lines.header(worker=0, pid=1, opened=OPENED) + b"".join(ordered) + lines.ending(events=len(ordered)))


def racy_creates(count: int = 80, *, clients: int = 4) -> list[Operation]:
    """Return creates in which every tenth number is told twice, and one in fifteen is refused after it took a number."""
    operations, number = [], 0
    for n in range(count):
        began = 0.1 + n * 0.005
        refused = n % 15 == 14
        number += 0 if n % 10 == 9 and not refused else 1
        failure = Failure(code="discount_not_permitted", message="no", refusal=True) if refused else None
        operations.append(
            create(
                n,
                client=n % clients,
                began=began,
                took=0.004 + (n % 7) * 0.0015,
                number=None if refused else number,
                failure=failure,
            )
        )
    return operations
