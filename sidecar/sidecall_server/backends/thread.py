"""Tools that block: they run in threads."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial

from sidecall._thread_pool import NoThreadError, ThreadAbandonedError, ThreadPool
from sidecall._yielded import settle
from sidecall_server.backends.python_tools import (
    CallBridge,
    Effective,
    PythonTool,
    bind,
    cancelled_failure,
    declared,
    failure_of,
    make_context,
    prepare_for,
)
from sidecall_server.backends.rendering import success_of
from sidecall_server.core.call import Arguments, Call
from sidecall_server.core.outcome import (
    ExecutionState,
    Failure,
    Outcome,
    Reason,
    unknown_effect,
)
from sidecall_server.core.ports import BoundTool, Clock

GROUP = "threads"
"""The limit that all tools in threads share."""

_RETRY_S = 1.0


class ThreadBackend:
    """Runs functions in threads.

    A thread cannot be stopped. It is told through its context that nobody waits any
    more, and the attempt lasts until the function has returned.
    """

    def __init__(
        self,
        tools: Sequence[PythonTool],
        max_threads: int,
        clock: Clock,
        effective: Effective = declared,
    ) -> None:
        self._tools = tools
        self._effective = effective
        self._max_threads = max_threads
        self._clock = clock
        self._pool = ThreadPool(max_threads, "sidecall-tool")

    async def start(self) -> Sequence[BoundTool]:
        """Returns its tools; threads are made when they are needed."""
        self._loop = asyncio.get_running_loop()
        return [
            bind(
                item.tool,
                self._effective(item.tool),
                partial(self._handle, item),
                prepare_for(item.tool),
                (GROUP,),
            )
            for item in self._tools
        ]

    async def stop(self, grace_s: float) -> None:
        """Waits for the functions that run; afterwards nobody waits for them any more."""
        await self._pool.stop(grace_s)

    def statistics(self) -> Mapping[str, int]:
        """Counts threads: the most there may be, those that exist, those that run a tool."""
        return {
            "max_threads": self._max_threads,
            "threads": self._pool.threads,
            "busy": self._pool.busy,
        }

    async def _handle(self, item: PythonTool, call: Call) -> Outcome:
        try:
            return await self._pool.run(partial(_run, item, call, *self._prepared(item, call)))
        except NoThreadError as error:
            call.take_back()
            return _unavailable(item.tool.name, error)
        except ThreadAbandonedError:
            return unknown_effect(Reason.DRAINING, "The sidecar stopped while the tool ran.")
        finally:
            call.on_cancel = None

    def _prepared(self, item: PythonTool, call: Call) -> tuple[Arguments, CallBridge]:
        bridge = CallBridge(call, self._clock, self._loop)
        parameter = item.tool.context_parameter
        if parameter is None:
            return call.arguments, bridge
        return {**call.arguments, parameter: make_context(call, bridge, item.state)}, bridge


def _run(item: PythonTool, call: Call, arguments: Arguments, bridge: CallBridge) -> Outcome:
    """Runs the function; in its thread."""
    try:
        value = item.tool.function(**arguments)
        return success_of(settle(value, bridge.output))
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and bridge.cancelled:
            return cancelled_failure()
        return failure_of(call.request.name, error)


def _unavailable(name: str, error: NoThreadError) -> Failure:
    logging.getLogger("sidecall.tools").warning("tool %s is unavailable: %s", name, error)
    return Failure(
        Reason.TOOL_UNAVAILABLE,
        f"The sidecar has no room for another thread, which tool {name!r} needs. Try again later.",
        ExecutionState.NOT_STARTED,
        retry_after_s=_RETRY_S,
    )
