"""An interleaving as a picture: a lane for each client, a card for each step, waits drawn to whose lock it was.

Values in, SVG out; the same steps as `diagram.lanes` writes as text. There are two shapes: side by side for a wide page, and
narrow for a phone, where the lanes are thin and the cards stand beside them. Colours are CSS variables, so that a page's theme
is the picture's.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from harness.engines.explore.diagram import filled

MOST_STEPS = 80
"""Steps that are drawn; whoever has more of them reads text."""

LONGEST_TITLE = 2_000
"""Characters of a statement or an answer that are shown in full when it is pointed at."""

COLOURS = 4
"""Clients have that many colours between them."""

GUTTER, HEAD, GAP, PAD = 30.0, 34.0, 18.0, 8.0
LETTER = 0.63
"""Width of a letter of a monospaced font in terms of its size, rather too much: fonts differ."""

PROSE = 0.58
"""The same for the sentence, which is not monospaced: wide for plain English."""

RULES = """
.schedule text { fill: var(--text); font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.schedule text.small { font-size: 11px; } .schedule text.soft { fill: var(--soft); }
.schedule text.prose { font: 600 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
.schedule .strong { font-weight: 700; } .schedule text.waits { fill: var(--unknown); } .schedule text.broke { fill: var(--info); }
.schedule text.wrong { fill: var(--fail); font-weight: 700; }
.schedule .card { fill: var(--panel); stroke: var(--line); } .schedule .card.broke { stroke: var(--info); stroke-dasharray: 5 3; }
.schedule .card.wrong { stroke: var(--fail); stroke-width: 2.5; }
.schedule .lane { fill: none; stroke: var(--line); stroke-width: 2; } .schedule .alive { fill: none; stroke-width: 3; }
.schedule .wait { fill: none; stroke: var(--unknown); stroke-width: 7; stroke-dasharray: 4 3; }
.schedule .to { fill: none; stroke: var(--unknown); stroke-width: 1.5; }
.schedule .lock { fill: var(--page); stroke: var(--unknown); stroke-width: 2; }
.schedule .go { fill: var(--unknown); } .schedule .cross { fill: none; stroke: var(--info); stroke-width: 3; }
.schedule .bang { fill: var(--fail); } .schedule .rule { fill: none; stroke: var(--fail); stroke-width: 4; }
.schedule .alive.c0 { stroke: var(--ok); } .schedule .dot.c0, .schedule text.c0 { fill: var(--ok); }
.schedule .alive.c1 { stroke: var(--series-1); } .schedule .dot.c1, .schedule text.c1 { fill: var(--series-1); }
.schedule .alive.c2 { stroke: var(--series-2); } .schedule .dot.c2, .schedule text.c2 { fill: var(--series-2); }
.schedule .alive.c3 { stroke: var(--series-3); } .schedule .dot.c3, .schedule text.c3 { fill: var(--series-3); }
.schedule .dot { stroke: none; }
"""
"""How the parts look. They need the variables of a page, or those of `THEME`."""

THEME = """
.schedule { --page: #ffffff; --panel: #f5f6f8; --line: #d5d9df; --text: #1b1f24; --soft: #505a66; --fail: #b3221b;
  --unknown: #7a4e00; --info: #7b53b8; --ok: #2f74b5; --series-1: #a3457e; --series-2: #4d7c0f; --series-3: #6b4fc4;
  background: var(--page); }
@media (prefers-color-scheme: dark) {
  .schedule { --page: #14171b; --panel: #1d2126; --line: #3a4149; --text: #e8eaed; --soft: #aeb6c0; --fail: #ff8f87;
    --unknown: #f0b958; --info: #bd9bf0; --ok: #5ba6e8; --series-1: #f08cc4; --series-2: #9ccc55; --series-3: #b6a0ff; }
}
"""
"""The colours of a picture that stands alone."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How wide a picture and large its letters are, in about pixels. ``beside``: the cards stand to the right of all lanes."""

    width: float
    size: float
    beside: bool
    most_lines: int


WIDE = Shape(width=940.0, size=12.0, beside=False, most_lines=3)
NARROW = Shape(width=340.0, size=11.0, beside=True, most_lines=4)

_LEAST_CARD, _LEAST_LANE, _THIN_LANE = 300.0, 72.0, 22.0


def picture(
    rows: Sequence[Mapping[str, Any]],
    *,
    sentence: str = "",
    name: str = "schedule",
    shape: Shape = WIDE,
    alone: bool = False,
) -> str:
    """Return the steps, as `diagram.rows_of` returns them, as one SVG element.

    Args:
        rows: the steps in the order in which they were let through; those after `MOST_STEPS` are left out, and that is said.
        sentence: the finding's, written below.
        name: unique in the page that the picture is put in; the ids of its title and description begin with it.
        shape: `WIDE` or `NARROW`.
        alone: make a file of it, which brings its own style; otherwise the page has `RULES` and the variables of `THEME`.
    """
    drawn = rows[:MOST_STEPS]
    room = _Room(clients=sorted({int(row["client"]) for row in drawn}), shape=shape)
    cards, y = [], room.top
    for row in drawn:
        card = _card(row, room, y)
        cards.append(card)
        y = card.bottom + GAP
    foot = [f"{len(rows) - len(drawn)} more steps are not drawn"] if len(rows) > len(drawn) else []
    letters = int((room.width - GUTTER - 14) / (13 * PROSE))
    told = textwrap.wrap(_plain(sentence), letters)[:6]
    height = y + 18 * (len(told) + len(foot)) + (8 if told or foot else 0)
    below = _below(told, foot, y)
    parts = [
        _tag("title", "The schedule: who was let through, step by step", id=f"{name}-title"),
        _tag("desc", _described(drawn, room, sentence), id=f"{name}-desc"),
        *([_raw("style", THEME + RULES)] if alone else []),
        *_lanes(cards, room, y - GAP + 14),
        *_waits(cards, room),
        *(_drawn(n, card, room) for n, card in enumerate(cards, start=1)),
        *below,
    ]
    return _raw(
        "svg",
        "\n".join(parts),
        xmlns="http://www.w3.org/2000/svg" if alone else None,
        viewBox=f"0 0 {_number(room.width)} {_number(height)}",
        width=room.width,
        height=height,
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="schedule" if room.width <= shape.width else "schedule broad",
    )


@dataclass(frozen=True, kw_only=True)
class _Room:
    clients: Sequence[int]
    shape: Shape

    @property
    def lanes(self) -> int:
        return max(1, len(self.clients))

    @property
    def pitch(self) -> float:
        """From lane to lane."""
        if self.shape.beside:
            return min(_THIN_LANE, 85.0 / self.lanes)
        even = (self.shape.width - GUTTER) / self.lanes
        if even >= _LEAST_CARD:
            return even
        return max(_LEAST_LANE, (self.shape.width - GUTTER - _LEAST_CARD) / (self.lanes - 1))

    @property
    def top(self) -> float:
        """Where the first card begins; the names of the clients stand above it, or in the cards."""
        return 10.0 if self.shape.beside else HEAD

    @property
    def card(self) -> float:
        """Width of a card; where lanes are many it reaches over those to its right."""
        if self.shape.beside:
            return self.shape.width - self._left(0) - 1
        return max(_LEAST_CARD, self.pitch) - 22

    @property
    def width(self) -> float:
        if self.shape.beside:
            return self.shape.width
        return max(self.shape.width, self._left(self.lanes - 1) + self.card + 2)

    def lane(self, client: int) -> float:
        """Where a client's lane is."""
        return self._lane(self.clients.index(client))

    def left(self, client: int) -> float:
        """Where a client's cards begin."""
        return self._left(self.clients.index(client))

    def colour(self, client: int) -> str:
        """The class of its colour."""
        return f"c{self.clients.index(client) % COLOURS}"

    def _lane(self, n: int) -> float:
        return GUTTER + 8 + n * self.pitch

    def _left(self, n: int) -> float:
        return GUTTER + 4 + self.lanes * self.pitch if self.shape.beside else self._lane(n) + 12

    @property
    def letters(self) -> int:
        """That fit in a line of a card."""
        return max(8, int((self.card - 2 * PAD) / (self.shape.size * LETTER)))


@dataclass(frozen=True, kw_only=True)
class _Card:
    row: Mapping[str, Any]
    lines: Sequence[tuple[str, str]]
    top: float
    bottom: float

    @property
    def client(self) -> int:
        return int(self.row["client"])

    @property
    def middle(self) -> float:
        return self.top + 15


def _card(row: Mapping[str, Any], room: _Room, top: float) -> _Card:
    shape = room.shape
    statement = filled(str(row.get("statement") or ""), row.get("parameters") or ())
    lines: list[tuple[str, str]] = (
        [(f"strong c{int(row['client']) % COLOURS}", f"client {row['client']}")] if shape.beside else []
    )
    lines += [("", line) for line in _wrapped(statement, room.letters, shape.most_lines)]
    if row.get("waited"):
        whose = " and ".join(str(c) for c in row.get("holders") or ())
        lines.append(("waits", f"waits for client {whose}" if whose else "waits for a lock"))
    answer = str(row.get("result") or "")
    if answer:
        style, mark, most = ("broke", "✕", 3) if row.get("fault") else ("soft", "→", 2)
        lines += [(style, line) for line in _wrapped(f"{mark} {answer}", room.letters, most)]
    if row.get("wrong"):
        lines.append(("wrong", "wrong from here on"))
    return _Card(row=row, lines=lines, top=top, bottom=top + PAD + 16 * len(lines))


def _wrapped(text: str, letters: int, most: int) -> list[str]:
    """Return text in lines of at most so many letters; what does not fit is left out, and an ellipsis says so."""
    lines = textwrap.wrap(_plain(text), letters, max_lines=most, placeholder="…", break_on_hyphens=False)
    return lines or [""]


def _lanes(cards: Sequence[_Card], room: _Room, bottom: float) -> Iterable[str]:
    for client in room.clients:
        x, own = room.lane(client), [card for card in cards if card.client == client]
        colour = room.colour(client)
        yield _path(f"M{_number(x)} {_number(room.top - 8)}V{_number(bottom)}", "lane")
        if own:
            yield _path(
                f"M{_number(x)} {_number(own[0].middle)}V{_number(max(own[-1].middle, own[0].middle + 1))}", f"alive {colour}"
            )
        if not room.shape.beside:
            label = f"client {client}" if room.pitch >= 7.4 * len(f"client {client}") else str(client)
            yield _text(x - 5, HEAD - 15, label, f"strong {colour}")


def _waits(cards: Sequence[_Card], room: _Room) -> Iterable[str]:
    """Draw a bar on the lane of each who waits, from its step to the one that let it go on, joined to the lane of the holder."""
    for at, card in enumerate(cards):
        if not card.row.get("waited"):
            continue
        x, end = room.lane(card.client), _until(cards, at)
        begin, stop = card.bottom + 6, cards[end].bottom + 12 if end > at else card.bottom + 12
        for holder in card.row.get("holders") or ():
            if int(holder) in room.clients and int(holder) != card.client:
                to = room.lane(int(holder))
                yield _path(f"M{_number(x)} {_number(begin)}H{_number(to)}", "to")
                yield _tag("circle", cx=to, cy=begin, r=4, class_="lock")
        yield _path(f"M{_number(x)} {_number(begin)}V{_number(stop)}", "wait")
        if end > at and cards[end].client != card.client:
            side = 1 if room.lane(cards[end].client) > x else -1
            tip = x + side * 5
            yield _path(f"M{_number(room.lane(cards[end].client))} {_number(stop)}H{_number(tip + side * 6)}", "to")
            points = f"{_number(tip)},{_number(stop)} {_number(tip + side * 8)},{_number(stop - 4)}"
            yield _tag("polygon", points=f"{points} {_number(tip + side * 8)},{_number(stop + 4)}", class_="go")


def _until(cards: Sequence[_Card], at: int) -> int:
    """Return the index of the step that let this one go on; without a record of it, of the last before its client's next."""
    known = cards[at].row.get("until")
    if isinstance(known, int):
        return min(max(known - 1, at), len(cards) - 1)
    later = (n for n in range(at + 1, len(cards)) if cards[n].client == cards[at].client)
    return next(later, len(cards)) - 1


def _drawn(n: int, card: _Card, room: _Room) -> str:
    x, left, row = room.lane(card.client), room.left(card.client), card.row
    kind = "wrong" if row.get("wrong") else "broke" if row.get("fault") else ""
    y = card.top + PAD + 7
    texts = []
    for style, line in card.lines:
        texts.append(_text(left + PAD, y, line, f"{style} small".strip() if room.shape.size < 12 else style))
        y += 16
    whole = f"step {n}, client {card.client}: {filled(str(row.get('statement') or ''), row.get('parameters') or ())}"
    if row.get("result"):
        whole += f"\n→ {row['result']}"
    parts = [
        *([] if room.shape.beside else [_tag("title", _whole(whole))]),  # nobody points at a card on a phone
        _text(GUTTER - 8, card.middle + 4, str(n), "wrong" if row.get("wrong") else "soft", anchor="end"),
        _tag("rect", x=left, y=card.top, width=room.card, height=card.bottom - card.top, rx=4, class_=f"card {kind}".strip()),
        _path(f"M{_number(x)} {_number(card.middle)}H{_number(left)}", f"alive {room.colour(card.client)}"),
        _mark(x, card, room.colour(card.client)),
        *texts,
    ]
    return _raw("g", "".join(parts))


def _mark(x: float, card: _Card, colour: str) -> str:
    """Draw the step on its lane: a dot, a cross where it met a fault, a diamond where it made something wrong."""
    y = card.middle
    if card.row.get("wrong"):
        points = ((x, y - 8), (x + 8, y), (x, y + 8), (x - 8, y))
        return _tag("polygon", points=" ".join(f"{_number(a)},{_number(b)}" for a, b in points), class_="bang")
    if card.row.get("fault"):
        ends = ((x - 6, y - 6, x + 6, y + 6), (x - 6, y + 6, x + 6, y - 6))
        return _path("".join(f"M{_number(a)} {_number(b)}L{_number(c)} {_number(d)}" for a, b, c, d in ends), "cross")
    return _tag("circle", cx=x, cy=y, r=5, class_=f"dot {colour}")


def _below(told: Sequence[str], foot: Sequence[str], top: float) -> list[str]:
    y = top + 10
    parts = [_path(f"M{_number(GUTTER - 2)} {_number(top - 3)}V{_number(top + 18 * len(told) - 3)}", "rule")] if told else []
    for style, lines in (("prose", told), ("soft", foot)):
        for line in lines:
            parts.append(_text(GUTTER + 10, y, line, style))
            y += 18
    return parts


def _described(rows: Sequence[Mapping[str, Any]], room: _Room, sentence: str) -> str:
    waits = sum(bool(row.get("waited")) for row in rows)
    faults = sum(bool(row.get("fault")) for row in rows)
    wrong = next((f", wrong from step {n} on" for n, row in enumerate(rows, start=1) if row.get("wrong")), "")
    more = "".join(f", {n} {what}{'s' if n > 1 else ''}" for n, what in ((waits, "wait"), (faults, "fault")) if n)
    return f"{len(rows)} steps of {len(room.clients)} clients{more}{wrong}. {_whole(sentence)}".strip()


def _plain(text: str) -> str:
    """Text of the system under test is untrusted; control characters are not even allowed in XML."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in re.sub(r"\s+", " ", text))


def _whole(text: str) -> str:
    lines = "\n".join(_plain(line) for line in text.splitlines())
    return lines if len(lines) <= LONGEST_TITLE else lines[: LONGEST_TITLE - 1] + "…"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _tag(name: str, text: str = "", **attributes: str | float | None) -> str:
    return _raw(name, escape(text, quote=False), **attributes)


def _raw(name: str, inner: str, **attributes: str | float | None) -> str:
    """Return an element around what is markup already; ``class_`` stands for ``class``, an underscore for a hyphen."""
    shown = "".join(
        f' {key.removesuffix("_").replace("_", "-")}="{escape(_number(value) if isinstance(value, int | float) else value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{shown}>{inner}</{name}>" if inner else f"<{name}{shown}/>"


def _path(d: str, class_: str) -> str:
    return _tag("path", d=d, class_=class_)


def _text(x: float, y: float, content: str, class_: str = "", anchor: str | None = None) -> str:
    return _tag("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor)
