"""What the three Python backends share: from a `Tool` to the engine's terms and back."""

import asyncio
import contextlib
import inspect
import logging
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from typing import Any

from sidecall._context import ToolContext
from sidecall._errors import ArgumentError, ResultError, ToolError
from sidecall._policy import ToolPolicy
from sidecall._tool import Tool
from sidecall._values import encodable, join_yielded
from sidecall_server.backends.tool_specs import tool_spec
from sidecall_server.core.call import Arguments, Call
from sidecall_server.core.events import PartialOutput, Progress
from sidecall_server.core.outcome import (
    Code,
    ExecutionState,
    Failure,
    Reason,
    Violation,
    unknown_effect,
)
from sidecall_server.core.ports import BoundTool, Clock, Handler, Prepare

log = logging.getLogger("sidecall.tools")

Effective = Callable[[Tool[..., Any]], ToolPolicy]
"""Says which policy is in force for a tool."""


@dataclass(frozen=True, slots=True)
class PythonTool:
    """A tool and what its file opened for it.

    Attributes:
        tool: The tool.
        state: What the lifespan of its file yielded; None without one.
    """

    tool: Tool[..., Any]
    state: Any = None


def declared(tool: Tool[..., Any]) -> ToolPolicy:
    """The policy that the tool itself declares."""
    return tool.policy


def bind(
    tool: Tool[..., Any],
    policy: ToolPolicy,
    handler: Handler,
    prepare: Prepare | None = None,
    groups: tuple[str, ...] = (),
) -> BoundTool:
    """The tool as the engine knows it.

    Args:
        tool: The tool.
        policy: The policy in force.
        handler: Runs one attempt.
        prepare: Turns validated arguments into the function's.
        groups: Limits of the service itself that it shares, beside those of its policy.

    Raises:
        ToolLoadError: The policy does not fit the tool.
    """
    return BoundTool(tool_spec(tool, policy, groups), handler, prepare, tool.location)


def prepare_for(tool: Tool[..., Any]) -> Prepare | None:
    """The tool's conversion of arguments, with its errors as values."""
    convert = tool.prepare
    if convert is None:
        return None

    def prepare(arguments: Arguments) -> Arguments | Failure:
        try:
            return convert(arguments)
        except ArgumentError as error:
            return arguments_invalid(error)
        except Exception as error:  # a validator of the tool's own types
            return failure_of(tool.name, error, ExecutionState.NOT_STARTED)

    return prepare


def arguments_invalid(error: ArgumentError) -> Failure:
    """The failure of a call whose arguments the tool's types refuse."""
    violations = tuple(Violation(at, encodable(what)) for at, what in error.violations)
    lines = "\n".join(f"- {v.field or 'arguments'}: {v.message}" for v in violations)
    return Failure(
        Reason.ARGUMENTS_INVALID,
        f"The arguments are invalid. Correct them and call the tool again:\n{lines}",
        ExecutionState.NOT_STARTED,
        violations=violations,
    )


def outcome_of_raise(call: Call, error: BaseException) -> Failure:
    """What becomes of an attempt whose function raised.

    Raises:
        CancelledError: The attempt ended because the engine cancelled it.
    """
    if isinstance(error, asyncio.CancelledError) and call.cancelled:
        raise error
    return failure_of(call.request.name, error)


def failure_of(
    name: str, error: BaseException, state: ExecutionState = ExecutionState.COMPLETED
) -> Failure:
    """Translates what a tool raised. Only the text of a ToolError goes to the model."""
    if isinstance(error, ToolError):
        return Failure(
            Reason.TOOL_FAILED,
            encodable(str(error.message)) or f"Tool {name!r} failed.",
            state,
            code=Code[error.code],
            retry_after_s=error.retry_after_s,
        )
    if isinstance(error, ResultError):
        log.warning("tool %s: the returned value %s", name, error, exc_info=error)
        return Failure(
            Reason.TOOL_FAILED,
            f"Tool {name!r} ran, but its result cannot be passed on: it {error}.",
            state,
        )
    error_id = new_error_id()
    log.error("tool %s failed (error %s)", name, error_id, exc_info=error)
    return unexpected_failure(name, error_id, state)


