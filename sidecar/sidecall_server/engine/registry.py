"""The tools in force: looked up by name, swapped as a whole."""

import hashlib
import itertools
import json
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any
from weakref import WeakValueDictionary

from rapidfuzz import process

from sidecall_server.core.call import BlockCause
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import Failure, Reason, not_started
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.tool import Group, ToolSpec
from sidecall_server.policy.breaker import CircuitBreaker
from sidecall_server.policy.build import GroupState, ToolPolicies, ToolState
from sidecall_server.policy.concurrency import Limiter
from sidecall_server.policy.queue import ToolQueue
from sidecall_server.policy.rate import RateLimiter
from sidecall_server.policy.retry import Retrier

_MAX_NEAR_NAMES = 5
_NEAR_PERCENT = 60
_MAX_SHOWN_CHARS = 100
_MAX_HINTS = 1_024
_MAX_GONE = 1_000
"""Names that were tools' whose limits, rates and breakers are kept although nothing uses them."""


class ToolTable(dict[str, ToolPolicies]):
    """Tools by name; never changed in place.

    Attributes:
        not_found: Failures of calls whose names are not among the tools, by name: finding
            near names takes longer than everything else that such a call needs.
        laned: Names of the tools that have lanes.
        max_result_bytes: Bytes that one result may take, for the tools that bound it.
    """

    def __init__(self, tools: Iterable[tuple[str, ToolPolicies]] = ()) -> None:
        super().__init__(tools)
        self.not_found: dict[str, Failure] = {}
        self.laned = frozenset(name for name, entry in self.items() if entry.lane is not None)
        self.max_result_bytes = {
            name: entry.spec.max_result_bytes
            for name, entry in self.items()
            if entry.spec.max_result_bytes is not None
        }


_NO_GROUPS: Mapping[str, Group] = {}


