"""The account page in a real browser: what it shows, and that one intent is one payment, by mouse, keyboard or script."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from harness.stores import Store
from reference_impl.base.refusal import Refused
from reference_impl.payments import rules
from reference_impl.payments.postgres import ApproveInOneTransaction
from reference_impl.service.lines import NoLine
from reference_impl.service.page.form import MEDIA_TYPE, minor_units
from reference_impl.service.page.view import button_of, notice_of, page_of
from reference_impl.service.problems import Problem
from tests.reference_impl.service.running import Answer, Running, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = os.environ.get("RACEGATE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
in_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on PATH (apt-get install chromium, or set RACEGATE_CHROMIUM)"
)
pytestmark = pytest.mark.xdist_group("browser")

BLOCKED = "⏳ Awaiting Approval (₱100.50) — Cannot Submit"
NOT_KNOWN = "It is not known whether the payment was recorded"
LOST = OperationalError("COMMIT", None, Exception("the line was cut"))
ALREADY = "A payment for this term is already awaiting accounting approval."


@pytest.fixture(scope="module")
def service(postgres_store: Store) -> Iterator[Running]:
    """A payments service."""
    database = postgres_store.create_database()
    with served("pg.approve_in_one_transaction", database) as running:
        yield running
    postgres_store.drop_database(database)


@pytest.fixture
def account(service: Running) -> str:
    """A fresh account of 15,540.00 pesos."""
    name = f"s{secrets.token_hex(4)}"
    assert service.post("open_account", {"subject": name, "assessment": 1_554_000}).status == 200
    return name


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


Tab = Callable[..., "Page"]


@pytest.fixture
def tab(browser: Browser, service: Running) -> Iterator[Tab]:
    """A function that opens an account's page in a tab of one reader's browser; complaints in any console fail the test."""
    complaints: list[str] = []
    contexts: list[Any] = []

    def opened(account: str, **options: Any) -> Page:
        if options or not contexts:
            contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" and "status of 4" not in m.text else None)
        page.goto(f"{service.url}/accounts/{account}")
        return page  # type: ignore[no-any-return]

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def payments(service: Running, account: str) -> list[tuple[str, int, str]]:
    """Return term, amount and status of an account's payments in the database, the oldest first."""
    with psycopg.connect(service.database.url) as connection:
        found = connection.execute(
            "SELECT term, amount, status FROM payments WHERE account = %s ORDER BY submitted", [account]
        ).fetchall()
    return [(term.rpartition("/")[2], amount, status) for term, amount, status in found]


def form(service: Running, account: str, **changed: str) -> Answer:
    """Send the page's form without the page."""
    typed = {"key": secrets.token_hex(16), "term": f"{account}/1", "amount": "100.50", **changed}
    return service.send(f"accounts/{account}", urlencode(typed).encode(), {"Content-Type": MEDIA_TYPE})


def fields(answer: Answer) -> dict[str, str]:
    """Return what the form of an answered page would send."""
    found = dict(re.findall(r'<input [^>]*?name="(\w+)"[^>]*? value="([^"]*)"', answer.body))
    chosen = re.search(r'<option value="([^"]*)"[^>]* selected>', answer.body)
    return {**found, "term": chosen[1]} if chosen else found


def fail(patch: pytest.MonkeyPatch, errors: Mapping[str, Exception], *, after: bool = False) -> None:
    """Have operations end in an error: before anything happened, or after all of it did."""
    real = ApproveInOneTransaction.call

    def call(self: ApproveInOneTransaction, f: str, *asked: Any) -> dict[str, Any]:
        if f not in errors or after:
            answer = real(self, f, *asked)
        if f in errors:
            raise errors[f]
        return answer

    patch.setattr(ApproveInOneTransaction, "call", call)


def submit(page: Page, amount: str = "100.50", term: str = "Upon Registration") -> None:
    """Choose, type and press."""
    value = page.get_by_role("combobox", name="Payment term").locator("option", has_text=term).get_attribute("value")
    page.get_by_role("combobox", name="Payment term").select_option(value)
    page.get_by_label("Amount in pesos").fill(amount)
    with page.expect_navigation():
        page.get_by_role("button", name="Submit Payment").click()


