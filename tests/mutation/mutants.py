"""Finds what can be broken in a module: each mutant is one small change of one expression.

Broken are comparisons (negated, and moved by one at the boundary), arithmetic and logic, whole numbers and flags, conditions,
aggregates (least and most, first and last, any and all, sums and counts), filters (each condition left out), joins, groups
and windows, and members of the lists of names that rules go by. Texts for people, annotations,
assertions and the options of dataclasses are left alone.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
CALLS = {
    "min": "max",
    "max": "min",
    "first": "last",
    "last": "first",
    "head": "tail",
    "tail": "head",
    "any": "all",
    "all": "any",
    "sum": "max",
    "n_unique": "count",
    "arg_max": "arg_min",
    "is_null": "is_not_null",
    "is_not_null": "is_null",
    "cum_max": "cum_min",
    "cum_min": "cum_max",
    "cum_sum": "cum_max",
    "cumsum": "cumprod",
    "min_horizontal": "max_horizontal",
    "max_horizontal": "min_horizontal",
    "any_horizontal": "all_horizontal",
    "minimum": "maximum",
    "maximum": "minimum",
}
"""Functions and methods that are exchanged for their opposite."""

DROPPED = frozenset({"over", "abs", "unique", "fill_null", "clip", "drop_nulls", "shift"})
"""Methods that are left out: ``x.over(...)`` becomes ``x``."""

WORDS = {
    "how": {"anti": "semi", "semi": "anti", "left": "inner", "inner": "left"},
    "keep": {"first": "last", "last": "first"},
    "side": {"left": "right", "right": "left"},
}
"""Named arguments whose words are exchanged."""

LISTED = frozenset({"filter", "group_by", "any_horizontal", "unique", "coalesce"})
"""Calls of which each argument, or each entry of a listed argument, is left out, if others are left."""


Step = tuple[str, int | None]
"""A field of a syntax node, and the place in it where it is a list."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change of one node.

    ``steps`` lead to the node from the module, ``change`` says which of its changes it is. ``lines`` are those whose execution
    it can affect; ``load`` says that it acts when the module is loaded, not when one of its functions is called.
    """

    path: Path
    where: str
    before: str
    after: str
    nth: int
    steps: tuple[Step, ...]
    change: int
    lines: tuple[int, int]
    load: bool

    @property
    def name(self) -> str:
        """The same from one version of a file to the next, as long as its function and its expression stay."""
        again = f" [{self.nth}]" if self.nth > 1 else ""
        return f"{self.path.as_posix()} {self.where}: {self.before} -> {self.after}{again}"


def mutants_of(path: Path, root: Path) -> list[Mutant]:
    """Return every mutant of a module. ``path`` is relative to ``root``."""
    tree = ast.parse((root / path).read_text())
    found: list[Mutant] = []
    seen: dict[str, int] = {}
    for site in _sites(tree, (), (), (), None):
        for at, change in enumerate(_changes(site.node)):
            before, after = _told(site, change)
            if before == after:
                continue
            key = f"{site.where}: {before} -> {after}"
            seen[key] = seen.get(key, 0) + 1
            found.append(
                Mutant(
                    path=path,
                    where=site.where,
                    before=before,
                    after=after,
                    nth=seen[key],
                    steps=site.steps,
                    change=at,
                    lines=site.lines,
                    load=site.load,
                )
            )
    return found


def broken(mutant: Mutant, root: Path) -> ast.Module:
    """Return the module's syntax tree with the change. Lines are those of the original."""
    tree = ast.parse((root / mutant.path).read_text())
    *before, last = mutant.steps
    parent = _follow(tree, before)
    node = _follow(parent, [last])
    change = list(_changes(node))[mutant.change]
    _exchange(parent, last, ast.copy_location(change, node) if hasattr(node, "lineno") else change)
    return ast.fix_missing_locations(tree)


def _follow(node: ast.AST, steps: Sequence[Step]) -> ast.AST:
    for field, at in steps:
        value = getattr(node, field)
        node = value if at is None else value[at]
    return node


def _exchange(parent: ast.AST, step: Step, node: ast.AST) -> None:
    field, at = step
    if at is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[at] = node


@dataclass(frozen=True)
class _Site:
    node: ast.AST
    above: tuple[ast.AST, ...]
    steps: tuple[Step, ...]
    where: str
    lines: tuple[int, int]
    load: bool


def _sites(
    node: ast.AST, names: tuple[str, ...], above: tuple[ast.AST, ...], steps: tuple[Step, ...], statement: ast.stmt | None
) -> Iterator[_Site]:
    """Yield every node that may be changed, with the function that it is in and the lines of its statement."""
    if isinstance(node, ast.stmt):
        statement = node
    where = ".".join(names) or "the module"
    inside = any(n.endswith("()") for n in names)
    if isinstance(node, ast.expr | ast.comprehension | ast.If | ast.While | ast.keyword):
        yield _Site(node, above, steps, where, _lines(node, statement), not inside)
    for field, value in ast.iter_fields(node):
        for at, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _left_alone(node, field, child):
                continue
            deeper = names
            if isinstance(node, ast.FunctionDef) and field == "body":
                deeper = (*names, f"{node.name}()")
            elif isinstance(node, ast.ClassDef) and field == "body":
                deeper = (*names, node.name)
            yield from _sites(child, deeper, (*above, node), (*steps, (field, at)), statement)


ENOUGH = 24
"""Characters of an expression that tell where it is."""


