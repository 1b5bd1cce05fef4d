"""RPC errors as one exception that says whether anything was started."""

import asyncio
from collections.abc import Iterable
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from sidecall._status_details import reason_in, retry_delay_s

REJECTIONS = frozenset(
    {
        "APPROVAL_UNKNOWN",
        "DEADLINE_EXPIRED",
        "DRAINING",
        "FEATURE_UNSUPPORTED",
        "PAGE_TOKEN_INVALID",
        "REQUEST_ID_REUSED",
        "REQUEST_INVALID",
        "REQUEST_MEMORY_FULL",
        "STORE_UNAVAILABLE",
        "TOOLS_CHANGED",
        "TOO_MANY_BATCHES",
    }
)
"""Reasons with which a sidecar refuses a request, so that nothing of it was started. INTERNAL
is none: it says nothing. Nor is REQUEST_FORGOTTEN: an earlier send may have started calls."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS_KEY = "grpc-status-details-bin"
# What gRPC says when it could not even connect; nothing of the RPC left this process then.
_NOT_CONNECTED = ("failed to connect", "dns resolution failed", "name resolution failure")


class SidecallError(Exception):
    """An RPC to the sidecar ended with a status other than OK.

    Failures of single calls are not errors: they are in the results.

    Attributes:
        code: Status code of the RPC.
        reason: Reason that the sidecar gave, in UPPER_SNAKE_CASE; empty where the error
            was not made by a sidecar.
        retry_after_s: Seconds after which the sidecar wants to be asked again; None where
            it did not say.
        not_started: Whether it is certain that no call was started, by this RPC or by one
            that it repeats. False means that calls may have run.
        sent_to_instance: What to send a batch with a `request_id` again with: the sidecar
            that may have received it. Empty where none has, or it is not known which; in the
            latter case (`not_started` is False) it must not be sent again.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        retry_after_s: float | None = None,
        not_started: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.not_started = not_started
        self.sent_to_instance = ""

    def __str__(self) -> str:
        name = self.code.name if not self.reason else f"{self.code.name}/{self.reason}"
        return f"{name}: {self.args[0]}"


def error_from_rpc(error: grpc.RpcError, target: str = "") -> SidecallError:
    """Translates gRPC's error, sync or async.

    Args:
        error: The error.
        target: What the RPC was sent to, for where no answer came.
    """
    code, details = error.code(), error.details()
    if target and code is grpc.StatusCode.DEADLINE_EXCEEDED:
        details = f"no answer from {target} in time"
    return make_error(code, details, error.trailing_metadata())


def closed_error(what: str = "client") -> SidecallError:
    """Makes the error of an RPC whose client was closed before it had ended."""
    return SidecallError(f"the {what} was closed", code=grpc.StatusCode.CANCELLED)


def check_open(*, closed: bool) -> None:
    """Raises RuntimeError where a client is used that was closed before."""
    if closed:
        raise RuntimeError("the client is closed: make a new one")


def is_cancelled() -> bool:
    """Whether the running task is being cancelled.

    If it is not, a CancelledError is what gRPC makes of a channel that was closed: nobody
    asked this task to end.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def make_error(code: grpc.StatusCode, details: str | None, trailing: object) -> SidecallError:
    """Makes an error of what an RPC ended with.

    Args:
        code: Its status code.
        details: Its message.
        trailing: Its trailing metadata.
    """
    status = _find_status(trailing)
    if status is not None:
        return error_from_status(status, code, details)
    not_connected = code is grpc.StatusCode.UNAVAILABLE and (details or "").lower().startswith(
        _NOT_CONNECTED
    )
    return SidecallError(details or "no details", code=code, not_started=not_connected)


def error_from_status(
    status: status_pb2.Status,
    code: grpc.StatusCode | None = None,
    details: str | None = None,
) -> SidecallError:
    """Makes an error of a status that a sidecar made.

    Args:
        status: The status.
        code: Status code of the RPC; that of the status where None.
        details: Message of the RPC, where the status has none.
    """
    reason = reason_in(status)
    return SidecallError(
        status.message or details or "no details",
        code=code or _CODES.get(status.code, grpc.StatusCode.UNKNOWN),
        reason=reason,
        retry_after_s=retry_delay_s(status),
        not_started=reason in REJECTIONS,
    )


def _find_status(trailing: object) -> status_pb2.Status | None:
    # The type stubs do not know that an item of the metadata is a tuple.
    items = cast("Iterable[tuple[str, str | bytes]]", trailing or ())
    for key, value in items:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None
