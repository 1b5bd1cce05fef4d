"""Tools that block: they run in threads."""

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from sidecall._thread_pool import NoThreadError, ThreadPool
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
    settle,
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

_Ended = asyncio.Future[Outcome]


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
        self._running: set[_Ended] = set()

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
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        for ended in self._running:
            if not ended.done():
                ended.set_result(
                    unknown_effect(Reason.DRAINING, "The sidecar stopped while the tool ran.")
                )
        self._pool.stop()

    def statistics(self) -> Mapping[str, int]:
        """Counts threads: the most there may be, those that exist, those that run a tool."""
        return {
            "max_threads": self._max_threads,
            "threads": self._pool.threads,
            "busy": len(self._running),
        }

    async def _handle(self, item: PythonTool, call: Call) -> Outcome:
        ended: _Ended = self._loop.create_future()
        run = partial(contextvars.copy_context().run, _run, item, call, *self._prepared(item, call))
        try:
            self._pool.submit(partial(self._report, run, ended))
        except NoThreadError as error:
            call.on_cancel = None
            call.take_back()
            return _unavailable(item.tool.name, error)
        self._running.add(ended)
        ended.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            # The thread goes on, and so does the attempt: its permits are not free.
            while not ended.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait((ended,))
            raise
        finally:
            call.on_cancel = None

    def _prepared(self, item: PythonTool, call: Call) -> tuple[Arguments, CallBridge]:
        bridge = CallBridge(call, self._clock, self._loop)
        parameter = item.tool.context_parameter
        if parameter is None:
            return call.arguments, bridge
        return {**call.arguments, parameter: make_context(call, bridge, item.state)}, bridge

    def _report(self, run: Callable[[], Outcome], ended: _Ended) -> None:
        outcome = run()
        # The loop may have closed while the function ran: then nobody waits for it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_settle, ended, outcome)


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


def _settle(ended: _Ended, outcome: Outcome) -> None:
    if not ended.done():
        ended.set_result(outcome)
