"""What tools return and raise: each result is ready for a model."""

import json

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.support.batches import COMPLETED, call, check_failure, detail, reason
from tests.support.serving import Serving


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("none", "null"),
        ("empty", "(empty result)"),
        ("bytes", "café"),
        ("nan", '"NaN"'),
        ("infinities", '["Infinity","-Infinity"]'),
        ("model", '{"name":"Oslo","population":709037}'),
        ("models", '[{"name":"Oslo","population":1}]'),
        ("set", "[1]"),
        ("surrogate", r"a\ud800b"),
        ("huge_integer", str(2**200)),
        ("false", "false"),
        ("zero", "0"),
        ("nul", "a\x00b"),
    ],
)
@pytest.mark.parametrize("tool", ["odd", "odd_in_thread"])
async def test_unusual_values(sidecar: Serving, tool: str, kind: str, content: str) -> None:
    (result,) = await sidecar.run(call(tool, {"kind": kind}))
    assert reason(result.status) == "OK"
    assert result.content == content
    assert result.execution_state == COMPLETED


async def test_a_surrogate_inside_a_value(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("odd", {"kind": "surrogate_inside"}))
    assert json.loads(result.content) == {"text": r"a\ud800b"}


@pytest.mark.parametrize("kind", ["object", "unprintable", "circle", "raw_bytes"])
@pytest.mark.parametrize("tool", ["odd", "odd_in_thread"])
async def test_values_that_have_no_text(sidecar: Serving, tool: str, kind: str) -> None:
    bad, good = await sidecar.run(call(tool, {"kind": kind}), call("echo", {"text": "a"}))
    check_failure(bad, "TOOL_FAILED", grpc.StatusCode.UNKNOWN, COMPLETED)
    assert "secret" not in str(bad)
    assert "Traceback" not in bad.content
    assert good.content == "a"


@pytest.mark.parametrize(
    "tool",
    [
        "fail",
        "fail_in_thread",
        "fail_with_group",
        "fail_by_exit",
        "fail_by_cancelling",
        "recurse",
    ],
)
async def test_a_tool_that_raises(sidecar: Serving, tool: str) -> None:
    bad, good = await sidecar.run(call(tool), call("echo", {"text": "a"}))
    check_failure(bad, "TOOL_FAILED", grpc.StatusCode.UNKNOWN, COMPLETED)
    assert "secret" not in str(bad)
    assert bad.attempts == 1
    assert good.content == "a"


async def test_an_unexpected_exception_is_found_in_the_log_by_its_id(
    sidecar: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    (result,) = await sidecar.run(call("fail"))
    info = detail(result.status, error_details_pb2.ErrorInfo)
    assert info is not None
    error_id = info.metadata["error_id"]
    assert error_id in result.content
    assert error_id in caplog.text
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    "code", ["NOT_FOUND", "INVALID_ARGUMENT", "UNAVAILABLE", "PERMISSION_DENIED", "CANCELLED"]
)
async def test_a_tool_error_reaches_the_model_with_its_code(sidecar: Serving, code: str) -> None:
    (result,) = await sidecar.run(call("fail_usefully", {"code": code}))
    check_failure(result, "TOOL_FAILED", grpc.StatusCode[code], COMPLETED)
    assert "try 'Oslo'" in result.content


async def test_a_tool_error_says_when_to_try_again(sidecar: Serving) -> None:
    (result,) = await sidecar.run(
        call("fail_usefully", {"code": "RESOURCE_EXHAUSTED", "retry_after": 1.5})
    )
    retry = detail(result.status, error_details_pb2.RetryInfo)
    assert retry is not None
    assert retry.retry_delay.ToMilliseconds() == 1_500


async def test_generators_are_collected(sidecar: Serving) -> None:
    text, numbers = await sidecar.run(
        call("pieces", {"count": 3}), call("pieces_in_thread", {"count": 3})
    )
    assert text.content == "0;1;2;"
    assert json.loads(numbers.content) == [0, 1, 2]


async def test_tools_see_the_facts_about_the_end_user(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("see", id="call-1"), context={"user": "ann"})
    seen = json.loads(result.content)
    assert seen == {"id": "call-1", "context": {"user": "ann"}, "attempt": 1}


async def test_times_are_in_order(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("echo", {"text": "a"}))
    timing = result.timing
    assert timing.received_unix_nanos > 0
    assert 0 <= timing.ready_offset_ns <= timing.started_offset_ns <= timing.finished_offset_ns


async def test_a_call_that_never_started_has_no_start_time(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("nobody"))
    assert not result.timing.HasField("started_offset_ns")
    assert result.attempts == 0
