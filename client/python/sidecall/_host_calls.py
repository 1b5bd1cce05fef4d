"""One call that a host runs."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sidecall._context import CallFacts, ToolContext
from sidecall._errors import ArgumentError
from sidecall._failures import failure_of_arguments, failure_of_raise
from sidecall._host_results import abandoned, failed, given_up, not_started, returned
from sidecall._loop_port import LoopPort
from sidecall._schema import JsonObject
from sidecall._thread_pool import NoThreadError, ThreadAbandonedError, ThreadPool
from sidecall._tool import Tool
from sidecall._values import encodable
from sidecall._yielded import collect, settle
from sidecall.v1.execution_pb2 import EXECUTION_STATE_NOT_STARTED
from sidecall.v1.tool_host_pb2 import (
    AttachRequest,
    HostCall,
    HostPartialOutput,
    HostProgress,
    HostResult,
)

_NO_THREAD_RETRY_S = 1.0
_OUTPUT_CHARS = 256 * 1024
"""Characters of partial output in one message."""

Report = Callable[[AttachRequest], None]
"""Sends progress or partial output, if there is room."""


@dataclass(frozen=True, slots=True)
class ServedTool:
    """A tool and what its file opened for it.

    Attributes:
        tool: The tool.
        state: What the lifespan of its file yielded; None without one.
    """

    tool: Tool[..., Any]
    state: Any = None


class HostedCall(LoopPort):
    """A call on its way through a host, and the world of the function that it runs.

    Made on the host's event loop. Where the task that executes `run` is cancelled,
    `given_up` is the result.
    """

    __slots__ = ("_deadline_s", "_is_expired", "_is_over", "_is_started", "_report", "message")

    def __init__(self, message: HostCall, report: Report, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.message = message
        self._report = report
        self._is_started = False
        self._is_expired = False
        self._is_over = False
        self._deadline_s: float | None = None
        if message.HasField("timeout"):
            timeout_s = message.timeout.ToNanoseconds() / 1e9
            self._deadline_s = time.monotonic() + timeout_s

    def remaining(self) -> float | None:
        """Seconds until the attempt must end; None for never."""
        if self._deadline_s is None:
            return None
        return max(0.0, self._deadline_s - time.monotonic())

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Passes progress on to the sidecar."""
        progress = HostProgress(
            attempt_id=self.message.attempt_id,
            progress=done,
            total=total,
            message=encodable(message),
        )
        self.call_on_loop(self._send, AttachRequest(progress=progress))

    def output(self, text: str) -> None:
        """Passes part of the output on to the sidecar."""
        text = encodable(text)
        for start in range(0, len(text), _OUTPUT_CHARS):
            output = HostPartialOutput(
                attempt_id=self.message.attempt_id, text=text[start : start + _OUTPUT_CHARS]
            )
            self.call_on_loop(self._send, AttachRequest(partial_output=output))

    def expire(self) -> None:
        """Says that its time is over; it is to be cancelled then."""
        self._is_expired = not self.cancelled

    def end(self) -> None:
        """Says that it has a result: what the function reports later goes nowhere."""
        self._is_over = True

    def given_up(self) -> HostResult:
        """The result where `cancel` ended it."""
        return given_up(expired=self._is_expired, started=self._is_started)

    async def run(
        self, served: ServedTool | None, slots: asyncio.Semaphore, threads: ThreadPool
    ) -> HostResult:
        """Runs the function and returns what it came to.

        Args:
            served: Its tool; None where the host does not have it.
            slots: One is held while the function runs.
            threads: Where functions run that block.

        Raises:
            CancelledError: It was told to end, and has ended.
        """
        if served is None:
            return not_started("NOT_FOUND", f"There is no tool {self.message.name!r} here.")
        prepared = self._prepare(served.tool)
        if isinstance(prepared, HostResult):
            return prepared
        if served.tool.context_parameter is not None:
            prepared[served.tool.context_parameter] = self._context(served.state)
        async with slots:
            self._is_started = True
            return await self._invoke(served.tool, prepared, threads)

    def _prepare(self, tool: Tool[..., Any]) -> JsonObject | HostResult:
        try:
            # Not the faster parser: it refuses lone surrogates.
            arguments: JsonObject = json.loads(self.message.arguments or "{}")
            return arguments if tool.prepare is None else tool.prepare(arguments)
        except ArgumentError as error:
            return failed(failure_of_arguments(error), EXECUTION_STATE_NOT_STARTED)
        except Exception as error:  # a validator of the tool's own types
            return failed(failure_of_raise(tool.name, error), EXECUTION_STATE_NOT_STARTED)

    def _context(self, state: Any) -> ToolContext:
        message = self.message
        facts = CallFacts(
            tool_name=message.name,
            call_id=message.call_id,
            attempt=message.attempt,
            idempotency_key=message.idempotency_key,
            context=dict(message.context),
            traceparent=message.traceparent,
            tracestate=message.tracestate,
        )
        return ToolContext(self, facts, state)

    # A tool that raises SystemExit or KeyboardInterrupt has failed like any other: hence
    # BaseException.

    async def _invoke(
        self, tool: Tool[..., Any], arguments: JsonObject, threads: ThreadPool
    ) -> HostResult:
        if tool.kind == "thread":
            return await self._invoke_in_thread(tool, arguments, threads)
        try:
            if tool.kind == "generator":
                return returned(await collect(tool.function(**arguments), self.output))
            return returned(await tool.function(**arguments))
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            return failed(failure_of_raise(tool.name, error))

    async def _invoke_in_thread(
        self, tool: Tool[..., Any], arguments: JsonObject, threads: ThreadPool
    ) -> HostResult:
        try:
            return await threads.run(partial(self._invoke_now, tool, arguments))
        except NoThreadError:
            self._is_started = False
            text = f"The application has no room for another thread, which {tool.name!r} needs."
            return not_started("UNAVAILABLE", f"{text} Try again later.", _NO_THREAD_RETRY_S)
        except ThreadAbandonedError:
            return abandoned()

    def _invoke_now(self, tool: Tool[..., Any], arguments: JsonObject) -> HostResult:
        """Runs a function that blocks; in its thread."""
        try:
            return returned(settle(tool.function(**arguments), self.output))
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and self.cancelled:
                return self.given_up()
            return failed(failure_of_raise(tool.name, error))

    def _send(self, message: AttachRequest) -> None:
        if not self._is_over:
            self._report(message)


def _is_cancelled() -> bool:
    """Whether the task that runs was told to end; a function may raise the same by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
