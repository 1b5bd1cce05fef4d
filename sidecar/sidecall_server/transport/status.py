"""The one table between outcomes and google.rpc.Status."""

from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from sidecall.v1 import execution_pb2
from sidecall_server.core.outcome import Failure
from sidecall_server.core.rejection import Rejection
from sidecall_server.policy import budget

ERROR_DOMAIN = "sidecall.dev"
"""Domain of every ErrorInfo."""

MAX_STATUS_MESSAGE_BYTES = 1_024
"""The whole message is in the result's content."""

MIN_STATUS_MESSAGE_BYTES = 64
"""As above, where results do not fit into their response."""


_MAX_DELAY_S = 365 * 24 * 3600.0


def fill_status(status: status_pb2.Status, failure: Failure) -> None:
    """Writes a failed call's status with its details."""
    status.code = failure.status_code
    status.message = budget.cut(failure.message, MAX_STATUS_MESSAGE_BYTES)
    info = error_details_pb2.ErrorInfo(reason=failure.reason.name, domain=ERROR_DOMAIN)
    info.metadata.update(failure.metadata)
    status.details.append(_packed(info))
    if failure.violations:
        bad = error_details_pb2.BadRequest()
        for violation in failure.violations:
            bad.field_violations.add(field=violation.field, description=violation.message)
        status.details.append(_packed(bad))
    if failure.retry_after_s is not None:
        status.details.append(_packed(_retry_info(failure.retry_after_s)))


def thin_status(status: status_pb2.Status) -> None:
    """Keeps of a status what machines need: code, reason and retry delay."""
    if not status.code:
        return
    status.message = budget.begin(status.message, MIN_STATUS_MESSAGE_BYTES)
    kept = [d for d in status.details if not d.Is(error_details_pb2.BadRequest.DESCRIPTOR)]
    del status.details[:]
    status.details.extend(kept)


def short_content(result: execution_pb2.ToolResult) -> str:
    """What the content of a failure says at least; empty where a result is none."""
    info = error_details_pb2.ErrorInfo()
    if not any(detail.Unpack(info) for detail in result.status.details):
        return ""
    return f"{_BEGINNINGS[result.execution_state]}: {info.reason}; cut for lack of room."


_BEGINNINGS = {
    execution_pb2.EXECUTION_STATE_NOT_STARTED: "Not run",
    execution_pb2.EXECUTION_STATE_COMPLETED: "Failed",
    execution_pb2.EXECUTION_STATE_UNKNOWN: "May have run",
}


def rejection_status(rejection: Rejection) -> status_pb2.Status:
    """The status of an RPC that started no call."""
    status = status_pb2.Status(code=rejection.reason.code, message=rejection.message)
    info = error_details_pb2.ErrorInfo(reason=rejection.reason.name, domain=ERROR_DOMAIN)
    status.details.append(_packed(info))
    if rejection.field:
        bad = error_details_pb2.BadRequest()
        bad.field_violations.add(field=rejection.field, description=rejection.message)
        status.details.append(_packed(bad))
    if rejection.retry_after_s is not None:
        status.details.append(_packed(_retry_info(rejection.retry_after_s)))
    return status


def _retry_info(delay_s: float) -> error_details_pb2.RetryInfo:
    delay = Duration()
    # In this order NaN becomes 0: a tool may say anything.
    delay.FromNanoseconds(int(min(max(0.0, delay_s), _MAX_DELAY_S) * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def _packed(
    message: error_details_pb2.ErrorInfo
    | error_details_pb2.BadRequest
    | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
