"""The tools in force: looked up by name, swapped as a whole."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from rapidfuzz import process

from sidecall_server.core.call import BlockCause
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import Failure, Reason, not_started
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.tool import ToolSpec
from sidecall_server.policy.build import ToolPolicies
from sidecall_server.policy.concurrency import Limiter
from sidecall_server.policy.queue import ToolQueue

_MAX_NEAR_NAMES = 5
_NEAR_PERCENT = 60
_MAX_SHOWN_CHARS = 100
_MAX_HINTS = 1_024


class ToolTable(dict[str, ToolPolicies]):
    """Tools by name; never changed in place.

    Attributes:
        not_found: Failures of calls whose names are not among the tools, by name: finding
            near names takes longer than everything else that such a call needs.
        max_result_bytes: Bytes that one result may take, for the tools that bound it.
    """

    def __init__(self, tools: Iterable[tuple[str, ToolPolicies]] = ()) -> None:
        super().__init__(tools)
        self.not_found: dict[str, Failure] = {}
        self.max_result_bytes = {
            name: entry.spec.max_result_bytes
            for name, entry in self.items()
            if entry.spec.max_result_bytes is not None
        }


class Registry:
    """The tools that can be called.

    A batch keeps the mapping that it started with; limits belong to names and outlive a
    swap.

    Attributes:
        tools: The tools by name. Never changed in place.
        revision: Changes when a tool or its description does.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._limiters: dict[str, Limiter[Any]] = {}
        self._groups: dict[str, Limiter[Any]] = {
            "threads": Limiter("threads", BlockCause.GROUP_LIMIT, limits.max_threads),
            "processes": Limiter("processes", BlockCause.GROUP_LIMIT, limits.max_processes),
        }
        self._queues: dict[str, ToolQueue] = {}
        self.tools: Mapping[str, ToolPolicies] = ToolTable()
        self.revision = _revision(())

    def swap(self, tools: Iterable[BoundTool]) -> None:
        """Puts other tools in force, all at once.

        Raises:
            ValueError: Two tools have one name, a schema is invalid, or a group is
                unknown. Nothing was changed.
        """
        entries: dict[str, ToolPolicies] = {}
        sources: dict[str, str] = {}
        for tool in tools:
            name = tool.spec.name
            if name in entries:
                raise ValueError(
                    f"two tools are named {name!r}: one of {sources[name]}, one of {tool.source}"
                )
            entries[name] = self._entry(tool)
            sources[name] = tool.source
        for name, entry in entries.items():
            self._limiters[name] = entry.limiter
            entry.limiter.limit = self._limit_of(entry.spec)
            self._queues[name] = entry.queue
            entry.queue.max_calls = self._max_queue_of(entry.spec)
        self.tools = ToolTable(sorted(entries.items()))
        self.revision = _revision(entry.spec for entry in self.tools.values())

    def _entry(self, tool: BoundTool) -> ToolPolicies:
        spec = tool.spec
        try:
            limiter = self._limiters.get(spec.name) or Limiter(
                spec.name, BlockCause.TOOL_LIMIT, self._limit_of(spec)
            )
            groups = tuple(self._groups[name] for name in spec.groups)
            queue = self._queues.get(spec.name) or ToolQueue(self._max_queue_of(spec))
            return ToolPolicies(tool, self._limits, limiter, groups, queue)
        except KeyError as error:
            raise ValueError(f"tool {spec.name!r}: there is no group {error}") from None
        except ValueError as error:
            raise ValueError(f"tool {spec.name!r} of {tool.source}: {error}") from None

    def _limit_of(self, spec: ToolSpec) -> int:
        # Half of what tools share, so that one whose attempts never end leaves room for the
        # rest. Processes are killed in the end: they need no such reserve.
        most = self._limits.max_tool_concurrency
        if "threads" in spec.groups:
            most = min(most, max(1, self._limits.max_threads // 2))
        return most if spec.max_concurrency is None else min(spec.max_concurrency, most)

    def _max_queue_of(self, spec: ToolSpec) -> int:
        return self._limits.max_queue if spec.max_queue is None else spec.max_queue

    def limiters(self) -> Iterable[Limiter[Any]]:
        """All limiters of tools and groups."""
        yield from self._limiters.values()
        yield from self._groups.values()


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


def _revision(specs: Iterable[ToolSpec]) -> str:
    digest = hashlib.sha256()
    for spec in specs:
        facts = (spec.name, spec.description, spec.input_schema, spec.output_schema)
        values = (spec.effects, spec.max_concurrency, spec.timeout_s, spec.queue_timeout_s)
        digest.update(json.dumps((*facts, *values), sort_keys=True, default=repr).encode())
    return digest.hexdigest()[:16]
