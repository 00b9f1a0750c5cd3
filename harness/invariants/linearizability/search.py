"""Is there an order in which these operations can have taken effect one at a time? A search that can be paused.

The search of Wing and Gong, with Lowe's two refinements: operations are placed just in time, and configurations that were
seen before are not followed again. It goes from return to return. At a return the operation must have taken effect; if it has
not yet, it is placed now, after as few of the operations that are open at that moment as possible. A configuration is what is
left to decide: the state, which of the open operations have taken effect, and which of unknown outcome were used.

Five things keep it small, none of which loses an answer:

- Operations that never change the state are placed as soon as they fit. If a later order has them elsewhere, leaving
  them out there changes nothing.
- An operation of unknown outcome is used only when it makes a difference, and a configuration that used more of them than
  another that is otherwise the same is not followed: the other can do everything that it can.
- Operations of unknown outcome with the same name and argument are interchangeable, so the earliest is used first.
- States and kinds of operation are numbered, and each step of the model is computed once.
- A model may know that a state can no longer lead to what the next read saw (text that is only appended to): it is left.

When no order exists, the operation that could not be placed is the one whose return the longest order did not get past.

References: J. M. Wing, C. Gong, Testing and Verifying Concurrent Objects (1993); G. Lowe, Testing for Linearizability (2016).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.invariants.linearizability.models import IMPOSSIBLE, REFUSED, Model

TICK = 512
"""Steps after which a search looks whether its budget is used up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One operation as the search sees it: its row in the history; ``returned`` is None where nobody knows its outcome."""

    at: int
    f: str
    argument: Any
    answer: Any
    invoked: int
    returned: int | None


@dataclass(frozen=True, slots=True)
class _Return:
    """A return: the call, its bit among the open ones, its kind; the others that are open; and the unknown ones so far."""

    call: int
    bit: int
    kind: int
    reads: tuple[tuple[int, int, int], ...]
    others: tuple[tuple[int, int, int], ...]
    unknown: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
    goals: tuple[tuple[int, int], ...] = ()
    """Bit and kind of reads that no reset can come before: the open ones and the first of those to come (bit 0)."""


_Config = tuple[int, int, int, tuple[int, ...]]
"""State, open operations that have taken effect (bits), unknown ones that were used (bits), and calls placed since."""

_Successors = Generator[_Config | None, None, None]

_EXHAUSTED: _Config = (-1, 0, 0, ())


class Search:
    """A search over one object's operations. `advance` it until ``valid`` is no longer None."""

    def __init__(self, calls: Sequence[Call], model: Model) -> None:
        self._calls = calls
        self._index = {call.at: i for i, call in enumerate(calls)}
        self._model = model
        self._kinds: dict[Hashable, int] = {}
        self._kind_of: list[tuple[str, Any, Any]] = []
        self._states: dict[Hashable, int] = {}
        self._state_of: list[Hashable] = []
        self._steps: list[dict[int, int]] = []
        self._hopes: dict[tuple[int, int], bool] = {}
        self._returns = self._prepare()
        self._seen: list[dict[tuple[int, int], list[int]]] = [{} for _ in range(len(self._returns) + 1)]
        self._path: list[tuple[int, ...]] = []
        first = self._number(model.initial)
        self._stack: list[_Successors] = [self._follow(0, first, 0, 0)] if self._returns else []
        self.valid: bool | None = None if self._returns else True
        self.steps = 0
        self.configurations = 0
        self._longest: list[int] = []
        self._stuck = -1

    @property
    def longest(self) -> list[int]:
        """The rows of the longest order that was found, in that order; the whole order if there is one."""
        return [self._calls[c].at for c in self._longest]

    @property
    def stuck(self) -> Call | None:
        """The operation that no order could place, if none exists."""
        return self._calls[self._returns[self._stuck].call] if self.valid is False else None

    @property
    def states(self) -> list[Hashable]:
        """The states that were possible when the operation that could not be placed returned."""
        if self.valid is not False:
            return []
        return [self._state_of[s] for s in dict.fromkeys(state for state, _ in self._seen[self._stuck])] or [self._model.initial]

    def advance(self, budget: int) -> bool | None:
        """Search for about ``budget`` more steps; return whether an order exists, or None if that is still open."""
        limit = self.steps + budget
        stack, path, seen, last = self._stack, self._path, self._seen, len(self._returns)
        while stack and self.valid is None:
            found = next(stack[-1], _EXHAUSTED)
            if found is None:
                if self.steps >= limit:
                    return None
                continue
            if found is _EXHAUSTED:
                self._back()
                continue
            state, done, used, placed = found
            at = len(stack)
            if at == last:
                self._longest = [c for part in (*path, placed) for c in part]
                self.valid = True
                break
            if not self._may_lead(self._returns[at].goals, state, done):
                continue
            before = seen[at].setdefault((state, done), [])
            if any(other & used == other for other in before):
                continue
            before.append(used)
            self.configurations += 1
            path.append(placed)
            stack.append(self._follow(at, state, done, used))
            if self.steps >= limit:
                return None
        if self.valid is None:
            self.valid = False
        self._stack = stack if self.valid is None else []
        return self.valid

    def _back(self) -> None:
        """Leave a configuration from which nothing more follows, and remember the one that got furthest."""
        at = len(self._stack) - 1
        self._stack.pop()
        if at > self._stuck:
            self._stuck = at
            self._longest = [c for part in self._path for c in part]
        if self._path:
            self._path.pop()

    def _follow(  # noqa: PLR0912 - the inner loop of the search stays in one place, for speed
        self, at: int, state: int, done: int, used: int
    ) -> _Successors:
        """Yield the configurations after a return, fewest placed operations first; None now and then, to be paused at."""
        back = self._returns[at]
        if done & back.bit:
            yield state, done ^ back.bit, used, ()
            return
        ticks = TICK
        state_, done_, placed = state, *self._place_reads(back, state, done, ())
        queue: deque[_Config] = deque([(state_, done_, used, placed)])
        local: dict[tuple[int, int], list[int]] = {(state_, done_): [used]}
        steps = self._steps
        while queue:
            state, done, used, placed = queue.popleft()
            self.steps += 1 + len(back.others) + len(back.unknown)
            ticks -= 1 + len(back.others) + len(back.unknown)
            if ticks <= 0:
                ticks = TICK
                yield None
            if done & back.bit:  # it was placed with the reads
                yield state, done ^ back.bit, used, placed
                continue
            following = steps[back.kind].get(state)
            if following is None:
                following = self._step(back.kind, state)
            if following >= 0:
                yield following, *self._last(back, following, done, used, (*placed, back.call))
            for bit, kind, call in back.others:
                if done & bit:
                    continue
                following = steps[kind].get(state)
                if following is None:
                    following = self._step(kind, state)
                if following >= 0:
                    self._enqueue(queue, local, back, (following, done | bit, used, (*placed, call)))
            for kind, bits in back.unknown:
                following = steps[kind].get(state)
                if following is None:
                    following = self._step(kind, state)
                if following >= 0 and following != state:
                    for bit, call in bits:
                        if not used & bit:
                            self._enqueue(queue, local, back, (following, done, used | bit, (*placed, call)))
                            break

    def _last(self, back: _Return, state: int, done: int, used: int, placed: tuple[int, ...]) -> tuple[int, int, tuple[int, ...]]:
        done, placed = self._place_reads(back, state, done, placed)
        return done & ~back.bit, used, placed

    def _enqueue(
        self,
        queue: deque[_Config],
        local: dict[tuple[int, int], list[int]],
        back: _Return,
        config: _Config,
    ) -> None:
        state, done, used, placed = config
        if back.goals and not self._may_lead(back.goals, state, done):
            return
        if back.reads:
            done, placed = self._place_reads(back, state, done, placed)
        before = local.setdefault((state, done), [])
        if any(other & used == other for other in before):
            return
        before.append(used)
        queue.append((state, done, used, placed))

    def _may_lead(self, goals: tuple[tuple[int, int], ...], state: int, done: int) -> bool:
        """Tell whether this state may still lead to what each of these reads saw, unless it was placed already."""
        for bit, kind in goals:
            if done & bit:
                continue
            known = self._hopes.get((kind, state))
            if known is None:
                assert self._model.leads is not None
                f, _, answer = self._kind_of[kind]
                known = self._hopes[kind, state] = self._model.leads(self._state_of[state], f, answer)
            if not known:
                return False
        return True

    def _place_reads(self, back: _Return, state: int, done: int, placed: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """Place every open operation that changes nothing and fits this state."""
        for bit, kind, call in back.reads:
            if not done & bit:
                following = self._steps[kind].get(state)
                if following is None:
                    following = self._step(kind, state)
                if following >= 0:
                    done |= bit
                    placed = (*placed, call)
        return done, placed

    def _step(self, kind: int, state: int) -> int:
        """Return the number of the state after an operation of this kind, -1 where it cannot be."""
        following = self._model.step(self._state_of[state], *self._kind_of[kind])
        number = -1 if following is IMPOSSIBLE else self._number(following)
        self._steps[kind][state] = number
        return number

    def _number(self, state: Hashable) -> int:
        known = self._states.get(state)
        if known is None:
            known = self._states[state] = len(self._state_of)
            self._state_of.append(state)
        return known

    def _kind(self, call: Call) -> int:
        key = (call.f, call.argument, call.answer)
        known = self._kinds.get(key)
        if known is None:
            known = self._kinds[key] = len(self._kind_of)
            self._kind_of.append(key)
            self._steps.append({})
        return known

    def _changes_nothing(self, call: Call) -> bool:
        return call.f in self._model.reads or call.answer is False or call.answer is REFUSED

    def _prepare(self) -> list[_Return]:
        """Go through the history once and note, at each return, what is open."""
        events = sorted(
            [(c.invoked, 0, i) for i, c in enumerate(self._calls)]
            + [(c.returned, 1, i) for i, c in enumerate(self._calls) if c.returned is not None]
        )
        returns: list[_Return] = []
        bits: dict[int, int] = {}
        free: list[int] = []
        reads: dict[int, tuple[int, int, int]] = {}
        others: dict[int, tuple[int, int, int]] = {}
        unknown: dict[int, tuple[tuple[int, int], ...]] = {}
        groups: tuple[tuple[int, tuple[tuple[int, int], ...]], ...] = ()
        slots = unknowns = 0
        for _, returning, at in events:
            call = self._calls[at]
            if not returning:
                kind = self._kind(call)
                if call.returned is None:
                    if call.f not in self._model.reads:
                        unknown[kind] = (*unknown.get(kind, ()), (1 << unknowns, at))
                        groups = tuple(unknown.items())
                        unknowns += 1
                    continue
                if not free:
                    free.append(1 << slots)
                    slots += 1
                bit = bits[at] = free.pop()
                (reads if self._changes_nothing(call) else others)[at] = (bit, kind, at)
                continue
            bit = bits.pop(at)
            others.pop(at, None)
            returns.append(
                _Return(
                    call=at,
                    bit=bit,
                    kind=self._kind(call),
                    reads=tuple(reads.values()),
                    others=tuple(others.values()),
                    unknown=groups,
                )
            )
            reads.pop(at, None)
            free.append(bit)
        return self._with_goals(returns)

    def _with_goals(self, returns: list[_Return]) -> list[_Return]:
        """Note at each return the reads still to be placed that only operations without a reset can come before."""
        if self._model.leads is None:
            return returns
        resets = [c for c in self._calls if c.f in self._model.resets]
        found: list[_Return] = []
        coming: list[Call] = []  # reads that return at or after this return, the next one last
        for at in range(len(returns) - 1, -1, -1):
            call = self._calls[returns[at].call]
            if call.f in self._model.reads:
                coming.append(call)
            since = self._calls[returns[at - 1].call].returned if at else None
            bits = {call: bit for bit, _, call in returns[at].reads}
            goals: list[tuple[int, int]] = []
            for read in reversed(coming):
                if any(_may_come_between(r, since, read) for r in resets):
                    break
                goals.append((bits.get(self._index[read.at], 0), self._kind(read)))
                if not goals[-1][0]:
                    break
            found.append(replace(returns[at], goals=tuple(goals)))
        return found[::-1]


def _may_come_between(reset: Call, since: int | None, read: Call) -> bool:
    """Tell whether a reset can take effect after ``since`` and before the read does."""
    assert read.returned is not None
    return reset.invoked <= read.returned and (since is None or reset.returned is None or reset.returned >= since)
