"""Elements of SVG as text. Everything that goes in is escaped, once, here."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape


def number(value: float) -> str:
    """Return a coordinate with one decimal at most: charts are drawn in units of about a pixel."""
    text = f"{value:.1f}"
    return text.removesuffix(".0")


def tag(name: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """Return one element; ``class_`` stands for ``class``, an underscore for a hyphen, None leaves an attribute out."""
    shown = "".join(
        f' {_attribute(key)}="{escape(number(value) if isinstance(value, int | float) else value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{name}{shown}>{inner}</{name}>") if inner else Markup(f"<{name}{shown}/>")


def _attribute(key: str) -> str:
    return {"viewBox": "viewBox"}.get(key, key.removesuffix("_").replace("_", "-"))


def group(children: Iterable[str | Markup], **attributes: str | float | None) -> Markup:
    """Return a group of elements."""
    return tag("g", *children, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return tag("path", d=f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}", class_=class_)


def polyline(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Return an open path through the points."""
    return tag("path", d="M" + "L".join(f"{number(x)} {number(y)}" for x, y in points), class_=class_)


def dots(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Return points as strokes of no length: one element for thousands, and round at every zoom."""
    return tag("path", d="".join(f"M{number(x)} {number(y)}h0" for x, y in points), class_=class_)


def text(x: float, y: float, content: str, class_: str = "", anchor: str | None = None) -> Markup:
    """Return a line of text."""
    return tag("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor)
