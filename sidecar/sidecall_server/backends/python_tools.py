"""What the three Python backends share: from a `Tool` to the engine's terms and back."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sidecall._context import CallFacts, ToolContext
from sidecall._errors import ArgumentError
from sidecall._failures import failure_of_arguments, failure_of_raise
from sidecall._loop_port import LoopPort
from sidecall._policy import ToolPolicy
from sidecall._tool import Tool
from sidecall._values import encodable
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
    failed = failure_of_arguments(error)
    return Failure(
        Reason.ARGUMENTS_INVALID,
        failed.message,
        ExecutionState.NOT_STARTED,
        violations=tuple(Violation(at, what) for at, what in failed.violations),
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
    failed = failure_of_raise(name, error)
    return Failure(
        Reason.TOOL_FAILED,
        failed.message,
        state,
        code=None if failed.code is None else Code[failed.code],
        retry_after_s=failed.retry_after_s,
        metadata={"error_id": failed.error_id} if failed.error_id else {},
    )


def cancelled_failure() -> Failure:
    """The failure of an attempt that ended because it was told to."""
    return unknown_effect(Reason.CANCELLED, "The call was cancelled.")


class CallBridge(LoopPort):
    """Connects a ToolContext to a call of the engine. Made on the engine's event loop."""

    __slots__ = ("_attempt", "_call", "_clock")

    def __init__(self, call: Call, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._call = call
        self._attempt = call.attempt
        self._clock = clock
        call.on_cancel = self.cancel

    @property
    def cancelled(self) -> bool:
        """Whether the attempt has been told to end."""
        return super().cancelled or self._call.cancelled

    def remaining(self) -> float | None:
        """Seconds until the attempt must end; None for never."""
        return remaining_s(self._call, self._clock)

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Passes progress on to whoever watches."""
        if self._call.observer is not None:
            self.call_on_loop(
                self._observe, Progress(self._call.index, done, total, encodable(message))
            )

    def output(self, text: str) -> None:
        """Passes part of the output on to whoever watches."""
        if self._call.observer is not None:
            self.call_on_loop(self._observe, PartialOutput(self._call.index, encodable(text)))

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
    facts = CallFacts(
        tool_name=call.request.name,
        call_id=call.request.id,
        attempt=call.attempt,
        idempotency_key=call.request.idempotency_key,
        caller=call.options.caller,
        context=call.options.context,
        traceparent=call.options.traceparent,
        tracestate=call.options.tracestate,
    )
    return ToolContext(bridge, facts, state)
