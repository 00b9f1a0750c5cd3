"""The page in a real browser: start a run, see a finding appear, stop it, read the verdict."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RACEGATE = str(Path(sys.executable).with_name("racegate"))
ASKED = ["concurrent_creates", "--target", "reference:pg.count_plus_one", "--users", "4", "--ui", "--ui-port", "0"]
PASSWORD = "a long pass phrase"


@pytest.fixture
def page_of(tmp_path: Path, passage: Path) -> Iterator[Any]:
    """Starts racegate with a page, and returns the process and the address."""
    started: list[subprocess.Popen[str]] = []

    def start(*more: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [RACEGATE, "load", *ASKED, "--out", str(tmp_path), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "RACEGATE_UI_PASSWORD": PASSWORD, "TMPDIR": str(passage)},
        )
        started.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if match := re.search(r"the page is at (\S+)", line):
                return process, match[1]
        raise AssertionError(f"no page: {process.communicate()}")

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def status(url: str, data: bytes | None = None, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers)) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
            return int(response.status)
    except urllib.error.HTTPError as e:
        with e:
            return e.code


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
def test_a_run_is_started_watched_stopped_and_judged_in_the_browser(page_of: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    process, address = page_of()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        troubles: list[str] = []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(address)
        page.get_by_role("button", name=re.compile("start", re.IGNORECASE)).first.click()
        page.get_by_role("tab", name="Invariants").click(timeout=60_000)
        expect(page.locator("racegate-invariants li").first).to_contain_text("was issued again", timeout=60_000)
        expect(page.locator("racegate-invariants svg").first).to_be_visible(timeout=60_000)
        page.get_by_role("tab", name="Capacity").click()
        expect(page.locator("racegate-capacity")).to_contain_text("of a core", timeout=60_000)
        page.get_by_role("button", name=re.compile("stop", re.IGNORECASE)).first.click()
        page.get_by_role("tab", name="Invariants").click()
        expect(page.locator("racegate-invariants [role=status]")).to_have_text("Verdict: fail", timeout=60_000)
        expect(page.locator("racegate-invariants li").first).to_contain_text("N-UNIQ (violation)", timeout=60_000)
        browser.close()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert troubles == []
    assert process.returncode == 1
    assert len(list(tmp_path.glob("*/result.json"))) == 1


def test_the_page_answers_to_its_own_name_and_origin_only(page_of: Any, passage: Path) -> None:
    process, address = page_of("--ui-login")

    assert status(f"{address}/racegate/live", Host="evil.example") == 403
    assert status(f"{address}/stop", data=b"", Origin="http://evil.example") == 403
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(f"{address}/racegate/live") as response:
        assert "/login" in response.url, "nothing is shown before the password"
    with opener.open(f"{address}/racegate-login", data=b"username=x&password=guess") as response:
        assert "/login" in response.url
    with opener.open(f"{address}/racegate-login", data=f"username=x&password={PASSWORD}".replace(" ", "+").encode()) as response:
        assert b"racegate/panel.js" in response.read()
    with opener.open(f"{address}/racegate/live") as response:
        assert b'"state":"idle"' in response.read().replace(b" ", b"")
    with opener.open(f"{address}/swarm", data=b"user_count=2&spawn_rate=2&scenario=nonsense&target=nonsense") as response:
        assert b"no scenario is called" in response.read()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 4, "nothing was run"
    assert not list(passage.glob("racegate-locust-*")), "logs that nobody was pointed to are not left"


def posted(address: str, form: str) -> dict[str, Any]:
    """Press Start with that form, and return the answer."""
    with urllib.request.urlopen(f"{address}/swarm", data=form.encode()) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def state(address: str) -> str:
    with urllib.request.urlopen(f"{address}/racegate/live") as response:
        return str(json.load(response)["state"])


def test_a_start_takes_from_the_command_line_what_it_leaves_out(page_of: Any, tmp_path: Path) -> None:
    process, address = page_of("--duration", "2s")

    with urllib.request.urlopen(address) as response:
        assert re.search(rb'"run_time": "2s"', response.read()), "the form shows the duration"
    for form, says in [
        ("user_count=many", "many"),
        ("user_count=0", "more than 0"),
        ("policy=..", "no policy is called"),
        ("user_count=10001", "at most 10000"),
        ("spawn_rate=nan", "more than 0"),
        ("run_time=soon", "soon"),
        ("run_time=0", "run time"),
        ("run_time=99999999h", "run time"),
        (f"run_time={'9' * 4000}", "run time"),
    ]:
        answer = posted(address, form)
        assert not answer["success"], form
        assert says in answer["message"], form
    assert posted(address, "user_count=8&spawn_rate=8&host=")["success"]
    limit = time.monotonic() + 60
    while state(address) != "done":
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit, "the run ends by itself"
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    [written] = tmp_path.glob("*/result.json")
    result = json.loads(written.read_text())

    assert (result["verdict"], process.returncode) == ("fail", 1)
    assert (result["scenario"], result["target"]) == ("concurrent_creates", "reference:pg.count_plus_one")
