"""Runs tests against mutants, quickly: in forks of a process that has collected every test already.

Which tests execute which lines of the invariants is traced once. A mutant is put in place by exchanging the code of live
functions, and only the tests that execute its lines are run, the quickest first, until one fails. What acts when a module is
loaded (constants, registrations, models) is put in place by running the broken module again in the place of the whole one, and
giving what it defines to everybody who imported it by name.

No data frame may be touched before the fork: the threads of Polars do not survive it.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.mutation.mutants import Mutant, broken

TESTS = ("tests/corpus", "tests/harness/invariants", "tests/harness/run/test_check_history.py")
"""The tests that must notice."""

OPTIONS = (
    *("-o", "addopts=", "--import-mode=importlib"),
    *("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist", "-p", "no:terminal"),
)

PATIENCE = 8.0
"""Seconds that a broken program may take longer than the whole one before it counts as noticed: it does not end."""

MEMORY = 6 << 30
"""Bytes that a broken program may have before it is stopped."""

Lines = dict[str, list[int]]


@dataclass(frozen=True, kw_only=True)
class Covered:
    """One test: how long it takes, in seconds, and the lines that it executes by file."""

    seconds: float
    lines: Lines


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
        from hypothesis import Phase, settings

        settings.register_profile(
            "mutation", settings.get_profile("racegate"), phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False
        )
        settings.load_profile("mutation")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Trace the tests, then try every mutant."""
        items = {item.nodeid: item for item in session.items}
        began = time.monotonic()
        covered = traced(list(items.values()), self.root)
        print(f"{len(items)} tests traced in {time.monotonic() - began:.0f} s", file=sys.stderr)
        waiting = list(self.mutants)
        running: dict[int, tuple[Mutant, float]] = {}
        while waiting or running:
            while waiting and len(running) < self.jobs:
                mutant = waiting.pop(0)
                ids = chosen(mutant, covered)
                pid = self._forked(mutant, [items[i] for i in ids])
                spent = sum(covered[i].seconds for i in ids)
                running[pid] = (mutant, time.monotonic() + PATIENCE + 5 * spent)
            for pid, (mutant, deadline) in list(running.items()):
                done, status = os.waitpid(pid, os.WNOHANG)
                if not done and time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    done, status = os.waitpid(pid, 0)
                if done:
                    del running[pid]
                    self.noticed[mutant.name] = status != 0
                    self.tell(mutant, status != 0, len(self.noticed), len(self.mutants))
            time.sleep(0.002)
        return True

    def _forked(self, mutant: Mutant, items: Sequence[pytest.Item]) -> int:
        def child() -> bool:
            tree = broken(mutant, self.root)
            if mutant.load:
                load_again(tree, mutant.path, self.root, items)
            else:
                exchange_code(tree, mutant.path, self.root)
            return all(_passes(item) for item in items)

        return fork(child)


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


def _passes(item: pytest.Item) -> bool:
    return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def chosen(mutant: Mutant, covered: dict[str, Covered]) -> list[str]:
    """Return the tests that can notice a mutant, the quickest first.

    A line that no test was seen to execute may be executed where the trace does not see it (called from another thread), so
    then all tests that execute anything of the module are run, as for what acts when the module is loaded.
    """
    path, (first, last) = mutant.path.as_posix(), mutant.lines
    touching = {i: c for i, c in covered.items() if path in c.lines}
    direct = {i for i, c in touching.items() if any(first <= line <= last for line in c.lines[path])}
    ids = direct if direct and not mutant.load else set(touching)
    return sorted(ids, key=lambda i: covered[i].seconds)


def traced(items: Sequence[pytest.Item], root: Path) -> dict[str, Covered]:
    """Run every test once in a fork and return what it executes.

    Raises:
        RuntimeError: a test fails although nothing is broken.
    """
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "covered.json"

        def child() -> bool:
            found: dict[str, Any] = {}
            for item in items:
                lines: dict[str, set[int]] = {}
                began = time.perf_counter()
                sys.settrace(_tracer(str(root / "harness" / "invariants"), lines))
                passed = _passes(item)
                sys.settrace(None)
                if not passed:
                    into.write_text(json.dumps(item.nodeid))
                    return False
                here = {Path(file).relative_to(root).as_posix(): sorted(seen) for file, seen in lines.items()}
                found[item.nodeid] = [time.perf_counter() - began, here]
            into.write_text(json.dumps(found))
            return True

        _, status = os.waitpid(fork(child), 0)
        found = json.loads(into.read_text()) if into.is_file() else "the first test"
    if status:
        raise RuntimeError(f"nothing is broken, and yet this fails: {found}")
    return {name: Covered(seconds=seconds, lines=lines) for name, (seconds, lines) in found.items()}


def _tracer(folder: str, lines: dict[str, set[int]]) -> Any:
    def local(frame: FrameType, event: str, argument: Any) -> Any:
        lines[frame.f_code.co_filename].add(frame.f_lineno)
        return local

    def called(frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(folder):
            return None
        lines.setdefault(name, set()).add(frame.f_lineno)
        return local

    return called


def exchange_code(tree: ast.Module, path: Path, root: Path) -> None:
    """Give live functions of a module the code of the broken one."""
    name = str(root / path)
    codes = dict(_codes(compile(tree, name, "exec")))
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__.co_filename == name:
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
