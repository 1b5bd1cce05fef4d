"""Runs the calls of a host."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial

from sidecall._failures import failure_of_raise
from sidecall._host_calls import HostedCall, Report, ServedTool
from sidecall._host_results import failed
from sidecall._thread_pool import ThreadPool
from sidecall.v1.tool_host_pb2 import HostCall, HostResult

_CANCELLED_S = 0.5
"""Seconds that functions have to end once they are cancelled for good."""

_log = logging.getLogger("sidecall.host")

Done = Callable[[HostResult], None]
"""Takes the result of a call, once."""


class CallRunner:
    """Runs calls, at most so many at a time, in tasks of its own.

    Calls outlast the stream that brought them where their functions do not end when they
    are told to: they keep their slots, so that a host never runs more than it says.
    """

    def __init__(self, tools: Mapping[str, ServedTool], max_concurrency: int) -> None:
        """Takes the tools by name, and the most calls that run at a time."""
        self._tools = tools
        self._slots = asyncio.Semaphore(max_concurrency)
        self._threads = ThreadPool(max_concurrency, "sidecall-host")
        self._running: dict[HostedCall, asyncio.Task[HostResult]] = {}

    def start(self, message: HostCall, report: Report, done: Done) -> HostedCall:
        """Starts a call.

        Args:
            message: The call.
            report: Takes what its function reports.
            done: Takes its result.
        """
        loop = asyncio.get_running_loop()
        call = HostedCall(message, report, loop)
        served = self._tools.get(message.name)
        task = loop.create_task(
            call.run(served, self._slots, self._threads), name=f"sidecall-call-{message.name}"
        )
        self._running[call] = task
        remaining_s = call.remaining()
        timer = None if remaining_s is None else loop.call_later(remaining_s, self._expire, call)
        task.add_done_callback(partial(self._end, call, timer, done))
        return call

    def cancel(self, call: HostedCall) -> None:
        """Says that nobody waits for a call any more; it ends when its function does."""
        task = self._running.get(call)
        if task is not None and not call.cancelled:
            call.cancel()
            task.cancel()

    async def stop(self) -> None:
        """Cancels what runs; what does not end even so is left behind."""
        for call, task in self._running.items():
            call.cancel()
            task.cancel()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=_CANCELLED_S)
        await self._threads.stop(0.0)
        if self._running:
            names = ", ".join(sorted(call.message.name for call in self._running))
            _log.error("functions do not end, not even cancelled, and are left behind: %s", names)

    def _expire(self, call: HostedCall) -> None:
        call.expire()
        self.cancel(call)

    def _end(
        self,
        call: HostedCall,
        timer: asyncio.TimerHandle | None,
        done: Done,
        task: asyncio.Task[HostResult],
    ) -> None:
        del self._running[call]
        call.end()
        if timer is not None:
            timer.cancel()
        if task.cancelled():
            result = call.given_up()
        elif (error := task.exception()) is not None:
            result = failed(failure_of_raise(call.message.name, error))
        else:
            result = task.result()
        result.attempt_id = call.message.attempt_id
        done(result)