@in_browser
def test_the_page_shows_what_each_term_owes_and_asks_for_a_term(account: str, tab: Tab) -> None:
    page = tab(account)

    rows = [row.inner_text().split("\t") for row in page.locator("[data-term]").all()]
    assert rows[0] == ["Upon Registration", "₱6,550.11", "none", "₱6,550.11"]
    assert [row[0] for row in rows] == ["Upon Registration", "Prelim", "Midterm", "Semi-Final", "Final"]
    assert page.get_by_role("button").inner_text() == "Select a Payment Term"
    assert page.get_by_role("button").is_disabled()
    assert page.get_by_text("No payment has been submitted yet.").is_visible()


@in_browser
def test_a_submitted_payment_blocks_its_term_and_no_other(service: Running, account: str, tab: Tab) -> None:
    page = tab(account)
    submit(page)

    button, term = page.get_by_role("button"), page.get_by_role("combobox", name="Payment term")
    assert (button.inner_text(), button.is_disabled()) == (BLOCKED, True)
    assert "A payment of ₱100.50 for this term is awaiting accounting approval." in page.locator("#reason").inner_text()
    banner = page.get_by_role("region", name="Payments awaiting approval").inner_text()
    assert "Upon Registration: ₱100.50, reference PAY-" in banner
    assert page.locator("[data-term]").first.inner_text().split("\t")[1:] == ["₱6,550.11", "⏳ ₱100.50", "₱6,449.61"]
    assert page.locator("#effective").inner_text() == "₱15,439.50"
    blocked = term.locator("option", has_text="(⏳ Pending ₱100.50 approval)")
    assert (blocked.count(), blocked.is_disabled()) == (1, True)
    assert "Awaiting approval" in page.get_by_role("region", name="Payments", exact=True).inner_text()

    submit(page, "2,775.45", "Prelim")
    assert payments(service, account) == [("1", 10_050, "awaiting_approval"), ("2", 277_545, "awaiting_approval")]


@in_browser
def test_a_submitted_payment_is_confirmed_once(account: str, tab: Tab) -> None:
    page = tab(account)
    before = page.get_by_role("status").count()
    submit(page)

    told = page.get_by_role("status").inner_text()
    assert "Your payment of ₱100.50 for Upon Registration was submitted and awaits approval by accounting." in told
    assert page.locator(".waits td").nth(1).inner_text() in told
    page.reload()
    assert (before, page.get_by_role("status").count()) == (0, 0)
    assert page.get_by_role("button", name=BLOCKED).is_disabled()


@in_browser
def test_an_approved_payment_is_off_the_balance_and_the_term_is_free_again(service: Running, account: str, tab: Tab) -> None:
    page = tab(account)
    submit(page)
    reference = page.locator(".waits td").nth(1).inner_text()
    assert service.post("approve", {"subject": reference}).status == 200
    page.goto(f"{service.url}/accounts/{account}")

    assert page.locator("[data-term]").first.inner_text().split("\t")[1:] == ["₱6,449.61", "none", "₱6,449.61"]
    assert page.locator(".waiting").count() == 0
    submit(page, "6,449.61")
    assert [amount for _, amount, _ in payments(service, account)] == [10_050, 644_961]


@in_browser
@pytest.mark.parametrize("script", [True, False])
def test_a_term_that_was_paid_in_full_gives_way_to_the_next(service: Running, account: str, tab: Tab, script: bool) -> None:
    page = tab(account, java_script_enabled=script)
    submit(page, "6,550.11")
    reference = page.locator(".waits td").nth(1).inner_text()
    assert service.post("approve", {"subject": reference}).status == 200
    page.reload()

    assert page.get_by_role("combobox", name="Payment term").input_value() == f"{account}/2"
    assert page.get_by_role("button", name="Submit Payment").is_enabled()
    page.get_by_label("Amount in pesos").fill("1.00")
    with page.expect_navigation():
        page.get_by_role("button", name="Submit Payment").click()
    assert [term for term, *_ in payments(service, account)] == ["1", "2"]


