"""Python tools that run in this process: on the event loop and in threads."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sidecall._lifespans import Lifespans
from sidecall._loader import LoadedSource
from sidecall._tool import Tool
from sidecall_server.backends.coroutine import CoroutineBackend
from sidecall_server.backends.python_tools import Effective, PythonTool, declared
from sidecall_server.backends.thread import ThreadBackend
from sidecall_server.core.ports import Backend, BoundTool, Clock


class InProcessBackend:
    """The tools of loaded sources, with their lifespans."""

    def __init__(
        self,
        sources: Sequence[LoadedSource],
        max_threads: int,
        clock: Clock,
        chosen: Callable[[Tool[..., Any]], bool] = lambda tool: True,
        effective: Effective = declared,
    ) -> None:
        """Takes the tools.

        Args:
            sources: Loaded sources.
            max_threads: Most threads.
            clock: The engine's clock.
            chosen: Says which tools of the sources run here. A source without any is
                not started.
            effective: Says which policy is in force for a tool.
        """
        self._sources = [source for source in sources if any(map(chosen, source.tools))]
        self._max_threads = max_threads
        self._clock = clock
        self._chosen = chosen
        self._effective = effective
        self._lifespans = Lifespans(self._sources)
        self._backends: dict[str, Backend] = {}

    async def start(self) -> Sequence[BoundTool]:
        """Starts the lifespans and returns the tools.

        Raises:
            ToolLoadError: A lifespan failed.
        """
        states = await self._lifespans.start()
        tools = [
            PythonTool(tool, state)
            for source, state in zip(self._sources, states, strict=True)
            for tool in filter(self._chosen, source.tools)
        ]
        asynchronous = [item for item in tools if item.tool.kind != "thread"]
        blocking = [item for item in tools if item.tool.kind == "thread"]
        self._backends["coroutine"] = CoroutineBackend(asynchronous, self._clock, self._effective)
        self._backends["thread"] = ThreadBackend(
            blocking, self._max_threads, self._clock, self._effective
        )
        bound = [await backend.start() for backend in self._backends.values()]
        return list(itertools.chain.from_iterable(bound))

    async def stop(self, grace_s: float) -> None:
        """Waits for what runs, then ends the lifespans. Idempotent."""
        for backend in self._backends.values():
            await backend.stop(grace_s)
        self._backends.clear()
        await self._lifespans.stop(grace_s)

    def statistics(self) -> Mapping[str, int]:
        """The counts of both ways to run a tool."""
        return {
            f"{name}_{key}": count
            for name, backend in self._backends.items()
            for key, count in backend.statistics().items()
        }
