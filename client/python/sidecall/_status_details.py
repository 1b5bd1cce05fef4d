"""What a google.rpc.Status says beside its code and message."""

from typing import TypeVar

from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

ERROR_DOMAIN = "sidecall.dev"

M = TypeVar("M", bound=Message)


def details_of(status: status_pb2.Status, kind: type[M]) -> list[M]:
    """The details of one type."""
    found: list[M] = []
    for packed in status.details:
        message = kind()
        if packed.Is(kind.DESCRIPTOR) and packed.Unpack(message):
            found.append(message)
    return found


def reason_in(status: status_pb2.Status) -> str:
    """The sidecar's reason, in UPPER_SNAKE_CASE; empty where it gave none."""
    for info in details_of(status, error_details_pb2.ErrorInfo):
        if info.domain == ERROR_DOMAIN:
            reason: str = info.reason
            return reason
    return ""


def retry_delay_s(status: status_pb2.Status) -> float | None:
    """Seconds after which to ask again; None where nothing was said."""
    for retry in details_of(status, error_details_pb2.RetryInfo):
        delay_s: float = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        return max(0.0, delay_s)
    return None
