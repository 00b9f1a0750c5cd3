"""Runs tests against mutants, quickly: in forks of a process that has collected every test already.

A mutant is put in place by exchanging the code of live functions, and only the tests of its family are run, until one fails: the
cases of the rules whose module uses the mutant's, and the tests of its own. What acts when a module is loaded (constants,
registrations, models) is put in place by running the broken module again in the place of the whole one, and giving what it
defines to everybody who imported it by name.

No data frame may be touched before the fork: the threads of Polars do not survive it.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import settings

from tests.mutation.mutants import Mutant, broken

TESTS = ("tests/corpus", "tests/harness/invariants", "tests/harness/run/test_check_history.py")
"""The tests that must notice."""

OPTIONS = (
    *("-o", "addopts=", "--import-mode=importlib", "--assert=plain"),
    *("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist", "-p", "no:terminal"),
)

PATIENCE = 20
"""Seconds of the processor's time that the tests of a mutant may take before it counts as noticed: it does not end."""

MEMORY = 6 << 30
"""Bytes that a broken program may have before it is stopped."""

FEW = 2
"""Examples that a slow property test tries."""

MOST = 400
"""Tests that are run for a module that nearly every rule uses."""


@dataclass
class Run:
    """A pytest plugin that runs mutants in place of the tests. ``noticed`` says for each tried mutant whether a test failed."""

    mutants: Sequence[Mutant]
    root: Path
    jobs: int
    tell: Callable[[Mutant, bool, int, int], None]
    noticed: dict[str, bool] = field(default_factory=dict)

    def pytest_collection(self) -> None:
        """Let property tests stop at the first counterexample: nobody reads it, so it need not be small."""
        from hypothesis import Phase

        settings.register_profile(
            "mutation", settings.get_profile("racegate"), phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False
        )
        settings.load_profile("mutation")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try every mutant."""
        session.config.option.tbstyle = "native"  # nobody reads what a failing test says
        for item in session.items:
            _try_few(item)
        families = {path: family(path, session.items) for path in {m.path for m in self.mutants}}
        needed = list({item.nodeid: item for items in families.values() for item in items}.values())
        at = {item.nodeid: place for place, item in enumerate(needed)}
        whole = fork(lambda: _first_failing(needed) is None)
        live = functions(self.root)
        gc.disable()
        gc.freeze()  # so that no fork writes to the pages of what it only reads
        waiting = list(self.mutants)
        running: dict[int, tuple[Mutant, int]] = {}
        while waiting or running:
            while waiting and len(running) < self.jobs:
                mutant = waiting.pop(0)
                pid, said = self._forked(mutant, families[mutant.path], at, live)
                running[pid] = mutant, said
            for pid, (mutant, said) in list(running.items()):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    del running[pid]
                    where = os.read(said, 8)
                    os.close(said)
                    if where and not _slow((item := needed[int(where)]).nodeid):
                        # What noticed one mutant is likely to notice the next one, which stands beside it.
                        families[mutant.path].remove(item)
                        families[mutant.path].insert(0, item)
                    self.noticed[mutant.name] = status != 0
                    self.tell(mutant, status != 0, len(self.noticed), len(self.mutants))
            time.sleep(0.002)
            if whole:
                done, status = os.waitpid(whole, os.WNOHANG)
                whole = 0 if done else whole
                if done and status:
                    raise RuntimeError("nothing is broken, and yet one of the tests fails: run them first")
        if whole and os.waitpid(whole, 0)[1]:
            raise RuntimeError("nothing is broken, and yet one of the tests fails: run them first")
        return True

    def _forked(
        self, mutant: Mutant, items: Sequence[pytest.Item], at: Mapping[str, int], live: Mapping[str, Sequence[FunctionType]]
    ) -> tuple[int, int]:
        """Try a mutant in a fork; return its id and a pipe, in which it says the place of the test that noticed, if one did."""
        said, saying = os.pipe()

        def child() -> bool:
            resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE))
            tree = broken(mutant, self.root)
            if mutant.load:
                load_again(tree, mutant.path, self.root, items)
            else:
                exchange_code(tree, mutant.path, self.root, live)
            noticed = _first_failing(items)
            if noticed is not None:
                os.write(saying, str(at[noticed.nodeid]).encode())
            return noticed is None

        pid = fork(child)
        os.close(saying)
        return pid, said


def fork(child: Callable[[], bool]) -> int:
    """Run ``child`` in a fork, silently. Its exit status is 0 if it returns True, else 1."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(quiet, descriptor)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        status = 0 if child() else 1
    finally:
        os._exit(status)


def _first_failing(items: Sequence[pytest.Item]) -> pytest.Item | None:
    for item, following in zip(items, [*items[1:], None], strict=True):
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
            return item
    return None


