"""Reads and writes EDN, Clojure's data notation: as much of it as histories need, which is nearly all.

Keywords become `Keyword` (text that prints with its colon), vectors and lists become lists, maps dicts, sets frozensets, tagged
values their plain value unless a reader for the tag is given. Specification: https://github.com/edn-format/edn.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

TOKEN = re.compile(
    r"""[\s,]*(?:;[^\n]*[\s,]*)*            # white space, commas and comments
    (?:(?P<text>"(?:[^"\\]|\\.)*")
    |(?P<open>\#\{|[\[({])
    |(?P<close>[\])}])
    |(?P<drop>\#_)
    |(?P<tag>\#[A-Za-z][\w.*+!?$%&=<>/-]*)
    |(?P<char>\\(?:newline|return|space|tab|u[0-9A-Fa-f]{4}|.))
    |(?P<word>[^\s,\[\](){}";]+)
    |(?P<end>\Z))""",
    re.VERBOSE | re.DOTALL,
)

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "b": "\b", "f": "\f"}
_CHARACTERS = {"newline": "\n", "return": "\r", "space": " ", "tab": "\t"}
_CLOSING = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_WORDS: Mapping[str, Any] = {
    **{"nil": None, "true": True, "false": False},
    **{"##Inf": math.inf, "##-Inf": -math.inf, "##NaN": math.nan},
}
_INTEGER = re.compile(r"[+-]?\d+N?")
_DECIMAL = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?M?")

Tags = Mapping[str, Callable[[Any], Any]]


class Keyword(str):
    """A keyword, without its colon; equal to the plain text."""

    __slots__ = ()


class EdnError(ValueError):
    """The text is not EDN. ``position`` is where."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class _Closed(Exception):
    """A closing bracket was met where a value was looked for."""


def read_all(text: str, tags: Tags | None = None) -> Iterator[Any]:
    """Yield the values that the text holds one after another. Raises EdnError where it is not EDN."""
    reader = _Reader(text, tags or {})
    while not reader.at_end():
        try:
            value = reader.value()
        except _Closed as closed:
            raise EdnError(f"{closed} closes what was never opened", reader.position) from None
        yield value


def read_one(text: str, tags: Tags | None = None) -> Any:
    """Return the only value of the text. Raises EdnError if it is not EDN, or holds none or several."""
    values = list(read_all(text, tags))
    if len(values) != 1:
        raise EdnError(f"expected one value and found {len(values)}", 0)
    return values[0]


class _Reader:
    def __init__(self, text: str, tags: Tags) -> None:
        self._text = text
        self._tags = tags
        self._at = 0

    @property
    def position(self) -> int:
        """How far the text was read."""
        return self._at

    def at_end(self) -> bool:
        """Skip white space, comments and dropped values; tell whether nothing is left."""
        while True:
            found = TOKEN.match(self._text, self._at)
            if found is None or found.lastgroup not in ("end", "drop"):
                return False
            if found.lastgroup == "end":
                return True
            self._at = found.end()
            self.value()

    def value(self) -> Any:
        found = TOKEN.match(self._text, self._at)
        if found is None:
            raise EdnError("this is not EDN", self._at)
        kind, token, start = found.lastgroup, found[found.lastgroup or 0], self._at
        self._at = found.end()
        if kind == "word":
            return self._word(token, start)
        if kind == "text":
            return _unescaped(token[1:-1], start)
        if kind == "open":
            return self._collection(token, start)
        if kind == "tag":
            inner = self.value()
            read = self._tags.get(token[1:])
            return read(inner) if read else inner
        if kind == "drop":
            self.value()
            return self.value()
        if kind == "char":
            return _character(token[1:])
        if kind == "close":
            raise _Closed(token)
        raise EdnError("the text ends in the middle of a value", start)

    def _collection(self, opened: str, start: int) -> Any:
        items: list[Any] = []
        try:
            while True:
                items.append(self.value())
        except _Closed as closed:
            if str(closed) != _CLOSING[opened]:
                raise EdnError(f"{opened} is closed by {closed}", start) from None
        if opened == "{":
            if len(items) % 2:
                raise EdnError("a map has a key without a value", start)
            return dict(zip(map(_key, items[::2]), items[1::2], strict=True))
        return frozenset(map(_key, items)) if opened == "#{" else items

    def _word(self, word: str, start: int) -> Any:
        if word[0] == ":":
            return Keyword(word[1:])
        if word in _WORDS:
            return _WORDS[word]
        if _INTEGER.fullmatch(word):
            return int(word.rstrip("N"))
        if _DECIMAL.fullmatch(word):
            return float(word.rstrip("M"))
        if word[0].isdigit() or word.startswith("#"):
            raise EdnError(f"{word!r} is not EDN", start)
        return word


def _key(value: Any) -> Hashable:
    if isinstance(value, list):
        return tuple(_key(v) for v in value)
    if isinstance(value, dict):
        return tuple(sorted((str(k), _key(v)) for k, v in value.items()))
    return value  # type: ignore[no-any-return]  # plain values are hashable


def _unescaped(text: str, start: int) -> str:
    if "\\" not in text:
        return text

    def one(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        if found[2] not in _ESCAPES:
            raise EdnError(f"\\{found[2]} is not an escape", start)
        return _ESCAPES[found[2]]

    return re.sub(r"\\(?:u([0-9A-Fa-f]{4})|(.))", one, text, flags=re.DOTALL)


def _character(name: str) -> str:
    if len(name) == 5 and name[0] == "u":
        return chr(int(name[1:], 16))
    return _CHARACTERS.get(name, name)


def write(value: Any) -> str:
    """Return a value as EDN. Keys of maps that are plain words become keywords.

    Raises:
        TypeError: the value has no EDN form.
    """
    for kind, form in _FORMS:
        if isinstance(value, kind):
            return form(value)
    raise TypeError(f"{type(value).__name__} has no form in EDN")


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "##NaN" if math.isnan(value) else "##Inf" if value > 0 else "##-Inf"


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r") + '"'


_FORMS: tuple[tuple[Any, Callable[[Any], str]], ...] = (  # the first that fits: a bool is an int, a keyword is text
    (type(None), lambda value: "nil"),
    (bool, lambda value: "true" if value else "false"),
    (Keyword, lambda value: f":{value}"),
    (str, _text),
    (float, _number),
    (int, repr),
    (Mapping, lambda value: "{" + ", ".join(f"{_written_key(k)} {write(v)}" for k, v in value.items()) + "}"),
    ((list, tuple), lambda value: "[" + " ".join(write(v) for v in value) + "]"),
    ((frozenset, set), lambda value: "#{" + " ".join(sorted(write(v) for v in value)) + "}"),
)


def _written_key(key: Any) -> str:
    if isinstance(key, str) and re.fullmatch(r"[A-Za-z][\w.*+!?-]*", key):
        return f":{key}"
    return write(key)
