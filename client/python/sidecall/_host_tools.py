"""The tools of a host: where they come from, and how the sidecar is told about them."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from types import ModuleType
from typing import Any

from sidecall._errors import ToolDefinitionError
from sidecall._lifespan import Lifespan
from sidecall._loader import LoadedSource, check_names, load_source, source_of
from sidecall._policy import ToolPolicy, lane_problem
from sidecall._policy_values import Lane, Retry
from sidecall._tool import Tool
from sidecall._tool_calls import to_duration
from sidecall._values import encodable
from sidecall.v1 import tool_pb2

ToolSource = Tool[..., Any] | ModuleType | str | PathLike[str]
"""A tool, or what holds some: a module, its dotted name, or the path of a file."""

_GIVEN = "given tools"
_KEYS = {"timeout_s": "timeout", "queue_timeout_s": "queue_timeout", "cache_ttl_s": "cache_ttl"}


def load(tools: ToolSource | Iterable[ToolSource], lifespan: Lifespan | None) -> list[LoadedSource]:
    """Loads what a host is to offer.

    Args:
        tools: Tools, files and modules. A file or module has its own lifespan.
        lifespan: Start-up and shutdown of what the tools share that are given themselves.

    Raises:
        ToolDefinitionError: Something is no tool.
        ToolLoadError: A file or module cannot be loaded, or two tools have one name.
        ValueError: There are no tools.
    """
    given: list[Tool[..., Any]] = []
    sources: list[LoadedSource] = []
    for item in _items(tools):
        if isinstance(item, Tool):
            if not any(item is other for other in given):
                given.append(item)
        elif isinstance(item, ModuleType):
            sources.append(source_of(item.__name__, item))
        elif isinstance(item, (str, PathLike)):
            sources.append(load_source(fspath(item)))
        else:
            raise ToolDefinitionError(f"{item!r} is not a tool; mark the function with @tool")
    if given or lifespan is not None:
        sources.insert(0, LoadedSource(_GIVEN, tuple(given), lifespan))
    if not any(source.tools for source in sources):
        raise ValueError("a host needs at least one tool")
    check_names(sources)
    return sources


def _items(tools: ToolSource | Iterable[ToolSource]) -> list[ToolSource]:
    if isinstance(tools, str) or not isinstance(tools, Iterable):
        return [tools]
    return list(tools)


def messages_of(sources: Sequence[LoadedSource]) -> list[tool_pb2.Tool]:
    """Describes the tools.

    Raises:
        ToolDefinitionError: A tool cannot be offered by a host as it is declared.
    """
    return [_message(tool) for source in sources for tool in source.tools]


def _message(tool: Tool[..., Any]) -> tool_pb2.Tool:
    policy = tool.policy
    _check_carried(tool.name, policy)
    if problem := lane_problem(policy, tool.input_schema):
        raise ToolDefinitionError(f"tool {tool.name!r} ({tool.location}): {problem}")
    return tool_pb2.Tool(
        name=tool.name,
        description=encodable(tool.description),
        input_schema=_json(tool.input_schema),
        output_schema="" if tool.output_schema is None else _json(tool.output_schema),
        effects=tool_pb2.Effects.Value(f"EFFECTS_{policy.effects.upper()}"),
        requires_approval=policy.approval == "required",
        lane="" if policy.lane is None else policy.lane.template,
        limits=_limits(policy),
    )


def _limits(policy: ToolPolicy) -> tool_pb2.ToolLimits:
    limits = tool_pb2.ToolLimits(
        max_concurrency=policy.max_concurrency or 0,
        max_queue=policy.max_queue or 0,
        groups=policy.limits,
        max_attempts=0 if policy.retry is None else policy.retry.max_attempts,
        max_result_bytes=policy.max_result_bytes or 0,
    )
    if policy.timeout_s is not None:
        limits.timeout.CopyFrom(to_duration(policy.timeout_s))
    if policy.queue_timeout_s is not None:
        limits.queue_timeout.CopyFrom(to_duration(policy.queue_timeout_s))
    if policy.cache_ttl_s is not None:
        limits.cache_ttl.CopyFrom(to_duration(policy.cache_ttl_s))
    if policy.rate is not None:
        limits.rate.count = policy.rate.count
        limits.rate.burst = policy.rate.burst
        limits.rate.period.FromNanoseconds(policy.rate.period_ns)
    return limits


def _check_carried(name: str, policy: ToolPolicy) -> None:
    """Refuses what the contract has no field for: it would be ignored in silence."""
    carried = ToolPolicy(
        max_concurrency=policy.max_concurrency,
        max_queue=policy.max_queue or None,
        timeout_s=policy.timeout_s,
        queue_timeout_s=policy.queue_timeout_s,
        effects=policy.effects,
        limits=policy.limits,
        rate=policy.rate,
        retry=policy.retry and Retry(policy.retry.max_attempts),
        lane=policy.lane and Lane(policy.lane.template),
        cache_ttl_s=policy.cache_ttl_s,
        approval=policy.approval,
        max_result_bytes=policy.max_result_bytes,
        given=policy.given,
    )
    lost = [
        _KEYS.get(field.name, field.name)
        for field in dataclasses.fields(policy)
        if getattr(policy, field.name) != getattr(carried, field.name)
    ]
    if lost:
        raise ToolDefinitionError(
            f"tool {name!r}: a tool host cannot pass on this {', '.join(lost)}; write it in the "
            f"sidecar's configuration instead, under policies, {name!r}"
        )


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
