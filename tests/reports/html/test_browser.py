"""The page in a real browser: nothing breaks at any width, in any theme, with or without script, by mouse or by keyboard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.model import Finding, FindingClass
from reports.html import FORMAT
from tests.reports.folders import create, racy_creates, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = os.environ.get("RACEGATE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = {"phone": 390, "tablet": 800, "desktop": 1280}
KEPT = Path(__file__).parent / "screenshots"
GRID = 40
"""A screenshot is compared as a grid of this many columns of mean brightness: fonts differ between machines, layouts do not."""
MOVED = 0.10
"""The share of ink that may lie in other cells. Measured: another font moves 3 to 4 %, a grid that fell apart 17 %."""


def in_page(name: str) -> str:
    """Return the function that a file beside this one holds, to be run in the page."""
    return (Path(__file__).parent / f"{name}.js").read_text(encoding="utf-8")


pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (apt-get install chromium, or set RACEGATE_CHROMIUM)"),
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page on three runs: a failing stress run, an explored finding, and a sound run."""
    folder = tmp_path_factory.mktemp("report")
    explored = Finding(
        finding_class=FindingClass.LIVENESS,
        invariant="L-RETRY",
        message="client 1 was told 40001, which a correct system absorbs",
        evidence={
            "operations": [],
            "rows": {},
            "steps": [
                {"client": 0, "statement": "BEGIN"},
                {"client": 0, "statement": "SELECT value FROM counters WHERE scope = $1 FOR UPDATE", "result": "1 row"},
                {
                    "client": 1,
                    "statement": f"SELECT {', '.join(f'column_{n}' for n in range(30))} FROM counters FOR UPDATE",
                    "waited": True,
                    "holders": [0],
                    "until": 4,
                    "wrong": True,
                },
                {"client": 0, "statement": "COMMIT"},
            ],
        },
        schedule="rg1:" + "eJyrVkrLz1eyUlBKSixSqgUAIVMEKg" * 4,
    )
    sound = [create(n, client=n % 3, began=n / 50, number=n + 1) for n in range(40)]
    runs = [
        write_run(folder / "racy", racy_creates()),
        write_run(
            folder / "explored",
            racy_creates(4),
            findings=[explored],
            engine="explore",
            schedules={"explored": 17, "coverage": "exhaustive", "diverged": 0},
        ),
        write_run(folder / "sound", sound, target="reference:pg.counter_row"),
    ]
    page = folder / "report.html"
    page.write_text(FORMAT.render(runs), encoding="utf-8")
    return page


