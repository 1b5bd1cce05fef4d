"""Short words for requests and for what is checked in results."""

import json
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from sidecall.v1 import execution_pb2, tool_service_pb2

M = TypeVar("M", bound=Message)

NOT_STARTED = execution_pb2.EXECUTION_STATE_NOT_STARTED
COMPLETED = execution_pb2.EXECUTION_STATE_COMPLETED
UNKNOWN = execution_pb2.EXECUTION_STATE_UNKNOWN


def call(
    name: str, arguments: str | dict[str, Any] | None = None, /, **fields: Any
) -> execution_pb2.ToolCall:
    """A call; arguments that are a dict become JSON."""
    text = json.dumps(arguments) if isinstance(arguments, dict) else arguments or ""
    return execution_pb2.ToolCall(name=name, arguments=text, **fields)


def batch(*calls: execution_pb2.ToolCall, **fields: Any) -> tool_service_pb2.ExecuteBatchRequest:
    """A batch of some calls."""
    return tool_service_pb2.ExecuteBatchRequest(calls=calls, **fields)


def detail(status: status_pb2.Status, kind: type[M]) -> M | None:
    """The detail of one type in a status; None where it holds none."""
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            return message
    return None


def reason(status: status_pb2.Status) -> str:
    """Reason of a status; "OK" without one. Checks the domain."""
    info = detail(status, error_details_pb2.ErrorInfo)
    if info is None:
        assert status.code == 0, status
        return "OK"
    assert info.domain == "sidecall.dev"
    return str(info.reason)


def reasons(results: Any) -> list[str]:
    """Reasons of results, in order."""
    return [reason(result.status) for result in results]


def check_failure(
    result: execution_pb2.ToolResult,
    wanted: str,
    code: grpc.StatusCode,
    state: execution_pb2.ExecutionState.ValueType,
) -> None:
    """Checks the outcome of one call, and that its content is ready for a model."""
    assert reason(result.status) == wanted, result
    assert result.status.code == code.value[0], result
    assert result.execution_state == state, result
    assert result.content, result
    assert result.status.message, result


def violations(result: execution_pb2.ToolResult) -> dict[str, str]:
    """What is wrong with the arguments, by JSON Pointer."""
    bad = detail(result.status, error_details_pb2.BadRequest)
    return {v.field: v.description for v in bad.field_violations} if bad else {}


def rpc_status(error: grpc.RpcError) -> status_pb2.Status:
    """The rich status of an RPC; empty where it has none."""
    assert isinstance(error, grpc.aio.AioRpcError)
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    return status_pb2.Status()
