"""Questions to a result: did it work, and why not."""

from google.rpc import error_details_pb2

from sidecall._status_details import details_of, reason_in, retry_delay_s
from sidecall.v1.execution_pb2 import ToolResult


def is_ok(result: ToolResult) -> bool:
    """Whether the tool returned."""
    return not result.status.code


def reason_of(result: ToolResult) -> str:
    """Why the call failed, in UPPER_SNAKE_CASE, for example "TOOL_TIMEOUT".

    Returns:
        The sidecar's reason; empty where the call is OK or no reason was given.
    """
    return "" if is_ok(result) else reason_in(result.status)


def violations_of(result: ToolResult) -> list[tuple[str, str]]:
    """What is wrong with the call's arguments.

    Returns:
        One pair per offending value: the JSON Pointer of its place (empty for the
        arguments as a whole) and what is wrong there.
    """
    if is_ok(result):
        return []
    return [
        (violation.field, violation.description)
        for bad in details_of(result.status, error_details_pb2.BadRequest)
        for violation in bad.field_violations
    ]


def retry_after_s(result: ToolResult) -> float | None:
    """Seconds after which the call may be made again; None where nothing was said."""
    return None if is_ok(result) else retry_delay_s(result.status)
