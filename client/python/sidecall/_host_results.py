"""What a host answers: results of functions as messages."""

from google.rpc import code_pb2

from sidecall._failures import ToolFailure, too_large_text
from sidecall._parts import Link
from sidecall._tool_calls import to_duration
from sidecall._values import RenderedPart, RenderedText, encodable, render_result
from sidecall.v1 import execution_pb2
from sidecall.v1.execution_pb2 import (
    EXECUTION_STATE_COMPLETED,
    EXECUTION_STATE_NOT_STARTED,
    EXECUTION_STATE_UNKNOWN,
    ExecutionState,
)
from sidecall.v1.tool_host_pb2 import AttachRequest, HostResult


def returned(value: object) -> HostResult:
    """The result of a function that returned.

    Raises:
        ResultError: The value cannot be written.
    """
    text, is_json, parts = render_result(value)
    result = HostResult(execution_state=EXECUTION_STATE_COMPLETED)
    if parts:
        result.parts.parts.extend(map(_part, parts))
    elif is_json:
        result.json = text
    else:
        result.text = text
    return result


def failed(
    failure: ToolFailure, state: "ExecutionState.ValueType" = EXECUTION_STATE_COMPLETED
) -> HostResult:
    """The result of a function that did not return.

    Args:
        failure: Why.
        state: How far it got.
    """
    result = HostResult(execution_state=state)
    result.status.code = code_pb2.Code.Value(failure.code or "UNKNOWN")
    result.status.message = failure.message
    if failure.retry_after_s is not None:
        result.retry_after.CopyFrom(to_duration(failure.retry_after_s))
    return result


def not_started(code: str, message: str, retry_after_s: float | None = None) -> HostResult:
    """The result of a call whose function was not started."""
    return failed(ToolFailure(message, code, retry_after_s), EXECUTION_STATE_NOT_STARTED)


def given_up(*, expired: bool, started: bool) -> HostResult:
    """The result of a call that nobody waits for.

    Args:
        expired: Whether its time was over; else it was cancelled.
        started: Whether its function was started.
    """
    code, text = ("CANCELLED", "The call was cancelled.")
    if expired:
        code, text = ("DEADLINE_EXCEEDED", "The time for the call was over.")
    state = EXECUTION_STATE_UNKNOWN if started else EXECUTION_STATE_NOT_STARTED
    return failed(ToolFailure(text, code), state)


def abandoned() -> HostResult:
    """The result of a call whose function still runs when the host ends."""
    text = "The application ended while the tool ran."
    return failed(ToolFailure(text, "CANCELLED"), EXECUTION_STATE_UNKNOWN)


def fitting(result: HostResult, max_bytes: int) -> AttachRequest:
    """The message of a result; one that is too large is replaced by a refusal.

    Args:
        result: The result.
        max_bytes: Size of the largest message that the sidecar takes.
    """
    message = AttachRequest(result=result)
    size = message.ByteSize()
    if size <= max_bytes:
        return message
    failure = ToolFailure(too_large_text(size, max_bytes), "RESOURCE_EXHAUSTED")
    refusal = failed(failure, result.execution_state)
    refusal.attempt_id = result.attempt_id
    return AttachRequest(result=refusal)


def _part(part: RenderedPart) -> execution_pb2.ResultPart:
    if isinstance(part, RenderedText):
        if part.is_json:
            return execution_pb2.ResultPart(json=part.text)
        return execution_pb2.ResultPart(text=part.text)
    if isinstance(part, Link):
        link = execution_pb2.Link(
            uri=encodable(part.uri), media_type=part.media_type, name=encodable(part.name)
        )
        return execution_pb2.ResultPart(link=link)
    blob = execution_pb2.Blob(media_type=part.media_type, data=part.data, name=encodable(part.name))
    return execution_pb2.ResultPart(blob=blob)