Opener = Callable[..., "Page"]


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Opener]:
    """Return a function that opens the page; a console message, a script error or a request fails the test."""
    troubles: list[str] = []
    contexts = []

    def open_page(width: int = WIDTHS["desktop"], scheme: str = "light", script: bool = True, path: Path = report) -> Page:
        context = browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport={"width": width, "height": 900},
            java_script_enabled=script,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"script: {error}"))
        page.on("request", lambda request: troubles.append(f"request: {request.url}") if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_or_overlaps(opened: Opener, width: int, scheme: str) -> None:
    assert opened(width=width, scheme=scheme).evaluate(in_page("layout")) == []


def test_the_layout_check_sees_breakage(opened: Opener) -> None:
    page = opened(width=WIDTHS["phone"])
    page.evaluate(
        "document.querySelector('h1').style.whiteSpace = 'nowrap'; document.querySelector('h1').style.fontSize = '60px'"
    )

    assert any("wide" in wrong for wrong in page.evaluate(in_page("layout")))


def test_without_script_nothing_is_missing_but_the_extras(opened: Opener, browser: Browser, report: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())

    assert page.locator("h1").inner_text().startswith("✗ Fail")
    assert page.locator("[data-needs-script]").first.is_hidden()
    assert page.get_by_text("was issued twice").first.is_visible()
    assert page.locator("figure.chart svg.plot").first.is_visible()
    page.locator("summary", has_text="Settings").first.click()
    assert page.get_by_text("read_committed").first.is_visible()
    context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", "desktop"), ("dark", "phone")])
def test_it_meets_wcag_aa_by_an_independent_audit(opened: Opener, scheme: str, width: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = opened(scheme=scheme, width=WIDTHS[width])
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")

    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]})

    told = [
        f"{v['id']} ({v['impact']}): {v['help']}: {node['html'][:120]}"
        for v in found.response["violations"]
        for node in v["nodes"]
    ]
    assert told == []
    looked_at = {"color-contrast", "heading-order", *(["scrollable-region-focusable"] if width == "phone" else [])}
    assert looked_at <= {p["id"] for p in found.response["passes"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_in_pictures_stand_out_from_the_page(opened: Opener, scheme: str) -> None:
    ratios: dict[str, float] = opened(scheme=scheme).evaluate(in_page("marks"))

    assert {name: round(r, 2) for name, r in ratios.items() if r < 3} == {}


@pytest.mark.parametrize(("width", "shown", "hidden"), [("desktop", "wide", "narrow"), ("phone", "narrow", "wide")])
def test_a_schedule_is_a_picture_that_fits_and_a_table_that_opens(opened: Opener, width: str, shown: str, hidden: str) -> None:
    page = opened(width=WIDTHS[width])
    picture = page.locator(f".drawn.{shown} svg")

    assert page.locator(f".drawn.{hidden}").is_hidden()
    assert picture.get_attribute("role") == "img"
    drawn = picture.evaluate("(e) => document.getElementById(e.getAttribute('aria-labelledby').split(' ')[1]).textContent")
    assert drawn.startswith("4 steps of 2 clients, 1 wait, wrong from step 3 on. L-RETRY: client 1 was told 40001")
    room = picture.evaluate("(e) => [e.getBoundingClientRect().width, e.parentElement.clientWidth]")
    assert room[0] <= room[1]
    assert picture.evaluate("(e) => getComputedStyle(e.querySelector('.wait')).stroke") == "rgb(122, 78, 0)"
    table = page.locator("table.steps")
    assert table.is_hidden()
    page.get_by_text("The schedule as a table").click()
    assert table.is_visible()
    assert "column_29" in table.inner_text()


def test_the_picture_that_stands_alone_brings_its_colours(browser: Browser, report: Path) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto((report.parent / "explored" / "findings" / "1.svg").as_uri())
        colours[scheme] = page.evaluate("getComputedStyle(document.querySelector('.card')).fill")
        context.close()

    assert colours == {"light": "rgb(245, 246, 248)", "dark": "rgb(29, 33, 38)"}


def test_the_keyboard_reaches_everything_and_shows_where_it_is(opened: Opener) -> None:
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#content"

    reached = set()
    for _ in range(250):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName + '.' + document.activeElement.className"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        if page.evaluate("document.activeElement === document.body"):
            break
        assert outline != "none"
    assert {"SUMMARY.", "BUTTON.", "A.", "DIV.scroll picture", "PRE."} <= reached


def test_hints_follow_the_pointer_and_the_arrow_keys(opened: Opener) -> None:
    page = opened()
    chart = page.locator("figure[data-zoomable] .picture").first
    chart.focus()
    hint = page.locator("#hint")
    assert hint.is_hidden()

    page.keyboard.press("ArrowRight")
    first = hint.inner_text()
    page.keyboard.press("ArrowRight")
    second = hint.inner_text()
    page.keyboard.press("Escape")

    assert first.startswith("+0.")
    assert first != second
    assert hint.is_hidden()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert "per second" in hint.inner_text() or "N-UNIQ" in hint.inner_text()


def test_zoom_stretches_time_and_comes_back(opened: Opener) -> None:
    page = opened()
    chart = page.locator("figure[data-zoomable]").first
    before = chart.locator(".x-ticks").inner_html()

    chart.get_by_role("button", name="Zoom in").click()
    chart.get_by_role("button", name="Later").click()

    assert chart.locator(".zoom").get_attribute("transform").startswith("matrix(2 0 0 1 -")
    labels = chart.locator(".x-ticks text").all_text_contents()
    seconds = [float(label.removeprefix("+").removesuffix(" s")) for label in labels]
    assert seconds == sorted(seconds)
    assert len(set(seconds)) == 6
    chart.get_by_role("button", name="Show all").click()
    assert chart.locator(".x-ticks").inner_html() == before


def test_the_overview_filters_by_verdict_and_text(opened: Opener) -> None:
    page = opened()
    rows = page.locator("table.runs tbody tr:visible")
    assert rows.count() == 3

    page.get_by_label("pass (1)").uncheck()
    assert rows.count() == 2
    page.get_by_role("searchbox", name="Find").fill("explore l-retry")
    assert rows.count() == 1
    assert page.locator("[data-filter-status]").inner_text() == "1 of 3 runs"


def test_the_theme_is_the_readers_choice_and_is_kept(opened: Opener) -> None:
    page = opened(scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"

    button = page.locator("[data-theme-button]")
    button.click()
    button.click()
    assert button.inner_text() == "Theme: dark"
    assert page.evaluate(background) == "rgb(20, 23, 27)"
    page.reload()
    assert page.evaluate(background) == "rgb(20, 23, 27)"


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("desktop", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light")]
)
def test_it_looks_as_it_did(opened: Opener, browser: Browser, name: str, width: int, scheme: str) -> None:
    """The first screen is compared with the kept picture; RACEGATE_KEEP_SCREENSHOTS=1 keeps a new one after a look at it."""
    import base64

    seen = opened(width=width, scheme=scheme).screenshot()
    kept = KEPT / f"{name}.png"
    if os.environ.get("RACEGATE_KEEP_SCREENSHOTS"):
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(seen)
    context = browser.new_context()
    told: Any = context.new_page().evaluate(
        in_page("compare"), [base64.b64encode(seen).decode(), base64.b64encode(kept.read_bytes()).decode(), GRID]
    )
    context.close()

    rows, kept_rows, difference = told
    assert rows == kept_rows
    assert difference < MOVED, f"{difference:.0%} of what is drawn lies elsewhere than in {kept}"
