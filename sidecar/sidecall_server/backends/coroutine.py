"""Tools that run on the event loop: coroutine functions and async generators."""

import asyncio
from collections.abc import Mapping, Sequence

from sidecall._yielded import collect
from sidecall_server.backends.python_tools import (
    CallBridge,
    Effective,
    PythonTool,
    bind,
    declared,
    make_context,
    outcome_of_raise,
    prepare_for,
)
from sidecall_server.backends.rendering import success_of
from sidecall_server.core.call import Call
from sidecall_server.core.outcome import Outcome, Success
from sidecall_server.core.ports import BoundTool, Clock, Handler


class CoroutineBackend:
    """Runs coroutine functions and async generators on the event loop."""

    def __init__(
        self, tools: Sequence[PythonTool], clock: Clock, effective: Effective = declared
    ) -> None:
        self._tools = tools
        self._clock = clock
        self._effective = effective

    async def start(self) -> Sequence[BoundTool]:
        """Returns its tools."""
        loop = asyncio.get_running_loop()
        return [
            bind(
                item.tool,
                self._effective(item.tool),
                _handler(item, self._clock, loop),
                prepare_for(item.tool),
            )
            for item in self._tools
        ]

    async def stop(self, grace_s: float) -> None:
        """Does nothing: the engine owns the tasks that run."""

    def statistics(self) -> Mapping[str, int]:
        """Counts the tools."""
        return {"tools": len(self._tools)}


def _handler(item: PythonTool, clock: Clock, loop: asyncio.AbstractEventLoop) -> Handler:
    if item.tool.kind == "generator":
        return _generator_handler(item, clock, loop)
    if item.tool.context_parameter is not None:
        return _context_handler(item, clock, loop)
    return _plain_handler(item)


# A tool that raises SystemExit or KeyboardInterrupt has failed like any other: hence
# BaseException, here and in the other backends.


def _plain_handler(item: PythonTool) -> Handler:
    function = item.tool.function

    async def handle(call: Call) -> Outcome:
        try:
            value = await function(**call.arguments)
            if type(value) is str and value.isascii():
                return Success(value)
            return success_of(value)
        except BaseException as error:
            return outcome_of_raise(call, error)

    return handle


def _context_handler(item: PythonTool, clock: Clock, loop: asyncio.AbstractEventLoop) -> Handler:
    function = item.tool.function
    parameter = item.tool.context_parameter or ""

    async def handle(call: Call) -> Outcome:
        context = make_context(call, CallBridge(call, clock, loop), item.state)
        try:
            return success_of(await function(**{**call.arguments, parameter: context}))
        except BaseException as error:
            return outcome_of_raise(call, error)
        finally:
            call.on_cancel = None

    return handle


def _generator_handler(item: PythonTool, clock: Clock, loop: asyncio.AbstractEventLoop) -> Handler:
    function = item.tool.function
    parameter = item.tool.context_parameter

    async def handle(call: Call) -> Outcome:
        bridge = CallBridge(call, clock, loop)
        arguments = call.arguments
        if parameter is not None:
            arguments = {**arguments, parameter: make_context(call, bridge, item.state)}
        try:
            return success_of(await collect(function(**arguments), bridge.output))
        except BaseException as error:
            return outcome_of_raise(call, error)
        finally:
            call.on_cancel = None

    return handle
