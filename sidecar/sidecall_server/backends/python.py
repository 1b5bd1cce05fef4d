"""Tools written in Python: loads them and shares them out among the three ways to run one."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from sidecall._tool import Tool
from sidecall_server.backends.coroutine import CoroutineBackend
from sidecall_server.backends.lifespans import Lifespans
from sidecall_server.backends.loader import LoadedSource, check_names, load_sources
from sidecall_server.backends.python_tools import PythonTool
from sidecall_server.backends.thread import ThreadBackend
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
            tools: Further tools.
        """
        self._names = sources
        self._limits = limits
        self._clock = clock
        self._tools = tuple(tools)
        self._lifespans: Lifespans | None = None
        self._backends: dict[str, Backend] = {}

    async def start(self) -> Sequence[BoundTool]:
        """Loads the tools and starts what they need.

        Raises:
            ToolLoadError: A source cannot be loaded or its lifespan failed.
        """
        sources = load_sources(self._names)
        if self._tools:
            sources.append(LoadedSource("given tools", self._tools))
            check_names(sources)
        try:
            return await self._start(sources)
        except BaseException:
            await self.stop(0.0)
            raise

    async def _start(self, sources: Sequence[LoadedSource]) -> Sequence[BoundTool]:
        self._lifespans = Lifespans(sources)
        states = await self._lifespans.start()
        here = [
            PythonTool(tool, state)
            for source, state in zip(sources, states, strict=True)
            for tool in source.tools
        ]
        blocking = [item for item in here if item.tool.kind == "thread"]
        asynchronous = [item for item in here if item.tool.kind != "thread"]
        self._backends["coroutines"] = CoroutineBackend(asynchronous, self._clock)
        self._backends["threads"] = ThreadBackend(blocking, self._limits.max_threads, self._clock)
        bound = [await backend.start() for backend in self._backends.values()]
        return list(itertools.chain.from_iterable(bound))

    async def stop(self, grace_s: float) -> None:
        """Ends what runs, then the lifespans. Idempotent."""
        for backend in self._backends.values():
            await backend.stop(grace_s)
        self._backends.clear()
        if self._lifespans is not None:
            await self._lifespans.stop(grace_s)

    def statistics(self) -> Mapping[str, int]:
        """The counts of each way to run a tool."""
        return {
            f"{name}_{key}": count
            for name, backend in self._backends.items()
            for key, count in backend.statistics().items()
        }
