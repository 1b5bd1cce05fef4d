"""Looks at settings and tools as a start would, without starting anything."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidecall._loader import ToolLoadError, load_sources
from sidecall._policy import ToolPolicy
from sidecall._tool import Tool
from sidecall_server.backends.process import GROUP as PROCESSES
from sidecall_server.backends.python_tools import bind
from sidecall_server.backends.thread import GROUP as THREADS
from sidecall_server.config import ConfigError, Settings
from sidecall_server.config.store_url import store_file
from sidecall_server.core.call import Call
from sidecall_server.core.outcome import Outcome
from sidecall_server.core.ports import BoundTool
from sidecall_server.engine.registry import Registry
from sidecall_server.hosts.host import expected_tool
from sidecall_server.store.errors import StoreError
from sidecall_server.store.opening import check_file


@dataclass(frozen=True, slots=True)
class CheckedTool:
    """A tool that could be served, and the limits that would be in force.

    Attributes:
        name: Its name.
        location: File and line of its function.
        policy: What it declares, and the configuration over it.
        places: File and line of each key of the policy that the configuration gives.
        max_concurrency: Most calls that run at a time.
        max_queue: Most calls that may be ready and waiting.
        timeout_s: Seconds that one attempt may take.
        queue_timeout_s: Seconds that a ready call may wait.
    """

    name: str
    location: str
    policy: ToolPolicy
    places: Mapping[str, str]
    max_concurrency: int
    max_queue: int
    timeout_s: float
    queue_timeout_s: float


def check_tools(settings: Settings) -> list[CheckedTool]:
    """Loads the tools as a start does, but starts nothing of theirs.

    Raises:
        ToolLoadError: A tool cannot be loaded.
        ConfigError: Policies of tools are wrong; all of them are told.
    """
    try:
        sources = load_sources(settings.tools)
    except ToolLoadError as error:
        raise ToolLoadError(settings.with_places(str(error), error.sources)) from error
    tools: dict[str, Tool[..., Any]] = {}
    for source in sources:
        tools |= {tool.name: tool for tool in source.tools}
    for name, host in settings.hosted.items():
        if name in tools:
            where = tools[name].location
            raise ConfigError(f"the application {host!r} cannot offer {name!r}: {where} has it")
        tools[name] = expected_tool(name, host)
    policies: dict[str, ToolPolicy] = {}
    bound: list[BoundTool] = []
    mistakes: list[str] = []
    for name, tool in tools.items():
        try:
            policies[name] = settings.policies.apply(tool)
            bound.append(bind(tool, policies[name], _not_served, groups=_own(tool, policies[name])))
        except ConfigError as error:
            mistakes += error.mistakes
        except ToolLoadError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ConfigError(*mistakes)
    registry = Registry(settings.limits, time.monotonic_ns)
    try:
        registry.swap(bound, settings.groups)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return [
        CheckedTool(
            name=name,
            location=tools[name].location,
            policy=policies[name],
            places=settings.policies.places(tools[name]),
            max_concurrency=entry.limiter.limit,
            max_queue=entry.queue.max_calls,
            timeout_s=entry.timeout_ns / 1e9,
            queue_timeout_s=entry.queue_timeout_ns / 1e9,
        )
        for name, entry in registry.tools.items()
    ]


def check_store(settings: Settings) -> None:
    """Looks at the place of the store; makes and locks nothing. It may be in use.

    Raises:
        ConfigError: A store cannot be there.
    """
    path = store_file(settings.store)
    if path is None:
        return
    try:
        check_file(path)
    except StoreError as error:
        raise ConfigError(f"{settings.where('store')}: {error}") from None


def _own(tool: Tool[..., Any], policy: ToolPolicy) -> tuple[str, ...]:
    """The limits of the sidecar itself that a tool shares."""
    if policy.isolation == "process":
        return (PROCESSES,)
    return (THREADS,) if tool.kind == "thread" else ()


async def _not_served(call: Call) -> Outcome:
    raise AssertionError(f"{call!r} was given to a tool that is only checked")
