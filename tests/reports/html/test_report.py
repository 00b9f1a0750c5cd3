"""The page is one file of bounded size, complete without script and safe with hostile text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import orjson
import pytest

from harness.model import Failure, Finding, FindingClass, UsageError, Verdict
from harness.run.registry import reports
from reports.html import FORMAT
from reports.html.report import LIMIT
from tests.reports.folders import create, racy_creates, write_run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&<!--\u2028]]>"


class Elements(HTMLParser):
    """Collects elements and checks that every one is closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "br", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data + " "


def parsed(page: str) -> Elements:
    elements = Elements()
    elements.feed(page)
    elements.close()
    assert elements.open == []
    return elements


@pytest.fixture
def racy(tmp_path: Path) -> Path:
    return write_run(tmp_path / "racy", racy_creates())


def test_it_is_found_as_a_format_of_its_own() -> None:
    assert reports()["html"] is FORMAT


def test_it_says_the_verdict_first_then_findings_then_pictures(racy: Path) -> None:
    text = " ".join(parsed(FORMAT.render([racy])).text.split())

    order = ["✗ Fail", "Run it again", "Findings", "was issued twice", "What happened", "Numbers over time", "Gaps by scope"]
    at = [text.index(part) for part in [*order, "Latency", "What was checked", "Settings, versions and phases"]]
    assert at == sorted(at)
    assert "racegate run concurrent_creates --target reference:pg.count_plus_one --seed 7" in text


