"""Interleavings as pictures, on values: what is drawn, where, and that nothing of the system under test becomes markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness.engines.explore.picture import MOST_STEPS, NARROW, WIDE, Shape, picture

SVG = "{http://www.w3.org/2000/svg}"


def step(client: int, statement: str, *parameters: str, **more: Any) -> dict[str, Any]:
    plain = {"result": "", "waited": False, "holders": [], "until": None, "fault": "", "wrong": False}
    return {"client": client, "statement": statement, "parameters": list(parameters), **plain, **more}


def drawn(*steps: dict[str, Any], sentence: str = "", shape: Shape = WIDE) -> ET.Element:
    return ET.fromstring(picture(steps, sentence=sentence, shape=shape, alone=True))


def texts(root: ET.Element, class_: str = "") -> list[str]:
    return [t.text or "" for t in root.iter(f"{SVG}text") if class_ in (t.get("class") or "").split() or not class_]


def titles(root: ET.Element) -> list[str]:
    return [t.text or "" for t in root.iter(f"{SVG}title")]


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [e for e in root.iter() if name in (e.get("class") or "").split()]


def cards(root: ET.Element) -> list[tuple[float, float, float, float]]:
    found = [[float(e.get(a, "")) for a in ("x", "y", "width", "height")] for e in of_class(root, "card")]
    return [(x, y, width, height) for x, y, width, height in found]


def points(path: ET.Element) -> list[float]:
    return [float(n) for n in re.findall(r"[\d.]+", path.get("d", ""))]


def lane_of(root: ET.Element, client: int) -> float:
    return points(of_class(root, "lane")[client])[0]


WAITING: Sequence[dict[str, Any]] = (
    step(0, "UPDATE counters SET value = value + 1", result="UPDATE 1"),
    step(1, "UPDATE counters SET value = value + 1", result="UPDATE 1", waited=True, holders=[0], until=3),
    step(0, "COMMIT", result="COMMIT"),
    step(1, "COMMIT", result="COMMIT", wrong=True),
)


def test_each_client_has_a_lane_and_each_step_a_card_below_the_one_before() -> None:
    root = drawn(step(0, "SELECT 1", result="(1)"), step(1, "SELECT 2"), step(0, "COMMIT"))

    (a, b, c) = cards(root)
    assert a[0] == c[0] < b[0]
    assert a[1] + a[3] < b[1]
    assert b[1] + b[3] < c[1]
    assert a[0] + a[2] < lane_of(root, 1) < b[0]
    assert {"client 0", "client 1", "SELECT 1", "→ (1)", "SELECT 2", "COMMIT", "1", "2", "3"} == set(texts(root))


def test_everything_lies_within_the_picture_and_no_text_is_wider_than_its_card() -> None:
    long = step(1, "SELECT " + "a_rather_long_column_name, " * 30, result="(" + "9" * 300 + ")", waited=True)
    for shape in (WIDE, NARROW):
        for clients in (2, 3, 5, 12):
            steps = [step(n, "BEGIN") for n in range(clients)]
            root = drawn(steps[0], long, *steps[2:], shape=shape, sentence="one sentence " * 20)
            width, height = float(root.get("width", "")), float(root.get("height", ""))

            assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
            for x, y, w, h in cards(root):
                assert 0 < x < x + w <= width
                assert 0 < y < y + h <= height
            room = cards(root)[1][2]
            assert all(len(t) * shape.size * 0.602 <= room for t in texts(root) if not t.startswith("one"))
            assert all(float(t.get("y", "")) < height for t in root.iter(f"{SVG}text"))


def test_clients_that_do_nothing_have_no_lane_and_the_others_keep_their_numbers() -> None:
    root = drawn(step(1, "UPDATE t"), step(4, "UPDATE t", waited=True, holders=[1, 3], until=2))

    assert texts(root, "strong") == ["client 1", "client 4"]
    assert len(of_class(root, "lane")) == 2
    assert len(of_class(root, "lock")) == 1


def test_parameters_stand_in_their_places_and_a_long_statement_is_whole_in_its_title() -> None:
    statement = "INSERT INTO invoices (" + ", ".join(f"column_{n}" for n in range(60)) + ") VALUES ($1)"

    root = drawn(step(0, statement, "'acme'", result="INSERT 0 1"))

    assert any(t.endswith("…") for t in texts(root))
    assert not any("VALUES" in t for t in texts(root))
    assert len(titles(drawn(step(0, statement), shape=NARROW))) == 1  # the picture's own
    [_, told] = titles(root)
    assert told == f"step 1, client 0: {statement.replace('$1', chr(39) + 'acme' + chr(39))}\n→ INSERT 0 1"


@pytest.mark.parametrize("shape", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_wait_is_a_bar_from_its_step_to_the_one_that_let_it_go_on_joined_to_the_holder(shape: Shape) -> None:
    root = drawn(*WAITING, shape=shape)

    [bar] = of_class(root, "wait")
    x, begin, end = points(bar)
    _, own, released, after = cards(root)
    assert x == lane_of(root, 1)
    assert own[1] + own[3] < begin < released[1]
    assert released[1] + released[3] < end < after[1]
    [lock] = of_class(root, "lock")
    assert (float(lock.get("cx", "")), float(lock.get("cy", ""))) == (lane_of(root, 0), begin)
    assert len(of_class(root, "go")) == 1
    assert texts(root, "waits") == ["waits for client 0"]


def test_without_a_record_of_its_end_a_wait_lasts_until_the_clients_next_step() -> None:
    old = [{k: v for k, v in s.items() if k != "until"} for s in WAITING]

    assert points(of_class(drawn(*old), "wait")[0]) == points(of_class(drawn(*WAITING), "wait")[0])


def test_a_wait_whose_holder_is_not_known_has_a_bar_and_no_lock() -> None:
    root = drawn(step(0, "UPDATE t"), step(1, "UPDATE t", waited=True), step(0, "COMMIT"))

    assert len(of_class(root, "wait")) == 1
    assert of_class(root, "lock") == []
    assert texts(root, "waits") == ["waits for a lock"]


def test_a_deadlock_is_two_bars_and_the_victims_ends_with_its_own_step() -> None:
    root = drawn(
        step(0, "UPDATE a"),
        step(1, "UPDATE b"),
        step(0, "UPDATE b", waited=True, holders=[1], until=4),
        step(1, "UPDATE a", waited=True, holders=[0], until=4, result="40P01 deadlock detected"),
    )

    first, second = (points(bar) for bar in of_class(root, "wait"))
    assert first[0] == lane_of(root, 0)
    assert second[0] == lane_of(root, 1)
    assert first[2] == second[2]
    assert {float(e.get("cx", "")) for e in of_class(root, "lock")} == {lane_of(root, 0), lane_of(root, 1)}


def test_the_step_that_made_it_wrong_and_a_fault_are_marked_and_the_sentence_stands_below() -> None:
    lost = step(1, "COMMIT", fault="lose_reply", result="carried out, but the connection broke before the reply")

    root = drawn(step(0, "COMMIT", wrong=True), lost, sentence="N-UNIQ: INV-1 was issued twice")

    assert texts(root, "wrong") == ["1", "wrong from here on"]
    assert len(of_class(root, "bang")) == len(of_class(root, "cross")) == 1
    assert texts(root, "broke")[0].startswith("✕ carried out")
    [sentence] = [t for t in root.iter(f"{SVG}text") if t.text == "N-UNIQ: INV-1 was issued twice"]
    assert float(sentence.get("y", "")) > cards(root)[-1][1] + cards(root)[-1][3]


def test_it_is_an_image_with_a_title_and_a_description() -> None:
    text = picture(WAITING, sentence="twice", name="run-1-steps-2")
    root = ET.fromstring(text)

    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "run-1-steps-2-title run-1-steps-2-desc"
    assert [(e.tag, e.get("id")) for e in root][:2] == [("title", "run-1-steps-2-title"), ("desc", "run-1-steps-2-desc")]
    assert root[1].text == "4 steps of 2 clients, 1 wait, wrong from step 4 on. twice"
    assert "<style" not in text
    assert "xmlns" not in text
    assert "style=" not in text  # a page's security policy refuses it


def test_hostile_text_stays_text() -> None:
    hostile = "\"'></text><script>alert(1)</script>&amp;\x00\x1b[2J\u202e]]>"

    root = drawn(step(0, hostile, hostile, result=hostile, wrong=True), sentence=hostile)

    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= {
        "svg", "title", "desc", "style", "path", "g", "rect", "text", "circle", "polygon"
    }  # fmt: skip
    assert any("alert(1)" in t for t in titles(root))
    assert not any(c in "".join(root.itertext()) for c in "\x00\x1b\u202e")


def test_very_many_steps_are_not_all_drawn_and_that_is_said() -> None:
    root = drawn(*[step(n % 2, f"SELECT {n}") for n in range(MOST_STEPS + 7)])

    assert len(cards(root)) == MOST_STEPS
    assert "7 more steps are not drawn" in texts(root)


def test_the_same_steps_make_the_same_picture() -> None:
    assert picture(WAITING) == picture(WAITING)
