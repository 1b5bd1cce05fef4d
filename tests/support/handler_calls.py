"""Calls of one attempt, as the engine hands them to a backend's handler."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from sidecall_server.core.call import BatchOptions, Call, ToolCall
from sidecall_server.core.events import CallEvent, Observer
from sidecall_server.core.outcome import Failure, Outcome, Success
from sidecall_server.core.ports import BoundTool


def make_call(
    name: str,
    arguments: dict[str, Any] | None = None,
    observer: Callable[[CallEvent], None] | None = None,
    context: Mapping[str, str] | None = None,
) -> Call:
    """A call whose first attempt is being started."""
    options = BatchOptions(context=context or {}, caller="tests")
    call = Call(7, ToolCall("id-1", name), options, cast("Observer | None", observer), 0)
    call.arguments = arguments or {}
    call.attempt = 1
    return call


async def run(
    tools: Sequence[BoundTool],
    name: str,
    observer: Callable[[CallEvent], None] | None = None,
    /,
    **arguments: Any,
) -> Outcome:
    """Prepares and runs a call as the engine does."""
    bound = find(tools, name)
    call = make_call(name, arguments, observer, {"user": "ada"})
    if bound.prepare is not None:
        prepared = bound.prepare(arguments)
        if isinstance(prepared, Failure):
            return prepared
        call.arguments = prepared
    return await bound.handler(call)


def find(tools: Sequence[BoundTool], name: str) -> BoundTool:
    """The tool of that name."""
    return next(tool for tool in tools if tool.spec.name == name)


def start(bound: BoundTool, call: Call) -> asyncio.Task[Outcome]:
    """Runs an attempt in a task."""

    async def attempt() -> Outcome:
        return await bound.handler(call)

    return asyncio.create_task(attempt())


def give_up(call: Call, task: asyncio.Task[Outcome]) -> None:
    """Tells an attempt to end, as the engine does."""
    call.cancelled = True
    if call.on_cancel is not None:
        call.on_cancel()
    task.cancel()


def text(outcome: Outcome) -> str:
    """The text of a success."""
    assert isinstance(outcome, Success), outcome
    return outcome.text


def failure(outcome: Outcome) -> Failure:
    """The outcome as a failure."""
    assert isinstance(outcome, Failure), outcome
    return outcome