def test_it_asks_for_nothing_from_a_network(racy: Path) -> None:
    page = FORMAT.render([racy])
    elements = parsed(page)

    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!#)", page)
    assert not re.search(r"url\((?!#)", page)
    assert "@import" not in page
    assert not [tag for tag, _ in elements.seen if tag in ("link", "img", "iframe", "object", "base")]
    policy = next(a["content"] for _, a in elements.seen if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy


def test_ids_are_unique_and_every_reference_leads_somewhere(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(n), racy_creates(40)) for n in range(2)]
    elements = parsed(FORMAT.render(runs))

    ids = [a["id"] for _, a in elements.seen if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in elements.seen:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
        if (link := attributes.get("href")) is not None:
            assert link.removeprefix("#") in ids


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    operations = [
        create(0, client=0, began=0.1, number=1, scope=HOSTILE, token=HOSTILE),
        create(1, client=1, began=0.1, number=1, scope=HOSTILE, token="t\x00"),
        create(2, client=1, began=0.2, failure=Failure(code=HOSTILE, message=HOSTILE)),
    ]
    finding = Finding(
        finding_class=FindingClass.VIOLATION,
        invariant=HOSTILE,
        message=HOSTILE,
        evidence={
            "operations": [{"token": HOSTILE, "client": HOSTILE, "result": HOSTILE, "message": HOSTILE}],
            "rows": {HOSTILE: [{HOSTILE: HOSTILE}]},
            "steps": [{"client": 0, "statement": HOSTILE, "result": HOSTILE}],
            HOSTILE: HOSTILE,
        },
        schedule=HOSTILE,
    )
    folder = write_run(tmp_path / "run", operations, findings=[finding], scenario=HOSTILE, target=HOSTILE)

    page = FORMAT.render([folder, folder])
    elements = parsed(page)

    assert "<img" not in page
    assert "alert(1)</script>" not in page
    assert len([1 for tag, a in elements.seen if tag == "script" and "type" not in a]) == 1
    assert not [a for _, a in elements.seen if any(name.startswith("on") for name in a)]
    assert HOSTILE in elements.text
    for data in re.findall(r'<script type="application/json" class="hints">(.*?)</script>', page, re.S):
        orjson.loads(data)


def test_a_run_that_proved_nothing_says_so(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [], findings=[], verdict=Verdict.UNKNOWN, invariants=())

    text = parsed(FORMAT.render([folder])).text

    assert "? Unknown" in text
    assert "Nothing was proved" in text
    assert "Nothing was checked, so nothing is proved." in text


def test_a_damaged_history_is_told_and_the_verdict_still_shown(racy: Path) -> None:
    (racy / "history" / "worker-0.0.jsonl").write_text("not a history\n")
    (racy / "books" / "documents.parquet").write_bytes(b"not parquet")

    text = parsed(FORMAT.render([racy])).text

    assert "✗ Fail" in text
    assert "The history could not be read" in text
    assert "The books could not be read" in text
    assert "was issued twice" in text


def test_a_policy_that_is_not_here_is_told(racy: Path) -> None:
    asked = orjson.loads((racy / "run.json").read_bytes())
    (racy / "run.json").write_bytes(orjson.dumps({**asked, "policy": "/elsewhere/ours.toml"}))

    text = parsed(FORMAT.render([racy])).text

    assert "The policy of this run is not known here" in text
    assert "Operations over time" in text


def test_an_explored_finding_has_its_schedule_coverage_and_replay_command(tmp_path: Path) -> None:
    finding = Finding(
        finding_class=FindingClass.VIOLATION,
        invariant="N-UNIQ",
        message="INV-00004 was issued twice",
        evidence={
            "operations": [],
            "rows": {},
            "steps": [{"client": 0, "statement": "SELECT 1"}, {"client": 1, "statement": "SELECT 2"}],
        },
        schedule="rg1:abc",
    )
    folder = write_run(
        tmp_path / "a run",
        racy_creates(4),
        findings=[finding],
        engine="explore",
        schedules={"explored": 17, "coverage": "preemptions<=2", "diverged": 0},
    )

    text = " ".join(parsed(FORMAT.render([folder])).text.split())

    assert "step client 0 client 1" in text
    assert "SELECT 2" in text
    assert "schedules explored 17" in text
    assert "preemptions<=2: every interleaving with at most that many voluntary switches; others may still fail" in text
    assert f"racegate replay '{folder}/findings/1.schedule'" in text
    assert "rg1:abc" in text


def test_what_an_exploration_tells_is_in_words_and_what_is_empty_is_left_out(tmp_path: Path) -> None:
    schedules = {
        "explored": 17,
        "coverage": "exhaustive",
        "diverged": 0,
        "failing": 0,
        "cut_short": 1,
        "endings": 2,
        "audited": 5,
        "missed": 0,
        "faults": ["lose_reply", "kill_client"],
        "alike": [[0, 1], [2, 3, 4]],
        "waited_outside": [1],
        "per_second": 43.5,
    }
    nothing = {"cut_short": 0, "endings": 0, "audited": 0, "faults": [], "alike": [], "waited_outside": [], "per_second": None}
    full = write_run(tmp_path / "full", racy_creates(4), engine="explore", schedules=schedules)
    bare = write_run(tmp_path / "bare", racy_creates(4), engine="explore", schedules={**schedules, **nothing})

    full_text, bare_text = (" ".join(parsed(FORMAT.render([run])).text.split()) for run in (full, bare))

    assert (
        "different endings 2 broken off 1: all that could follow had been seen "
        "left out, and tried after all 5, of which none ended in a way of its own "
        "faults that could strike lose reply, kill client "
        "do the same, and may change places clients 0 and 1; clients 2, 3 and 4 "
        "waited inside the application client 1: for a connection or a lock of its own, where nothing can be held "
        "schedules a second 43.5"
    ) in full_text
    assert "diverged on replay 0" in bare_text
    for gone in ("went wrong", "alike", "endings", "broken off", "missed", "faults", "[]", "null", "waited"):
        assert gone not in bare_text


def test_very_many_long_schedules_do_not_push_the_findings_out_of_the_page(tmp_path: Path) -> None:
    statement = f"SELECT {'some_column, ' * 30}"
    findings = [
        Finding(finding_class=FindingClass.VIOLATION, invariant="N-UNIQ", message=f"INV-{n} was issued twice", evidence=evidence)
        for n in range(40)
        for steps in [[{"client": s % 2, "statement": statement, "result": f"{n}" * 195} for s in range(200)]]
        for evidence in [{"operations": [], "rows": {}, "steps": steps}]
    ]

    page = FORMAT.render([write_run(tmp_path / "run", racy_creates(4), findings=findings, engine="explore")])

    assert len(page.encode()) < 5_000_000
    assert "INV-39 was issued twice" in page
    assert page.count('class="steps"') == 8
    assert page.count("Its schedule is left out") == 32


def test_a_schedule_that_breaks_two_invariants_is_drawn_once(tmp_path: Path) -> None:
    steps = [{"client": 0, "statement": "SELECT 1"}, {"client": 1, "statement": "SELECT 2"}]
    findings = [
        Finding(
            finding_class=FindingClass.VIOLATION,
            invariant=invariant,
            message=f"{invariant} is broken",
            evidence={"operations": [], "rows": {}, "steps": part},
        )
        for invariant, part in (("N-UNIQ", steps), ("N-DOC1", steps), ("N-FMT", steps[:1]))
    ]

    page = FORMAT.render([write_run(tmp_path / "run", racy_creates(4), findings=findings, engine="explore")])

    assert page.count('class="steps"') == 2
    assert page.count("Its schedule is that of N-UNIQ above.") == 1


def test_several_runs_have_an_overview_with_the_worst_first(tmp_path: Path, racy: Path) -> None:
    good = write_run(tmp_path / "good", [create(0, client=0, began=0.1, number=1)], target="reference:pg.counter_row")

    elements = parsed(FORMAT.render([good, racy]))
    text = " ".join(elements.text.split())

    assert "✗ Fail 1 fail, 1 pass of 2 runs" in text
    assert [a["data-verdict"] for tag, a in elements.seen if "data-verdict" in a] == ["fail", "pass"]


def test_no_run_at_all_is_unknown() -> None:
    assert "? Unknown" in parsed(FORMAT.render([])).text


def test_a_folder_that_is_no_run_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run folder"):
        FORMAT.render([tmp_path])


def test_any_number_of_runs_stays_below_the_limit_and_failures_keep_their_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.html.report.LIMIT", 200_000)
    good = write_run(tmp_path / "good", [create(n, client=0, began=n / 100, number=n + 1) for n in range(200)])
    bad = write_run(tmp_path / "bad", racy_creates())

    page = FORMAT.render([*[good] * 30, bad])

    assert len(page.encode()) <= 200_000
    elements = parsed(page)
    assert "The pictures of this run are left out" in elements.text
    assert "runs have no part of their own below" in " ".join(elements.text.split())
    sections = page.split('<section class="run"')
    assert 'class="lanes"' in sections[1], "the failing run comes first, with its pictures"


def test_one_large_run_with_large_evidence_stays_far_below_the_limit(tmp_path: Path) -> None:
    operations = [create(n, client=n % 50, began=n / 5000, number=n // 2 + 1, scope=f"c{n % 9}/invoice") for n in range(20_000)]
    findings = [
        Finding(
            finding_class=FindingClass.VIOLATION,
            invariant=f"X-{n}",
            message="m" * 50_000,
            evidence={
                "operations": [{"token": o.token, "result": "r" * 50_000} for o in operations[:50]],
                "rows": {},
                "more": "e" * 99_999,
            },
        )
        for n in range(200)
    ]
    folder = write_run(tmp_path / "run", operations, findings=findings)

    page = FORMAT.render([folder])

    assert len(page.encode()) < LIMIT / 2
    assert "160 more findings are in the run folder" in parsed(page).text
