"""Tools written in Python: loads them and shares them out among the ways to run one."""

import asyncio
import itertools
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sidecall._loader import (
    LoadedSource,
    ToolLoadError,
    check_names,
    load_sources,
    tools_in,
)
from sidecall._modules import FILE_MODULE_PREFIX, Modules, text_of
from sidecall._policy import RESERVED_GROUPS
from sidecall._tool import Tool
from sidecall_server.backends.in_process import InProcessBackend
from sidecall_server.backends.process import ProcessBackend
from sidecall_server.backends.python_tools import Effective, declared
from sidecall_server.backends.tool_specs import tool_spec
from sidecall_server.core.defaults import Limits
from sidecall_server.core.ports import Backend, BoundTool, Clock

_DISCARD_S = 1.0
"""Seconds that lifespans may take to end where tools are not served after all."""


class PythonBackend:
    """The tools of some files and modules, and tools that were given directly."""

    def __init__(
        self,
        sources: Sequence[str],
        limits: Limits,
        clock: Clock,
        tools: Sequence[Tool[..., Any]] = (),
        effective: Effective = declared,
        modules: Modules | None = None,
    ) -> None:
        """Takes what to load; nothing is loaded before the start.

        Args:
            sources: Paths of Python files and dotted names of modules.
            limits: Numbers of threads and processes.
            clock: The engine's clock.
            tools: Further tools. They have no lifespan.
            effective: Says which policy is in force for a tool.
            modules: Says what is executed; what exists is not executed again where None.
        """
        self._names = sources
        self._limits = limits
        self._clock = clock
        self._given = tuple(tools)
        self._effective = effective
        self._modules = modules or Modules()
        self._backends: list[Backend] = []
        self._tools: dict[str, Tool[..., Any]] = {}
        self._bound: Sequence[BoundTool] = ()

    async def start(self) -> Sequence[BoundTool]:
        """Loads the tools and starts what they need; where that fails, nothing is left.

        Raises:
            ToolLoadError: A source cannot be loaded, or its lifespan failed.
        """
        sources = load_sources(self._names, self._modules)
        try:
            if self._given:
                sources.append(LoadedSource("given tools", self._given))
                check_names(sources)
            self._tools = {tool.name: tool for source in sources for tool in source.tools}
            self._backends = self._backends_for(sources)
            bound = [await backend.start() for backend in self._backends]
        except BaseException:
            await self.discard()
            raise
        self._bound = list(itertools.chain.from_iterable(bound))
        return self._bound

    def _backends_for(self, sources: Sequence[LoadedSource]) -> list[Backend]:
        effective = self._effective

        def is_isolated(tool: Tool[..., Any]) -> bool:
            return effective(tool).isolation == "process"

        isolated = [tool for source in sources for tool in source.tools if is_isolated(tool)]
        limits, clock = self._limits, self._clock
        return [
            InProcessBackend(
                sources, limits.max_threads, clock, lambda tool: not is_isolated(tool), effective
            ),
            ProcessBackend(
                isolated,
                _worker_sources(sources, isolated),
                limits.max_processes,
                clock,
                effective,
            ),
        ]

    def rebind(self, effective: Effective) -> Sequence[BoundTool] | None:
        """The same tools with other policies; None where one of them must move for that.

        Raises:
            ToolLoadError: A policy does not fit its tool.
        """
        tools = self._tools.values()
        if any(effective(tool).isolation != self._effective(tool).isolation for tool in tools):
            return None
        return [self._rebound(bound, effective) for bound in self._bound]

    def _rebound(self, bound: BoundTool, effective: Effective) -> BoundTool:
        tool = self._tools[bound.spec.name]
        own = tuple(name for name in bound.spec.groups if name in RESERVED_GROUPS)
        return replace(bound, spec=tool_spec(tool, effective(tool), own))

    async def discard(self) -> None:
        """Ends it, and puts back the modules that it replaced."""
        self._modules.undo()
        await self.stop(_DISCARD_S)

    async def stop(self, grace_s: float) -> None:
        """Ends what runs, then the lifespans. Idempotent."""
        backends, self._backends = self._backends, []
        await asyncio.gather(*(backend.stop(grace_s) for backend in backends))

    def statistics(self) -> Mapping[str, int]:
        """The counts of each way to run a tool."""
        return dict(
            itertools.chain.from_iterable(
                backend.statistics().items() for backend in self._backends
            )
        )


def _worker_sources(
    sources: Sequence[LoadedSource], isolated: Collection[Tool[..., Any]]
) -> dict[str, str | None]:
    """What a worker process loads to have the isolated tools, with the text to execute."""
    found: dict[str, str | None] = {}
    for source in sources:
        tools = [tool for tool in source.tools if tool in isolated]
        if source.name != "given tools":
            found |= {source.name: source.text} if tools else {}
        else:
            found |= dict(map(_origin, tools))
    return found


def _origin(tool: Tool[..., Any]) -> tuple[str, str | None]:
    """The file or module that defines a tool, where a worker process finds it, and its text.

    Raises:
        ToolLoadError: It does not stand at the top level.
    """
    name = tool.__module__
    module = sys.modules.get(name)
    if module is None or tool not in tools_in(module):
        raise ToolLoadError(
            f"tool {tool.name!r} ({tool.location}) has isolation 'process' and must stand at "
            "the top level of its file, where a worker process finds it"
        )
    if name == "__main__" or name.startswith(FILE_MODULE_PREFIX):
        name = str(module.__file__)
    return name, text_of(module)
