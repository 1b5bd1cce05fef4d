"""What a result says, in words and as JSON."""

from typing import Any

from google.rpc import code_pb2

from sidecall import is_ok, reason_of
from sidecall.v1.execution_pb2 import ExecutionState, ToolResult


def code_name(result: ToolResult) -> str:
    """Name of the status code."""
    code = result.status.code
    return code_pb2.Code.Name(code) if code in code_pb2.Code.values() else str(code)


def outcome(result: ToolResult) -> str:
    """`ok`, or why not, in a word."""
    return "ok" if is_ok(result) else reason_of(result) or code_name(result)


def state_name(result: ToolResult) -> str:
    """How far the call got, in a word."""
    state = result.execution_state
    if state not in ExecutionState.values():
        return str(state)
    return ExecutionState.Name(state).removeprefix("EXECUTION_STATE_").lower()


def started_s(result: ToolResult) -> float | None:
    """Seconds from receipt to the start of the last attempt; None where none was."""
    timing = result.timing
    return timing.started_offset_ns / 1e9 if timing.HasField("started_offset_ns") else None


def as_json(result: ToolResult) -> dict[str, Any]:
    """The result as a JSON value."""
    return {
        "id": result.call_id,
        "name": result.name,
        "ok": is_ok(result),
        "code": code_name(result),
        "reason": reason_of(result),
        "execution_state": state_name(result),
        "content": result.content,
        "attempts": result.attempts,
        "truncated": result.truncated,
        "started_s": started_s(result),
        "finished_s": result.timing.finished_offset_ns / 1e9,
    }
