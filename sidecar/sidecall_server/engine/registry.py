"""The tools in force: looked up by name, swapped as a whole."""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from sidecall_server.core.call import Arguments, BlockCause, Call
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import Failure, Reason, not_started
from sidecall_server.core.ports import BoundTool
from sidecall_server.core.tool import ToolSpec
from sidecall_server.policy import build
from sidecall_server.policy.arguments import ArgumentsError, ArgumentsPolicy, parse
from sidecall_server.policy.concurrency import Limiter

_MAX_NEAR_NAMES = 5


class ToolEntry:
    """A tool with its policies and the values in force.

    Attributes:
        spec: Its description.
        handler: Runs one attempt, layers included.
        limiter: Permits of the tool; belongs to its name and outlives a swap.
        groups: Permits that it shares with other tools.
        timeout_ns: Time that one attempt may take.
        queue_timeout_ns: Time that a ready call may wait.
        max_queue: Most calls that may be ready and waiting.
        queued: Calls that are ready and waiting.
    """

    __slots__ = (
        "_arguments",
        "_max_depth",
        "_prepare",
        "groups",
        "handler",
        "limiter",
        "max_queue",
        "queue_timeout_ns",
        "queued",
        "spec",
        "timeout_ns",
    )

    def __init__(
        self,
        tool: BoundTool,
        limits: Limits,
        limiter: Limiter[Any],
        groups: tuple[Limiter[Any], ...],
    ) -> None:
        spec = tool.spec
        self.spec = spec
        self.handler = build.stack(*build.layers(tool))(tool.handler)
        self.limiter = limiter
        self.groups = groups
        self.timeout_ns = int((spec.timeout_s or limits.timeout_s) * 1e9)
        self.queue_timeout_ns = int((spec.queue_timeout_s or limits.queue_timeout_s) * 1e9)
        self.max_queue = limits.max_queue if spec.max_queue is None else spec.max_queue
        self.queued = 0
        self._arguments = ArgumentsPolicy(spec.input_schema)
        self._prepare = tool.prepare
        self._max_depth = limits.max_argument_depth

    @property
    def queue_is_full(self) -> bool:
        """Whether a call that becomes ready now has neither a permit nor a place to wait."""
        limiter = self.limiter
        return self.queued >= self.max_queue + max(0, limiter.limit - limiter.active)

    def admit_arguments(self, call: Call, values: Arguments | None) -> Failure | None:
        """Sets the call's arguments, or says what is wrong with them.

        Args:
            call: The call.
            values: Its arguments where they were parsed before.
        """
        if values is None:
            try:
                values = parse(call.request.arguments, self._max_depth)
            except ArgumentsError as error:
                return not_started(
                    Reason.ARGUMENTS_INVALID,
                    f"{error}. Write the arguments of {call.request.name!r} as one JSON object "
                    "and call it again.",
                )
        failure = self._arguments.check(values)
        if failure is not None:
            return failure
        if self._prepare is None:
            call.arguments = values
            return None
        prepared = self._prepare(values)
        if isinstance(prepared, Failure):
            return prepared
        call.arguments = prepared
        return None


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
        self.tools: Mapping[str, ToolEntry] = {}
        self.revision = _revision(())

    def swap(self, tools: Iterable[BoundTool]) -> None:
        """Puts other tools in force, all at once.

        Raises:
            ValueError: Two tools have one name, a schema is invalid, or a group is
                unknown. Nothing was changed.
        """
        entries: dict[str, ToolEntry] = {}
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
        self.tools = dict(sorted(entries.items()))
        self.revision = _revision(entry.spec for entry in self.tools.values())

    def _entry(self, tool: BoundTool) -> ToolEntry:
        spec = tool.spec
        try:
            limiter = self._limiters.get(spec.name) or Limiter(
                spec.name, BlockCause.TOOL_LIMIT, self._limit_of(spec)
            )
            groups = tuple(self._groups[name] for name in spec.groups)
            return ToolEntry(tool, self._limits, limiter, groups)
        except KeyError as error:
            raise ValueError(f"tool {spec.name!r}: there is no group {error}") from None
        except ValueError as error:
            raise ValueError(f"tool {spec.name!r} of {tool.source}: {error}") from None

    def _limit_of(self, spec: ToolSpec) -> int:
        most = self._limits.max_tool_concurrency
        return most if spec.max_concurrency is None else min(spec.max_concurrency, most)

    def limiters(self) -> Iterable[Limiter[Any]]:
        """All limiters of tools and groups."""
        yield from self._limiters.values()
        yield from self._groups.values()


def tool_not_found(name: str, tools: Iterable[str]) -> Failure:
    """The failure of a call whose tool does not exist."""
    known = list(tools)
    near = difflib.get_close_matches(name, known, n=_MAX_NEAR_NAMES, cutoff=0.5)
    if near:
        hint = "Did you mean " + " or ".join(repr(n) for n in near) + "?"
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
