"""Tools that must be killable: they run in worker processes."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sidecall._loader import ToolLoadError
from sidecall._tool import Tool
from sidecall_server.backends.process_child import Child, ChildDied, ChildStartError, describe
from sidecall_server.backends.process_frames import Header
from sidecall_server.backends.process_pool import PoolUnavailable, ProcessPool
from sidecall_server.backends.python_tools import (
    Effective,
    bind,
    cancelled_failure,
    declared,
    remaining_s,
)
from sidecall_server.core.call import Call
from sidecall_server.core.events import PartialOutput, Progress
from sidecall_server.core.outcome import (
    ExecutionState,
    Failure,
    Outcome,
    Reason,
    not_started,
    unknown_effect,
)
from sidecall_server.core.ports import BoundTool, Clock

GROUP = "processes"
"""The limit that all tools in processes share."""

_MAX_STARTS = 3
_WORKER_GRACE_S = 5.0


class ProcessBackend:
    """Runs functions in worker processes, which are killed when their time is over.

    A process that dies costs only the call that it ran.
    """

    def __init__(
        self,
        tools: Sequence[Tool[..., Any]],
        sources: Mapping[str, str | None],
        max_processes: int,
        clock: Clock,
        effective: Effective = declared,
    ) -> None:
        """Takes the tools.

        Args:
            tools: The tools that run in processes.
            sources: Files and modules that a worker loads to have them, each with the text
                to execute; None for what its file holds then.
            max_processes: Number of worker processes.
            clock: The engine's clock.
            effective: Says which policy is in force for a tool.
        """
        self._tools = tools
        self._effective = effective
        self._clock = clock
        self._max_processes = max_processes
        load = {
            "type": "load",
            "sources": dict(sources),
            "sys_path": [folder for folder in sys.path if folder],
            "log_level": logging.getLogger("sidecall.tools").getEffectiveLevel(),
            "grace_s": _WORKER_GRACE_S,
        }
        self._pool = ProcessPool(max_processes, load)

    async def start(self) -> Sequence[BoundTool]:
        """Starts the processes and returns the tools.

        Raises:
            ToolLoadError: The processes cannot load them.
        """
        if not self._tools:
            return []
        try:
            names = await self._pool.start()
        except ChildStartError as error:
            raise ToolLoadError(f"in a worker process: {error}") from error
        missing = [tool.name for tool in self._tools if tool.name not in names]
        if missing:
            await self.stop(0.0)
            raise ToolLoadError(f"a worker process does not have the tools {', '.join(missing)}")
        return [
            bind(tool, self._effective(tool), partial(self._handle, tool.name), groups=(GROUP,))
            for tool in self._tools
        ]

    async def stop(self, grace_s: float) -> None:
        """Ends the processes. Idempotent."""
        await self._pool.stop(grace_s)

    def statistics(self) -> Mapping[str, int]:
        """Counts processes: the most there may be, ready, running a call, and restarts."""
        return {
            "max_processes": self._max_processes if self._tools else 0,
            "processes": self._pool.processes,
            "busy": self._pool.busy,
            "restarts": self._pool.restarts,
        }

    async def _handle(self, name: str, call: Call) -> Outcome:
        for _ in range(_MAX_STARTS):
            try:
                child = self._pool.take() or await self._wait_for_child(call)
            except PoolUnavailable as error:
                call.take_back()
                return _unavailable(name, error)
            if call.preparing:
                call.restart_clock()
            try:
                return await self._run(name, call, child)
            except ChildDied as died:
                if call.cancelled:
                    return cancelled_failure()
                if died.started:
                    return _crashed(name, died.returncode)
                call.prepare()
            finally:
                self._pool.release(child)
        call.take_back()
        return not_started(
            Reason.TOOL_UNAVAILABLE, f"The processes for tool {name!r} die before they can run it."
        )

    async def _wait_for_child(self, call: Call) -> Child:
        """Waits for a process; the attempt's clock counts from when the call has one."""
        call.prepare()
        return await self._pool.acquire()

    async def _run(self, name: str, call: Call, child: Child) -> Outcome:
        call.on_cancel = child.kill
        try:
            return await child.run(self._header(name, call), partial(_observe, call))
        except asyncio.CancelledError:
            child.kill()
            while not child.gone.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait((child.gone,))
            raise
        finally:
            call.on_cancel = None

    def _header(self, name: str, call: Call) -> Header:
        return {
            "type": "call",
            "name": name,
            "id": call.request.id,
            "arguments": call.arguments,
            "attempt": call.attempt,
            "idempotency_key": call.request.idempotency_key,
            "caller": call.options.caller,
            "context": dict(call.options.context),
            "trace": [call.options.traceparent, call.options.tracestate],
            "remaining_s": remaining_s(call, self._clock),
        }


def _observe(call: Call, header: Header, body: bytes) -> None:
    if call.observer is None or call.outcome is not None:
        return
    if header["type"] == "output":
        call.observer(PartialOutput(call.index, body.decode()))
    else:
        call.observer(Progress(call.index, header["done"], header["total"], header["message"]))


def _crashed(name: str, returncode: int) -> Failure:
    how = describe(returncode)
    key = "signal" if returncode < 0 else "exit_code"
    value = how if returncode < 0 else str(returncode)
    return unknown_effect(
        Reason.TOOL_CRASHED,
        f"The process that ran tool {name!r} died ({how}). The tool may have taken effect.",
        **{key: value},
    )


def _unavailable(name: str, error: PoolUnavailable) -> Failure:
    logging.getLogger("sidecall.processes").warning("tool %s is unavailable: %s", name, error)
    return Failure(
        Reason.TOOL_UNAVAILABLE,
        f"No process for tool {name!r} can be started at present.",
        ExecutionState.NOT_STARTED,
        retry_after_s=error.retry_after_s,
    )