def new_error_id() -> str:
    """An id that connects a message to the model with the log."""
    return secrets.token_hex(4)


def unexpected_failure(name: str, error_id: str, state: ExecutionState) -> Failure:
    """The failure of a tool whose exception stays in the log."""
    return Failure(
        Reason.TOOL_FAILED,
        f"Tool {name!r} failed with an internal error (id {error_id}).",
        state,
        metadata={"error_id": error_id},
    )


def cancelled_failure() -> Failure:
    """The failure of an attempt that ended because it was told to."""
    return unknown_effect(Reason.CANCELLED, "The call was cancelled.")


class CallBridge:
    """Connects a ToolContext to a call of the engine. Made on the engine's event loop."""

    __slots__ = ("_attempt", "_call", "_cancelled", "_clock", "_loop", "_thread_id")

    def __init__(self, call: Call, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._call = call
        self._attempt = call.attempt
        self._clock = clock
        self._loop = loop
        self._thread_id = threading.get_ident()
        self._cancelled = threading.Event()
        call.on_cancel = self._cancelled.set

    @property
    def cancelled(self) -> bool:
        """Whether the attempt has been told to end."""
        return self._cancelled.is_set() or self._call.cancelled

    def remaining(self) -> float | None:
        """Seconds until the attempt must end; None for never."""
        return remaining_s(self._call, self._clock)

    def wait_cancelled(self, timeout_s: float | None) -> bool:
        """Blocks the calling thread until the attempt is told to end."""
        return self._cancelled.wait(timeout_s)

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Passes progress on to whoever watches."""
        if self._call.observer is not None:
            self._deliver(Progress(self._call.index, done, total, encodable(message)))

    def output(self, text: str) -> None:
        """Passes part of the output on to whoever watches."""
        if self._call.observer is not None:
            self._deliver(PartialOutput(self._call.index, encodable(text)))

    def _deliver(self, event: Progress | PartialOutput) -> None:
        if threading.get_ident() == self._thread_id:
            self._observe(event)
            return
        # A loop that has closed has nobody left who watches.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._observe, event)

    def _observe(self, event: Progress | PartialOutput) -> None:
        call = self._call
        over = call.outcome is not None or call.attempt != self._attempt
        if not over and call.observer is not None:
            call.observer(event)


def remaining_s(call: Call, clock: Clock) -> float | None:
    """Seconds until the current attempt must end; None for never."""
    if not call.deadline_ns:
        return None
    return max(0.0, (call.deadline_ns - clock.now_ns()) / 1e9)


def make_context(call: Call, bridge: CallBridge, state: Any) -> ToolContext:
    """The context of one attempt."""
    return ToolContext(
        bridge,
        tool_name=call.request.name,
        call_id=call.request.id,
        attempt=call.attempt,
        caller=call.options.caller,
        context=call.options.context,
        state=state,
    )


async def collect(items: AsyncGenerator[Any, None], show: Callable[[str], None]) -> Any:
    """The result of an async generator tool: see `join_yielded`."""
    yielded: list[Any] = []
    async with contextlib.aclosing(items):
        async for item in items:
            yielded.append(item)
            if isinstance(item, str):
                show(item)
    return join_yielded(yielded)


def settle(value: Any, show: Callable[[str], None]) -> Any:
    """The result of a sync function; what a generator yields is collected.

    Raises:
        ResultError: The function returned a coroutine, which nothing awaits.
    """
    if isinstance(value, Generator):
        return _collect_now(value, show)
    if inspect.iscoroutine(value):
        value.close()
        raise ResultError("is a coroutine; the function must be declared with `async def`")
    return value


def _collect_now(items: Generator[Any, Any, Any], show: Callable[[str], None]) -> Any:
    yielded: list[Any] = []
    with contextlib.closing(items):
        for item in items:
            yielded.append(item)
            if isinstance(item, str):
                show(item)
    return join_yielded(yielded)
