"""What a case has go wrong between a client and its sidecar."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

Moment = str | int


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong in an RPC.

    Attributes:
        method: Name of the RPC's method.
        nth: The first of the case's RPCs of that method that it hits, from 1.
        times: How many of them it hits.
        at: When: "open", before anything reaches the sidecar; a number, when so many messages
            of the client have reached it; "answer", when the sidecar has done everything and
            the client has not heard of it.
        delay_ms: Pause before what follows.
        restart: Whether the sidecar is killed and started again before what follows.
        reset: Whether the connection is cut.
        status: What the RPC ends with: `code`, `message`, and what a sidecar would say,
            `reason` and `retry_after_ms`.
    """

    method: str
    nth: int = 1
    times: int = 1
    at: Moment = "open"
    delay_ms: int = 0
    restart: bool = False
    reset: bool = False
    status: Mapping[str, Any] | None = None


class Faults:
    """The faults of one case, given to its RPCs as they come."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._faults = list(faults)
        self._seen: Counter[str] = Counter()

    def of_next(self, method: str) -> list[Fault]:
        """The faults of the next RPC of a method."""
        self._seen[method] += 1
        number = self._seen[method]
        return [
            fault
            for fault in self._faults
            if fault.method == method and fault.nth <= number < fault.nth + fault.times
        ]


def code_of(status: Mapping[str, Any]) -> grpc.StatusCode:
    """The status code of a fault."""
    return grpc.StatusCode[status["code"]]


def details_of(status: Mapping[str, Any]) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata in which a sidecar says why; none where there is no reason."""
    if "reason" not in status:
        return ()
    said = status_pb2.Status(code=code_of(status).value[0], message=status.get("message", ""))
    info = error_details_pb2.ErrorInfo(reason=status["reason"], domain="sidecall.dev")
    _add(said, info)
    if "retry_after_ms" in status:
        delay = Duration()
        delay.FromMilliseconds(status["retry_after_ms"])
        _add(said, error_details_pb2.RetryInfo(retry_delay=delay))
    return (("grpc-status-details-bin", said.SerializeToString()),)


def _add(status: status_pb2.Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)
