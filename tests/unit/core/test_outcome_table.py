"""Codes and reasons: clients in every language switch on them."""

import enum

from google.rpc import code_pb2

from sidecall_server.core.call import BlockCause
from sidecall_server.core.outcome import (
    EMPTY_CONTENT,
    Code,
    ExecutionState,
    Failure,
    Reason,
    Success,
    not_started,
    unknown_effect,
)
from sidecall_server.core.rejection import RejectionReason
from sidecall_server.core.tool import Effects

REASONS = {
    "TOOL_NOT_FOUND": "NOT_FOUND",
    "ARGUMENTS_INVALID": "INVALID_ARGUMENT",
    "TOOL_FAILED": "UNKNOWN",
    "TOOL_TIMEOUT": "DEADLINE_EXCEEDED",
    "QUEUE_TIMEOUT": "DEADLINE_EXCEEDED",
    "CALL_DEADLINE": "DEADLINE_EXCEEDED",
    "BATCH_DEADLINE": "DEADLINE_EXCEEDED",
    "QUEUE_FULL": "RESOURCE_EXHAUSTED",
    "RATE_LIMITED": "RESOURCE_EXHAUSTED",
    "RESULT_TOO_LARGE": "RESOURCE_EXHAUSTED",
    "CIRCUIT_OPEN": "UNAVAILABLE",
    "APPROVAL_REQUIRED": "FAILED_PRECONDITION",
    "APPROVAL_REJECTED": "PERMISSION_DENIED",
    "IDEMPOTENCY_KEY_REUSED": "ALREADY_EXISTS",
    "OUTCOME_UNKNOWN": "UNKNOWN",
    "REFERENCE_UNRESOLVED": "FAILED_PRECONDITION",
    "REFERENCE_CYCLE": "INVALID_ARGUMENT",
    "DEPENDENCY_FAILED": "FAILED_PRECONDITION",
    "CANCELLED": "CANCELLED",
    "STOPPED": "CANCELLED",
    "DRAINING": "CANCELLED",
    "TOOL_CRASHED": "INTERNAL",
    "TOOL_UNAVAILABLE": "UNAVAILABLE",
    "HOST_DETACHED": "UNAVAILABLE",
    "INTERNAL": "INTERNAL",
}

REJECTIONS = {
    "REQUEST_INVALID": "INVALID_ARGUMENT",
    "PAGE_TOKEN_INVALID": "INVALID_ARGUMENT",
    "DEADLINE_EXPIRED": "DEADLINE_EXCEEDED",
    "TOO_MANY_BATCHES": "RESOURCE_EXHAUSTED",
    "DRAINING": "UNAVAILABLE",
    "TOOLS_CHANGED": "ABORTED",
    "REQUEST_ID_REUSED": "ALREADY_EXISTS",
    "REQUEST_MEMORY_FULL": "RESOURCE_EXHAUSTED",
    "STORE_UNAVAILABLE": "UNAVAILABLE",
    "APPROVAL_UNKNOWN": "FAILED_PRECONDITION",
    "REQUEST_FORGOTTEN": "FAILED_PRECONDITION",
    "TOOL_NAME_TAKEN": "ALREADY_EXISTS",
    "TOO_MANY_HOSTS": "RESOURCE_EXHAUSTED",
    "HOST_SILENT": "DEADLINE_EXCEEDED",
    "INTERNAL": "INTERNAL",
}


def test_every_reason_of_a_call_has_its_code() -> None:
    assert {reason.name: reason.code.name for reason in Reason} == REASONS


def test_every_reason_of_a_batch_has_its_code() -> None:
    assert {reason.name: reason.code.name for reason in RejectionReason} == REJECTIONS


def test_reasons_with_one_code_are_distinct() -> None:
    tables: list[type[enum.Enum]] = [Reason, RejectionReason]
    for table in tables:
        # An alias would be a member that iteration leaves out.
        assert len(set(table)) == len(list(table)) == len(table.__members__)


def test_codes_are_those_of_google_rpc() -> None:
    assert {code.name: int(code) for code in Code} == dict(code_pb2.Code.items())


def test_numbers_are_those_of_the_contract() -> None:
    assert [state.name for state in sorted(ExecutionState)] == [
        "NOT_STARTED",
        "COMPLETED",
        "UNKNOWN",
    ]
    assert [int(effect) for effect in Effects] == [1, 2, 3]
    assert [int(cause) for cause in BlockCause] == list(range(12))


def test_a_failure_has_the_code_of_its_reason_unless_it_says_otherwise() -> None:
    failure = not_started(Reason.QUEUE_FULL, "full", tool="x")
    assert failure.status_code is Code.RESOURCE_EXHAUSTED
    assert (failure.state, failure.metadata) == (ExecutionState.NOT_STARTED, {"tool": "x"})
    assert unknown_effect(Reason.TOOL_CRASHED, "died").state is ExecutionState.UNKNOWN

    raised = Failure(Reason.TOOL_FAILED, "no", ExecutionState.COMPLETED, code=Code.NOT_FOUND)
    assert raised.status_code is Code.NOT_FOUND


def test_content_is_never_empty() -> None:
    assert Success("").content == EMPTY_CONTENT
    assert Success("null", is_json=True).content == "null"
