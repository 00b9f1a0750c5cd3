"""What is seen of a run while it goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from harness.config.policy import load_policy
from harness.engines.load.measures import Latencies, merged, percentiles_of, summary
from harness.model import Outcome
from harness.recording.recorder import Recorder, now
from harness.run.activity import Activity
from harness.run.live import HistoryTail, LiveWatch
from harness.stores.base import Database
from harness.targets.base import BooksQuery


def issue(recorder: Recorder, number: int, token: str, scope: str = "acme/invoice") -> None:
    recorder.invoke(process=0, client=0, f="create", token=token, arguments={})
    result = {"scope": scope, "period": "", "number": number, "text": f"INV-{number:05}"}
    recorder.complete(process=0, client=0, f="create", token=token, outcome=Outcome.OK, at=now(), result=result)


def test_duplicates_and_missing_numbers_are_counted_as_the_history_grows(tmp_path: Path) -> None:
    recorder, tail = Recorder(tmp_path / "load-0.jsonl", worker=0), HistoryTail(tmp_path)
    for number in (4, 5, 8):
        issue(recorder, number, f"t{number}")
    tail.follow()
    seen = [(tail.issued, tail.duplicates, tail.missing)]
    issue(recorder, 5, "another")
    issue(recorder, 5, "t5")
    issue(recorder, 5, "x", scope="other/invoice")
    issue(recorder, 6, "t6")
    tail.follow()
    seen.append((tail.issued, tail.duplicates, tail.missing))

    assert seen == [(3, 0, 2), (7, 1, 1)], "the same token may be told its number again"
    assert tail.found == ["INV-00005 was issued again in acme/invoice, to client 0"]


def test_gaps_are_held_against_the_budget_once_nobody_can_fill_them(tmp_path: Path) -> None:
    recorder, tail = Recorder(tmp_path / "load-0.jsonl", worker=0), HistoryTail(tmp_path)
    budget = load_policy("budget").budget
    for number in range(1, 121):
        if number % 12:
            issue(recorder, number, f"t{number}")
    tail.follow()

    assert tail.missing == 9, "nobody knows yet that there was a number 120"
    assert tail.over_budget(budget, unsettled=4) is None
    said = tail.over_budget(budget, unsettled=0)
    assert said is not None
    assert said.startswith("9 of 119 numbers of acme/invoice are missing: 7.6%, where up to 3% is normal")


def test_the_gap_rate_is_told_beside_its_budget_and_a_finding_goes_when_the_gap_is_filled(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "load-0.jsonl", worker=0)
    numbers = [n for n in range(1, 241) if n % 10]
    for number in numbers:
        issue(recorder, number, f"t{number}")
    watch = LiveWatch(folder=tmp_path, database=None, queries=[], invariants=("N-GAPBUDGET",), policy=load_policy("budget"))
    counts = {"invoked": len(numbers), "ok": len(numbers), "fail": 0, "info": 0, "dropped": 0}
    watch.hear("local", {"counts": counts, "users": 1, "recent": {}})
    watch._look()
    for number in range(10, 240, 10):
        issue(recorder, number, f"t{number}")
    watch._look()
    before, after = watch.samples

    assert (before["gap_normal"], before["gap_limit"]) == (0.03, 0.05)
    assert before["gap_rate"] == pytest.approx(23 / 239, abs=1e-4)
    assert [text.split(":")[0] for text in before["findings"]] == ["N-GAPBUDGET"]
    assert (after["gap_rate"], after["findings"]) == (0.0, [])


def test_a_line_that_is_not_written_to_its_end_waits(tmp_path: Path) -> None:
    recorder, tail = Recorder(tmp_path / "load-0.jsonl", worker=0), HistoryTail(tmp_path)
    issue(recorder, 4, "t")
    whole = (tmp_path / "load-0.jsonl").read_bytes()
    (tmp_path / "load-0.jsonl").write_bytes(whole[:-20])
    tail.follow()
    before = tail.issued
    (tmp_path / "load-0.jsonl").write_bytes(whole)
    tail.follow()

    assert (before, tail.issued) == (0, 1)


def test_the_books_are_checked_in_the_middle_of_a_run(
    tmp_path: Path, postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    with psycopg.connect(postgres_database.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT * FROM (VALUES ('1', 7), ('2', 7)) AS v(id, number)")
    monkeypatch.setattr("harness.run.live.BOOKS_AFTER", 0.0)
    samples: list[Any] = []
    query = BooksQuery(
        table="documents",
        sql="SELECT id, 'acme' AS scope, '' AS period, number, number::text AS text, 'issued' AS status, id AS document FROM t",
    )
    watch = LiveWatch(
        folder=tmp_path,
        database=postgres_database,
        queries=[query],
        invariants=("N-UNIQ", "N-GAPLESS"),
        policy=load_policy("unique"),
        tell=samples.append,
    )
    with watch:
        watch.hear("local", {"counts": dict.fromkeys(("invoked", "ok", "fail", "info", "dropped"), 0), "users": 1, "recent": {}})
        limit = time.monotonic() + 20
        while not samples and time.monotonic() < limit:
            time.sleep(0.05)

    assert "N-UNIQ: 7 was issued twice" in samples[0]["findings"][0]
    assert samples[0]["lock_waits"] == 0


def test_waiting_sessions_are_seen(postgres_database: Database) -> None:
    import psycopg

    activity = Activity(postgres_database)
    with psycopg.connect(postgres_database.url) as one:
        one.execute("CREATE TABLE t ()")
        told = activity.now()
    activity.close()

    assert (told["sessions"], told["lock_waits"]) == (1, 0)


def test_a_store_that_does_not_answer_gives_no_figures(postgres_database: Database) -> None:
    gone = Database(kind=postgres_database.kind, name="x", url="postgresql://127.0.0.1:1/x", shown="x")

    assert Activity(gone).now() == {"sessions": None, "lock_waits": None, "write_conflicts": None}


def test_latencies_of_several_processes_add_up_and_recent_ones_make_a_curve() -> None:
    parts = []
    recent: dict[int, int] = {}
    for process in range(2):
        latencies = Latencies()
        for ms in range(1 + process, 1001, 2):
            latencies.add(ms * 1_000_000)
        for bucket, count in latencies.settle().items():
            recent[bucket] = recent.get(bucket, 0) + count
        parts.append(latencies.to_json())
    whole = merged(parts, "service")

    assert whole is not None
    told = summary(whole)
    assert (told["count"], round(told["p50"]), round(told["p99"])) == (1000, 500, 990)
    assert percentiles_of(recent)["p95"] == pytest.approx(950, rel=0.03)
    assert percentiles_of({}) == {"p50": None, "p95": None, "p99": None}
