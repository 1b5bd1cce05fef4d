"""What a result says, in words and as JSON."""

from typing import Any

from google.rpc import code_pb2

from sidecall import BatchResults, is_ok, reason_of
from sidecall._status_details import reason_in
from sidecall.v1.execution_pb2 import (
    DECISION_APPROVE,
    ApprovalDecision,
    ExecutionState,
    FailedAttempt,
    ToolResult,
)


def code_name(result: ToolResult) -> str:
    """Name of the status code."""
    code = result.status.code
    return code_pb2.Code.Name(code) if code in code_pb2.Code.values() else str(code)


def outcome(result: ToolResult) -> str:
    """`ok`, or why not, in a word."""
    return "ok" if is_ok(result) else reason_of(result) or code_name(result)


def state_in_words(result: ToolResult) -> str:
    """As `outcome`, but a call that a person has to approve did not fail."""
    return "waits for approval" if waits_for_approval(result) else outcome(result)


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


def waits_for_approval(result: ToolResult) -> bool:
    """Whether the call did not run since a person has to decide first."""
    return reason_of(result) == "APPROVAL_REQUIRED"


def as_json(result: ToolResult) -> dict[str, Any]:
    """The result as a JSON value."""
    value = {
        "id": result.call_id,
        "name": result.name,
        "ok": is_ok(result),
        "code": code_name(result),
        "reason": reason_of(result),
        "execution_state": state_name(result),
        "content": result.content,
        "attempts": result.attempts,
        "truncated": result.truncated,
        "replayed": result.replayed,
        "coalesced": result.coalesced,
        "started_s": started_s(result),
        "finished_s": result.timing.finished_offset_ns / 1e9,
    }
    if result.failed_attempts:
        value["failed_attempts"] = [_attempt_as_json(item) for item in result.failed_attempts]
    if result.approval_id:
        value["approval_id"] = result.approval_id
        value["approval_arguments"] = result.approval_arguments
    if result.HasField("approval_decision"):
        value["approval_decision"] = _decision_as_json(result.approval_decision)
    return value


def batch_as_json(done: BatchResults) -> list[dict[str, Any]]:
    """The results as a JSON value; those that wait for a person with the request's id."""
    return [
        {**as_json(item), "request_id": done.request_id}
        if waits_for_approval(item)
        else as_json(item)
        for item in done
    ]


def _decision_as_json(decision: ApprovalDecision) -> dict[str, Any]:
    was_told = decision.HasField("decide_time")
    return {
        "approved": decision.decision == DECISION_APPROVE,
        "decided_by": decision.decided_by,
        "decide_time": decision.decide_time.ToJsonString() if was_told else None,
        "arguments_edited": decision.arguments_edited,
    }


def _attempt_as_json(attempt: FailedAttempt) -> dict[str, Any]:
    was_started = attempt.HasField("started_offset_ns")
    return {
        "reason": reason_in(attempt.status),
        "started_s": attempt.started_offset_ns / 1e9 if was_started else None,
        "finished_s": attempt.finished_offset_ns / 1e9,
    }
