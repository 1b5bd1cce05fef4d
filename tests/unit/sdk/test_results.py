import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from pydantic import BaseModel

from sidecall import (
    ToolError,
    ToolResult,
    is_ok,
    reason_of,
    retry_after_s,
    tool,
    violations_of,
)
from sidecall.testing import ToolBox


class Item(BaseModel):
    name: str


@tool
async def take(item: Item) -> str:
    """Takes an item."""
    if item.name == "later":
        raise ToolError("Not now.", code="UNAVAILABLE", retry_after=2.5)
    return item.name


def result_of(code: int, *details: Message) -> ToolResult:
    result = ToolResult()
    result.status.code = code
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        result.status.details.append(packed)
    return result


async def test_what_the_service_says_can_be_asked_for() -> None:
    names: list[object] = ["a", "later", 3]
    async with ToolBox([take]) as box:
        fine, later, wrong = await box.run_batch(
            [("take", {"item": {"name": name}}) for name in names]
        )
    assert (is_ok(fine), reason_of(fine), violations_of(fine)) == (True, "", [])
    assert retry_after_s(fine) is None
    assert (is_ok(later), reason_of(later), retry_after_s(later)) == (False, "TOOL_FAILED", 2.5)
    assert (is_ok(wrong), reason_of(wrong)) == (False, "ARGUMENTS_INVALID")
    assert violations_of(wrong) == [("/item/name", '3 is not of type "string"')]
    assert retry_after_s(wrong) is None


def test_a_reason_of_somebody_else_is_none() -> None:
    theirs = error_details_pb2.ErrorInfo(reason="THEIRS", domain="example.com")
    ours = error_details_pb2.ErrorInfo(reason="OURS", domain="sidecall.dev")
    assert reason_of(result_of(2, theirs)) == ""
    assert reason_of(result_of(2, theirs, ours)) == "OURS"
    assert reason_of(result_of(0, ours)) == ""


def test_a_failure_without_details_has_no_reason() -> None:
    result = result_of(13)
    assert not is_ok(result)
    assert (reason_of(result), violations_of(result), retry_after_s(result)) == ("", [], None)


@pytest.mark.parametrize(("seconds", "nanos", "wanted"), [(0, 0, 0.0), (1, 500_000_000, 1.5)])
def test_the_delay_is_in_seconds(seconds: int, nanos: int, wanted: float) -> None:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.seconds, retry.retry_delay.nanos = seconds, nanos
    assert retry_after_s(result_of(14, retry)) == wanted


def test_a_negative_delay_means_now() -> None:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.seconds = -3
    assert retry_after_s(result_of(14, retry)) == 0.0