@in_browser
@pytest.mark.parametrize("script", [True, False])
def test_a_button_with_nothing_left_to_pay_says_so(service: Running, account: str, tab: Tab, script: bool) -> None:
    for term, owed in enumerate((655_011, 277_545, 277_544, 231_235, 112_665), start=1):
        asked = {"subject": f"{account}-p{term}", "account": account, "term": f"{account}/{term}", "amount": owed}
        assert [service.post("submit", asked).status, service.post("approve", {"subject": asked["subject"]}).status] == [200, 200]
    page = tab(f"{account}?term={account}/1", java_script_enabled=script)

    button = page.get_by_role("button", name="Nothing Left to Pay")
    assert (button.is_disabled(), page.get_by_role("combobox").input_value()) == (True, "")
    assert page.locator("#reason").inner_text() == "Every term is paid: nothing is left to pay."


@in_browser
def test_pressing_twice_submits_once(service: Running, account: str, tab: Tab) -> None:
    page = tab(account)
    page.get_by_role("combobox", name="Payment term").select_option(f"{account}/1")
    page.get_by_role("button", name="Submit Payment").dblclick()
    page.wait_for_url("**term=*")
    page.go_back()
    page.reload()

    assert len(payments(service, account)) == 1


@in_browser
def test_two_tabs_that_submit_at_once_make_one_payment_and_the_other_is_told_why(
    service: Running, account: str, tab: Tab
) -> None:
    tabs = [tab(account), tab(account)]
    for page in tabs:
        page.get_by_role("combobox", name="Payment term").select_option(f"{account}/1")
    with psycopg.connect(service.database.url) as holder:  # both requests are under way before either can be decided
        holder.execute("SELECT FROM terms WHERE id = %s FOR UPDATE", [f"{account}/1"])
        for page in tabs:
            page.evaluate("document.getElementById('pay').requestSubmit()")
        with psycopg.connect(service.database.url, autocommit=True) as watcher:
            held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            while watcher.execute(held).fetchone() != (2,):
                tabs[0].wait_for_timeout(20)
    for page in tabs:
        page.wait_for_selector("button[disabled]:has-text('Awaiting Approval')")

    refusals = [page.get_by_role("alert").inner_text() for page in tabs if page.get_by_role("alert").count()]
    assert len(refusals) == 1
    assert ALREADY in refusals[0]
    assert payments(service, account) == [("1", 655_011, "awaiting_approval")]


@in_browser
def test_a_button_that_is_forced_open_does_not_help(service: Running, account: str, tab: Tab) -> None:
    page = tab(account)
    submit(page)
    page.evaluate("for (const e of document.querySelectorAll('#pay [disabled]')) e.disabled = false")
    page.get_by_label("Amount in pesos").fill("5.00")
    page.evaluate("document.getElementById('pay').submit()")  # past every check of the browser and of the script
    page.wait_for_selector("[role=alert]")

    assert ALREADY in page.get_by_role("alert").inner_text()
    assert len(payments(service, account)) == 1


@in_browser
def test_choosing_a_term_fills_in_an_amount_only_where_none_was_typed(account: str, tab: Tab) -> None:
    page = tab(account)
    term, amount = page.get_by_role("combobox", name="Payment term"), page.get_by_label("Amount in pesos")
    seen = []
    for typed in (None, None, "100.50", ""):
        if typed is not None:
            amount.fill(typed)
        for n in "12":
            term.select_option(f"{account}/{n}")
            seen.append(amount.input_value())

    assert seen == ["6,550.11", "2,775.45"] * 2 + ["100.50", "100.50"] + ["6,550.11", "2,775.45"]


