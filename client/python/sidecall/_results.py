"""Questions to a result: did it work, and why not."""

from typing import TypeVar

from google.protobuf.message import Message
from google.rpc import error_details_pb2

from sidecall._rpc_errors import ERROR_DOMAIN
from sidecall.v1.execution_pb2 import ToolResult

M = TypeVar("M", bound=Message)


def is_ok(result: ToolResult) -> bool:
    """Whether the tool returned."""
    return not result.status.code


def reason_of(result: ToolResult) -> str:
    """Why the call failed, in UPPER_SNAKE_CASE, for example "TOOL_TIMEOUT".

    Returns:
        The sidecar's reason; empty where the call is OK or no reason was given.
    """
    return next(
        (
            info.reason
            for info in _details(result, error_details_pb2.ErrorInfo)
            if info.domain == ERROR_DOMAIN
        ),
        "",
    )


def violations_of(result: ToolResult) -> list[tuple[str, str]]:
    """What is wrong with the call's arguments.

    Returns:
        One pair per offending value: the JSON Pointer of its place (empty for the
        arguments as a whole) and what is wrong there.
    """
    return [
        (violation.field, violation.description)
        for bad in _details(result, error_details_pb2.BadRequest)
        for violation in bad.field_violations
    ]


def retry_after_s(result: ToolResult) -> float | None:
    """Seconds after which the call may be made again; None where nothing was said."""
    for retry in _details(result, error_details_pb2.RetryInfo):
        delay_s: float = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        return max(0.0, delay_s)
    return None


def _details(result: ToolResult, kind: type[M]) -> list[M]:
    """The details of one type in a failed call's status."""
    found: list[M] = []
    for packed in () if is_ok(result) else result.status.details:
        message = kind()
        if packed.Is(kind.DESCRIPTOR) and packed.Unpack(message):
            found.append(message)
    return found
