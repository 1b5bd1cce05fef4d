"""Runs the lifespans of loaded sources."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from sidecall._loader import LoadedSource, ToolLoadError

_log = logging.getLogger("sidecall.tools")

_CANCELLED_S = 0.5

_ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What would end the event loop where a task lets it out."""


class Lifespans:
    """Keeps the lifespans of some sources running.

    They run in a task of their own: what was opened in a task must be closed in it.
    """

    def __init__(self, sources: Sequence[LoadedSource]) -> None:
        self._sources = sources
        self._end = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> list[Any]:
        """Starts them one after the other.

        Returns:
            What each yielded, in the order of the sources; None for those without one.

        Raises:
            ToolLoadError: One failed; the ones before it have been stopped again.
        """
        if not any(source.lifespan for source in self._sources):
            return [None] * len(self._sources)
        started: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(started), name="sidecall-lifespans")
        try:
            await asyncio.wait((started, self._task), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if not started.done():
            task, self._task = self._task, None
            if not task.cancelled():
                task.result()
            raise ToolLoadError("a lifespan ended before it had started")
        return started.result()

    async def stop(self, grace_s: float) -> None:
        """Stops them in reverse order; what takes longer than the grace is cancelled.

        What has not ended half a second later is left behind.
        """
        task = self._task
        if task is None:
            return
        self._task = None
        self._end.set()
        await asyncio.wait((task,), timeout=grace_s)
        if not task.done():
            _log.warning("the end of a lifespan takes longer than %g s and is cancelled", grace_s)
        task.cancel()
        await asyncio.wait((task,), timeout=_CANCELLED_S)
        if not task.done():
            _log.error("a lifespan does not end, not even cancelled, and is left behind")
        elif not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a lifespan failed at shutdown", exc_info=error)

    async def _run(self, started: asyncio.Future[list[Any]]) -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                started.set_result([await _enter(stack, source) for source in self._sources])
                await self._end.wait()
        except _ENDS as error:
            raise RuntimeError(f"it raised {type(error).__name__}") from error


async def _enter(stack: contextlib.AsyncExitStack, source: LoadedSource) -> Any:
    if source.lifespan is None:
        return None
    try:
        return await stack.enter_async_context(source.lifespan.running())
    except (Exception, *_ENDS) as error:
        raise ToolLoadError(
            f"{source.name}: its lifespan failed: {type(error).__name__}: {error}", source.name
        ) from error