@in_browser
def test_an_amount_of_a_refused_form_counts_as_typed(account: str, tab: Tab) -> None:
    page = tab(account)
    submit(page, "6,550.12")
    page.get_by_role("combobox", name="Payment term").select_option(f"{account}/2")

    assert page.get_by_label("Amount in pesos").input_value() == "6,550.12"


@in_browser
def test_the_keyboard_is_enough(service: Running, account: str, tab: Tab) -> None:
    page = tab(account)
    focused = "document.activeElement.id"
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "term":
            break
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "amount"
    assert page.evaluate("document.activeElement.value") == "6,550.11"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "send"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**term=*")

    assert payments(service, account) == [("1", 655_011, "awaiting_approval")]


@in_browser
def test_the_page_works_without_script(service: Running, account: str, tab: Tab) -> None:
    page = tab(account, java_script_enabled=False)
    submit(page)

    assert page.get_by_role("button", name=BLOCKED).is_disabled()
    page.get_by_role("link", name="Pay for another term").click()
    submit(page, "1.00", "Midterm")
    assert [term for term, *_ in payments(service, account)] == ["1", "3"]


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way_of_a_screen_reader_or_a_small_screen(
    service: Running, account: str, tab: Tab, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = tab(account, color_scheme=scheme, viewport={"width": 320, "height": 640})
    found = [Axe().run(page)]
    submit(page)
    found.append(Axe().run(page))
    page.goto(f"{service.url}/accounts/nobody")
    found.append(Axe().run(page))
    page.goto(f"{service.url}/accounts/{account}")

    assert [violation["id"] for seen in found for violation in seen.response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


@in_browser
def test_the_reason_is_heard_when_it_appears_and_takes_no_room_before(account: str, tab: Tab) -> None:
    """A live region must be in the accessibility tree before its first message, or some screen readers miss that."""
    page = tab(account)
    reason = page.locator("#reason")
    devtools = page.context.new_cdp_session(page)
    found = devtools.send("Runtime.evaluate", {"expression": "document.getElementById('reason')"})
    asked = {"objectId": found["result"]["objectId"], "fetchRelatives": False}
    [node] = devtools.send("Accessibility.getPartialAXTree", asked)["nodes"]
    below = "document.getElementById('history').getBoundingClientRect().top"
    with_it = page.evaluate(below)
    reason.evaluate("element => element.remove()")

    assert reason.count() == 0
    assert node["ignored"] is False
    assert {p["name"]: p["value"]["value"] for p in node["properties"]}["live"] == "polite"
    assert page.evaluate(below) == with_it


@in_browser
def test_names_are_text_and_never_markup(service: Running, tab: Tab) -> None:
    name = '<img src=x onerror="alert(1)">&amp;'
    service.post("open_account", {"subject": name, "assessment": 1000})
    page = tab(name.replace("%", "%25").replace("?", "%3F"))

    assert page.get_by_role("heading", level=1).inner_text() == f"Account {name}"


def test_the_server_refuses_a_second_submission_when_the_page_is_bypassed(service: Running, account: str) -> None:
    first = form(service, account)
    second = form(service, account)

    assert first.status == 303
    assert (second.status, 'data-code="already_awaiting_approval"' in second.body) == (409, True)
    assert len(payments(service, account)) == 1


def test_a_form_that_is_sent_again_is_the_same_payment(service: Running, account: str) -> None:
    key = secrets.token_hex(16)

    assert [form(service, account, key=key).status for _ in range(2)] == [303, 303]
    assert len(payments(service, account)) == 1


@pytest.mark.parametrize(
    ("error", "status", "heading"),
    [
        (LOST, 504, NOT_KNOWN),
        (RuntimeError("a bug"), 500, NOT_KNOWN),
        (NoLine("none left"), 503, "Nothing was recorded this time"),
    ],
)
def test_a_form_without_a_definite_answer_is_served_again_with_its_key_term_and_amount(
    service: Running, account: str, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, heading: str
) -> None:
    key = secrets.token_hex(16)
    with monkeypatch.context() as patch:
        fail(patch, {"submit": error})
        answer = form(service, account, key=key, term=f"{account}/2")

    assert (answer.status, f"<h2>{heading}</h2>" in answer.body) == (status, True)
    assert "safe to submit it again" in answer.body
    assert fields(answer) == {"key": key, "term": f"{account}/2", "amount": "100.50"}
    assert [form(service, account, **fields(answer)).status for _ in range(2)] == [303, 303]
    assert payments(service, account) == [("2", 10_050, "awaiting_approval")]


def test_a_payment_whose_answer_was_lost_is_not_called_unknown_if_the_history_has_it(
    service: Running, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail(patch, {"submit": LOST}, after=True)
        answer = form(service, account)

    assert answer.status == 303
    assert payments(service, account) == [("1", 10_050, "awaiting_approval")]


def test_a_form_keeps_its_key_when_the_account_cannot_be_read_either(
    service: Running, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = secrets.token_hex(16)
    with monkeypatch.context() as patch:
        fail(patch, {"submit": LOST, "account": LOST}, after=True)
        answer = form(service, account, key=key)

    assert (answer.status, f"<h1>{NOT_KNOWN}</h1>" in answer.body) == (504, True)
    assert fields(answer) == {"key": key, "term": f"{account}/1", "amount": "100.50"}
    assert form(service, account, **fields(answer)).status == 303
    assert payments(service, account) == [("1", 10_050, "awaiting_approval")]


@pytest.mark.parametrize(("error", "status"), [(LOST, 504), (RuntimeError("a bug"), 500), (NoLine("none left"), 503)])
def test_a_page_that_cannot_be_shown_asks_for_nothing_to_be_sent_again(
    service: Running, account: str, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    with monkeypatch.context() as patch:
        fail(patch, {"account": error})
        answer = service.get(f"accounts/{account}")

    assert answer.status == status
    assert "The account cannot be shown at the moment. Load the page again." in answer.body
    assert ("Send" in answer.body, "Idempotency-Key" in answer.body, "<form" in answer.body) == (False, False, False)
    assert service.get(f"accounts/{account}").status == 200


def test_a_refused_form_is_served_again_with_a_fresh_key(service: Running, account: str) -> None:
    key = secrets.token_hex(16)

    answer = form(service, account, key=key, amount="6550.12")

    assert "<h2>The payment was not recorded</h2>" in answer.body
    assert re.fullmatch("[0-9a-f]{32}", fields(answer)["key"])
    assert fields(answer)["key"] != key


@pytest.mark.parametrize(
    ("status", "code", "heading", "same_key"),
    [
        (409, "already_awaiting_approval", "The payment was not recorded", False),
        (422, "key_reused", "The payment was not recorded", False),
        (500, "internal_error", NOT_KNOWN, True),
        (503, "40001", "Nothing was recorded this time", True),
        (504, "outcome_unknown", NOT_KNOWN, True),
    ],
)
def test_only_a_definite_refusal_says_not_recorded_and_takes_a_fresh_key(
    status: int, code: str, heading: str, same_key: bool
) -> None:
    notice = notice_of(Problem(status=status, code=code, message="Send it with the same Idempotency-Key."))

    assert (notice.heading, notice.same_key, "safe to submit it again" in notice.text) == (heading, same_key, same_key)


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"amount": "0"}, 422, "invalid_amount"),
        ({"amount": "-5"}, 422, "invalid_amount"),
        ({"amount": "1.005"}, 422, "invalid_amount"),
        ({"amount": "1e3"}, 422, "invalid_amount"),
        ({"amount": "1,00"}, 422, "invalid_amount"),
        ({"amount": "999999999999999"}, 422, "invalid_amount"),
        ({"amount": "٣"}, 422, "invalid_amount"),
        ({"amount": ""}, 422, "invalid_amount"),
        ({"amount": "6550.12"}, 409, "exceeds_available_balance"),
        ({"term": ""}, 422, "invalid_request"),
        ({"term": "another/1"}, 404, "unknown_term"),
        ({"key": "short"}, 400, "invalid_form"),
        ({"more": "x"}, 400, "invalid_form"),
        ({"term": "x" * 5000}, 400, "invalid_form"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(
    service: Running, account: str, changed: dict[str, str], status: int, code: str
) -> None:
    answer = form(service, account, **changed)

    assert (answer.status, f'data-code="{code}"' in answer.body) == (status, True)
    assert ('aria-invalid="true"' in answer.body) == (code in ("invalid_amount", "exceeds_available_balance"))
    assert "minor units" not in answer.body
    assert "printable" not in answer.body
    assert payments(service, account) == []


def test_an_amount_that_cannot_be_printed_is_not_shown_again(service: Running, account: str) -> None:
    answer = form(service, account, amount="1\0")

    assert (answer.status, fields(answer)["amount"], "\0" in answer.body) == (422, "", False)
    assert payments(service, account) == []


def test_another_sites_form_and_a_form_of_another_kind_are_refused(service: Running, account: str) -> None:
    body = urlencode({"key": secrets.token_hex(16), "term": f"{account}/1", "amount": "1"}).encode()
    headers = {"Content-Type": MEDIA_TYPE}

    foreign = service.send(f"accounts/{account}", body, {**headers, "Sec-Fetch-Site": "cross-site"})
    other = service.send(f"accounts/{account}", body, {"Content-Type": "application/json"})
    large = service.send(f"accounts/{account}", b"x" * 10_000_000, headers)
    twice = service.send_headers(f"accounts/{account}", body, [("Content-Type", MEDIA_TYPE), ("Content-Type", "text/plain")])

    assert [answer.status for answer in (foreign, other, large)] == [403, 415, 413]
    assert twice == 415
    assert payments(service, account) == []


def test_another_companys_account_is_not_shown(service: Running, account: str) -> None:
    assert service.get(f"accounts/{account}?company=another").status == 404


@pytest.mark.parametrize(
    ("text", "amount"), [("1,875.55", 187_555), ("5", 500), ("5.5", 550), ("₱0.01", 1), ("1875.55", 187_555)]
)
def test_an_amount_is_read_exactly(text: str, amount: int) -> None:
    assert minor_units(text) == amount


@pytest.mark.parametrize("text", ["1.005", "1.", ".5", "1,2", "12,34", "NaN", "1 000", "+1", "1_0"])
def test_an_amount_that_could_mean_two_things_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="such as 1,875.55"):
        minor_units(text)


@pytest.mark.parametrize("text", ["0", "0.00", "100000000000.01", "999999999999999"])
def test_an_amount_out_of_range_is_refused_in_pesos(text: str) -> None:
    with pytest.raises(Refused, match=r"Enter an amount from ₱0\.01 to ₱100,000,000,000\.00\.") as refused:
        minor_units(text)

    assert (refused.value.refusal, refused.value.status) == ("invalid_amount", 422)


def term(balance: int, pending: int, name: str = "t") -> dict[str, Any]:
    """Return one term of an account's figures."""
    figures = {"balance": balance, "pending": pending, "available": max(0, balance - pending)}
    return {"id": name, "name": name, **figures, "selectable": balance > 0 and not pending}


@pytest.mark.parametrize(
    ("asked", "terms", "chosen", "text"),
    [
        ("a", [term(5, 0, "a"), term(5, 0, "b")], "a", "Submit Payment"),
        ("a", [term(5, 2, "a"), term(5, 0, "b")], "a", "⏳ Awaiting Approval (₱0.02) — Cannot Submit"),
        ("b", [term(5, 0, "a"), term(0, 0, "b"), term(5, 2, "c"), term(5, 0, "d")], "d", "Submit Payment"),
        ("b", [term(5, 0, "a"), term(0, 0, "b")], "a", "Submit Payment"),
        ("a", [term(0, 0, "a"), term(5, 5, "b")], "", "⏳ Awaiting Approval (₱0.05) — Cannot Submit"),
        ("a", [term(0, 0, "a"), term(0, 0, "b")], "", "Nothing Left to Pay"),
        ("x", [term(5, 0, "a")], "", "Submit Payment"),
        ("", [term(5, 0, "a")], "", "Submit Payment"),
    ],
)
def test_a_term_that_cannot_be_paid_any_more_is_not_kept_as_chosen(
    asked: str, terms: list[dict[str, Any]], chosen: str, text: str
) -> None:
    overview = {"subject": "s", "assessment": 9, "balance": 9, "pending": 0, "available": 9, "terms": terms}

    page = page_of(overview, {"payments": []}, company="main", chosen=asked)

    assert (page.chosen, page.button.text) == (chosen, text)
    assert page.button.enabled or page.button.reason
    assert not any(line.blocked == "Paid" for line in page.terms if line.id == page.chosen)


def payment(reference: str, status: str) -> dict[str, Any]:
    """Return one payment of a history."""
    figures = {"amount": 5, "refunded": 0, "reason": "", "submitted": "2026-11-20 10:00 UTC"}
    return {"id": reference, "term": "a", "term_name": "A", "status": status, **figures}


@pytest.mark.parametrize(("submitted", "confirmed"), [("waits", "waits"), ("paid", None), ("nobody's", None), ("", None)])
def test_only_a_payment_of_the_account_that_awaits_approval_is_confirmed(submitted: str, confirmed: str | None) -> None:
    overview = {"subject": "s", "assessment": 9, "balance": 9, "pending": 0, "available": 9, "terms": [term(5, 5, "a")]}
    history = {"payments": [payment("waits", "awaiting_approval"), payment("paid", "paid")]}

    page = page_of(overview, history, company="main", chosen="a", submitted=submitted)

    assert (page.submitted.reference if page.submitted else None) == confirmed


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        ("rejected", "The slip cannot be read.", "Rejected: The slip cannot be read."),
        ("rejected", "not stated", "Rejected"),
        ("cancelled", "", "Cancelled"),
        ("paid", "", "Paid"),
    ],
)
def test_a_rejected_payment_says_why(status: str, reason: str, said: str) -> None:
    overview = {"subject": "s", "assessment": 9, "balance": 9, "pending": 0, "available": 9, "terms": [term(5, 0, "a")]}
    history = {"payments": [{**payment("p", status), "reason": reason}]}

    assert [line.status for line in page_of(overview, history, company="main", chosen="").payments] == [said]


def test_the_page_warns_of_a_payment_that_awaits_approval_however_many_came_after_it(
    service: Running, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "SHOWN", 2)
    waiting = {"subject": f"{account}-waits", "term": f"{account}/1", "amount": 100}
    assert service.post("submit", waiting).status == 200
    for n in range(2):
        later = {"subject": f"{account}-{n}", "term": f"{account}/2", "amount": 100}
        assert [service.post("submit", later).status, service.post("cancel", {"subject": later["subject"]}).status] == [200, 200]

    [banner] = re.findall(r'<section class="waiting".*?</section>', service.get(f"accounts/{account}").body, re.DOTALL)

    assert waiting["subject"] in banner


def test_an_amount_typed_for_a_term_that_is_paid_is_not_offered_for_the_next(service: Running, account: str) -> None:
    asked = {"subject": f"{account}-p1", "account": account, "term": f"{account}/1", "amount": 655_011}
    assert [service.post("submit", asked).status, service.post("approve", {"subject": asked["subject"]}).status] == [200, 200]

    answer = form(service, account)

    assert answer.status == 409
    assert (fields(answer)["term"], fields(answer)["amount"]) == (f"{account}/2", "")


def test_the_button_says_why_it_cannot_be_pressed() -> None:
    assert (button_of([term(5, 0)], "").text, button_of([term(5, 0)], "").enabled) == ("Submit Payment", True)
    assert button_of([term(0, 0)], "").text == "Nothing Left to Pay"
    assert button_of([term(900, 500)], "").text == "⏳ Awaiting Approval (₱5.00) — Cannot Submit"
    assert button_of([term(900, 500)], "").enabled is False