class Registry:
    """The tools that can be called.

    A batch keeps the mapping that it started with; limits, rates and breakers belong to
    names and outlive a swap. Those of names that have gone are kept while a batch uses
    them, and the latest beyond that: hosts may offer other names each time.

    Attributes:
        tools: The tools by name. Never changed in place.
        revision: Changes when a tool or its description does.
        is_durable: Whether starts of calls may have to be durable; for the next swap.
    """

    def __init__(
        self,
        limits: Limits,
        now_ns: Callable[[], int] = time.monotonic_ns,
        random: Callable[[], float] = random.random,
    ) -> None:
        """Makes an empty registry.

        Args:
            limits: Bounds in force.
            now_ns: The time.
            random: Gives numbers from 0 to below 1, for waits between attempts.
        """
        self._limits = limits
        self._now_ns = now_ns
        self._random = random
        self.is_durable = False
        self._versions = itertools.count(1)
        self._states: dict[str, ToolState] = {}  # the names that went first come first
        self._in_use: WeakValueDictionary[str, ToolState] = WeakValueDictionary()
        self._groups = {
            name: GroupState(Limiter(name, BlockCause.GROUP_LIMIT, most))
            for name, most in (("threads", limits.max_threads), ("processes", limits.max_processes))
        }
        self._built_in = tuple(self._groups)
        self._shared_places: WeakValueDictionary[str, Limiter[Any]] = WeakValueDictionary()
        self.tools = ToolTable()
        self._digests: dict[str, bytes] = {}
        self.revision = _revision(())

    def swap(self, tools: Iterable[BoundTool], groups: Mapping[str, Group] = _NO_GROUPS) -> None:
        """Puts other tools in force, all at once.

        Args:
            tools: The tools.
            groups: Limits that they share, by name.

        Raises:
            ValueError: Two tools have one name, a schema is invalid, or a group is
                unknown. Nothing was changed.
        """
        group_states = self._group_states(groups)
        states: dict[str, ToolState] = {}
        entries: dict[str, ToolPolicies] = {}
        # Most tools stay as they are when a host comes or goes, and there may be thousands.
        same_groups = group_states == self._groups
        for tool in tools:
            name = tool.spec.name
            if name in entries:
                raise ValueError(
                    f"two tools are named {name!r}: one of {entries[name].tool.source}, "
                    f"one of {tool.source}"
                )
            before = self.tools.get(name) if same_groups else None
            if before is not None and before.tool is tool:
                entries[name] = before
                if tool.places is None:
                    continue
                states[name] = before.state
            else:
                states[name] = self._state_for(tool)
                entries[name] = self._entry(tool, states[name], group_states)
        for name, state in states.items():
            self._put_in_force(state, entries[name].tool)
        self._count_slots(entries[name].tool for name in states)
        for name, group in groups.items():
            self._change_group(group_states[name], group)
        self._states |= states
        self._let_go(entries)
        self._groups |= group_states
        replaced, self.tools = self.tools, ToolTable(sorted(entries.items()))
        # Only of what is new: a swap happens whenever a host comes or goes.
        self._digests = {
            name: self._digests[name] if replaced.get(name) is entry else _digest(entry.spec)
            for name, entry in self.tools.items()
        }
        self.revision = _revision(self._digests.values())

    def _count_slots(self, tools: Iterable[BoundTool]) -> None:
        """Bounds what runs of each source whose tools share places.

        Whoever waits for a slot must not hold permits that others need.
        """
        slots: dict[str, dict[str, int]] = {}
        for tool in tools:
            if tool.places is not None:
                slots.setdefault(tool.source, {}).update(tool.places.slots)
        for source, of_places in slots.items():
            self._shared_places[source].limit = max(1, sum(of_places.values()))

    def _places_of(self, tool: BoundTool) -> tuple[GroupState, ...]:
        """What a tool shares with the others of its source; nothing where it has no places."""
        if tool.places is None:
            return ()
        limiter = self._shared_places.get(tool.source)
        if limiter is None:
            limiter = Limiter(tool.source, BlockCause.GROUP_LIMIT, 1)
            self._shared_places[tool.source] = limiter
        return (GroupState(limiter),)

    def _let_go(self, in_force: Collection[str]) -> None:
        """Keeps of names that have gone what is in use, and the latest."""
        for name in in_force if len(self._states) > len(in_force) else ():
            self._states[name] = self._states.pop(name)
        surplus = max(0, len(self._states) - len(in_force) - _MAX_GONE)
        for name in list(islice(self._states, surplus)):
            self._in_use[name] = self._states.pop(name)

    def _group_states(self, groups: Mapping[str, Group]) -> dict[str, GroupState]:
        """The state of each group that tools may name; known ones keep theirs."""
        states = {name: self._groups[name] for name in self._built_in}
        for name, group in groups.items():
            if name in states:
                raise ValueError(f"the limit {name!r} is the sidecar's own")
            old = self._groups.get(name, GroupState())
            limiter, rate = None, None
            if group.max_concurrency is not None:
                limiter = old.limiter or Limiter(
                    name, BlockCause.GROUP_LIMIT, group.max_concurrency
                )
            if group.rate is not None:
                rate = old.rate or RateLimiter(f"{name} rate", group.rate)
            states[name] = GroupState(limiter, rate)
        return states

    def _change_group(self, state: GroupState, group: Group) -> None:
        if state.limiter is not None and group.max_concurrency is not None:
            state.limiter.limit = group.max_concurrency
        if state.rate is not None and group.rate is not None:
            state.rate.change(group.rate, self._now_ns())

    def _state_for(self, tool: BoundTool) -> ToolState:
        """The state of a tool, with what its description asks for; not in force yet."""
        spec = tool.spec
        name = spec.name
        state = self._states.get(name) or self._in_use.get(name)
        state = state or ToolState(
            Limiter(name, BlockCause.TOOL_LIMIT, self._limit_of(tool)),
            ToolQueue(self._max_queue_of(spec)),
        )
        # A state may be that of tools in force: parts are added, which those do not see.
        if spec.rate is not None and state.rate is None:
            state.rate = RateLimiter(f"{name} rate", spec.rate)
        if spec.breaker is not None and state.breaker is None:
            state.breaker = CircuitBreaker(spec.breaker, name)
        if spec.retry is not None and state.retrier is None:
            state.retrier = Retrier(spec.retry, self._random)
        return state

    def _put_in_force(self, state: ToolState, tool: BoundTool) -> None:
        spec = tool.spec
        state.limiter.limit = self._limit_of(tool)
        state.queue.max_calls = self._max_queue_of(spec)
        if state.rate is not None and spec.rate is not None:
            state.rate.change(spec.rate, self._now_ns())
        if state.breaker is not None and spec.breaker is not None:
            state.breaker.spec = spec.breaker
        if state.retrier is not None and spec.retry is not None:
            state.retrier.spec = spec.retry

    def _entry(
        self, tool: BoundTool, state: ToolState, groups: Mapping[str, GroupState]
    ) -> ToolPolicies:
        spec = tool.spec
        try:
            joined = (*(groups[name] for name in spec.groups), *self._places_of(tool))
            before = self.tools.get(spec.name)
            if before is not None and before.is_of(tool, state, joined):
                # Compiling a schema takes a while, and there may be thousands of tools.
                return before
            return ToolPolicies(
                tool,
                self._limits,
                state,
                joined,
                durable=self.is_durable,
                version=self._version_of(tool),
            )
        except KeyError as error:
            raise ValueError(f"tool {spec.name!r}: there is no limit {error}") from None
        except ValueError as error:
            raise ValueError(f"tool {spec.name!r} of {tool.source}: {error}") from None

    def _version_of(self, tool: BoundTool) -> int:
        before = self.tools.get(tool.spec.name)
        if before is not None and before.tool == tool:
            return before.version
        return next(self._versions)

    def _limit_of(self, tool: BoundTool) -> int:
        spec = tool.spec
        # Half of what tools share, so that one whose attempts never end leaves room for the
        # rest. Processes are killed in the end: they need no such reserve.
        most = self._limits.max_tool_concurrency
        if "threads" in spec.groups:
            most = min(most, max(1, self._limits.max_threads // 2))
        if tool.places is not None:
            # Without a place its calls end at once: one after the other is enough.
            most = min(most, max(1, sum(tool.places.slots.values())))
        return most if spec.max_concurrency is None else min(spec.max_concurrency, most)

    def _max_queue_of(self, spec: ToolSpec) -> int:
        return self._limits.max_queue if spec.max_queue is None else spec.max_queue

    def states(self) -> Mapping[str, ToolState]:
        """What belongs to each name that is a tool's, or was and is remembered."""
        return {**self._in_use, **self._states}

    def limiters(self) -> Iterable[Limiter[Any]]:
        """All limiters of tools, groups and hosts."""
        states: list[ToolState | GroupState] = [*self.states().values(), *self._groups.values()]
        of_states = [state.limiter for state in states if state.limiter is not None]
        return [*of_states, *self._shared_places.values()]

    def rates(self) -> Iterable[RateLimiter[Any]]:
        """All rates of tools and groups."""
        states: list[ToolState | GroupState] = [*self.states().values(), *self._groups.values()]
        return (state.rate for state in states if state.rate is not None)


def tool_not_found(name: str, tools: Iterable[str]) -> Failure:
    """The failure of a call whose tool does not exist."""
    name = name if len(name) <= _MAX_SHOWN_CHARS else name[:_MAX_SHOWN_CHARS] + "..."
    if not isinstance(tools, ToolTable):
        return _not_found(name, list(tools))
    known = tools.not_found
    failure = known.get(name)
    if failure is None:
        failure = _not_found(name, list(tools))
        if len(known) < _MAX_HINTS:
            known[name] = failure
    return failure


def _not_found(name: str, known: list[str]) -> Failure:
    near = process.extract(name, known, limit=_MAX_NEAR_NAMES, score_cutoff=_NEAR_PERCENT)
    if near:
        hint = "Did you mean " + " or ".join(repr(match) for match, _, _ in near) + "?"
    elif known:
        more = ", ..." if len(known) > 20 else ""
        hint = "The tools are: " + ", ".join(known[:20]) + more + "."
    else:
        hint = "There are no tools."
    return not_started(Reason.TOOL_NOT_FOUND, f"There is no tool {name!r}. {hint}")


def _stable(spec: ToolSpec) -> str:
    codes = sorted(spec.retry.codes) if spec.retry is not None else []
    retry = None if spec.retry is None else replace(spec.retry, codes=frozenset())
    return f"{replace(spec, retry=retry)!r} {codes}"


def _digest(spec: ToolSpec) -> bytes:
    facts = (spec.name, spec.description, spec.input_schema, spec.output_schema)
    # Values only: their text is the same in every process.
    policies = replace(spec, input_schema={}, output_schema=None)
    text = json.dumps(facts, sort_keys=True, default=repr) + _stable(policies)
    return hashlib.sha256(text.encode()).digest()


def _revision(digests: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]
