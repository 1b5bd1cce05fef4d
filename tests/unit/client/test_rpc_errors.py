"""What an RPC's end says about what was started."""

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from sidecall import SidecallError
from sidecall._rpc_errors import REJECTIONS, make_error
from sidecall_server.core.rejection import RejectionReason


def ended(code: grpc.StatusCode, *details: Message, text: str = "no") -> SidecallError:
    status = status_pb2.Status(code=code.value[0], message=text)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return make_error(code, text, [("grpc-status-details-bin", status.SerializeToString())])


def info(reason: str, domain: str = "sidecall.dev") -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain)


def test_the_client_knows_the_sidecars_rejections() -> None:
    of_others = {"FEATURE_UNSUPPORTED"}  # this version has all features of the contract
    of_hosts = {"HOST_SILENT", "TOOL_NAME_TAKEN", "TOO_MANY_HOSTS"}  # Attach sends no calls
    ours = {*RejectionReason.__members__} - {"INTERNAL", "REQUEST_FORGOTTEN"} - of_hosts
    assert ours | of_others == REJECTIONS


@pytest.mark.parametrize("reason", sorted(REJECTIONS))
def test_a_rejection_started_nothing(reason: str) -> None:
    assert ended(grpc.StatusCode.ABORTED, info(reason)).not_started


@pytest.mark.parametrize(
    "detail",
    [
        info("INTERNAL"),
        info("REQUEST_FORGOTTEN"),
        info("NEW"),
        info(""),
        info("DRAINING", "proxy.example"),
    ],
)
def test_any_other_status_may_have_started_something(
    detail: error_details_pb2.ErrorInfo,
) -> None:
    for code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE):
        assert not ended(code, detail).not_started


@pytest.mark.parametrize(
    "text", ["failed to connect to all addresses; last error: x", "DNS resolution failed for x"]
)
def test_without_a_connection_nothing_was_started(text: str) -> None:
    assert make_error(grpc.StatusCode.UNAVAILABLE, text, ()).not_started
    assert not make_error(grpc.StatusCode.INTERNAL, text, ()).not_started
    assert not ended(grpc.StatusCode.UNAVAILABLE, text=text).not_started


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN]
)
def test_a_status_of_nobodys_says_nothing(code: grpc.StatusCode) -> None:
    assert not make_error(code, "Socket closed", None).not_started


@pytest.mark.parametrize(("seconds", "expected"), [(2, 2.0), (-5, 0.0), (10**12, 1e12)])
def test_any_delay_can_be_read(seconds: int, expected: float) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds))
    assert ended(grpc.StatusCode.UNAVAILABLE, retry).retry_after_s == expected
