"""What a run left behind becomes the right views: counts, marks, percentiles, numbers, gaps, lanes and steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.config.policy import load_policy
from harness.invariants import judge
from harness.model import Books, Failure, History, Operation, Outcome
from harness.recording.loader import FileFacts
from harness.run.result import finding_to_json
from reports.html import gaps, lanes, latency, numbers, over_time, steps
from tests.reports.folders import OPENED, create, document, racy_creates

POLICY = load_policy("company-series")


def history_of(*operations: Operation) -> History:
    return History.of(operations, open_at=OPENED)


def file(name: str, opened: float) -> FileFacts:
    at = OPENED + round(opened * 1e9)
    return FileFacts(path=Path(name), worker=0, opened=at, ended=True, torn=False, events=0)


def test_every_operation_is_counted_once_in_its_outcome() -> None:
    operations = racy_creates(100)

    view = over_time.over_time(History.of(operations, open_at=OPENED), [])

    assert view is not None
    assert {o: sum(view.counts[o]) for o in over_time.OUTCOMES} == {
        o.value: sum(x.outcome is o for x in operations) for o in Outcome
    }
    assert view.began == pytest.approx(min((o.completed or 0) - OPENED for o in operations) / 1e9)
    assert view.ended == pytest.approx(max((o.completed or 0) - OPENED for o in operations) / 1e9)


def test_an_operation_that_never_completed_is_counted_when_it_was_asked() -> None:
    lost = Operation(process=1, client=1, f="create", token="t", invoked=OPENED + 900_000_000)

    view = over_time.over_time(history_of(create(0, client=0, began=0.1, number=1), lost), [])

    assert view is not None
    assert sum(view.counts["info"]) == 1
    assert view.ended == pytest.approx(0.9)


def test_injected_faults_dead_processes_and_findings_are_marked_where_they_happened() -> None:
    history = history_of(
        create(0, client=0, began=0.1, number=1),
        create(1, client=1, began=0.3, failure=Failure(code="vanished", message="cut")),
        create(2, client=0, began=0.9, number=2),
    )
    finding = {
        "class": "violation",
        "invariant": "N-UNIQ",
        "message": "twice",
        "evidence": {"operations": [{"completed": "+0.500 s"}, {"completed": "never"}, {"completed": "+0.400 s"}]},
    }

    view = over_time.over_time(history, [finding], [file("worker-2.0.jsonl", 0.0), file("worker-2.1.jsonl", 0.7)])

    assert view is not None
    assert [(m.kind, round(m.at, 3), m.text) for m in view.marks] == [
        ("finding", 0.4, "N-UNIQ: twice"),
        ("fault", 0.304, "connection cut on purpose"),
        ("fault", 0.7, "client process 2 had died and was started again"),
    ]


def test_an_empty_history_has_no_pictures() -> None:
    empty = history_of()

    assert over_time.over_time(empty, []) is None
    assert latency.latency(empty) is None
    assert numbers.numbers(empty, Books(), POLICY) == ([], 0)
    assert gaps.gap_table(empty, Books(), POLICY) is None
    assert lanes.lanes(empty, {"evidence": {"operations": [{"token": "x"}]}}) is None


def test_what_was_done_to_the_store_is_marked_where_it_was_done() -> None:
    events = [{"at": 1.0, "time": OPENED + 150_000_000, "text": "restart@1s"}, {"at": 2.0, "text": "of an older racegate"}]
    view = over_time.over_time(history_of(*(create(n, client=0, began=0.1 * n, number=n) for n in range(1, 9))), [], (), events)

    assert view is not None
    assert [(mark.kind, mark.text) for mark in view.marks] == [("fault", "restart@1s")]
    assert view.marks[0].at == pytest.approx(0.15)
    for left_out, says in ((1, " 1 more mark is not drawn."), (2, " 2 more marks are not drawn.")):
        assert over_time.chart(replace(view, marks_left_out=left_out), name="n").summary.endswith(says)


def test_percentiles_are_those_of_the_operations_that_were_answered() -> None:
    operations = [create(n, client=0, began=n / 10, took=(n + 1) / 1000, number=n + 1) for n in range(100)]
    unknown = create(100, client=1, began=20, took=9.0, failure=Failure(code="reply_lost", message="lost"))

    view = latency.latency(history_of(*operations, unknown))

    assert view is not None
    assert [(s.f, s.operations, s.lowest, s.highest) for s in view.series] == [("create", 100, 0.001, 0.1)]
    assert view.series[0].percentiles == pytest.approx([0.05, 0.09, 0.095, 0.099, 0.1], abs=0.0011)
    assert sum(n for _, _, n in view.bins) == 100
    assert all(low < high for low, high, _ in view.bins)
    assert max(p for p, _ in view.series[0].curve) == 0.98, "beyond it lie fewer than two operations"


def test_the_rows_of_the_latency_table_are_in_the_order_of_its_headings() -> None:
    view = latency.latency(history_of(create(0, client=0, began=0.1, took=0.002, number=1)))

    assert view is not None
    assert latency.table(view) == [["create", "1", *["2 ms"] * 7]]
    assert len(latency.HEADINGS) == 9


def test_duplicates_and_gaps_of_a_scope_are_shown_exactly() -> None:
    operations = [create(n, client=n % 2, began=n / 100, number=number) for n, number in enumerate([1, 2, 2, 5, 6])]
    books = Books.of(documents=[document(o) for o in operations])

    [view], left_out = numbers.numbers(history_of(*operations), books, POLICY)

    assert (view.scope, view.total, left_out) == ("acme/invoice", 5, 0)
    assert (view.twice_total, [(t.number, t.client) for t in view.twice]) == (1, [(2, 1), (2, 0)])
    assert (view.gaps, view.gaps_total) == ([(3, 4)], 2)
    summary = "5 answers with a number, 1 number was told more than once, 2 numbers are missing from the books."
    assert numbers.chart(view, name="n").summary == summary


def test_the_same_request_told_its_number_twice_is_no_duplicate() -> None:
    first = create(0, client=0, began=0.1, number=1)
    again = create(1, client=1, began=0.2, number=1, token=first.token)

    [view], _ = numbers.numbers(history_of(first, again), Books.of(documents=[document(first)]), POLICY)

    assert (view.total, view.twice_total) == (2, 0)


def test_scopes_with_trouble_come_first_and_the_others_are_counted() -> None:
    operations = [create(n, client=0, began=n / 100, number=1, scope=f"c{n}/invoice") for n in range(8)]
    doubled = create(99, client=1, began=1.0, number=1, scope="c7/invoice")
    everything = [*operations, doubled]

    views, left_out = numbers.numbers(history_of(*everything), Books.of(documents=[document(o) for o in everything]), POLICY)

    assert views[0].scope == "c7/invoice"
    assert (len(views), left_out) == (numbers.MOST_PLACES, 4)


def test_thinning_keeps_the_extremes() -> None:
    operations = [create(n, client=0, began=n / 1000, number=n + 1) for n in range(4000)]
    outlier = create(4000, client=1, began=2.0005, number=90_000)

    [view], _ = numbers.numbers(history_of(*operations, outlier), Books(), POLICY)

    assert view.total == 4001
    assert len(view.told) <= 2 * numbers.MOST_DOTS
    assert 90_000 in {t.number for t in view.told}
    assert {1, 4000} <= {t.number for t in view.told}


@pytest.mark.parametrize(
    ("policy", "burnt", "judged"),
    [
        ("gapless", 0, ("bad", "not allowed")),
        ("unique", 0, ("cost", "allowed")),
        ("explained", 0, ("bad", "2 without an attempt that failed")),
        ("explained", 2, ("cost", "explained")),
        ("budget", 2, ("bad", "above 5%")),
    ],
)
def test_a_gap_is_held_against_the_policy(policy: str, burnt: int, judged: tuple[str, str]) -> None:
    operations = [create(n, client=0, began=n / 100, number=number) for n, number in enumerate([1, 2, 5, 6])]
    refused = [create(50 + n, client=1, began=1 + n, failure=Failure(code="23514", message="check failed")) for n in range(burnt)]
    books = Books.of(documents=[document(o) for o in operations])

    table = gaps.gap_table(history_of(*operations, *refused), books, load_policy(policy))

    assert table is not None
    [row] = table.rows
    assert (row.range, row.present, row.missing) == (6, 4, 2)
    assert (row.state, row.judged) == judged
    assert len(gaps.cells(row)) == len(gaps.HEADINGS)


@pytest.mark.parametrize(
    ("gone", "expected"), [(0, ("good", "complete")), (2, ("good", "within budget")), (4, ("cost", "above 3%"))]
)
def test_a_gap_within_the_budget_is_good_and_one_that_is_more_than_normal_is_a_cost(gone: int, expected: tuple[str, str]) -> None:
    there = [n for n in range(1, 101) if not 10 <= n < 10 + gone]
    operations = [create(n, client=0, began=n / 100, number=n) for n in there]
    refused = [create(500 + n, client=1, began=2 + n, failure=Failure(code="23514", message="no")) for n in range(gone)]

    table = gaps.gap_table(
        history_of(*operations, *refused), Books.of(documents=[document(o) for o in operations]), load_policy("budget")
    )

    assert table is not None
    assert (table.rows[0].state, table.rows[0].judged) == expected


def test_lanes_show_the_operations_that_a_finding_names_among_their_neighbours() -> None:
    first = create(0, client=0, began=0.100, took=0.010, number=4)
    second = create(1, client=1, began=0.102, took=0.009, number=4)
    neighbour = create(2, client=2, began=0.105, took=0.001, number=5)
    later = create(3, client=3, began=0.500, took=0.001, number=6)
    operations = [first, second, neighbour, later]
    history = history_of(*operations)
    judgement = judge(history, Books.of(documents=[document(o) for o in operations]), POLICY, ["N-UNIQ"])

    view = lanes.lanes(history, finding_to_json(judgement.findings[0]))

    assert view is not None
    assert list(view.clients) == [0, 1, 2], "the client that acts later is not drawn"
    assert {(b.client, b.named, b.label) for b in view.bars} == {
        (0, True, "INV-00004"),
        (1, True, "INV-00004"),
        (2, False, "INV-00005"),
    }
    assert view.began < 0.1
    assert view.ended > 0.111
    assert "client 1: create c1.0-1 at +0.102000 s, took 9 ms: ok" in next(b.text for b in view.bars if b.client == 1)


def test_of_many_examples_the_lanes_show_the_first_alone() -> None:
    pairs = [create(n, client=n % 2, began=0.1 + n // 2, took=0.01, number=10 + n // 2) for n in range(6)]
    finding = {"evidence": {"operations": [{"token": o.token} for o in pairs]}}

    view = lanes.lanes(history_of(*pairs), finding)

    assert view is not None
    assert {b.label for b in view.bars if b.named} == {"INV-00010"}
    assert view.ended < 0.2


def test_an_operation_that_was_never_answered_is_an_open_bar() -> None:
    lost = Operation(process=0, client=0, f="create", token="lost", invoked=OPENED + 100_000_000)
    seen = create(1, client=1, began=0.101, number=1)

    view = lanes.lanes(history_of(lost, seen), {"evidence": {"operations": [{"token": "lost"}, {"token": seen.token}]}})

    assert view is not None
    assert [(b.client, b.ended is None) for b in view.bars] == [(0, True), (1, False)]
    assert "never answered" in view.bars[0].text
    assert "bar info named open" in lanes.chart(view, name="x").picture


def test_a_schedule_becomes_a_column_for_each_client() -> None:
    view = steps.steps_of(
        {
            "steps": [
                {"client": 0, "statement": "SELECT count(*) FROM invoices", "parameters": ["acme"], "result": "3"},
                {"client": 1, "statement": "SELECT count(*) FROM invoices", "waited": True},
                {"client": "nobody"},
                "not a step",
            ]
        }
    )

    assert view is not None
    assert list(view.clients) == [0, 1]
    assert [(s.client, s.parameters, s.answer, s.waited) for s in view.steps] == [(0, "acme", "3", False), (1, "", "", True)]
    assert steps.steps_of({"steps": None}) is None