def family(path: Path, items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests that can notice a mutant of a module, those first that notice most for their time.

    Cases of the corpus count by their rule: by the module of the rule, and the modules that this one uses.
    """
    from harness.invariants.registry import REGISTRY

    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    rules = {id_ for id_, rule in REGISTRY.items() if name in _used(rule.check.__module__, set())}
    chosen = []
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        rule = getattr(parameters.get("case"), "invariant", parameters.get("rule", parameters.get("invariant")))
        if rule in rules if rule else name in _used_by(item):
            chosen.append(item)
    ordered = sorted(chosen, key=lambda i: (_slowness(i.nodeid), hashlib.sha256(i.nodeid.encode()).digest()))
    return ordered[:MOST]


def _slowness(name: str) -> int:
    later = ("nearest_neighbours", "said_is_as_recorded", "judged_as_it_says", "tests/corpus", "test_check_history")
    return len(later) + 1 if _slow(name) else next((n for n, word in enumerate(later, 1) if word in name), 0)


def _try_few(item: pytest.Item) -> None:
    """Let a property test try only `FEW` examples: each of its own holds thousands of histories."""
    function: Any = getattr(item, "function", None)
    own = getattr(function, "_hypothesis_internal_use_settings", None)
    if own is not None and own.max_examples > FEW and _slow(item.nodeid):
        function._hypothesis_internal_use_settings = settings(own, max_examples=FEW)


def _slow(name: str) -> bool:
    return any(word in name for word in ("exhaustive", "thousand", "cut_into_parts", "runs_out", "agrees"))


BUILT_IN = frozenset({"tmp_path", "capsys", "monkeypatch", "request"})


def _used_by(item: pytest.Item) -> set[str]:
    """Return the modules of ours that a test uses: by the names and rules in its code, or its whole module if it has fixtures."""
    from harness.invariants.registry import REGISTRY

    test: Any = item
    function: FunctionType = getattr(getattr(test.function, "hypothesis", None), "inner_test", test.function)
    used: set[str] = set()
    if set(test.fixturenames) - set(getattr(getattr(test, "callspec", None), "params", {})) - BUILT_IN:
        return _used(test.module.__name__, used)
    followed: set[FunctionType] = set()
    waiting = [function]
    while waiting:
        followed.add(function := waiting.pop())
        codes = [function.__code__, *(code for _, code in _codes(function.__code__))]
        for rule in (REGISTRY[c] for code in codes for c in code.co_consts if isinstance(c, str) and c in REGISTRY):
            _used(rule.check.__module__, used)
        named = {name for code in codes for name in code.co_names}
        for value in (function.__globals__[name] for name in named if name in function.__globals__):
            if isinstance(value, FunctionType) and value.__module__ == function.__module__ and value not in followed:
                waiting.append(value)
            _used(_home(value), used)
    return used


def _home(value: object) -> str:
    of = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return of if isinstance(of, str) and of.startswith("harness.") else ""


def _used(name: str, seen: set[str]) -> set[str]:
    """Return a module and those of ours that it uses, by the names that it imported."""
    if name in seen or name not in sys.modules:
        return seen
    seen.add(name)
    for value in list(vars(sys.modules[name]).values()):
        _used(_home(value), seen)
    return seen


def functions(root: Path) -> dict[str, list[FunctionType]]:
    """Return the live functions of the modules below ``root`` by the name of their file."""
    found: dict[str, list[FunctionType]] = {}
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__.co_filename.startswith(str(root)):
            found.setdefault(function.__code__.co_filename, []).append(function)
    return found


def exchange_code(tree: ast.Module, path: Path, root: Path, live: Mapping[str, Sequence[FunctionType]]) -> None:
    """Give live functions of a module the code of the broken one."""
    name = str(root / path)
    codes = dict(_codes(compile(tree, name, "exec")))
    for function in live.get(name, []):
        code = codes.get(_key(function.__code__))
        if code is not None and len(code.co_freevars) == len(function.__code__.co_freevars):
            function.__code__ = code


def load_again(tree: ast.Module, path: Path, root: Path, items: Sequence[pytest.Item]) -> None:
    """Run the broken module in the place of the whole one, and give what it defines to everybody who has it.

    That is: modules that imported it by name, and tests that have it, or an entry of a table of it, for a parameter.
    """
    from harness.invariants.registry import REGISTRY

    parts = path.with_suffix("").parts
    module = sys.modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)]
    before = dict(vars(module))
    for id_ in [i for i, rule in REGISTRY.items() if rule.check.__module__ == module.__name__]:
        del REGISTRY[id_]
    exec(compile(tree, str(root / path), "exec"), vars(module))  # the program itself, with one change
    for other in [m for m in sys.modules.values() if getattr(m, "__name__", "").startswith(("harness", "tests", "test_"))]:
        for name, value in list(vars(other).items()):
            if not name.startswith("__") and name in before and before[name] is value:
                setattr(other, name, vars(module)[name])
    new = vars(module)
    if "REGISTRY" in before and "named" in before:  # the registry itself, which others fill
        new["REGISTRY"].update(before["REGISTRY"])
    exchanged = {id(value): new[name] for name, value in before.items() if not name.startswith("__") and name in new}
    for name, value in before.items():
        if isinstance(value, dict) and not name.startswith("__"):
            exchanged |= {id(entry): new[name][key] for key, entry in value.items() if key in new[name]}
    for item in items:
        if callspec := getattr(item, "callspec", None):
            for name, value in callspec.params.items():
                if not isinstance(value, str | int):
                    callspec.params[name] = exchanged.get(id(value), value)


def _codes(code: CodeType) -> Iterable[tuple[tuple[str, int], CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield _key(constant), constant
            yield from _codes(constant)


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno
