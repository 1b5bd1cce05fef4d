"""Tools written in Python: loads them and shares them out among the ways to run one."""

import asyncio
import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sidecall._tool import Tool
from sidecall_server.backends.in_process import InProcessBackend
from sidecall_server.backends.loader import (
    LoadedSource,
    ToolLoadError,
    check_names,
    load_sources,
    tools_in,
)
from sidecall_server.backends.modules import FILE_MODULE_PREFIX
from sidecall_server.backends.process import ProcessBackend
from sidecall_server.core.defaults import Limits
from sidecall_server.core.ports import Backend, BoundTool, Clock


class PythonBackend:
    """The tools of some files and modules, and tools that were given directly."""

    def __init__(
        self,
        sources: Sequence[str],
        limits: Limits,
        clock: Clock,
        tools: Sequence[Tool[..., Any]] = (),
    ) -> None:
        """Takes what to load; nothing is loaded before the start.

        Args:
            sources: Paths of Python files and dotted names of modules.
            limits: Numbers of threads and processes.
            clock: The engine's clock.
            tools: Further tools. They have no lifespan.
        """
        self._names = sources
        self._limits = limits
        self._clock = clock
        self._tools = tuple(tools)
        self._backends: list[Backend] = []

    async def start(self) -> Sequence[BoundTool]:
        """Loads the tools and starts what they need.

        Raises:
            ToolLoadError: A source cannot be loaded, or its lifespan failed.
        """
        sources = load_sources(self._names)
        if self._tools:
            sources.append(LoadedSource("given tools", self._tools))
            check_names(sources)
        isolated = [tool for source in sources for tool in source.tools if _is_isolated(tool)]
        self._backends = [
            InProcessBackend(
                sources, self._limits.max_threads, self._clock, lambda tool: not _is_isolated(tool)
            ),
            ProcessBackend(
                isolated, _worker_sources(sources), self._limits.max_processes, self._clock
            ),
        ]
        try:
            bound = [await backend.start() for backend in self._backends]
        except BaseException:
            await self.stop(0.0)
            raise
        return list(itertools.chain.from_iterable(bound))

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


def _is_isolated(tool: Tool[..., Any]) -> bool:
    return tool.policy.isolation == "process"


def _worker_sources(sources: Sequence[LoadedSource]) -> list[str]:
    """What a worker process loads to have the isolated tools."""
    names: dict[str, None] = {}
    for source in sources:
        isolated = [tool for tool in source.tools if _is_isolated(tool)]
        if source.name != "given tools":
            names |= dict.fromkeys([source.name] if isolated else [])
        else:
            names |= dict.fromkeys(map(_origin, isolated))
    return list(names)


def _origin(tool: Tool[..., Any]) -> str:
    """The file or module that defines a tool, where a worker process finds it.

    Raises:
        ToolLoadError: It does not stand at the top level.
    """
    module = tool.__module__
    if module not in sys.modules or tool not in tools_in(sys.modules[module]):
        raise ToolLoadError(
            f"tool {tool.name!r} ({tool.location}) has isolation 'process' and must stand at "
            "the top level of its file, where a worker process finds it"
        )
    if module == "__main__" or module.startswith(FILE_MODULE_PREFIX):
        return str(sys.modules[module].__file__)
    return module