def _told(site: _Site, change: ast.AST) -> tuple[str, str]:
    """Return the text before and after the change, with as much around it as it takes to recognise it."""
    if isinstance(site.node, ast.List | ast.Tuple | ast.Set) and isinstance(change, type(site.node)):
        (gone,) = (ast.unparse(e) for e in site.node.elts if e not in change.elts)
        return _text(site.node), f"without {gone}"
    node, parents, steps = site.node, list(site.above), list(site.steps)
    outer = node
    while parents and len(_text(outer)) < ENOUGH and isinstance(parents[-1], ast.expr | ast.keyword | ast.comprehension):
        outer = parents.pop()
    before = _text(outer)
    _exchange(site.above[-1], steps[-1], change)
    after = _text(change if outer is node else outer)
    _exchange(site.above[-1], steps[-1], node)
    return before, after


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.If | ast.While):
        node = node.test
    if isinstance(node, ast.comprehension):
        tests = "".join(f" if {ast.unparse(test)}" for test in node.ifs)
        return f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)}{tests}"
    return _short(ast.unparse(node))


def _left_alone(node: ast.AST, field: str, child: ast.AST) -> bool:
    if isinstance(child, ast.Assert) or field in ("annotation", "returns", "bases"):
        return True
    if field == "decorator_list" and isinstance(child, ast.Call) and ast.unparse(child.func) == "dataclass":
        return True
    if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):  # a docstring
        return True
    if isinstance(node, ast.Subscript) and field == "slice" and isinstance(child, ast.Constant):
        return isinstance(child.value, str)
    if isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Name) and child.targets[0].id == "__all__":
        return True
    return isinstance(child, ast.Raise)


def _lines(node: ast.AST, statement: ast.stmt | None) -> tuple[int, int]:
    """Return the lines whose execution the node may affect: those of its statement, of a compound one only its own."""
    if isinstance(node, ast.If | ast.While):
        return node.test.lineno, node.test.end_lineno or node.test.lineno
    if statement is None or hasattr(statement, "body"):
        first = getattr(node, "lineno", 1)
        return first, getattr(node, "end_lineno", first)
    return statement.lineno, statement.end_lineno or statement.lineno


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    for kind, changes in _CHANGES:
        if isinstance(node, kind):
            yield from changes(node)


def _calculated(node: ast.BinOp) -> Iterator[ast.AST]:
    if type(node.op) in ARITHMETIC and not _is_text(node.left) and not _is_text(node.right):
        yield ast.BinOp(left=node.left, op=ARITHMETIC[type(node.op)](), right=node.right)


def _combined(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield ast.BoolOp(op=ast.Or() if isinstance(node.op, ast.And) else ast.And(), values=node.values)


def _negated(node: ast.UnaryOp) -> Iterator[ast.AST]:
    if isinstance(node.op, ast.Not | ast.Invert):
        yield node.operand


def _worded(node: ast.keyword) -> Iterator[ast.AST]:
    if isinstance(node.value, ast.Constant) and node.arg in WORDS:
        word = WORDS[node.arg].get(str(node.value.value))
        if word:
            yield ast.keyword(arg=node.arg, value=ast.Constant(word))


def _chosen(node: ast.If | ast.While | ast.IfExp) -> Iterator[ast.AST]:
    if not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield _replaced(node, "test", ast.UnaryOp(op=ast.Not(), operand=node.test))


def _filtered(node: ast.comprehension) -> Iterator[ast.AST]:
    if node.ifs:
        yield _replaced(node, "ifs", [])


def _listed(node: ast.List | ast.Tuple | ast.Set) -> Iterator[ast.AST]:
    read = isinstance(node, ast.Set) or isinstance(node.ctx, ast.Load)
    if read and node.elts and all(_is_text(e) for e in node.elts):
        for at in range(len(node.elts)):
            yield _replaced(node, "elts", [e for i, e in enumerate(node.elts) if i != at])


def _compared(node: ast.Compare) -> Iterator[ast.AST]:
    for at, operator in enumerate(node.ops):
        for other in COMPARISONS[type(operator)]:
            yield _replaced(node, "ops", [*node.ops[:at], other(), *node.ops[at + 1 :]])


def _constant(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)


def _called(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
    if name in CALLS:
        func = copy.copy(node.func)
        setattr(func, "attr" if isinstance(func, ast.Attribute) else "id", CALLS[name])
        yield _replaced(node, "func", func)
    if name in DROPPED and isinstance(node.func, ast.Attribute):
        yield node.func.value
    if name in LISTED and isinstance(node.func, ast.Attribute) and len(node.args) > 1:
        for at in range(len(node.args)):
            yield _replaced(node, "args", [*node.args[:at], *node.args[at + 1 :]])


_CHANGES: tuple[tuple[Any, Callable[[Any], Iterator[ast.AST]]], ...] = (
    (ast.Compare, _compared),
    (ast.BinOp, _calculated),
    (ast.BoolOp, _combined),
    (ast.UnaryOp, _negated),
    (ast.Constant, _constant),
    (ast.Call, _called),
    (ast.keyword, _worded),
    ((ast.If, ast.While, ast.IfExp), _chosen),
    (ast.comprehension, _filtered),
    ((ast.List, ast.Tuple, ast.Set), _listed),
)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _replaced(node: ast.AST, field: str, value: object) -> ast.AST:
    changed = copy.copy(node)
    setattr(changed, field, value)
    return changed


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 110 else f"{flat[:70]} ... {flat[-35:]}"


def sources(root: Path, parts: Sequence[str], package: str = "harness/invariants") -> list[Path]:
    """Return the modules to break, all or those whose path has one of ``parts``."""
    found = sorted(p.relative_to(root) for p in (root / package).rglob("*.py"))
    return [p for p in found if not parts or any(part in p.as_posix() for part in parts)]
